"""What the local disk says, as reasons. Only a failed sync poisons a file; after the others the partial is kept."""

import errno
import os

from reconciler.core.errors import Failure, transient

_REASONS = {
    errno.ENOSPC: ("no_space", "the disk is full"),
    errno.EDQUOT: ("quota", "the disk quota is used up"),
    errno.EIO: ("io_error", "the disk fails"),
    errno.EROFS: ("read_only", "the file system is read-only"),
    errno.EACCES: ("no_access", "access is denied"),
    errno.EPERM: ("no_access", "access is denied"),
    errno.EMFILE: ("too_many_files", "too many files are open"),
    errno.ENFILE: ("too_many_files", "too many files are open"),
    errno.EFBIG: ("file_too_big", "the file system does not take files of that size"),
    errno.ENAMETOOLONG: ("name_too_long", "the file system does not take a name of that length"),
}
DISK_REASONS = frozenset(reason for reason, _ in _REASONS.values()) | {"disk_error"}


def failure_of_disk(error: OSError, path: str) -> Failure:
    """The failure a local file operation ended with; another source would not help."""
    reason, text = _REASONS.get(error.errno or 0, ("disk_error", os.strerror(error.errno or errno.EIO)))
    hint = "make room on that disk" if reason in {"no_space", "quota"} else ""
    return transient(reason, f"cannot write {path}: {text}", hint=hint)


def check_space(path: str, wanted_bytes: int, min_free_bytes: int) -> None:
    """Whether ``wanted_bytes`` more fit beside ``path`` with ``min_free_bytes`` left over.

    Raises:
        Failure: transient ``no_space``.
    """
    try:
        found = os.statvfs(os.path.dirname(path))  # noqa: PTH120 -- for every small file
    except OSError as error:
        raise failure_of_disk(error, path) from error
    free_bytes = found.f_bavail * found.f_frsize
    if free_bytes - wanted_bytes < min_free_bytes:
        raise transient(
            "no_space",
            f"{wanted_bytes} bytes more do not fit beside {path}: {free_bytes} are free"
            f" and {min_free_bytes} must stay free",
            hint="make room on that disk, or lower cache.minFreeSpace",
        )
