"""The ring: bounded memory, and bounded risk, between receiving, hashing, writing and recording.

One anonymous mapping (page-aligned, as direct I/O wants) of ``slots`` chunks. A chunk takes the slot that was let go
last, which is the one most likely to be in a cache still; it keeps it until it is both hashed and written. Chunk ``n``
may be claimed while ``n < base + slots``, so the lowest missing chunk always finds a slot: nobody can wait for ever.
Chunks may be filled and written in any order; they are hashed in order.

A chunk is *at risk* from its claim until the record tells of it: a power cut would cost it. There are never more than
``at_risk`` of those; receivers wait for the record then. Each chunk gets there without help of the receivers: one
that came in order is hashed and written, a *lone* one has a digest of its own.

The mapping asks for huge pages: hashing 64 MiB in small ones takes half as long again, for want of address translations
(measured under virtualisation: 0.95 s a GiB against 0.63 s).
"""

import contextlib
import mmap
import threading
import time

from reconciler.adapters.fetch.record import CHUNK_BYTES


class HandedBackError(Exception):
    """Nobody brings a lower chunk any more, and this one has to wait for it: leave this one, and take that."""


class Ring:
    """The state shared by one file's threads. All methods are safe for several threads."""

    def __init__(self, slots: int, first: int, at_risk: int, present: frozenset[int] = frozenset()) -> None:
        self._map = _memory(slots * CHUNK_BYTES)
        self._view = memoryview(self._map)
        self._slots = slots
        self._lock = threading.Lock()
        self._receivers, self._hasher, self._writer, self._recorder = (threading.Condition(self._lock) for _ in "abcd")
        self._most_at_risk = at_risk
        self._at_risk: set[int] = set()
        self._free = list(range(slots - 1, -1, -1))
        self._slot_of: dict[int, int] = {}
        self._lengths: dict[int, int] = {}  # filled chunks that are not yet both hashed and written
        self._lone: set[int] = set()
        self._to_write: set[int] = set()
        self._present = set(present)  # on the disk, at or above the base
        self._hashed = first  # all below are hashed
        self._base = first  # all below are hashed and written
        self._orphan: int | None = None  # a chunk that was handed back and nobody has claimed again
        self.end: int | None = None  # number of chunks, once known
        self.failure: BaseException | None = None  # of hashing or writing: nothing goes on
        self._halted: BaseException | None = None  # no more chunks are taken; what is filled goes through
        self.is_draining = False
        self.waited_s = 0.0  # how long receivers waited

    def claim(self, index: int) -> memoryview:
        """The empty slot of chunk ``index``; waits until there is one and not too much is at risk.

        Raises:
            Failure: what another thread of this file failed with.
            HandedBackError: see there.
        """
        with self._lock:
            if index == self._orphan:
                self._orphan = None
            if self._must_wait(index):
                began = time.monotonic()
                while self._must_wait(index) and self.failure is None and self._halted is None:
                    if self._orphan is not None and self._orphan < index:
                        raise HandedBackError
                    self._receivers.wait()
                self.waited_s += time.monotonic() - began
            failure = self.failure or self._halted
            if failure is not None:
                raise failure
            if index not in self._slot_of:  # another connection may have failed inside this chunk
                self._slot_of[index] = self._free.pop()
            self._at_risk.add(index)
            return self._slot(index, CHUNK_BYTES)

    def orphan(self, index: int) -> None:
        """Chunk ``index`` was handed back."""
        with self._lock:
            self._orphan = index if self._orphan is None else min(self._orphan, index)
            self._receivers.notify_all()

    def fill(self, index: int, length: int, *, is_lone: bool = False) -> None:
        """Chunk ``index`` is in its slot. Only the last one may be short; a lone one has a digest of its own."""
        with self._lock:
            self._lengths[index] = length
            self._to_write.add(index)
            if is_lone:
                self._lone.add(index)
            self._writer.notify()
            if index == self._hashed:
                self._hasher.notify()

    def next_to_hash(self) -> tuple[int, memoryview | None] | None:
        """The next chunk in order: its bytes, or None for bytes that are on the disk only. None at the end."""
        with self._lock:
            while True:
                index = self._hashed
                if self.failure is not None or (self.end is not None and index >= self.end):
                    return None
                if index in self._lengths:
                    return index, self._slot(index, self._lengths[index])
                if index in self._present:
                    return index, None
                if self.is_draining:
                    return None
                self._hasher.wait()

    def hashed(self, index: int) -> None:
        """Chunk ``index`` is hashed."""
        with self._lock:
            self._hashed = index + 1
            if index in self._present:
                self._let_go(index)
            self._advance()

    def next_to_write(self, most: int) -> tuple[int, list[memoryview]] | None:
        """A run of chunks that follow each other: (number of the first, bytes of each). None at the end."""
        with self._lock:
            while not self._to_write:
                if self.failure is not None or self.is_draining or self._is_over():
                    return None
                self._writer.wait()
            if self.failure is not None:
                return None
            first = last = min(self._to_write)
            while last + 1 in self._to_write and last + 1 - first < most and self._lengths[last] == CHUNK_BYTES:
                last += 1
            run = range(first, last + 1)
            self._to_write.difference_update(run)
            return first, [self._slot(index, self._lengths[index]) for index in run]

    def written(self, first: int, count: int) -> None:
        """``count`` chunks from ``first`` on are on the disk."""
        with self._lock:
            for index in range(first, first + count):
                self._present.add(index)
                if index < self._hashed:
                    self._let_go(index)
            self._advance()

    def next_to_record(self, least: int) -> tuple[int, frozenset[int]] | None:
        """At least ``least`` more chunks that can be recorded: (base, lone ones on the disk). None at the end."""
        with self._lock:
            while True:
                if self.failure is not None or self.is_draining or self._is_over():
                    return None
                lone = self._lone & self._present
                if sum(index < self._base or index in lone for index in self._at_risk) >= least:
                    return self._base, frozenset(lone)
                self._recorder.wait()

    def recorded(self, base: int, lone: frozenset[int]) -> None:
        """The record tells of all chunks below ``base`` and of the ``lone`` ones."""
        with self._lock:
            self._at_risk = {index for index in self._at_risk if index >= base and index not in lone}
            self._receivers.notify_all()

    @property
    def base(self) -> int:
        """All chunks below are hashed and written."""
        with self._lock:
            return self._base

    @property
    def present(self) -> frozenset[int]:
        """Chunks at or above the base that are on the disk."""
        with self._lock:
            return frozenset(self._present)

    def fail(self, failure: BaseException) -> None:
        """Stop everybody; the first failure counts."""
        with self._lock:
            self.failure = self.failure or failure
            self._wake()

    def halt(self, failure: BaseException) -> None:
        """Wake the receivers with ``failure``."""
        with self._lock:
            self._halted = self._halted or failure
            self._wake()

    def drain(self) -> None:
        """No more chunks come: hash and write what is filled, then end."""
        with self._lock:
            self.is_draining = True
            self._wake()

    def finish(self, end: int) -> None:
        """The file has ``end`` chunks."""
        with self._lock:
            self.end = end
            self._wake()

    def close(self) -> None:
        """Give the memory back; no thread uses it any more."""
        self._view.release()
        try:
            self._map.close()
        except BufferError:  # a view still lives in a traceback; the memory goes with it
            return

    def _must_wait(self, index: int) -> bool:
        is_crowded = len(self._at_risk) >= self._most_at_risk and index not in self._at_risk
        return is_crowded or index >= self._base + self._slots

    def _advance(self) -> None:
        before = self._base
        while self._base < self._hashed and self._base in self._present:
            self._present.discard(self._base)
            self._lone.discard(self._base)
            self._base += 1
        if self._base > before:
            self._receivers.notify_all()
        self._recorder.notify()
        if self._is_over():
            self._wake()

    def _let_go(self, index: int) -> None:
        self._lengths.pop(index, None)
        slot = self._slot_of.pop(index, None)  # None for a chunk of an earlier process
        if slot is not None:
            self._free.append(slot)

    def _wake(self) -> None:
        for condition in (self._receivers, self._hasher, self._writer, self._recorder):
            condition.notify_all()

    def _is_over(self) -> bool:
        return self.end is not None and self._base >= self.end

    def _slot(self, index: int, length: int) -> memoryview:
        start = self._slot_of[index] * CHUNK_BYTES
        return self._view[start : start + length]


def _memory(size_bytes: int) -> mmap.mmap:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, size_bytes)
    found = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        found.madvise(mmap.MADV_HUGEPAGE)
    return found
