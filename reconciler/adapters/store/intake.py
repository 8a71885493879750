"""Bringing in bytes that are already on this machine: from another tool's cache, or files a person put into the store.

A foreign file's mode, time and content never change. A hard link shares the inode, so it is only taken where the file
is already read-only (0444), ours, and on the same file system; else the blocks are shared (``FICLONE``), else copied.
The digest is checked on what came in, not on what was read before.
"""

# ruff: noqa: PTH110, PTH116 -- paths are plain strings here, as the system calls want them

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from reconciler.adapters.store.batch import commit_many
from reconciler.adapters.store.blobs import open_file, stat_blob
from reconciler.adapters.store.folders import (
    FILE_MODE,
    failing,
    file_stat,
    open_below,
    open_root,
    split,
    sync,
    sync_data,
)
from reconciler.adapters.store.hashing import CHUNK_BYTES, hash_file
from reconciler.adapters.store.layout import IMPORT_PREFIX, MODELS, PARTIAL, blob_parts, temporary
from reconciler.adapters.store.syscalls import reflink
from reconciler.adapters.store.usage import is_written
from reconciler.core.errors import permanent, refused, transient
from reconciler.core.names import check_path, check_segment
from reconciler.core.ports import CancelToken
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest

ProgressBytes = Callable[[int], None]


def import_file(
    root: str, source: str, digest: Digest, progress: ProgressBytes | None = None, cancel: CancelToken | None = None
) -> FileStat:
    """Make the file ``source`` (outside the store) a blob; it itself stays as it is. Durable when it returns.

    Raises:
        Failure: permanent ``digest_mismatch`` where it holds something else; transient ``cancelled``; or what the
            operating system says.
    """
    present = stat_blob(root, digest)
    with failing(f"cannot bring in {source}"):
        if present is not None and present.size_bytes == os.stat(source).st_size:
            return present
        if _may_link(root, source):
            return _link_in(root, source, digest, progress, cancel)
        return _copy_in(root, source, digest, progress, cancel)


def _may_link(root: str, source: str) -> bool:
    found = os.stat(source)
    return (
        stat.S_ISREG(found.st_mode)
        and stat.S_IMODE(found.st_mode) == FILE_MODE
        and found.st_uid == os.geteuid()
        and found.st_dev == os.stat(root).st_dev
    )


def _link_in(
    root: str, source: str, digest: Digest, progress: ProgressBytes | None, cancel: CancelToken | None
) -> FileStat:
    real = os.path.realpath(source)
    hashed = hash_file(real, progress, cancel)
    _check(source, hashed.digest, digest)
    folders, name = blob_parts(digest)
    with open_root(root) as root_fd, open_below(root_fd, folders, create=True) as blob_fd:
        try:
            os.link(real, name, dst_dir_fd=blob_fd, follow_symlinks=False)
        except FileExistsError:
            pass
        except OSError:
            return _copy_in(root, source, digest, progress, cancel)
        with open_file(blob_fd, name) as fd:
            sync_data(fd, source)
            found = file_stat(os.fstat(fd))
        sync(blob_fd, "/".join(folders))
    if found != hashed.stat:
        raise transient("changed_while_reading", f"{source} was replaced while it was read", hint="look again")
    return found


def _copy_in(
    root: str, source: str, digest: Digest, progress: ProgressBytes | None, cancel: CancelToken | None
) -> FileStat:
    with (
        open_root(root) as root_fd,
        open_below(root_fd, (PARTIAL,), create=True) as partial_fd,
        _copied(root, partial_fd, source, digest, (progress, cancel)) as (name, size_bytes),
    ):
        return commit_many(root, [(f"{PARTIAL}/{name}", digest, size_bytes)])[0]


_Told = tuple[ProgressBytes | None, CancelToken | None]


@contextmanager
def _copied(
    root: str, partial_fd: int, source: str, digest: Digest, told: _Told = (None, None)
) -> Iterator[tuple[str, int]]:
    """A checked, durable copy below ``partial/``: its name and size. What is left of it at the end is removed."""
    name = temporary(IMPORT_PREFIX)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target_fd = os.open(name, flags, 0o600, dir_fd=partial_fd)
        try:
            actual, size_bytes = _fill(source, target_fd, f"{root}/{PARTIAL}/{name}", *told)
            sync_data(target_fd, source)
        finally:
            os.close(target_fd)
        _check(source, actual, digest)
        yield name, size_bytes
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=partial_fd)


def seal_blob(root: str, digest: Digest, placed: Sequence[tuple[str, str]], others: int) -> FileStat:
    """Give a blob, and so every placed file that is it, its mode 0444 back. The caller has verified the content.

    Where its inode has more names than ours (``placed`` below ``models/``, and ``others``), it is a stranger's file too
    and stays as it is: the blob and what is placed of it become a copy.
    """
    folders, name = blob_parts(digest)
    with (
        failing(f"cannot set the mode of the blob {digest}"),
        open_root(root) as root_fd,
        open_below(root_fd, folders) as blob_fd,
    ):
        with open_file(blob_fd, name) as fd:
            found = os.fstat(fd)
            ours = [place for place in placed if _is_same(f"{root}/{MODELS}/{'/'.join(place)}", found)]
            if stat.S_IMODE(found.st_mode) == FILE_MODE:
                return file_stat(found)
            if found.st_nlink <= 1 + len(ours) + others:
                os.fchmod(fd, FILE_MODE)
                return file_stat(os.fstat(fd))
        with open_below(root_fd, (PARTIAL,), create=True) as partial_fd:
            source = f"{root}/{'/'.join(folders)}/{name}"
            with _copied(root, partial_fd, source, digest) as (copy, _):
                os.chmod(copy, FILE_MODE, dir_fd=partial_fd)
                os.rename(copy, name, src_dir_fd=partial_fd, dst_dir_fd=blob_fd)
        sync(blob_fd, "/".join(folders))
        for model, path in ours:
            below, last = split(path)
            with open_below(root_fd, (MODELS, model, *below)) as folder_fd:
                _replace_by_link(blob_fd, name, folder_fd, last)
                sync(folder_fd, path)
        return file_stat(os.stat(name, dir_fd=blob_fd, follow_symlinks=False))


