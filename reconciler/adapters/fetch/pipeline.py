"""Three threads behind the receivers of one large file: one hashes in order, one writes, one syncs and records.

Receiving, hashing, writing and syncing all release the interpreter's lock, so that they overlap on two cores; the ring
between them bounds the memory and what an interruption may cost. At a checkpoint the file is synced and *then* the
record told.
"""

import threading
from collections.abc import Callable

from reconciler.adapters.fetch.partial import Partial, aligned_buffer
from reconciler.adapters.fetch.record import CHUNK_BYTES, Header, Record
from reconciler.adapters.fetch.resume import DIGEST_CHARS, Stand
from reconciler.adapters.fetch.ring import Ring

_RUN_CHUNKS = 4  # written by one system call, where they follow each other
_CHECKPOINTS = 2  # within what may be at risk: while one is on its way, receiving goes on


class Pipeline:
    """Takes a stand, moves it on, hands it back by :meth:`stop`."""

    def __init__(self, stand: Stand, partial: Partial, record: Record, ring_bytes: int, risk_bytes: int) -> None:
        self._stand = stand
        self._partial = partial
        self._record = record
        at_risk = max(2, risk_bytes // CHUNK_BYTES)
        self._checkpoint_chunks = max(1, at_risk // _CHECKPOINTS)
        size = stand.size_bytes
        wanted = ring_bytes if size is None else min(ring_bytes, size + CHUNK_BYTES)
        self.ring = Ring(max(2, wanted // CHUNK_BYTES), stand.base, at_risk, frozenset(stand.islands))
        if size is not None:
            self.ring.finish(-(-size // CHUNK_BYTES))
        self._lone: dict[int, str] = dict(stand.islands)  # digests of chunks that came before those in front of them
        self._told: set[int] = set(stand.islands)
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("hash", self._hash), ("write", self._write), ("record", self._keep))
        ]

    def start(self, digest: str) -> None:
        """Start the threads; the record is opened for the stand's object."""
        if not self._record.is_open:
            stand = self._stand
            self._record.begin(Header(stand.url, stand.validator, stand.size_bytes, digest))
            stand.recorded = 0
        for thread in self._threads:
            thread.start()

    def note(self, index: int, digest: str) -> None:
        """Chunk ``index`` came out of order and has this digest of its own."""
        with self._lock:
            self._lone[index] = digest

    def stop(self) -> None:
        """Hash and write what is filled, end the threads, bring the stand up to date."""
        self.ring.drain()
        for thread in self._threads:
            thread.join()
        stand = self._stand
        stand.base = self.ring.base
        if self.ring.failure is not None:  # hashing may be ahead of writing: only what is recorded by chunk is true
            stand.prefixes = stand.prefixes[: stand.base]
        with self._lock:
            stand.islands = {index: self._lone[index] for index in self.ring.present if index in self._lone}

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that waits for this one
            self.ring.fail(error)

    def _hash(self) -> None:
        stand, ring = self._stand, self.ring
        scratch: memoryview | None = None
        while (item := ring.next_to_hash()) is not None:
            index, view = item
            if view is None:
                scratch = aligned_buffer(CHUNK_BYTES) if scratch is None else scratch
                view = scratch[: self._partial.read_into(scratch, index * CHUNK_BYTES)]
            stand.hasher.update(view)
            if len(view) == CHUNK_BYTES:
                stand.prefixes.append(stand.hasher.copy().hexdigest()[:DIGEST_CHARS])
            ring.hashed(index)

    def _write(self) -> None:
        while (item := self.ring.next_to_write(_RUN_CHUNKS)) is not None:
            first, views = item
            self._partial.write_run(views, first * CHUNK_BYTES)
            self.ring.written(first, len(views))

    def _keep(self) -> None:
        while (item := self.ring.next_to_record(self._checkpoint_chunks)) is not None:
            self._checkpoint(*item)
            self.ring.recorded(*item)

    def _checkpoint(self, base: int, lone: frozenset[int]) -> None:
        stand = self._stand
        self._partial.sync()
        base = min(base, len(stand.prefixes))  # a short last chunk has no running digest
        lines = [("p", index, stand.prefixes[index]) for index in range(stand.recorded, base)]
        with self._lock:
            lines += [("c", index, self._lone[index]) for index in sorted(lone - self._told)]
            self._told |= lone
        self._record.add(lines)
        stand.recorded = base
