"""One member on its way to the disk: digest, CRC and writing overlap with the unpacking.

Small members (up to 1 MiB) are collected and written in one piece. A larger one goes through three aligned buffers:
while the caller fills one, a thread hashes the last and another checks and writes it; hashlib, zlib and pwrite release
the GIL. Writing is direct (``O_DIRECT``) into preallocated space where the file system takes it, which is durable after
one fdatasync and leaves the page cache to the running models; else buffered, and dropped from the cache afterwards.
"""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import zlib
from concurrent.futures import Future, ThreadPoolExecutor

from reconciler.adapters.archives.limits import BLOCK_BYTES
from reconciler.core.ports import Member
from reconciler.core.words import Digest

SMALL_BYTES = 1 << 20
BUFFER_BYTES = 4 << 20
_BUFFERS = 3
_DIRECT = getattr(os, "O_DIRECT", 0)


class Outlet:
    """A new file at ``place`` for the member ``path``; ``finish`` or ``abandon`` must follow."""

    def __init__(self, place: str, path: str, size: int | None) -> None:
        self.path = path
        self.size = 0
        self.crc = 0
        self._place = place
        self._expected = size
        self._digest = hashlib.sha256()
        self._small: bytearray | None = bytearray()
        self._descriptor = -1

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the member."""
        if self._small is not None and self.size + len(data) <= SMALL_BYTES:
            self._small += data
            self.size += len(data)
            return
        view = memoryview(data)
        while view:
            room = self.room()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            self.advance(count)
            view = view[count:]

    def room(self) -> memoryview:
        """Where the next bytes may be put directly; :meth:`advance` says how many were."""
        if self._small is not None:
            self._grow()
        return self._view[self._filled :]

    def advance(self, count: int) -> None:
        """``count`` bytes were put into :meth:`room`."""
        self._filled += count
        self.size += count
        if self._filled == BUFFER_BYTES:
            self._submit()

    def _grow(self) -> None:
        """Leave the small way: open the file, preallocate, start the threads."""
        collected, self._small = bytes(self._small or b""), None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._place, flags | _DIRECT, 0o644)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._place)  # noqa: PTH108 -- paths are text throughout the adapters
            self._descriptor = os.open(self._place, flags, 0o644)
        if self._expected:
            with contextlib.suppress(OSError):  # not every file system can; writing then finds a full disk
                os.posix_fallocate(self._descriptor, 0, self._expected)
        self._buffers = [memoryview(mmap.mmap(-1, BUFFER_BYTES)) for _ in range(_BUFFERS)]
        self._pending: list[list[Future[None]]] = [[] for _ in range(_BUFFERS)]
        self._hasher = ThreadPoolExecutor(1)
        self._writer = ThreadPoolExecutor(1)
        self._turn = self._filled = self._written = 0
        self._view = self._buffers[0]
        self.size = 0
        self.write(collected)

    def _submit(self) -> None:
        """Hand the filled buffer to the threads and wait until the next one is free."""
        if not self._filled:
            return
        full = self._view[: self._filled]
        self._pending[self._turn] = [
            self._hasher.submit(self._digest.update, full),
            self._writer.submit(self._store, self._turn, self._filled, self._written),
        ]
        self._written += self._filled
        self._filled = 0
        self._turn = (self._turn + 1) % _BUFFERS
        for future in self._pending[self._turn]:
            future.result()
        self._view = self._buffers[self._turn]

    def _store(self, turn: int, count: int, offset: int) -> None:
        view = self._buffers[turn]
        self.crc = zlib.crc32(view[:count], self.crc)
        end = -(-count // BLOCK_BYTES) * BLOCK_BYTES  # a direct write is whole blocks; the tail is cut off at the end
        done = 0
        while done < end:
            try:
                done += os.pwrite(self._descriptor, view[done:end], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._is_direct():
                    raise
                flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
                fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~_DIRECT)

    def _is_direct(self) -> bool:
        return bool(fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & _DIRECT)

    def close_input(self) -> None:
        """Everything was written: bring size, CRC and digest up to date."""
        if self._small is not None:
            self.crc = zlib.crc32(self._small)
            self._digest.update(self._small)
            return
        self._submit()
        for futures in self._pending:
            for future in futures:
                future.result()

    def finish(self) -> Member:
        """The member as it lies on the disk; a large one is durable, a small one is left to the tree's sync."""
        if self._small is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._place, flags, 0o644)
            view = memoryview(self._small)
            while view:
                view = view[os.write(self._descriptor, view) :]
        else:
            os.ftruncate(self._descriptor, self.size)
            os.fdatasync(self._descriptor)
            if not self._is_direct() and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        self.abandon()
        return Member(self.path, self.size, Digest(f"sha256:{self._digest.hexdigest()}"))

    @property
    def is_durable(self) -> bool:
        """Whether :meth:`finish` syncs it."""
        return self._small is None

    def abandon(self) -> None:
        """Stop the threads and close the file."""
        if self._small is None:
            self._hasher.shutdown(cancel_futures=True)
            self._writer.shutdown(cancel_futures=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
