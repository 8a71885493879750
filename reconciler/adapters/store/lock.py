"""One owner per store, by a kernel lock that vanishes with its process.

``flock(2)`` on the file ``lock`` decides. A POSIX lock is taken beside it on the same open file for one reason only:
``F_GETLK`` tells its owner's process id, so that the one who is refused can be told who holds the store, and nothing
has to be written into the file (what is written can be stale; a kernel lock cannot).

Two things about POSIX locks are dangerous and are met here: closing *any* descriptor of the file drops the process's
lock, so this process never opens the file twice (``_HELD`` remembers which it holds); and on NFS both kinds are one,
so a POSIX lock that fails beside a good ``flock`` is ignored.
"""

import errno
import fcntl
import os
import struct
import sys
import threading
from types import TracebackType
from typing import Self

from reconciler.adapters.store.folders import failing, open_root
from reconciler.core.errors import Failure, refused

LOCK_NAME = "lock"
_BUSY = frozenset({errno.EAGAIN, errno.EACCES})
_HELD: dict[tuple[int, int], "Lock"] = {}
_GUARD = threading.Lock()
_FLOCK_LAYOUT = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid


class Lock:
    """A held lock. Released by :meth:`release`, at the end of ``with``, or by the kernel when the process dies."""

    def __init__(self, fd: int, key: tuple[int, int], *, exclusive: bool) -> None:
        self._fd = fd
        self._key = key
        self.exclusive = exclusive

    def release(self) -> None:
        """Let go; a second call does nothing."""
        with _GUARD:
            if self._fd >= 0:
                _HELD.pop(self._key, None)
                os.close(self._fd)
                self._fd = -1

    def keep(self, root: str) -> None:
        """Take the lock anew where its file was taken away: whoever came would find the store free.

        Raises:
            StoreBusy: somebody came already.
            Failure: what the operating system says about the new file.
        """
        if not os.path.isdir(root) or _identity(root) == self._key:  # noqa: PTH112 -- the store speaks text
            return
        with _GUARD:
            fd, key = _take(root, exclusive=self.exclusive)
            _HELD.pop(self._key, None)
            os.close(self._fd)
            self._fd, self._key = fd, key
            _HELD[key] = self

    @property
    def is_held(self) -> bool:
        """Whether it was not released yet."""
        return self._fd >= 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class StoreBusy(Failure):
    """Another reconciler owns the store. ``pid`` is None where the kernel does not tell: NFS, another PID space."""

    def __init__(self, root: str, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        failure = refused(
            "store_busy",
            f"the store {root} is held by {who}",
            hint="wait for it, or stop it; reading verbs (status, plan, why) work meanwhile",
        )
        super().__init__(failure.kind, failure.reason, failure.message, hint=failure.hint)
        self.root = root
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return (StoreBusy, (self.root, self.pid))


def acquire(root: str, *, exclusive: bool = True) -> Lock:
    """Take the store, at once or not at all.

    Raises:
        StoreBusy: refused ``store_busy``; somebody, also another thread of this process, holds it.
        Failure: what the operating system says about the file.
    """
    with _GUARD:
        fd, key = _take(root, exclusive=exclusive)
        lock = Lock(fd, key, exclusive=exclusive)
        _HELD[key] = lock
        return lock


def _take(root: str, *, exclusive: bool) -> tuple[int, tuple[int, int]]:
    """The locked file and who it is: device and inode."""
    with failing(f"cannot lock the store {root}"), open_root(root) as root_fd:
        _refuse_if_held_here(root, root_fd)
        fd = _open_or_make(root_fd)
        try:
            _lock(fd, root, exclusive=exclusive)
        except BaseException:
            os.close(fd)
            raise
        found = os.fstat(fd)
        return fd, (found.st_dev, found.st_ino)


def _open_or_make(root_fd: int) -> int:
    """The lock file, made only where it is missing; open for writing, as an exclusive POSIX lock wants it.

    On a read-only file system ``flock`` does without: a pass that has nothing to do must not fail there.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(LOCK_NAME, flags | os.O_RDWR, dir_fd=root_fd)
    except FileNotFoundError:
        return os.open(LOCK_NAME, flags | os.O_RDWR | os.O_CREAT, 0o644, dir_fd=root_fd)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(LOCK_NAME, flags | os.O_RDONLY, dir_fd=root_fd)


def owner_pid(root: str) -> int | None:
    """Who owns the store now; None where nobody does or the kernel does not tell. Creates nothing."""
    try:
        with _GUARD, open_root(root) as root_fd:
            found = os.stat(LOCK_NAME, dir_fd=root_fd, follow_symlinks=False)
            if (found.st_dev, found.st_ino) in _HELD:
                return os.getpid()
            fd = os.open(LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root_fd)
            try:
                return _ask_owner(fd)
            finally:
                os.close(fd)
    except (OSError, Failure):
        return None


def _identity(root: str) -> tuple[int, int] | None:
    """Device and inode of the lock file; None where there is none."""
    try:
        found = os.lstat(f"{root}/{LOCK_NAME}")
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _refuse_if_held_here(root: str, root_fd: int) -> None:
    try:
        found = os.stat(LOCK_NAME, dir_fd=root_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if (found.st_dev, found.st_ino) in _HELD:
        raise StoreBusy(root, os.getpid())


def _lock(fd: int, root: str, *, exclusive: bool) -> None:
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            raise StoreBusy(root, _ask_owner(fd)) from error
        raise
    try:
        fcntl.lockf(fd, kind | fcntl.LOCK_NB)
    except OSError:
        return  # only the owner's pid is lost


def _ask_owner(fd: int) -> int | None:
    """The process that holds a POSIX lock on the file, by ``F_GETLK``."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return None
    question = struct.pack(_FLOCK_LAYOUT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, question)
    except OSError:
        return None
    kind, _, _, _, pid = struct.unpack(_FLOCK_LAYOUT, answer)
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None
