"""What the operating system's error numbers mean to a reconciler: one table for every adapter.

Full, failing or read-only disks are *environmental*: they pass or a person mends them, and no change of the manifest
would help, so they are transient and are tried again after a while. What the same input will meet again (a name that is
too long) is permanent. A path that leads out of its folder is a guard's refusal.
"""

import errno

from reconciler.core.errors import Failure, FailureKind

_TABLE: dict[int, tuple[FailureKind, str, str]] = {
    errno.ENOSPC: (FailureKind.TRANSIENT, "no_space", "free some room, or lower cache.maxSize"),
    errno.EDQUOT: (FailureKind.TRANSIENT, "no_space", "the disk quota is used up: free some room or raise it"),
    errno.EROFS: (FailureKind.TRANSIENT, "read_only", "mount the file system read-write, or name another --store"),
    errno.EIO: (FailureKind.TRANSIENT, "io_error", "the disk reports errors: look at the kernel's log"),
    errno.ENXIO: (FailureKind.TRANSIENT, "io_error", "the disk is gone: look at the kernel's log"),
    errno.ENODEV: (FailureKind.TRANSIENT, "io_error", "the disk is gone: look at the kernel's log"),
    errno.ESTALE: (FailureKind.TRANSIENT, "io_error", "the network file system dropped the file: mount it again"),
    errno.EMFILE: (FailureKind.TRANSIENT, "too_many_files", "raise the limit of open files (ulimit -n)"),
    errno.ENFILE: (FailureKind.TRANSIENT, "too_many_files", "the system's limit of open files is reached"),
    errno.EACCES: (FailureKind.TRANSIENT, "permission_denied", "run as the owner of the store, or mend its modes"),
    errno.EPERM: (FailureKind.TRANSIENT, "permission_denied", "run as the owner of the store, or mend its modes"),
    errno.ENOENT: (FailureKind.TRANSIENT, "file_vanished", "something else removed it; look again"),
    errno.EBUSY: (FailureKind.TRANSIENT, "file_busy", "something else holds it; try again"),
    errno.ETXTBSY: (FailureKind.TRANSIENT, "file_busy", "something else holds it; try again"),
    errno.ENOMEM: (FailureKind.TRANSIENT, "no_memory", "free some memory"),
    errno.ENOTDIR: (FailureKind.REFUSED, "unexpected_file", "a file stands where a folder should: move it away"),
    errno.EISDIR: (FailureKind.REFUSED, "unexpected_file", "a folder stands where a file should: move it away"),
    errno.EEXIST: (FailureKind.TRANSIENT, "unexpected_file", "something stands there already: move it away"),
    errno.ENOTEMPTY: (FailureKind.TRANSIENT, "unexpected_file", "something else writes there; look again"),
    errno.ELOOP: (FailureKind.REFUSED, "path_escape", "a symbolic link stands in the way: remove it"),
    errno.ENAMETOOLONG: (FailureKind.PERMANENT, "name_too_long", "choose a shorter name"),
    errno.EFBIG: (FailureKind.PERMANENT, "file_too_large", "the file system cannot hold a file of this size"),
}
_UNKNOWN = (FailureKind.TRANSIENT, "io_error", "look at the kernel's log")


def map_os_error(error: OSError, what: str) -> Failure:
    """The failure that stands for ``error``.

    Args:
        error: as the operating system raised it.
        what: what could not be done, naming thing and place: ``cannot place whisper-base``.
    """
    kind, reason, hint = _TABLE.get(error.errno or 0, _UNKNOWN)
    why = error.strerror or type(error).__name__
    return Failure(kind, reason, f"{what}: {why}", hint=hint)
