"""``file:`` sources: read, hashed and copied, never changed.

The copy is a reflink where the file system has them (``FICLONE``), and hashed all the same: what is published is what
was hashed, because the clone is read back. Anything but a regular file is refused; opening does not block on a FIFO.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from reconciler.adapters.fetch.disk import check_space
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.opening import too_large
from reconciler.adapters.fetch.partial import Partial, aligned_buffer
from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.ports import CancelToken, FetchRequest, Location


def path_of(url: str) -> str:
    """The absolute path of a ``file:`` URL.

    Raises:
        Failure: permanent; another host, or no absolute path.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path.startswith("/") or "\0" in path:
        raise permanent("bad_url", "a file: source names an absolute path on this machine")
    return path


def copy_file(
    location: Location,
    request: FetchRequest,
    partial: Partial,
    meter: Meter,
    cancel: CancelToken,
    clear: Callable[[], None],
) -> tuple[str, int]:
    """Copy and hash; the digest and the size of what lies at the partial now, durable.

    ``clear`` empties the partial, once the file is known to be there.

    Raises:
        Failure: sorted.
    """
    path = path_of(location.url)
    fd = _open(path)
    try:
        size = os.fstat(fd).st_size
        _check_size(path, size, request)
        check_space(request.target, max(0, size - partial.allocated_bytes), request.min_free_bytes)
        clear()
        meter.change("downloading", done_bytes=0, total_bytes=size, source=location.label)
        is_cloned = partial.clone(fd)
        digest = _pour(fd, partial, meter, cancel, is_cloned=is_cloned)
        if os.fstat(fd).st_size != size:
            raise transient("object_changed", f"{path} changes while it is read")
    except OSError as error:
        raise transient("io_error", f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(fd)
    partial.truncate(size)
    partial.sync()
    return digest, size


def _open(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _failure_of_opening(error, path) from error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise permanent("not_a_file", f"{path} is no regular file", hint="name a file, not a folder or a device")
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return fd


def _failure_of_opening(error: OSError, path: str) -> Failure:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return permanent("not_found", f"{path} does not exist", hint="check the source's path")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return permanent("forbidden", f"{path} may not be read", hint="give this user the right to read it")
    if error.errno in {errno.ENXIO, errno.ENODEV, errno.ELOOP, errno.ENAMETOOLONG}:
        return permanent("not_a_file", f"{path} is no regular file: {error.strerror}")
    return transient("io_error", f"cannot read {path}: {error.strerror}")


def _check_size(path: str, size: int, request: FetchRequest) -> None:
    if request.size_bytes is not None and size != request.size_bytes:
        text = f"{path} holds {size} bytes, and {request.size_bytes} were declared"
        raise permanent("size_mismatch", text, hint="correct the model's size, or its source")
    if request.limit_bytes is not None and size > request.limit_bytes:
        raise too_large(f"file://{path}", request)


def _pour(fd: int, partial: Partial, meter: Meter, cancel: CancelToken, *, is_cloned: bool) -> str:
    hasher = hashlib.sha256()
    buffer = aligned_buffer(CHUNK_BYTES)
    offset = 0
    while True:
        if cancel.is_set():
            raise transient("cancelled", "stopped while copying")
        count = partial.read_into(buffer, offset) if is_cloned else os.preadv(fd, [buffer], offset)
        if not count:
            return f"sha256:{hasher.hexdigest()}"
        hasher.update(buffer[:count])
        if not is_cloned:
            partial.write(buffer[:count], offset)
        offset += count
        meter.count(count)
        meter.tell()
