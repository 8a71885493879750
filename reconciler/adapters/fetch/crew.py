"""The receiving threads of one large file, and the loop that watches them.

The first receiver has the answer that was opened already; more are added while throughput grows
(:class:`~reconciler.adapters.fetch.segments.Growth`). A receiver that a fault of the network ends among several is
replaced a few times. One that is turned away (a host may allow one connection and no more) goes for good: its chunks
are handed back to those that run. The last one's failure ends the attempt, and so does an object that changed. What was
received by then is hashed and written before the attempt ends.
"""

import os
import threading
import time
from typing import TypeGuard

from reconciler.adapters.fetch.answers import STATUS_REASONS
from reconciler.adapters.fetch.disk import check_space
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.opening import Opened, Place, RangeRefusedError
from reconciler.adapters.fetch.pipeline import Pipeline
from reconciler.adapters.fetch.receiver import Receiver
from reconciler.adapters.fetch.redirects import Origin, origin_of
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.ring import HandedBackError
from reconciler.adapters.fetch.segments import Growth, Segment
from reconciler.adapters.fetch.tools import Tools
from reconciler.core.errors import Failure, FailureKind, transient
from reconciler.core.ports import CancelToken, FetchRequest

_TICK_S = 0.1
_WINDOW_S = 0.25
_SPLIT_FROM_BYTES = 8 << 20


class Crew:
    """One attempt at a large file."""

    def __init__(self, tools: Tools, request: FetchRequest, meter: Meter, cancel: CancelToken) -> None:
        self._tools = tools
        self._request = request
        self._meter = meter
        self._cancel = cancel
        self._receiver = Receiver(tools, request, meter, cancel)
        self._changed = threading.Condition()
        self._running = 0
        self._idle = 0  # of those that run: have nothing to do, and wait for what others may hand back
        self._is_over = False
        self._failure: BaseException | None = None
        self._spare = 3  # replacements left

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
        self._stand, self._pipeline = stand, pipeline
        self._receiver.begin(stand, pipeline, opened, origin)
        is_splittable = opened.has_ranges and opened.size_bytes is not None and bool(stand.validator)
        self._growth = Growth(self._request.connections if is_splittable else 1)
        self._spawn(opened)
        try:
            self._watch()
        finally:
            self._receiver.stop.set()
            pipeline.ring.halt(transient("cancelled", "stopped"))
            self._join()
            pipeline.stop()
            self._receiver.keep_tail()
        failure = pipeline.ring.failure or self._failure
        if self._is_range_refused(failure):
            raise RangeRefusedError(failure)
        if failure is not None:
            raise failure

    def _is_range_refused(self, failure: BaseException | None) -> TypeGuard[Failure]:
        """Whether the place gives the whole and turns away every part of it."""
        is_said = isinstance(failure, Failure) and failure.kind is FailureKind.PERMANENT
        return is_said and _is_refusal(failure) and self.has_split and not self._receiver.has_parts

    def _watch(self) -> None:
        began, seen_bytes, seen_wait_s = time.monotonic(), self._meter.received_bytes, 0.0
        seen_busy_s, cores = time.process_time(), os.cpu_count() or 1
        space_bytes = 0
        while True:
            with self._changed:
                if self._running and self._failure is None:
                    self._changed.wait(_TICK_S)
                is_over = not self._running and self._receiver.segments.is_empty
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
                cores_share = (time.process_time() - seen_busy_s) / window_s / cores
                self._grow(rate, (ring.waited_s - seen_wait_s) / window_s, cores_share)
                began, seen_bytes, seen_wait_s = time.monotonic(), received_bytes, ring.waited_s
                seen_busy_s = time.process_time()

    def _grow(self, rate: float, ring_wait_share: float, cores_share: float) -> None:
        size = self._stand.size_bytes
        if size is None or self._growth.most <= 1:
            return
        left_bytes = size - self._meter.done_bytes
        before = self._growth.connections
        if left_bytes < _SPLIT_FROM_BYTES:
            return
        wanted = self._growth.next_connections(rate, ring_wait_share, cores_share, left_bytes / max(rate, 1.0))
        if wanted == before:
            return
        if before == 1:
            self._receiver.segments.split()
        for _ in range(wanted - before):
            if not self._spawn(None):
                self._growth.is_settled = True
                with self._changed:
                    if self._running == 1:
                        self._receiver.segments.rejoin()
                return

    def _spawn(self, opened: Opened | None) -> bool:
        origin = origin_of(self._receiver.url)
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

    def _work(self, opened: Opened | None, origin: Origin) -> None:
        is_first = opened is not None
        failure: BaseException | None = None
        try:
            while (segment := self._next()) is not None:
                try:
                    self._receiver.receive(segment, opened)
                except HandedBackError:
                    continue
                finally:
                    opened = None
                    self._hand_back(segment)
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that waits for this one
            failure = error
        finally:
            if opened is not None:
                opened.answer.close()
            if not is_first:
                self._tools.connections.give_back(origin, is_refused=_is_refusal(failure))
            self._leave(failure)

    def _next(self) -> Segment | None:
        """What to bring next; waits while others may still hand something back."""
        with self._changed:
            self._idle += 1
            try:
                while not (self._is_over or self._receiver.stop.is_set()):
                    segment = self._receiver.segments.take()
                    if segment is not None:
                        return segment
                    if self._idle == self._running:
                        self._is_over = True
                        self._changed.notify_all()
                    else:
                        self._changed.wait(_TICK_S)
            finally:
                self._idle -= 1
        return None

    def _hand_back(self, segment: Segment) -> None:
        if self._receiver.segments.done(segment):
            self._pipeline.ring.orphan(segment.at)

    def _leave(self, failure: BaseException | None) -> None:
        with self._changed:
            is_alone = self._running == 1 or self._receiver.stop.is_set()
            is_replaced = False
            if isinstance(failure, Failure) and not is_alone:
                is_replaced = self._part_with(failure)
            elif failure is not None and self._failure is None:
                self._failure = failure
            if self._failure is not None:
                self._receiver.stop.set()
                self._pipeline.ring.halt(transient("cancelled", "stopped"))
        if is_replaced:
            self._spawn(None)
        with self._changed:
            self._running -= 1
            if failure is not None and self._running == 1:
                self._receiver.segments.rejoin()
            self._changed.notify_all()

    def _part_with(self, failure: Failure) -> bool:
        """A receiver goes while others run; whether another one is to take its place."""
        self._growth.is_settled = True
        is_fault = failure.kind is FailureKind.TRANSIENT and not _is_refusal(failure)
        is_replaced = is_fault and self._spare > 0
        self._spare -= is_replaced
        return is_replaced


def _is_refusal(failure: BaseException | None) -> bool:
    """Whether the host answered, and said no."""
    return isinstance(failure, Failure) and failure.reason in STATUS_REASONS
