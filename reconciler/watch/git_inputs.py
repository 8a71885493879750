"""The manifest out of Git: fetched in a thread every so often, never waited for by the loop.

What a fetch brings is one :class:`Reading`; one that fails leaves the last in force and is told once.
"""

import socket
import threading
import time
from collections.abc import Mapping

from reconciler.adapters.manifest import Document
from reconciler.core.digests import digest_bytes
from reconciler.core.errors import Failure
from reconciler.core.ports import CancelToken
from reconciler.log import get_log, scrub
from reconciler.watch.bell import GIT, Bell
from reconciler.watch.inputs import Reading
from reconciler.world import World

JITTER = 0.05
FOLDER = "source.git"  # in the store; it does not count against its limit


class GitInputs:
    """One ref of one repository. ``trouble`` says why the last fetch failed; empty where it did not."""

    def __init__(self, world: World, place: tuple[str, str], interval_s: float, bell: Bell) -> None:
        """Args: place: (URL with ``#REF`` or without, path in the repository)."""
        from reconciler.adapters.git import GitSource, split_ref  # noqa: PLC0415 -- only a watch of Git needs it

        url, ref = split_ref(place[0])
        self._source = GitSource(
            url=url,
            folder=f"{world.store.root}/{FOLDER}",
            ref=ref,
            path=place[1],
            environment=world.environment,
            hostname=socket.gethostname(),
        )
        self.label = scrub(self._source.label)
        self.trouble = ""
        self._interval_s, self._random, self._bell = interval_s, world.random, bell
        self._last = Reading()
        self._again = threading.Event()

    def start(self, cancel: CancelToken) -> None:
        """Fetch now, and then again and again."""
        threading.Thread(target=self._run, args=(cancel,), name="git", daemon=True).start()

    def fetch_now(self) -> None:
        """Do not wait for the interval."""
        self._again.set()

    def read(self) -> Reading:
        """What the last good fetch brought; a digest of nothing before the first."""
        return self._last

    def read_quiet(self, first: Reading, cancel: CancelToken) -> Reading:
        """A commit is always whole."""
        del cancel
        return first

    def folders(self) -> Mapping[str, tuple[int, int]]:
        """Nothing to listen to."""
        return {}

    def _run(self, cancel: CancelToken) -> None:
        while not cancel.is_set():
            self._fetch(cancel)
            self._bell.ring(GIT)
            end = time.monotonic() + self._interval_s * (1 + JITTER * (2 * self._random() - 1))
            self._again.clear()
            while not cancel.is_set() and not self._again.is_set() and time.monotonic() < end:
                cancel.wait(min(0.5, max(0.0, end - time.monotonic())))

    def _fetch(self, cancel: CancelToken) -> None:
        started = time.monotonic()
        try:
            fetched = self._source.fetch(cancel)
        except Failure as failure:
            if self.trouble != failure.message:
                self.trouble = failure.message
                get_log().warning(
                    "source_unreachable", source=self.label, reason=failure.reason, message=failure.message
                )
            return
        self.trouble = ""
        documents = tuple(Document(*document) for document in fetched.documents)
        parts = [f"{label}\0".encode() + data for label, data, *_ in documents]
        if fetched.commit != self._last.revision:
            seconds = round(time.monotonic() - started, 3)
            get_log().info("source_fetched", source=self.label, revision=fetched.commit, seconds=seconds)
        self._last = Reading(digest_bytes(b"\0".join(parts)), documents, "", fetched.commit, self.label)
