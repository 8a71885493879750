"""The ring: bounded memory between receiving, hashing and writing.

One anonymous mapping (page-aligned, as direct I/O wants) of ``slots`` chunks; chunk ``n`` lives in slot ``n % slots``.
A slot may be filled anew once its chunk is both hashed and written, so memory is bounded whatever the file, and the
lowest missing chunk always finds its slot free: nobody can wait for ever. Chunks may be filled and written in any
order; they are hashed in order. Pages are touched only as far as they are used.
"""

import mmap
import threading
import time

from reconciler.adapters.fetch.record import CHUNK_BYTES


class Ring:
    """The state shared by one file's threads. All methods are safe for several threads."""

    def __init__(self, slots: int, first: int, present: frozenset[int] = frozenset()) -> None:
        self._map = mmap.mmap(-1, slots * CHUNK_BYTES)
        self._view = memoryview(self._map)
        self._slots = slots
        self._condition = threading.Condition()
        self._lengths: dict[int, int] = {}  # filled chunks that are not yet both hashed and written
        self._to_write: set[int] = set()
        self._present = set(present)  # on the disk already, trusted by a digest of their own
        self._hashed = first  # all below are hashed
        self._base = first  # all below are hashed and written
        self.end: int | None = None  # number of chunks, once known
        self.failure: BaseException | None = None  # of hashing or writing: nothing goes on
        self._halted: BaseException | None = None  # no more chunks are taken; what is filled goes through
        self.is_draining = False
        self.waited_s = 0.0  # how long receivers waited for a free slot

    def claim(self, index: int) -> memoryview:
        """The empty slot of chunk ``index``; waits until it is free.

        Raises:
            Failure: what another thread of this file failed with.
        """
        with self._condition:
            if index >= self._base + self._slots:
                began = time.monotonic()
                while index >= self._base + self._slots and self.failure is None and self._halted is None:
                    self._condition.wait()
                self.waited_s += time.monotonic() - began
            self._check()
            return self._slot(index, CHUNK_BYTES)

    def fill(self, index: int, length: int) -> None:
        """Chunk ``index`` is in its slot; only the last one may be short."""
        with self._condition:
            self._lengths[index] = length
            self._to_write.add(index)
            self._condition.notify_all()

    def next_to_hash(self) -> tuple[int, memoryview | None] | None:
        """The next chunk in order: its bytes, or None for bytes that are on the disk only. None at the end."""
        with self._condition:
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
                self._condition.wait()

    def hashed(self, index: int) -> None:
        """Chunk ``index`` is hashed."""
        with self._condition:
            self._hashed = index + 1
            self._advance()

    def next_to_write(self, most: int) -> tuple[int, int, memoryview] | None:
        """A run of chunks that lie side by side: (first, last + 1, bytes). None at the end."""
        with self._condition:
            while not self._to_write:
                if self.failure is not None or self.is_draining or self._is_all_filled():
                    return None
                self._condition.wait()
            if self.failure is not None:
                return None
            first = last = min(self._to_write)
            total = self._lengths[first]
            while (
                last + 1 in self._to_write
                and last + 1 - first < most
                and (last + 1) % self._slots
                and self._lengths[last] == CHUNK_BYTES
            ):
                last += 1
                total += self._lengths[last]
            self._to_write.difference_update(range(first, last + 1))
            return first, last + 1, self._slot(first, total)

    def written(self, first: int, end: int) -> None:
        """Chunks ``first`` to ``end - 1`` are on the disk."""
        with self._condition:
            self._present.update(range(first, end))
            self._advance()

    @property
    def base(self) -> int:
        """All chunks below are hashed and written."""
        with self._condition:
            return self._base

    @property
    def present(self) -> frozenset[int]:
        """Chunks at or above the base that are on the disk."""
        with self._condition:
            return frozenset(index for index in self._present if index >= self._base)

    def fail(self, failure: BaseException) -> None:
        """Stop everybody; the first failure counts."""
        with self._condition:
            self.failure = self.failure or failure
            self._condition.notify_all()

    def halt(self, failure: BaseException) -> None:
        """Wake the receivers with ``failure``."""
        with self._condition:
            self._halted = self._halted or failure
            self._condition.notify_all()

    def drain(self) -> None:
        """No more chunks come: hash and write what is filled, then end."""
        with self._condition:
            self.is_draining = True
            self._condition.notify_all()

    def finish(self, end: int) -> None:
        """The file has ``end`` chunks."""
        with self._condition:
            self.end = end
            self._condition.notify_all()

    def close(self) -> None:
        """Give the memory back; no thread uses it any more."""
        self._view.release()
        try:
            self._map.close()
        except BufferError:  # a view still lives in a traceback; the memory goes with it
            return

    def _advance(self) -> None:
        while self._base < self._hashed and self._base in self._present:
            self._present.discard(self._base)
            self._lengths.pop(self._base, None)
            self._base += 1
        self._condition.notify_all()

    def _is_all_filled(self) -> bool:
        return self.end is not None and self._base >= self.end

    def _slot(self, index: int, length: int) -> memoryview:
        start = index % self._slots * CHUNK_BYTES
        return self._view[start : start + length]

    def _check(self) -> None:
        failure = self.failure or self._halted
        if failure is not None:
            raise failure
