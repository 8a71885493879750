"""The receiving threads of one large file, and the loop that watches them.

The first receiver has the answer that was opened already; more are added while throughput grows
(:class:`~reconciler.adapters.fetch.segments.Growth`). A receiver that fails among several is replaced a few times;
the last one's failure, or anything but a network fault, ends the attempt. What was received by then is hashed and
written before the attempt ends.
"""

import hashlib
import threading
import time

from reconciler.adapters.fetch.disk import check_space
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.opening import (
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
from reconciler.adapters.fetch.redirects import label_of, origin_of
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.segments import Growth, Segment, Segments
from reconciler.adapters.fetch.tools import Tools
from reconciler.core.errors import Failure, FailureKind, permanent, transient
from reconciler.core.ports import CancelToken, FetchRequest

PIECE_CHUNKS = 4
_TICK_S = 0.1
_WINDOW_S = 0.25
_SPLIT_FROM_BYTES = 8 << 20
_EXPIRED = frozenset({"unauthorized", "forbidden", "not_found", "gone"})


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


class Crew:
    """One attempt at a large file."""

    def __init__(self, tools: Tools, request: FetchRequest, meter: Meter, cancel: CancelToken) -> None:
        self._tools = tools
        self._request = request
        self._meter = meter
        self._cancel = cancel
        self._stop = Stop(cancel)
        self._changed = threading.Condition()
        self._running = 0
        self._failure: BaseException | None = None
        self._spare = 3  # replacements left
        self._tail: tuple[int, bytes] | None = None

    @property
    def has_split(self) -> bool:
        """Whether the file was put together from several answers."""
        return self._growth.connections > 1

    def run(self, stand: Stand, pipeline: Pipeline, opened: Opened, origin: Place) -> None:
        """Receive every missing chunk.

        Raises:
            Failure: sorted; the stand holds what came in.
            ObjectChangedError, RangeRefusedError: start over.
        """
        self._stand, self._pipeline, self._origin = stand, pipeline, origin
        answer = opened.answer
        self._place = Place(answer.url, answer.secrets, answer.scope)
        self._segments = Segments(stand.gaps(), PIECE_CHUNKS)
        self._first_tail = (stand.base, stand.tail)
        stand.tail = b""
        is_splittable = opened.has_ranges and opened.size_bytes is not None and bool(stand.validator)
        self._growth = Growth(self._request.connections if is_splittable else 1)
        self._spawn(opened)
        try:
            self._watch()
        finally:
            self._stop.set()
            pipeline.ring.halt(transient("cancelled", "stopped"))
            self._join()
            pipeline.stop()
            self._keep_tail()
        failure = pipeline.ring.failure or self._failure
        if failure is not None:
            raise failure

    def _watch(self) -> None:
        began, seen_bytes, seen_wait_s = time.monotonic(), self._meter.received_bytes, 0.0
        space_bytes = 0
        while True:
            with self._changed:
                if self._running and self._failure is None:
                    self._changed.wait(_TICK_S)
                is_over = not self._running and self._segments.is_empty
                if self._failure is not None or is_over:
                    return
            if self._cancel.is_set():
                raise transient("cancelled", f"stopped while fetching {self._request.path}")
            self._meter.tell()
            ring = self._pipeline.ring
            if ring.failure is not None:
                return
            received_bytes = self._meter.received_bytes
            if received_bytes - space_bytes >= self._tools.settings.space_check_bytes:
                space_bytes = received_bytes
                check_space(self._request.target, 0, self._request.min_free_bytes)
            window_s = time.monotonic() - began
            if window_s >= _WINDOW_S:
                rate = (received_bytes - seen_bytes) / window_s
                self._grow(rate, (ring.waited_s - seen_wait_s) / window_s)
                began, seen_bytes, seen_wait_s = time.monotonic(), received_bytes, ring.waited_s

    def _grow(self, rate: float, ring_wait_share: float) -> None:
        size = self._stand.size_bytes
        if size is None or self._growth.most <= 1:
            return
        left_bytes = size - self._meter.done_bytes
        before = self._growth.connections
        if left_bytes < _SPLIT_FROM_BYTES:
            return
        wanted = self._growth.next_connections(rate, ring_wait_share, left_bytes / max(rate, 1.0))
        if wanted == before:
            return
        if before == 1:
            self._segments.split()
        for _ in range(wanted - before):
            if not self._spawn(None):
                self._growth.is_settled = True
                return

    def _spawn(self, opened: Opened | None) -> bool:
        origin = origin_of(self._place.url)
        if opened is None and not self._tools.connections.try_take(origin):
            return False
        with self._changed:
            self._running += 1
        threading.Thread(target=self._work, args=(opened, origin), name="receive", daemon=True).start()
        return True

    def _join(self) -> None:
        with self._changed:
            while self._running:
                self._changed.wait()

    def _work(self, opened: Opened | None, origin: tuple[str, str, int]) -> None:
        is_first = opened is not None
        failure: BaseException | None = None
        try:
            while not self._stop.is_set() and (segment := self._segments.take()) is not None:
                try:
                    self._receive(segment, opened)
                finally:
                    opened = None
                    self._segments.done(segment)
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that waits for this one
            failure = error
        finally:
            if opened is not None:
                opened.answer.close()
            if not is_first:
                self._tools.connections.give_back(origin)
            self._leave(failure)

    def _leave(self, failure: BaseException | None) -> None:
        with self._changed:
            is_fault = isinstance(failure, Failure) and failure.kind is FailureKind.TRANSIENT
            is_replaced = is_fault and self._running > 1 and self._spare > 0 and not self._stop.is_set()
            if is_replaced:
                self._spare -= 1
                self._growth.is_settled = True
            elif failure is not None and self._failure is None:
                self._failure = failure
            if self._failure is not None:
                self._stop.set()
                self._pipeline.ring.halt(transient("cancelled", "stopped"))
        if is_replaced and not self._spawn(None):
            with self._changed:
                self._failure = self._failure or failure
                self._stop.set()
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _receive(self, segment: Segment, opened: Opened | None) -> None:
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
            opened = open_range(self._tools.client, place, want, self._request, self._stop, now)
        except Failure as failure:
            if failure.reason not in _EXPIRED or place.url == self._origin.url:
                raise
            opened = open_range(self._tools.client, self._origin, want, self._request, self._stop, now)
            answer = opened.answer
            self._place = Place(answer.url, answer.secrets, answer.scope)
        if opened.answer.status == 206:
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
                    self._tools.limiter.take(count, self._stop)
            except BaseException:
                self._tail = (index, bytes(view[:position])) if self._segments.is_lowest(index) else self._tail
                raise
            if position < full:
                self._end(segment, opened, view, position)
                return
            self._check_size((index + 1) * CHUNK_BYTES, opened)
            self._fill(segment, view, full)
            position = 0
            if segment.end is not None and segment.at >= segment.end:
                self._check_end(opened, size)
                return
            view = ring.claim(segment.at)

    def _fill(self, segment: Segment, view: memoryview, length: int) -> None:
        index = segment.at
        if not self._segments.is_lowest(index):
            self._pipeline.note(index, hashlib.sha256(view[:length]).hexdigest())
        self._pipeline.ring.fill(index, length)
        segment.at = index + 1

    def _end(self, segment: Segment, opened: Opened, view: memoryview, position: int) -> None:
        """The body ended inside a chunk: fine only where nobody knew its length."""
        index, stand = segment.at, self._stand
        if stand.size_bytes is not None:
            self._tail = (index, bytes(view[:position])) if self._segments.is_lowest(index) else self._tail
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
            raise too_large(url, request.limit_bytes)
        if (
            request.size_bytes is not None
            and not opened.coding
            and at_least_bytes > -(-request.size_bytes // CHUNK_BYTES) * CHUNK_BYTES
        ):
            raise permanent(
                "size_mismatch", f"{label_of(url)} sends more than the {request.size_bytes} bytes of the manifest"
            )

    def _keep_tail(self) -> None:
        stand = self._stand
        tail = self._tail or self._first_tail
        if tail[0] == stand.base and not stand.is_complete and len(tail[1]) < CHUNK_BYTES:
            stand.tail = tail[1]
