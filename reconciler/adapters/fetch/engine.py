"""The download engine: verified and durable at the speed of hashing.

``fetch`` waits for its turn, locks the partial, takes up what is there, asks one place after the other and hands back a
file that is whole, verified and synced. It never publishes: the caller commits. Two requests for one target within the
process become one download; over processes the lock on the partial decides.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing

from reconciler.adapters.fetch.client import Asking, Client
from reconciler.adapters.fetch.disk import DISK_REASONS
from reconciler.adapters.fetch.download import Download
from reconciler.adapters.fetch.local import copy_file
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.record import Record
from reconciler.adapters.fetch.settings import Settings
from reconciler.adapters.fetch.small import fetch_at_once
from reconciler.adapters.fetch.tools import Tools
from reconciler.core.errors import Failure, FailureKind, permanent, transient
from reconciler.core.ports import CancelToken, Fetched, FetchRequest, Location, ProgressSink
from reconciler.core.words import Digest

# No other place would help: this machine or the user says no.
_ENDS_ALL = DISK_REASONS | {"cancelled", "fetched_elsewhere"}


class Engine:
    """Implements ``core.ports.Fetcher``; for several threads."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._tools = Tools.of(settings or Settings())
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Fetched]] = {}

    @property
    def client(self) -> Client:
        """The HTTP client of this engine."""
        return self._tools.client

    def adjust(self, *, bandwidth_bytes: int | None, files: int, processes: int, ask_timeout_s: float) -> None:
        """Other limits from now on, also for what is under way; as :class:`Settings` names them.

        Where ``processes`` keep them together, this one has its part of the connections to a host.
        """
        self._tools.limiter.set_rate(bandwidth_bytes)
        self._tools.slots.resize(files)
        self._tools.connections.resize(self._tools.settings.host_connections // processes)
        self._tools.client.ask_timeout_s = ask_timeout_s

    def asking(self, cancel: CancelToken) -> Asking:
        """The client for sources, an implementation of ``core.ports.HttpClient``; its questions end with ``cancel``."""
        return Asking(self._tools.client, cancel)

    def fetch(self, request: FetchRequest, progress: ProgressSink, cancel: CancelToken) -> Fetched:
        """Fetch, verify and sync one file; see ``core.ports.Fetcher``."""
        while True:
            with self._lock:
                flight = self._flights.get(request.target)
                if flight is None:
                    flight = self._flights[request.target] = Future()
                    break
            while not flight.done() and not cancel.wait(0.05):
                pass
            if cancel.is_set():
                raise transient("cancelled", f"stopped while {request.path} was fetched for another model")
            if flight.exception() is None and (found := flight.result()).held is None:
                return Fetched(found.digest, found.size_bytes, found.source, 0, found.revision)
        try:
            fetched = self._fetch(request, progress, cancel)
        except BaseException as error:
            self._land(request.target)
            flight.set_exception(error)
            raise
        self._land(request.target)
        flight.set_result(fetched)
        return fetched

    def close(self) -> None:
        """Close idle connections."""
        self._tools.client.close()

    def _land(self, target: str) -> None:
        with self._lock:
            del self._flights[target]

    def _fetch(self, request: FetchRequest, progress: ProgressSink, cancel: CancelToken) -> Fetched:
        if not request.locations:
            raise permanent("no_source", f"{request.model}: {request.path} has no source", hint="give it a source")
        meter = Meter(progress, request.model, request.path, request.likely_bytes)
        with self._tools.slots.hold(request.priority, cancel):
            wait: Callable[[], None] = lambda: meter.change("waiting", message="another process works on this file")  # noqa: E731
            partial = Partial.open(request.target, cancel, wait)
            try:
                begun = fetch_at_once(self._tools, request, partial, progress, cancel)
                if isinstance(begun, Fetched):
                    return begun
                with closing(Record(request.target)) as record:
                    download = Download(self._tools, request, partial, record, meter, cancel)
                    download.go_on_from(begun)
                    fetched = self._fetch_into(download, request, partial, meter, cancel)
                    if fetched.digest == request.digest:
                        record.drop()  # else it is all that speaks for the file until the caller has made it a blob
                if fetched.held is not None:
                    return fetched
            except BaseException:
                partial.close()
                raise
            partial.close()
            return fetched

    def _fetch_into(
        self, download: Download, request: FetchRequest, partial: Partial, meter: Meter, cancel: CancelToken
    ) -> Fetched:
        try:
            download.take_up()
            fetched = self._try_places(download, request, partial, meter, cancel)
        except BaseException:
            download.keep()
            raise
        finally:
            download.drop_begun()
        meter.change("done", done_bytes=fetched.size_bytes, total_bytes=fetched.size_bytes)
        return fetched

    def _try_places(
        self, download: Download, request: FetchRequest, partial: Partial, meter: Meter, cancel: CancelToken
    ) -> Fetched:
        failures: list[Failure] = []
        for location in download.in_order(request.locations):
            try:
                if location.url.startswith("file:"):
                    copied = copy_file(location, request, partial, meter, cancel, download.start_over)
                    return _checked(location, request, *copied)
                download.run(location)
            except Failure as failure:
                if failure.reason in _ENDS_ALL:
                    raise
                failures.append(failure)
            else:
                stand = download.stand
                digest = Digest(f"sha256:{stand.hasher.hexdigest()}")
                size = stand.size_bytes or 0
                received = meter.received_bytes
                held = partial if partial.is_unsynced else None
                return Fetched(digest, size, location.label, received, stand.validator, stand.content, held)
        raise _worst(failures)


def _checked(location: Location, request: FetchRequest, digest: str, size: int) -> Fetched:
    if request.digest is not None and digest != request.digest:
        text = f"{location.label} has the digest {digest}, the manifest says {request.digest}"
        raise permanent("digest_mismatch", text, hint="correct the model's sha256, or its source")
    return Fetched(Digest(digest), size, location.label, 0)


def _worst(failures: list[Failure]) -> Failure:
    """Of several places: what may pass decides, and the longest wait of these; else what the first one said."""
    passing = [failure for failure in failures if failure.kind is FailureKind.TRANSIENT]
    chosen = passing[0] if passing else failures[0]
    others = [failure.message for failure in failures if failure is not chosen]
    if not others:
        return chosen
    message = "; ".join([chosen.message, *others])
    waits = [failure.retry_after_s for failure in passing if failure.retry_after_s is not None]
    return Failure(chosen.kind, chosen.reason, message, hint=chosen.hint, retry_after_s=max(waits, default=None))
