"""Whether another process has a file open or mapped, asked of the kernel in one step.

A write lease (``F_SETLEASE``, fcntl(2)) is granted only where nobody else has the file open, and mapping keeps it
open; so a refusal (``EAGAIN``) means *in use*. It is asked on a read-only descriptor, given back at once, and needs
the file to be ours (or ``CAP_LEASE``). This process's own open files count too. Where the question cannot be asked
(not the owner, NFS, no Linux) the answer is "not known to be in use".

Should somebody open the file in the microseconds the lease is held, the kernel would send ``SIGIO``, whose default is
to kill; ``F_SETSIG`` makes it ``SIGURG``, whose default is nothing.
"""

import errno
import fcntl
import os
import signal

_HAS_LEASES = hasattr(fcntl, "F_SETLEASE")
_SETSIG = getattr(fcntl, "F_SETSIG", 10)
_IN_USE = frozenset({errno.EAGAIN, errno.ETXTBSY})


def is_in_use(path: str) -> bool:
    """Whether some process has ``path`` open or mapped; False where that cannot be told."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _is_refused(fd, fcntl.F_WRLCK) if _HAS_LEASES else False
    finally:
        os.close(fd)


def is_written(fd: int) -> bool:
    """Whether some process has the open file open for writing; False where that cannot be told."""
    return _is_refused(fd, fcntl.F_RDLCK) if _HAS_LEASES else False


def _is_refused(fd: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, _SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except OSError as error:
        return error.errno in _IN_USE
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
