"""The unfinished file: opened once, locked, preallocated, written at offsets, synced.

Written with ``O_DIRECT`` where the file system takes it, which leaves the page cache to the models that run; else
buffered, and let go with ``posix_fadvise``. The lock (``flock``) makes one process work on one target; it goes with the
process. A failed sync poisons the file: the kernel may have dropped the dirty pages, so it is never synced again.
"""

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from reconciler.adapters.fetch.disk import failure_of_disk
from reconciler.core.errors import Failure, transient
from reconciler.core.ports import CancelToken

ALIGN_BYTES = 4096
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
_MAY_STAY_BYTES = 128 << 10
_FICLONE = 0x40049409
_NOT_SUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


def aligned_buffer(size_bytes: int) -> memoryview:
    """Memory that direct I/O takes: it starts on a page."""
    return memoryview(mmap.mmap(-1, size_bytes))


class Partial:
    """One open, locked partial file. Writes and reads at different offsets may run in several threads."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._direct_fd: int | None = None
        self._is_tried = False
        self._known_bytes: int | None = None  # the length, while only :meth:`write` has touched a new file
        self._is_buffered_dirty = False
        self.is_poisoned = False

    @classmethod
    def open(cls, path: str, cancel: CancelToken, waiting: Callable[[], None]) -> "Partial":
        """Open and lock ``path``, made where absent; waits while another process holds it.

        Raises:
            Failure: ``fetched_elsewhere`` (transient) where the holder moved the file away meanwhile.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise failure_of_disk(error, path) from error
        try:
            has_waited = _lock(fd, cancel, waiting)
            found = os.fstat(fd)
            if not _is_same(found, path):
                if has_waited:
                    raise transient("fetched_elsewhere", f"another process has just finished {path}", retry_after_s=0.0)
                os.close(fd)
                return cls.open(path, cancel, waiting)
        except Failure:
            os.close(fd)
            raise
        opened = cls(path, fd)
        if not (found.st_size or found.st_blocks):
            opened._known_bytes = 0
        return opened

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever written."""
        return self._known_bytes == 0

    @property
    def size_bytes(self) -> int:
        """The file's length now; preallocated bytes count."""
        return os.fstat(self._fd).st_size if self._known_bytes is None else self._known_bytes

    @property
    def allocated_bytes(self) -> int:
        """What the file takes on the disk already."""
        return 0 if self._known_bytes == 0 else os.fstat(self._fd).st_blocks * 512

    def allocate(self, size_bytes: int) -> None:
        """Reserve the whole file, so that a full disk shows before the first byte."""
        self._open_direct()
        if self._direct_fd is None or self.size_bytes >= size_bytes:
            return
        self._known_bytes = None
        try:
            os.posix_fallocate(self._fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise failure_of_disk(error, self.path) from error

    def write(self, view: memoryview, offset: int) -> None:
        """Write all of ``view`` at ``offset``; past the page cache where address, length and offset are aligned."""
        is_aligned = not (len(view) % ALIGN_BYTES or offset % ALIGN_BYTES)
        fd = self._direct_fd if is_aligned and self._direct_fd is not None else self._fd
        known_bytes, self._known_bytes = self._known_bytes, None
        while view:
            self._is_buffered_dirty |= fd == self._fd
            try:
                count = os.pwrite(fd, view, offset)
            except OSError as error:
                if (
                    error.errno == errno.EINVAL and fd != self._fd
                ):  # the memory is not aligned, which Python does not tell
                    fd = self._fd
                    continue
                raise failure_of_disk(error, self.path) from error
            view, offset = view[count:], offset + count
        if known_bytes is not None:
            self._known_bytes = max(known_bytes, offset)

    def write_run(self, views: list[memoryview], offset: int) -> None:
        """Write ``views``, each but the last of whole pages, one after the other at ``offset``."""
        self._known_bytes = None
        if len(views) > 1 and self._direct_fd is not None and not len(views[-1]) % ALIGN_BYTES:
            try:
                count = os.pwritev(self._direct_fd, views, offset)
            except OSError as error:
                raise failure_of_disk(error, self.path) from error
            if count == sum(map(len, views)):
                return
        for view in views:
            self.write(view, offset)
            offset += len(view)

    def read_into(self, view: memoryview, offset: int) -> int:
        """Read up to ``len(view)`` bytes; fewer only at the end of the file."""
        self._open_direct()
        is_aligned = not (len(view) % ALIGN_BYTES or offset % ALIGN_BYTES)
        total = 0
        try:
            fd = self._direct_fd if is_aligned and self._direct_fd is not None else self._fd
            while total < len(view):
                count = os.preadv(fd, [view[total:]], offset + total)
                if not count:
                    break
                total += count
                if count % ALIGN_BYTES:
                    fd = self._fd
        except OSError as error:
            raise failure_of_disk(error, self.path) from error
        return total

    def sync(self, *, may_stay: bool = False) -> None:
        """Make what was written durable; it leaves the page cache, unless it ``may_stay``.

        Raises:
            Failure: transient; the file is poisoned and must be dropped.
        """
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self.is_poisoned = True
            raise failure_of_disk(error, self.path) from error
        if self._is_buffered_dirty:
            self._is_buffered_dirty = False
            if not may_stay:
                _let_go(self._fd)

    @property
    def is_unsynced(self) -> bool:
        """Whether something was written through the page cache and not synced yet."""
        return self._is_buffered_dirty

    def begin(self) -> None:
        """See ``core.ports.Held``. What begins together comes to the disk with one commit of its journal, not many."""
        _let_go(self._fd)  # pages that cannot be dropped yet begin to be written

    def settle(self) -> None:
        """Sync and close; what cannot be synced is removed. See ``core.ports.Held``.

        A small file may stay in the page cache: to put it out costs more than it takes there.
        """
        try:
            self.sync(may_stay=self._known_bytes is not None and self._known_bytes <= _MAY_STAY_BYTES)
        except Failure:
            self.drop()
            raise
        finally:
            self.close()

    def truncate(self, size_bytes: int) -> None:
        """Cut or grow to ``size_bytes``."""
        try:
            if self.size_bytes != size_bytes:
                self._known_bytes = None
                os.ftruncate(self._fd, size_bytes)
        except OSError as error:
            raise failure_of_disk(error, self.path) from error

    def clone(self, source_fd: int) -> bool:
        """Share the blocks of another file, where the file system can; the bytes still count as unread."""
        self._known_bytes = None
        try:
            fcntl.ioctl(self._fd, _FICLONE, source_fd)
        except OSError:
            return False
        return True

    def note(self, name: str, value: bytes) -> bool:
        """Keep a small value with the file itself; False where the file system cannot, or not so much."""
        try:
            os.setxattr(self._fd, name, value)
        except (OSError, AttributeError):
            return False
        return True

    def replace(self) -> None:
        """Go on with a new, empty file of the same name; what lay there is nobody's any more."""
        self.drop()
        fresh = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.close()
        self._fd, self._is_tried, self._known_bytes = fresh, False, 0
        with contextlib.suppress(OSError):
            fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def drop(self) -> None:
        """Remove the file; its lock stays until it is closed."""
        with contextlib.suppress(OSError):
            Path(self.path).unlink()

    def close(self) -> None:
        """Let go of the file and its lock."""
        if self._direct_fd is not None:
            os.close(self._direct_fd)
            self._direct_fd = None
        os.close(self._fd)

    def _open_direct(self) -> None:
        if self._is_tried or not _O_DIRECT:
            return
        self._is_tried = True
        with contextlib.suppress(OSError):
            self._direct_fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | _O_DIRECT)


def _let_go(fd: int) -> None:
    """Out of the page cache, where the system knows how."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _lock(fd: int, cancel: CancelToken, waiting: Callable[[], None]) -> bool:
    has_waited = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not has_waited:
                waiting()
            has_waited = True
            if cancel.wait(0.1):
                raise transient("cancelled", "stopped while another process works on the same file") from None
        except OSError:
            return False  # no locks on this file system: the store's own lock must do
        else:
            return has_waited


def _is_same(found: os.stat_result, path: str) -> bool:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
