"""How one receiving thread turns answers into filled chunks. One :class:`Receiver` serves all threads of an attempt.

A signed URL that a redirect led to may expire in the middle: its origin is asked once more. Chunks that come in before
those in front of them get a digest of their own, so that a crash does not cost them.
"""

import hashlib
import threading
import time

from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.opening import (
    EXPIRED,
    ObjectChangedError,
    Opened,
    Place,
    RangeRefusedError,
    Want,
    open_range,
    too_large,
)
from reconciler.adapters.fetch.pipeline import Pipeline
from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.adapters.fetch.redirects import label_of
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.segments import Segment, Segments
from reconciler.adapters.fetch.tools import Tools
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.ports import CancelToken, FetchRequest

PIECE_CHUNKS = 4
_PATIENCE_S = 1.0


class Stop:
    """Set where the caller cancels or the attempt has failed."""

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self._own = threading.Event()

    def set(self) -> None:
        """End this attempt's receivers."""
        self._own.set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._own.is_set() or self._cancel.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the caller's token; the attempt's own end is seen at the next look."""
        return self._own.is_set() or self._cancel.wait(timeout)


class Receiver:
    """See the module. The methods are called by several threads at once."""

    def __init__(self, tools: Tools, request: FetchRequest, meter: Meter, cancel: CancelToken) -> None:
        self._tools = tools
        self._request = request
        self._meter = meter
        self.stop = Stop(cancel)
        self._tail: tuple[int, bytes] | None = None
        self.has_parts = False  # whether a range was answered with one
        self._has_company = False  # beside an answer that was there before

    def begin(self, stand: Stand, pipeline: Pipeline, opened: Opened, origin: Place) -> None:
        """Make ready for an attempt whose first answer is ``opened``."""
        self._stand, self._pipeline, self._origin = stand, pipeline, origin
        answer = opened.answer
        self.has_parts = answer.status == 206
        self._place = Place(answer.url, answer.secrets, answer.scope, is_watched=False)
        self.segments = Segments(stand.gaps(), PIECE_CHUNKS)
        self._first_tail = (stand.base, stand.tail)
        stand.tail = b""

    @property
    def url(self) -> str:
        """Where segments are asked for now."""
        return self._place.url

    def receive(self, segment: Segment, opened: Opened | None) -> None:
        """Receive one segment, from ``opened`` or from an answer of its own.

        Raises:
            Failure: sorted; what came in whole chunks is in the ring, a tail may be kept.
            ObjectChangedError, RangeRefusedError: start over.
            HandedBackError: a lower segment comes first.
        """
        index = segment.at
        head = self._first_tail[1] if self._first_tail[0] == index else b""
        view = self._pipeline.ring.claim(index)
        opened = opened or self._open(index * CHUNK_BYTES + len(head), segment.end)
        view[: len(head)] = head
        try:
            self._pour(segment, opened, view, len(head))
        finally:
            opened.answer.close()

    def _open(self, start: int, end_index: int | None) -> Opened:
        stand = self._stand
        assert stand.size_bytes is not None  # noqa: S101 -- only objects of known size are split
        end = stand.size_bytes if end_index is None else min(end_index * CHUNK_BYTES, stand.size_bytes)
        want = Want(start, end, stand.validator, stand.size_bytes)
        place = self._place
        now = self._tools.settings.now()
        try:
            opened = open_range(self._tools.client, place, want, self._request, self.stop, now)
        except Failure as failure:
            if failure.reason not in EXPIRED or place.url == self._origin.url:
                raise
            opened = open_range(self._tools.client, self._origin, want, self._request, self.stop, now)
            answer = opened.answer
            self._place = Place(answer.url, answer.secrets, answer.scope, is_watched=False)
        if opened.answer.status == 206:
            self.has_parts = self._has_company = True
            return opened
        opened.answer.close()
        if opened.validator != stand.validator:
            raise ObjectChangedError
        url = label_of(opened.answer.url)
        raise RangeRefusedError(transient("bad_range", f"{url} sends everything where a part was asked for"))

    def _pour(self, segment: Segment, opened: Opened, view: memoryview, position: int) -> None:
        """Fill chunk after chunk from one body."""
        ring, size = self._pipeline.ring, self._stand.size_bytes
        body, piece = opened.answer.body, self._tools.limiter.piece_bytes or CHUNK_BYTES
        while True:
            index = segment.at
            full = CHUNK_BYTES if size is None else min(CHUNK_BYTES, size - index * CHUNK_BYTES)
            try:
                while position < full:
                    count = body.read_into(view[position : min(full, position + piece)])
                    if not count:
                        break
                    position += count
                    self._meter.count(count)
                    self._tools.limiter.take(count, self.stop)
            except BaseException:
                self._tail = (index, bytes(view[:position])) if self.segments.is_lowest(index) else self._tail
                raise
            if position < full:
                self._end(segment, opened, view, position)
                return
            self._check_size((index + 1) * CHUNK_BYTES, opened)
            self._fill(segment, view, full)
            position = 0
            if segment.end is not None and segment.at >= segment.end and not self._goes_on(segment):
                self._check_end(opened, size)
                return
            view = ring.claim(segment.at)

    def _goes_on(self, segment: Segment) -> bool:
        """An answer that was cut short for other receivers is kept until one of them has one, or all are turned away.

        A host that gives one answer at a time would give none for a moment after this one is closed.
        """
        until = time.monotonic() + _PATIENCE_S
        while segment.end != segment.reach and not self._has_company and time.monotonic() < until:
            if segment.end is not None and segment.at < segment.end:
                return True
            if self.stop.wait(0.02):
                return False
        return segment.end is not None and segment.at < segment.end

    def _fill(self, segment: Segment, view: memoryview, length: int) -> None:
        index = segment.at
        is_lone = not self.segments.is_lowest(index)
        if is_lone:
            self._pipeline.note(index, hashlib.sha256(view[:length]).hexdigest())
        self._pipeline.ring.fill(index, length, is_lone=is_lone)
        segment.at = index + 1

    def _end(self, segment: Segment, opened: Opened, view: memoryview, position: int) -> None:
        """The body ended inside a chunk: fine only where nobody knew its length."""
        index, stand = segment.at, self._stand
        if stand.size_bytes is not None:
            self._tail = (index, bytes(view[:position])) if self.segments.is_lowest(index) else self._tail
            raise transient("truncated", f"{label_of(opened.answer.url)} ended before its announced length")
        stand.size_bytes = index * CHUNK_BYTES + position
        self._check_size(stand.size_bytes, opened)
        if position:
            self._pipeline.ring.fill(index, position)
            segment.at = index + 1
        segment.end = segment.at
        self._pipeline.ring.finish(segment.at)

    def _check_end(self, opened: Opened, size: int | None) -> None:
        """Read the end of a body that was used to its last byte, so that its connection is kept."""
        if size is not None and opened.length is not None and opened.coding == "":
            opened.answer.body.settle()

    def _check_size(self, at_least_bytes: int, opened: Opened) -> None:
        request, stand = self._request, self._stand
        url = opened.answer.url
        if stand.size_bytes is None and request.limit_bytes is not None and at_least_bytes > request.limit_bytes:
            raise too_large(url, request)
        if (
            request.size_bytes is not None
            and not opened.coding
            and at_least_bytes > -(-request.size_bytes // CHUNK_BYTES) * CHUNK_BYTES
        ):
            raise permanent(
                "size_mismatch", f"{label_of(url)} sends more than the {request.size_bytes} bytes that were declared"
            )

    def keep_tail(self) -> None:
        """After the threads have ended: bytes behind the last whole chunk go back to the stand."""
        stand = self._stand
        tail = self._tail or self._first_tail
        if (
            self._pipeline.ring.failure is None
            and tail[0] == stand.base
            and not stand.is_complete
            and len(tail[1]) < CHUNK_BYTES
        ):
            stand.tail = tail[1]
