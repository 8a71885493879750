"""One file from one place: attempts until it is complete and right, or a failure that is the caller's to sort.

Within one call, a network fault in the middle of a body is retried at once, a few times and only after progress, with
full jitter; a fault without progress is the ledger's back-off. What never costs a retry: a changed object and ranges
that do not work (start over, without ``Range``); a wrong digest after a resume or from several pieces (once more, in
full); an expired signed URL (asked for once more at its source).
"""

import contextlib

from reconciler.adapters.fetch import answers, resume
from reconciler.adapters.fetch.crew import Crew
from reconciler.adapters.fetch.disk import DISK_REASONS, check_space
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.opening import (
    ObjectChangedError,
    Opened,
    Place,
    RangeRefusedError,
    Want,
    open_range,
    unsteady,
)
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.parts import PartSource
from reconciler.adapters.fetch.pipeline import Pipeline
from reconciler.adapters.fetch.record import CHUNK_BYTES, Record
from reconciler.adapters.fetch.redirects import origin_of
from reconciler.adapters.fetch.repair import ATTRIBUTE, Index, Mender, index_of
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.tools import Tools
from reconciler.adapters.fetch.verdict import PAGE, judge
from reconciler.core.errors import Failure, FailureKind, transient
from reconciler.core.ports import CancelToken, FetchRequest, Location

_MAX_RESTARTS = 3
# Transient, but trying again at once would not help.
_NOT_AT_ONCE = DISK_REASONS | {"cancelled", "rate_limited", "host_failing", "captive_portal"}
_GOOD_PROGRESS_BYTES = 8 << 20


