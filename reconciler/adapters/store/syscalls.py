"""System calls that Python does not offer, each with a fallback where the kernel or file system refuses it.

``renameat2(2)`` gives the two atomic moves the store rests on: *no replace* (a blob never overwrites another) and
*exchange* (a model's folder is swapped in one step). ``FICLONE`` (``ioctl_ficlone(2)``) copies without copying.
"""

import ctypes
import errno
import fcntl
import functools
import os
import sys
from collections.abc import Callable

_NOREPLACE = 1
_EXCHANGE = 2
_FICLONE = 0x40049409
_NUMBERS = {"x86_64": 316, "aarch64": 276, "arm64": 276, "riscv64": 276}  # of renameat2, where libc lacks it
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


def rename_noreplace(source: str, target: str, *, source_fd: int, target_fd: int) -> None:
    """Move ``source`` to ``target``, both relative to open folders.

    Without ``renameat2`` a hard link and an unlink do the same; without hard links a look and a rename come close.

    Raises:
        FileExistsError: something stands at ``target``; nothing was changed.
    """
    if _renameat2(source_fd, source, target_fd, target, _NOREPLACE):
        return
    try:
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        if is_there(target, target_fd):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    else:
        os.unlink(source, dir_fd=source_fd)


def exchange(first: str, second: str, *, first_fd: int, second_fd: int) -> bool:
    """Swap two names in one step; False where the file system cannot."""
    return _renameat2(first_fd, first, second_fd, second, _EXCHANGE)


def is_there(name: str, folder_fd: int) -> bool:
    """Whether anything stands at ``name``, a dangling link too."""
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def reflink(source_fd: int, target_fd: int) -> bool:
    """Make ``target`` share ``source``'s blocks; False where the file system cannot."""
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError:
        return False
    return True


def _renameat2(source_fd: int, source: str, target_fd: int, target: str, flags: int) -> bool:
    """True where done, False where the kernel or file system does not know the call or the flag."""
    call = _renameat2_function()
    if call is None:
        return False
    if call(source_fd, os.fsencode(source), target_fd, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), source, None, target)


@functools.cache
def _renameat2_function() -> Callable[[int, bytes, int, bytes, int], int] | None:
    libc = ctypes.CDLL(None, use_errno=True)
    types = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    if hasattr(libc, "renameat2"):
        libc.renameat2.argtypes = types
        return libc.renameat2
    number = _NUMBERS.get(os.uname().machine)
    if number is None or sys.platform != "linux":
        return None
    libc.syscall.argtypes = (ctypes.c_long, *types)
    libc.syscall.restype = ctypes.c_long
    return functools.partial(libc.syscall, number)
