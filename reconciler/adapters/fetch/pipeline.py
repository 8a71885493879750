"""Two threads behind the receivers of one large file: one hashes in order, one writes, checkpoints and syncs.

Receiving, hashing and writing all release the interpreter's lock, so that they overlap on two cores; the ring between
them bounds the memory. After every ``checkpoint_bytes`` the file is synced and *then* the record told, so that a power
cut costs no more than that and what was on its way.
"""

import threading
from collections.abc import Callable

from reconciler.adapters.fetch.partial import Partial, aligned_buffer
from reconciler.adapters.fetch.record import CHUNK_BYTES, Header, Record
from reconciler.adapters.fetch.resume import DIGEST_CHARS, Stand
from reconciler.adapters.fetch.ring import Ring

_RUN_CHUNKS = 4  # written by one system call, where they lie side by side


class Pipeline:
    """Takes a stand, moves it on, hands it back by :meth:`stop`."""

    def __init__(self, stand: Stand, partial: Partial, record: Record, ring_bytes: int, checkpoint_bytes: int) -> None:
        self._stand = stand
        self._partial = partial
        self._record = record
        self._checkpoint_bytes = checkpoint_bytes
        size = stand.size_bytes
        wanted = ring_bytes if size is None else min(ring_bytes, size + CHUNK_BYTES)
        self.ring = Ring(max(2, wanted // CHUNK_BYTES), stand.base, frozenset(stand.islands))
        if size is not None:
            self.ring.finish(-(-size // CHUNK_BYTES))
        self._lone: dict[int, str] = dict(stand.islands)  # digests of chunks that came before those in front of them
        self._told: set[int] = set(stand.islands)
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("hash", self._hash), ("write", self._write))
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
        since_bytes = 0
        while (item := self.ring.next_to_write(_RUN_CHUNKS)) is not None:
            first, end, view = item
            self._partial.write(view, first * CHUNK_BYTES)
            self.ring.written(first, end)
            since_bytes += len(view)
            if since_bytes >= self._checkpoint_bytes:
                since_bytes = 0
                self._checkpoint()

    def _checkpoint(self) -> None:
        stand = self._stand
        base, present = self.ring.base, self.ring.present
        self._partial.sync()
        lines = [("p", index, stand.prefixes[index]) for index in range(stand.recorded, min(base, len(stand.prefixes)))]
        with self._lock:
            fresh = [index for index in sorted(present) if index in self._lone and index not in self._told]
            lines += [("c", index, self._lone[index]) for index in fresh]
            self._told.update(fresh)
        self._record.add(lines)
        stand.recorded = min(base, len(stand.prefixes))
