"""One file from one place: attempts until it is complete and right, or a failure that is the caller's to sort.

Within one call, a network fault in the middle of a body may be retried at once (:mod:`.patience`). What never costs a
retry: a changed object and ranges that do not work (start over, without ``Range``); a wrong digest after a resume or
from several pieces (once more, in full); expired credentials or an expired signed URL (asked for anew at its source, as
often as bytes came in between).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from reconciler.adapters.fetch import resume
from reconciler.adapters.fetch.client import Answer
from reconciler.adapters.fetch.crew import Crew
from reconciler.adapters.fetch.disk import check_space
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.opening import (
    EXPIRED,
    ObjectChangedError,
    Opened,
    Place,
    RangeRefusedError,
    RedirectedFailure,
    Want,
    open_range,
    unsteady,
)
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.parts import PartSource
from reconciler.adapters.fetch.patience import Patience
from reconciler.adapters.fetch.pipeline import Pipeline
from reconciler.adapters.fetch.record import CHUNK_BYTES, Record
from reconciler.adapters.fetch.redirects import origin_of
from reconciler.adapters.fetch.repair import Mender, index_of, keep_index
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.small import Begun, receive_small
from reconciler.adapters.fetch.tools import Tools
from reconciler.adapters.fetch.verdict import Said, judge
from reconciler.core.errors import Failure
from reconciler.core.ports import CancelToken, FetchRequest, Location

_MAX_RESTARTS = 3
_NEVER = -1


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
        self._begun: Begun | None = None  # what the first place has answered already
        self._is_counted = False  # the connection of that answer, until a request takes it over
        self._may_range = True
        self._may_mend = True
        self._said = Said()
        self._refreshed_bytes = _NEVER  # what was here when credentials were asked for last

    def go_on_from(self, begun: Begun | None) -> None:
        """Take over what the first place has answered; the connection of an answer is counted still."""
        self._begun, self._is_counted = begun, isinstance(begun, Answer)

    def drop_begun(self) -> None:
        """Nobody goes on with what was begun."""
        begun, self._begun = self._begun, None
        if isinstance(begun, Answer):
            begun.close()
        if self._is_counted:
            self._is_counted = False
            self._tools.connections.give_back(origin_of(self._request.locations[0].url))

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
        if request.digest is None:
            kept.forget_end(self._partial.size_bytes)  # asking for it tells whether the object is still the same
        self._meter.change("verifying", done_bytes=0, total_bytes=kept.header.size_bytes)
        self.stand = resume.load(self._partial, kept, self._cancel, self._verified)
        self._record.reopen()
        if not self.stand.done_bytes:
            self.start_over()

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
        self._may_range = self._may_mend = True
        self._said = Said()
        self._refreshed_bytes = _NEVER
        restarts = 0
        here_bytes = 0 if self._is_elsewhere(location) else self.stand.done_bytes
        patience = Patience(self._tools.settings, self._meter, self._cancel, here_bytes)
        while True:
            patience.begin()
            try:
                self._mend(location)
                self._attempt(location)
                self._finish(location)
            except (ObjectChangedError, RangeRefusedError) as again:
                restarts += 1
                patience.furthest_bytes = 0
                if self._is_elsewhere(location):
                    raise unsteady(location.label, again) from None
                self.start_over()
                if restarts > _MAX_RESTARTS:
                    raise unsteady(location.label, again) from None
                if isinstance(again, RangeRefusedError) or restarts > 1:  # old and new parts may alternate for ever
                    self._may_range = False
            except Failure as failure:
                refreshed = self._refreshed(location, failure)
                if refreshed is None:
                    patience.bear(failure, self.stand)
                location = refreshed or location
            else:
                return

    def _is_elsewhere(self, location: Location) -> bool:
        """Whether what is here came from another place: it is kept until this one has given a usable answer."""
        return bool(self.stand.done_bytes) and self.stand.url != location.label

    def _refreshed(self, location: Location, failure: Failure) -> Location | None:
        """The place with fresh credentials: they may expire as often as bytes came in between."""
        if not self._is_expired(location, failure):
            return None
        self._refreshed_bytes = self.stand.done_bytes
        return location if location.refresh is None else location.refresh()

    def _is_expired(self, location: Location, failure: Failure) -> bool:
        """Whether asking at the source anew may help: for credentials, or for a place that it redirects to."""
        is_refused = location.refresh is not None and failure.reason in {"unauthorized", "forbidden"}
        is_moved = isinstance(failure, RedirectedFailure) and failure.reason in EXPIRED
        return (is_refused or is_moved) and self.stand.done_bytes > self._refreshed_bytes

    def start_over(self) -> None:
        """Forget what is here: the next byte is the first."""
        self._record.drop()
        self._partial.truncate(0)
        self.stand.forget()
        self._refreshed_bytes = _NEVER
        self._meter.change("connecting", done_bytes=0)

    def _attempt(self, location: Location) -> None:
        stand = self.stand
        resume.absorb(stand, self._partial, self._cancel)
        is_resumed = stand.is_complete or (stand.validator and self._may_range) or self._is_elsewhere(location)
        if stand.done_bytes and not is_resumed:
            self.start_over()
        if stand.is_complete:
            return
        with self._asking(location):
            self._meter.change("connecting", done_bytes=stand.done_bytes, source=location.label)
            opened = self._open(location)
            try:
                self._receive(opened, location)
            except Failure as failure:
                self._tools.client.breaker.failed(origin_of(opened.answer.url), failure)
                raise
            finally:
                opened.answer.close()

    @contextlib.contextmanager
    def _asking(self, location: Location) -> Iterator[None]:
        """Hold a connection to the place's origin; that of the answer which is here already, if it is."""
        if location is not self._request.locations[0]:
            self.drop_begun()
        origin = origin_of(location.url)
        if not self._is_counted:
            self._tools.connections.take(origin, self._cancel)
        self._is_counted = False
        try:
            yield
        finally:
            self._tools.connections.give_back(origin)

    def _open(self, location: Location) -> Opened:
        stand, is_elsewhere = self.stand, self._is_elsewhere(location)
        want = Want(size_bytes=None if is_elsewhere else stand.size_bytes)
        if stand.done_bytes and not is_elsewhere:
            end = stand.gaps()[0][1] if stand.islands else None
            end_bytes = None if end is None else min(end * CHUNK_BYTES, stand.size_bytes or end * CHUNK_BYTES)
            want = Want(stand.offset, end_bytes, stand.validator, stand.size_bytes)
        opened = self._ask(location, want)
        if is_elsewhere or opened.start != want.start or (want.is_partial and opened.answer.status != 206):
            self.start_over()
        return opened

    def _ask(self, location: Location, want: Want) -> Opened:
        """Ask for what is wanted; a place that turns away a part may still give the whole."""
        client, place, now = self._tools.client, Place.of(location), self._tools.settings.now()
        begun, self._begun = self._begun, None
        try:
            return open_range(client, place, want, self._request, self._cancel, now, begun)
        except Failure as failure:
            is_refused = failure.reason in {"bad_request", "forbidden", "not_found"}
            if not want.is_partial or not is_refused or self._is_expired(location, failure):
                raise
            opened = open_range(client, place, Want(), self._request, self._cancel, now)
        self._may_range = False
        return opened

    def _receive(self, opened: Opened, location: Location) -> None:
        stand, request = self.stand, self._request
        stand.is_pieced = stand.is_pieced or bool(stand.done_bytes)
        if not self._may_range:
            opened = replace(opened, has_ranges=False)
        stand.url, stand.validator, stand.size_bytes = location.label, opened.validator, opened.size_bytes
        self._said = Said.of(opened, request.path)
        self._check_room()
        is_small = stand.size_bytes is not None and stand.size_bytes <= CHUNK_BYTES
        done, total = stand.done_bytes, stand.size_bytes
        self._meter.change("downloading", done_bytes=done, total_bytes=total, is_urgent=not is_small)
        if is_small:
            receive_small(opened.answer.body, stand, self._partial, self._meter, self._tools.limiter, self._cancel)
            return
        if stand.size_bytes is not None:
            self._partial.allocate(stand.size_bytes)
        settings = self._tools.settings
        pipeline = Pipeline(stand, self._partial, self._record, settings.ring_bytes, settings.risk_bytes)
        pipeline.start(request.digest or "")
        try:
            crew = Crew(self._tools, request, self._meter, self._cancel)
            crew.run(stand, pipeline, opened, Place.of(location))
        finally:
            pipeline.ring.close()
        stand.is_pieced = stand.is_pieced or crew.has_split

    def _check_room(self) -> None:
        size, request = self.stand.size_bytes, self._request
        wanted = 0 if size is None else max(0, size - self._partial.allocated_bytes)
        check_space(request.target, wanted, request.min_free_bytes)

    def _mend(self, location: Location) -> None:
        """Take from a damaged copy what is good, and fetch what is bad; where it is cut off, an attempt follows."""
        request, stand = self._request, self.stand
        index = index_of(request.reuse) if request.reuse else None
        is_idle = not (stand.islands or stand.is_complete or self._is_elsewhere(location))
        is_tried = self._may_range and self._may_mend and is_idle
        if index is None or request.digest is None or request.reuse is None or not is_tried:
            return
        if stand.done_bytes and stand.size_bytes != index.size_bytes:
            return
        stand.url, stand.size_bytes, stand.is_pieced = location.label, index.size_bytes, True
        self._check_room()
        self._partial.allocate(index.size_bytes)
        self._meter.change("verifying", done_bytes=stand.offset, total_bytes=index.size_bytes, source=location.label)
        keep = lambda: resume.save(stand, self._partial, self._record, request.digest or "")  # noqa: E731
        place, tools, meter = Place.of(location), self._tools, self._meter
        parts = PartSource(tools, request, place, self._partial, stand, meter, self._cancel, keep)
        told = lambda: meter.set_done(stand.offset)  # noqa: E731
        mender = Mender(request.reuse, index, request.digest, self._partial, stand, parts.fetch, self._cancel, told)
        self._may_mend = False
        try:
            with self._asking(location):
                is_mended = mender.mend()
                if is_mended and not stand.is_complete:
                    parts.ask_validator()
                    is_mended = bool(stand.validator) or mender.mend_next()
        except Failure:
            self._may_mend = True  # what is proven by now stays: the next try goes on from there
            raise
        if not is_mended:
            self.start_over()

    def _finish(self, location: Location) -> None:
        stand, request = self.stand, self._request
        verdict = judge(stand, request, self._partial, location, self._said)
        if verdict is not None:
            was_pieced = stand.is_pieced and verdict.reason == "digest_mismatch"
            self.start_over()
            raise RangeRefusedError(verdict) if was_pieced else verdict
        assert stand.size_bytes is not None  # noqa: S101 -- judged
        self._partial.truncate(stand.size_bytes)
        keep_index(self._partial, stand)
        if not (request.may_hold and stand.content is not None and self._partial.is_unsynced):
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
