"""The manifest out of Git: fetched in a thread every so often, never waited for by the loop.

What a fetch brings is one :class:`Reading`. One that fails leaves the last in force and is told once; a commit that no
allowed signer signed is a reading of its own, which the loop refuses. A start begins with the last good commit, one
whose manifest was valid, and whose signature is checked again, so that a machine without network goes on with it: the
thread waits until the loop has seen that one. A fault of the program in the thread is raised in the loop, as a pass's
is.
"""

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from reconciler.core.digests import digest_bytes
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.git_place import GitPlace
from reconciler.core.ports import CancelToken
from reconciler.core.remembered import WatchFact
from reconciler.log import get_log, scrub
from reconciler.sourcing import FOLDER, documents_of, git_source, is_valid
from reconciler.watch.bell import GIT, Bell
from reconciler.watch.inputs import Reading
from reconciler.world import World

if TYPE_CHECKING:
    from reconciler.adapters.git import GitManifest

JITTER = 0.05
TICK_S = 0.5


class GitInputs:
    """One ref of one repository.

    ``trouble`` says why the last fetch failed, empty where it did not; ``must_verify``: only signed commits count.
    """

    def __init__(self, world: World, place: GitPlace, bell: Bell) -> None:
        self._source = git_source(place, f"{world.store.root}/{FOLDER}", world.environment)
        self.must_verify = place.signers is not None
        self.label = scrub(self._source.label)
        self.trouble = ""
        self._environ = world.environment
        self._interval_s, self._random, self._bell = place.interval_s, world.random, bell
        self._last = Reading()
        self._asked_at: float | None = None  # of the monotonic clock: when the remote answered last
        self._again, self._is_seen = threading.Event(), threading.Event()
        self._crash: BaseException | None = None

    def start(self, cancel: CancelToken) -> None:
        """Begin with the last good commit; fetch now, and then again and again."""
        try:
            fetched = self._source.offline(cancel)
        except Failure as failure:
            self._refuse(failure)
        else:
            if fetched is not None:
                self._last = self._reading(fetched)
        threading.Thread(target=self._run, args=(cancel,), name="git", daemon=True).start()

    def fetch_now(self) -> None:
        """Do not wait for the interval."""
        self._again.set()

    def read(self) -> Reading:
        """What the last good fetch brought; a digest of nothing before the first."""
        if self._crash is not None:
            raise self._crash
        reading = self._last
        self._is_seen.set()
        return reading

    def health(self) -> WatchFact:
        """Whether the remote answers, and when it did last."""
        if self.trouble:
            return WatchFact(False, "git", self.trouble)
        if self._asked_at is None:
            return WatchFact(True, "git", f"nothing was fetched from {self.label} yet")
        ago = f"{max(0.0, time.monotonic() - self._asked_at):.0f} s ago"
        return WatchFact(True, "git", f"fetched from {self.label}; last asked {ago}")

    def read_quiet(self, first: Reading, cancel: CancelToken) -> Reading:
        """A commit is always whole."""
        del cancel
        return first

    def folders(self) -> Mapping[str, tuple[int, int]]:
        """Nothing to listen to."""
        return {}

    def _run(self, cancel: CancelToken) -> None:
        try:
            while not cancel.is_set() and not self._is_seen.wait(TICK_S):
                continue
            while not cancel.is_set():
                self._again.clear()  # before the remote is asked: whoever calls meanwhile may know of something newer
                self._fetch(cancel)
                self._bell.ring(GIT)
                self._rest(cancel)
        except BaseException as error:  # noqa: BLE001 -- raised again in the loop, which is the thread that may crash
            self._crash = error
            self._bell.ring(GIT)

    def _rest(self, cancel: CancelToken) -> None:
        end = time.monotonic() + self._interval_s * (1 + JITTER * (2 * self._random() - 1))
        while not cancel.is_set() and not self._again.is_set() and time.monotonic() < end:
            cancel.wait(min(TICK_S, max(0.0, end - time.monotonic())))

    def _fetch(self, cancel: CancelToken) -> None:
        started = time.monotonic()
        try:
            fetched = self._source.fetch(cancel, lambda fetched: is_valid(fetched, self._environ))
        except Failure as failure:
            self._refuse(failure)
            return
        self.trouble, self._asked_at = "", time.monotonic()
        if fetched.commit != self._last.revision:
            seconds = round(time.monotonic() - started, 3)
            get_log().info("source_fetched", source=self.label, revision=fetched.commit, seconds=seconds)
        self._last = self._reading(fetched)

    def _reading(self, fetched: "GitManifest") -> Reading:
        documents = documents_of(fetched)
        parts = [f"{document.label}\0".encode() + document.data for document in documents]
        is_verified = True if self.must_verify else None
        return Reading(
            digest_bytes(b"\0".join(parts)), documents, "", fetched.commit, self.label, is_verified=is_verified
        )

    def _refuse(self, failure: Failure) -> None:
        """A refused commit is news for the loop; anything else is trouble on the way."""
        message = scrub(failure.message)
        if failure.kind is FailureKind.REFUSED:
            self.trouble, self._asked_at = "", time.monotonic()
            self._last = Reading(digest_bytes(message.encode()), None, message, "", self.label, is_verified=False)
        elif self.trouble != message:
            self.trouble = message
            get_log().warning("source_unreachable", source=self.label, reason=failure.reason, message=message)