class Download:
    """See the module."""

    def __init__(
        self, tools: Tools, request: FetchRequest, partial: Partial, record: Record, meter: Meter, cancel: CancelToken
    ) -> None:
        self._tools = tools
        self._request = request
        self._partial = partial
        self._record = record
        self._meter = meter
        self._cancel = cancel
        self.stand = Stand()
        self._may_range = True
        self._coding = ""
        self._is_page = False

    def take_up(self) -> None:
        """Trust what the record of an earlier process says, as far as hashing bears it out.

        A file without a record is whole, where its digest is the declared one, or foreign: it is started over as
        another file, never written into.
        """
        kept = self._record.load()
        request = self._request
        known = {location.label for location in request.locations}
        if kept is None or kept.header.digest != (request.digest or "") or kept.header.url not in known:
            self._record.drop()
            self._take_whole()
            return
        self._meter.change("verifying", done_bytes=0, total_bytes=kept.header.size_bytes)
        self.stand = resume.load(self._partial, kept, self._cancel, self._verified)
        self._record.reopen()
        if not self.stand.done_bytes:
            self._start_over()

    def _verified(self, done_bytes: int) -> None:
        self._meter.set_done(done_bytes)

    def _take_whole(self) -> None:
        size = self._partial.size_bytes
        request = self._request
        if not size:
            return
        if request.digest is not None and request.size_bytes in {None, size}:
            self._meter.change("verifying", done_bytes=0, total_bytes=size)
            hasher = resume.hash_whole(self._partial, self._cancel, self._verified)
            if f"sha256:{hasher.hexdigest()}" == request.digest:
                self.stand.hasher, self.stand.size_bytes = hasher, size
                self.stand.base, self.stand.url = -(-size // CHUNK_BYTES), request.locations[0].label
                return
        self._partial.replace()

    def in_order(self, locations: tuple[Location, ...]) -> list[Location]:
        """The place that the bytes already here came from goes first: its validator fits."""
        here = self.stand.url if self.stand.done_bytes else ""
        return sorted(locations, key=lambda location: location.label != here)

    def run(self, location: Location) -> None:
        """Bring the file from ``location``; afterwards it is whole, verified and durable.

        Raises:
            Failure: sorted; what came in stays in the partial where it can be used again.
        """
        self._adopt_place(location)
        tries = restarts = 0
        while True:
            before_bytes = self._meter.received_bytes
            try:
                if not self._mend(location):
                    self._attempt(location)
                self._finish(location)
            except (ObjectChangedError, RangeRefusedError) as again:
                restarts += 1
                self._start_over()
                if isinstance(again, RangeRefusedError):
                    self._may_range = False
                if restarts > _MAX_RESTARTS:
                    raise unsteady(location.label, again) from None
            except Failure as failure:
                gained = self._meter.received_bytes - before_bytes
                refreshed = self._refreshed(location, failure, restarts)
                if refreshed is not None:
                    location, restarts = refreshed, restarts + 1
                    continue
                tries = 1 if gained >= self._good_progress_bytes else tries + 1
                self._wait_or_raise(failure, tries, gained)
            else:
                return

    def _adopt_place(self, location: Location) -> None:
        if self.stand.done_bytes and self.stand.url != location.label:
            self._start_over()  # another place: its validator is not ours
        self._may_range, self._coding, self._is_page = True, "", False

    @property
    def _good_progress_bytes(self) -> int:
        """As much as makes the tries count from one again: a server may cut a small file into twenty pieces."""
        size = self.stand.size_bytes
        return _GOOD_PROGRESS_BYTES if size is None else max(1, min(_GOOD_PROGRESS_BYTES, size // 20))

    def _wait_or_raise(self, failure: Failure, tries: int, gained: int) -> None:
        settings = self._tools.settings
        is_retried = failure.kind is FailureKind.TRANSIENT and failure.reason not in _NOT_AT_ONCE
        if not is_retried or not gained or tries > settings.retries or failure.retry_after_s:
            raise failure
        self._meter.change("waiting", attempt=tries + 1, message=failure.message)
        pause_s = settings.random() * min(settings.retry_first_s * 2.0**tries, settings.retry_cap_s)
        if self._cancel.wait(pause_s):
            raise transient("cancelled", f"stopped while fetching {self._request.path}") from failure

    def _refreshed(self, location: Location, failure: Failure, restarts: int) -> Location | None:
        if location.refresh is None or failure.reason not in {"unauthorized", "forbidden"} or restarts:
            return None
        return location.refresh()

    def _start_over(self) -> None:
        self._record.drop()
        self._partial.truncate(0)
        self.stand.forget()
        self._meter.change("connecting", done_bytes=0)

    def _attempt(self, location: Location) -> None:
        stand = self.stand
        resume.absorb(stand, self._partial, self._cancel)
        if stand.done_bytes and not (stand.is_complete or (stand.validator and self._may_range)):
            self._start_over()
        if stand.is_complete:
            return
        origin = origin_of(location.url)
        self._tools.breaker.enter(origin)
        self._tools.connections.take(origin, self._cancel)
        try:
            self._meter.change("connecting", done_bytes=stand.done_bytes, source=location.label)
            opened = self._open(location)
            self._tools.breaker.succeeded(origin)
            try:
                self._receive(opened, location)
            finally:
                opened.answer.close()
        except Failure as failure:
            self._tools.breaker.failed(origin, failure)
            raise
        except (ObjectChangedError, RangeRefusedError):
            self._tools.breaker.succeeded(origin)
            raise
        finally:
            self._tools.connections.give_back(origin)

    def _open(self, location: Location) -> Opened:
        stand = self.stand
        want = Want(size_bytes=stand.size_bytes)
        if stand.done_bytes:
            end = stand.gaps()[0][1] if stand.islands else None
            end_bytes = None if end is None else min(end * CHUNK_BYTES, stand.size_bytes or end * CHUNK_BYTES)
            want = Want(stand.offset, end_bytes, stand.validator, stand.size_bytes)
        now = self._tools.settings.now()
        opened = open_range(self._tools.client, Place.of(location), want, self._request, self._cancel, now)
        if opened.start != want.start or (want.is_partial and opened.answer.status != 206):
            self._start_over()
        return opened

    def _receive(self, opened: Opened, location: Location) -> None:
        stand, request = self.stand, self._request
        stand.is_pieced = stand.is_pieced or bool(stand.done_bytes)
        stand.url, stand.validator, stand.size_bytes = location.label, opened.validator, opened.size_bytes
        self._coding = opened.coding
        answer = opened.answer
        self._is_page = answers.is_html(answer.headers, request.path)
        self._check_room()
        self._meter.change("downloading", done_bytes=stand.done_bytes, total_bytes=stand.size_bytes)
        if stand.size_bytes is not None and stand.size_bytes <= CHUNK_BYTES:
            self._receive_small(opened, stand.size_bytes)
            return
        if stand.size_bytes is not None:
            self._partial.allocate(stand.size_bytes)
        settings = self._tools.settings
        pipeline = Pipeline(stand, self._partial, self._record, settings.ring_bytes, settings.checkpoint_bytes)
        pipeline.start(request.digest or "")
        try:
            crew = Crew(self._tools, request, self._meter, self._cancel)
            crew.run(stand, pipeline, opened, Place.of(location))
        finally:
            pipeline.ring.close()
        stand.is_pieced = stand.is_pieced or crew.has_split

    def _receive_small(self, opened: Opened, size: int) -> None:
        """A file of one chunk: no threads, no record; faster than either."""
        stand = self.stand
        buffer = bytearray(size)
        view = memoryview(buffer)
        position = len(stand.tail)
        view[:position] = stand.tail
        try:
            while position < size:
                count = opened.answer.body.read_into(view[position:])
                if not count:
                    raise transient("truncated", f"{stand.url} ended before its announced length")
                position += count
                self._meter.count(count)
                self._tools.limiter.take(count, self._cancel)
        finally:
            stand.tail = bytes(view[:position])
        opened.answer.body.settle()
        stand.hasher.update(view)
        self._partial.write(view, 0)
        stand.base, stand.tail = 1, b""

    def _check_room(self) -> None:
        size, request = self.stand.size_bytes, self._request
        wanted = 0 if size is None else max(0, size - self._partial.allocated_bytes)
        check_space(request.target, wanted, request.min_free_bytes)

    def _mend(self, location: Location) -> bool:
        """Whether a damaged copy, with only its bad parts fetched, gave the whole file."""
        request, stand = self._request, self.stand
        index = index_of(request.reuse) if request.reuse else None
        if index is None or request.digest is None or stand.done_bytes or not self._may_range or not index.marks:
            return False
        client, now = self._tools.client, self._tools.settings.now()
        self._meter.change("verifying", done_bytes=0, total_bytes=index.size_bytes, source=location.label)
        parts = PartSource(client, request, Place.of(location), self._partial, self._meter, self._cancel, now)
        assert request.reuse is not None  # noqa: S101 -- there is an index
        mender = Mender(request.reuse, index, request.digest, self._partial, parts.fetch, self._cancel)
        if not mender.mend():
            self._start_over()
            self._may_range = False
            return False
        stand.url, stand.validator, stand.size_bytes = location.label, parts.validator, index.size_bytes
        stand.hasher, stand.prefixes, stand.is_pieced = mender.hasher, mender.prefixes, True
        stand.base = -(-index.size_bytes // CHUNK_BYTES)
        return True

    def _finish(self, location: Location) -> None:
        stand, request = self.stand, self._request
        verdict = judge(stand, request, self._partial, location, PAGE if self._is_page else self._coding)
        if verdict is not None:
            was_pieced = stand.is_pieced and verdict.reason == "digest_mismatch"
            self._start_over()
            raise RangeRefusedError(verdict) if was_pieced else verdict
        assert stand.size_bytes is not None  # noqa: S101 -- judged
        self._partial.truncate(stand.size_bytes)
        if len(stand.prefixes) > 1:
            self._partial.note(ATTRIBUTE, Index.of(stand.size_bytes, stand.prefixes).pack())
        self._partial.sync()

    def keep(self) -> None:
        """After a failure: write down what can be used again; remove what cannot."""
        stand, partial, record = self.stand, self._partial, self._record
        if stand.is_complete and self._request.digest is not None and not partial.is_poisoned:
            return  # whole, and found right by its digest next time
        if stand.done_bytes and stand.validator and not stand.is_complete and not partial.is_poisoned:
            with contextlib.suppress(Failure):  # what was recorded before still holds
                resume.save(stand, partial, record, self._request.digest or "")
            if not _is_any_poisoned(partial, record):
                return
        record.drop()
        partial.drop()


def _is_any_poisoned(partial: Partial, record: Record) -> bool:
    return partial.is_poisoned or record.is_poisoned