def _is_same(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), found)
    except OSError:
        return False


def _fill(
    source: str, target_fd: int, target: str, progress: ProgressBytes | None, cancel: CancelToken | None
) -> tuple[Digest, int]:
    """The content by shared blocks or by copying; its digest and size."""
    source_fd = _open_source(source)
    try:
        found = os.fstat(source_fd)
        if not stat.S_ISREG(found.st_mode):
            raise permanent("not_a_file", f"{source} is not a regular file")
        if reflink(source_fd, target_fd):
            hashed = hash_file(target, progress, cancel)
            return hashed.digest, hashed.stat.size_bytes
        return _copy(source_fd, target_fd, found.st_size, progress, cancel)
    finally:
        os.close(source_fd)


def _copy(
    source_fd: int, target_fd: int, size_bytes: int, progress: ProgressBytes | None, cancel: CancelToken | None
) -> tuple[Digest, int]:
    if size_bytes and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(target_fd, 0, size_bytes)  # a full disk is told now, not at the end
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
    state = hashlib.sha256()
    buffer = bytearray(CHUNK_BYTES)
    done_bytes = 0
    while count := os.preadv(source_fd, [buffer], done_bytes):
        if cancel is not None and cancel.is_set():
            raise transient("cancelled", "stopped while copying")
        chunk = memoryview(buffer)[:count]
        state.update(chunk)
        _write_all(target_fd, chunk, done_bytes)
        done_bytes += count
        if progress is not None:
            progress(done_bytes)
    os.ftruncate(target_fd, done_bytes)
    return Digest(f"sha256:{state.hexdigest()}"), done_bytes


def _write_all(fd: int, chunk: memoryview, offset: int) -> None:
    while chunk:
        written = os.pwrite(fd, chunk, offset)
        chunk, offset = chunk[written:], offset + written


def _open_source(source: str) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(source, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        return os.open(source, flags)


def _check(source: str, actual: Digest, digest: Digest) -> None:
    if actual != digest:
        raise permanent("digest_mismatch", f"{source} holds {actual}, not {digest}", hint="it is not used")


def adopt_file(
    root: str, model: str, path: str, progress: ProgressBytes | None = None, cancel: CancelToken | None = None
) -> tuple[Digest, FileStat]:
    """Take over a foreign file below ``models/<model>/``; afterwards ``path`` is a hard link to a blob.

    The file becomes the blob where it lies, or is copied where its inode has other names or the blob is there.

    Raises:
        Failure: refused ``in_use`` where somebody has it open for writing; permanent ``not_a_file``.
    """
    folders, name = split(check_path(path))
    place = f"{root}/{MODELS}/{check_segment(model)}/{path}"
    with (
        failing(f"cannot adopt {place}"),
        open_root(root) as root_fd,
        open_below(root_fd, (MODELS, model, *folders)) as folder_fd,
        open_file(folder_fd, name) as fd,
    ):
        if is_written(fd):
            raise refused("in_use", f"{place} is open for writing", hint="wait until it is complete")
        hashed = hash_file(f"/proc/self/fd/{fd}" if os.path.exists("/proc/self/fd") else place, progress, cancel)
        blob_folders, blob_name = blob_parts(hashed.digest)
        with open_below(root_fd, blob_folders, create=True) as blob_fd:
            if os.fstat(fd).st_nlink == 1 and stat_blob(root, hashed.digest) is None:
                sync_data(fd, place)
                os.fchmod(fd, FILE_MODE)
                os.link(name, blob_name, src_dir_fd=folder_fd, dst_dir_fd=blob_fd, follow_symlinks=False)
            else:
                import_file(root, place, hashed.digest, None, cancel)
                _replace_by_link(blob_fd, blob_name, folder_fd, name)
            sync(blob_fd, "/".join(blob_folders))
            found = file_stat(os.stat(blob_name, dir_fd=blob_fd, follow_symlinks=False))
        sync(folder_fd, place)
    return hashed.digest, found


def _replace_by_link(blob_fd: int, blob_name: str, folder_fd: int, name: str) -> None:
    """Put a hard link to the blob over a file of the same content, in one step."""
    blob = os.stat(blob_name, dir_fd=blob_fd, follow_symlinks=False)
    if os.path.samestat(blob, os.stat(name, dir_fd=folder_fd, follow_symlinks=False)):
        return
    aside = f".{os.urandom(4).hex()}{IMPORT_PREFIX}"
    os.link(blob_name, aside, src_dir_fd=blob_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    os.rename(aside, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
