"""The download engine: verified and durable at the speed of hashing.

``fetch`` waits for its turn, locks the partial, takes up what is there, asks one place after the other and hands back a
file that is whole, verified and synced. It never publishes: the caller commits. Two requests for one target within the
process become one download; over processes the lock on the partial decides.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.disk import DISK_REASONS
from reconciler.adapters.fetch.download import Download
from reconciler.adapters.fetch.local import copy_file
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.record import Record
from reconciler.adapters.fetch.settings import Settings
from reconciler.adapters.fetch.tools import Tools
from reconciler.core.errors import Failure, FailureKind, permanent, transient
from reconciler.core.ports import CancelToken, Fetched, FetchRequest, Location, ProgressSink
from reconciler.core.state import Digest

# No other place would help: this machine or the user says no.
_ENDS_ALL = DISK_REASONS | {"cancelled", "fetched_elsewhere"}


class Engine:
    """Implements ``core.ports.Fetcher``; for several threads. ``client`` implements ``core.ports.HttpClient``."""

    def __init__(self, settings: Settings | None = None, cancel: CancelToken | None = None) -> None:
        self._tools = Tools.of(settings or Settings(), cancel)
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Fetched]] = {}

    @property
    def client(self) -> Client:
        """The HTTP client of this engine, for sources."""
        return self._tools.client

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
            if flight.exception() is None:
                found = flight.result()
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
        meter = Meter(progress, request.model, request.path, request.size_bytes)
        with self._tools.slots.hold(request.priority, cancel):
            wait: Callable[[], None] = lambda: meter.change("waiting", message="another process works on this file")  # noqa: E731
            with (
                closing(Partial.open(request.target, cancel, wait)) as partial,
                closing(Record(request.target)) as record,
            ):
                return self._fetch_into(request, partial, record, meter, cancel)

    def _fetch_into(
        self, request: FetchRequest, partial: Partial, record: Record, meter: Meter, cancel: CancelToken
    ) -> Fetched:
        download = Download(self._tools, request, partial, record, meter, cancel)
        try:
            download.take_up()
            fetched = self._try_places(download, request, partial, meter, cancel)
        except BaseException:
            download.keep()
            raise
        record.drop()
        meter.change("done", done_bytes=fetched.size_bytes, total_bytes=fetched.size_bytes)
        return fetched

    def _try_places(
        self, download: Download, request: FetchRequest, partial: Partial, meter: Meter, cancel: CancelToken
    ) -> Fetched:
        failures: list[Failure] = []
        for location in download.in_order(request.locations):
            try:
                if location.url.startswith("file:"):
                    return _from_file(location, request, partial, meter, cancel)
                download.run(location)
            except Failure as failure:
                if failure.reason in _ENDS_ALL:
                    raise
                failures.append(failure)
            else:
                stand = download.stand
                digest = Digest(f"sha256:{stand.hasher.hexdigest()}")
                size = stand.size_bytes or 0
                return Fetched(digest, size, location.label, meter.received_bytes, stand.validator)
        raise _worst(failures)


def _from_file(
    location: Location, request: FetchRequest, partial: Partial, meter: Meter, cancel: CancelToken
) -> Fetched:
    digest, size = copy_file(location, request, partial, meter, cancel)
    if request.digest is not None and digest != request.digest:
        text = f"{location.label} has the digest {digest}, the manifest says {request.digest}"
        raise permanent("digest_mismatch", text, hint="correct the model's sha256, or its source")
    return Fetched(Digest(digest), size, location.label, 0)


def _worst(failures: list[Failure]) -> Failure:
    """Of several places: what may pass decides; else what the first one said."""
    passing = [failure for failure in failures if failure.kind is FailureKind.TRANSIENT]
    chosen = passing[0] if passing else failures[0]
    others = [failure.message for failure in failures if failure is not chosen]
    if not others:
        return chosen
    message = "; ".join([chosen.message, *others])
    return Failure(chosen.kind, chosen.reason, message, hint=chosen.hint, retry_after_s=chosen.retry_after_s)
