"""Blobs: finished content, addressed by digest, never written again.

The order of rule 6: the bytes are already synced and verified at a partial's name → mode 0444 → rename *without
replace* → sync the folder. A kill between any two leaves either the partial or the blob, both whole.
"""

# ruff: noqa: PTH117 -- paths are plain strings here, as the system calls want them

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from reconciler.adapters.store.folders import FILE_MODE, failing, file_stat, open_below, open_root, split, sync
from reconciler.adapters.store.layout import QUARANTINE, blob_parts
from reconciler.adapters.store.syscalls import rename_noreplace
from reconciler.core.errors import Failure, permanent, refused, transient
from reconciler.core.state import Digest, FileStat

Finished = tuple[str, Digest, int]  # path below the root (or absolute), digest, size in bytes


def commit_many(root: str, finished: Sequence[Finished], *, is_synced: bool = True) -> tuple[FileStat, ...]:
    """Make finished files blobs; one sync per folder touched. Stats in the order given.

    Without ``is_synced`` the caller calls :func:`sync_blobs` for all of them before anything is recorded: many syncs
    in a row cost one commit of the file system's journal, syncs in between cost one each.

    Raises:
        Failure: transient ``size_mismatch`` where a file is not as long as said (it is left where it is), or what the
            operating system says. What was renamed before stays, whole.
    """
    with failing(f"cannot commit to the store {root}"), open_root(root) as root_fd:
        stats = tuple(_commit(root_fd, relative(root, path), digest, size) for path, digest, size in finished)
        if is_synced:
            sync_blob_folders(root_fd, (digest for _, digest, _ in finished))
        return stats


def sync_blobs(root: str, digests: Iterable[Digest]) -> None:
    """Make committed names durable."""
    with failing(f"cannot sync the store {root}"), open_root(root) as root_fd:
        sync_blob_folders(root_fd, digests)


def _commit(root_fd: int, path: str, digest: Digest, size_bytes: int) -> FileStat:
    folders, name = split(path)
    blob_folders, blob_name = blob_parts(digest)
    with ExitStack() as stack:
        source_fd = stack.enter_context(open_below(root_fd, folders))
        target_fd = stack.enter_context(open_below(root_fd, blob_folders, create=True))
        _seal(source_fd, name, size_bytes, path)
        try:
            rename_noreplace(name, blob_name, source_fd=source_fd, target_fd=target_fd)
        except FileExistsError:
            _keep_better(root_fd, (source_fd, name), (target_fd, blob_name), size_bytes)
        return file_stat(os.stat(blob_name, dir_fd=target_fd, follow_symlinks=False))


def _seal(folder_fd: int, name: str, size_bytes: int, path: str) -> None:
    """Check what is about to become a blob, and take the write bits from it."""
    with open_file(folder_fd, name) as fd:
        found = os.fstat(fd)
        if found.st_size != size_bytes:
            raise transient(
                "size_mismatch",
                f"{path} has {found.st_size} bytes where {size_bytes} were verified",
                hint="something else wrote to it; it must be started over",
            )
        os.fchmod(fd, FILE_MODE)


def _keep_better(root_fd: int, source: tuple[int, str], target: tuple[int, str], size_bytes: int) -> None:
    """A blob of that name is there: keep it where its size is right, else set it aside for the verified one."""
    found = os.stat(target[1], dir_fd=target[0], follow_symlinks=False)
    if stat.S_ISREG(found.st_mode) and found.st_size == size_bytes:
        os.chmod(target[1], FILE_MODE, dir_fd=target[0])
        os.unlink(source[1], dir_fd=source[0])
        return
    with open_below(root_fd, (QUARANTINE,), create=True) as aside_fd:
        aside = f"0-{os.urandom(4).hex()}-wrong_size"
        rename_noreplace(target[1], aside, source_fd=target[0], target_fd=aside_fd)
    rename_noreplace(source[1], target[1], source_fd=source[0], target_fd=target[0])


def sync_blob_folders(root_fd: int, digests: Iterable[Digest]) -> None:
    """One sync per folder, however many blobs."""
    for folders in sorted({blob_parts(digest)[0] for digest in digests}):
        with open_below(root_fd, folders) as folder_fd:
            sync(folder_fd, "/".join(folders))


def remove_blob(root: str, digest: Digest) -> int:
    """Delete a blob; the allocated bytes freed (0 while another name holds the inode, or where it is gone)."""
    folders, name = blob_parts(digest)
    with failing(f"cannot delete the blob {digest}"), open_root(root) as root_fd:
        try:
            with open_below(root_fd, folders) as folder_fd:
                found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
                os.unlink(name, dir_fd=folder_fd)
                sync(folder_fd, "/".join(folders))
        except FileNotFoundError:
            return 0
    return found.st_blocks * 512 if found.st_nlink == 1 else 0


def stat_blob(root: str, digest: Digest) -> FileStat | None:
    """A blob's stat; None where it is missing or no regular file."""
    folders, name = blob_parts(digest)
    try:
        with open_root(root) as root_fd, open_below(root_fd, folders) as folder_fd:
            found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except (OSError, Failure):
        return None
    return file_stat(found) if stat.S_ISREG(found.st_mode) else None


def seal_blob(root: str, digest: Digest) -> FileStat:
    """Give a blob (and so every placed file that is it) its mode 0444 back. The caller has verified the content."""
    folders, name = blob_parts(digest)
    with (
        failing(f"cannot set the mode of the blob {digest}"),
        open_root(root) as root_fd,
        open_below(root_fd, folders) as folder_fd,
        open_file(folder_fd, name) as fd,
    ):
        os.fchmod(fd, FILE_MODE)
        return file_stat(os.fstat(fd))


@contextmanager
def open_file(folder_fd: int, name: str) -> Iterator[int]:
    """A regular file for reading, never through a link and never blocking on a pipe.

    Raises:
        Failure: refused ``path_escape`` where it is no regular file.
    """
    found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise refused("path_escape", f"{name!r} in the store is no regular file", hint="remove it")
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def relative(root: str, path: str) -> str:
    """``path`` below the root.

    Raises:
        Failure: permanent ``outside_store``.
    """
    inside = os.path.relpath(path, root) if os.path.isabs(path) else os.path.normpath(path)
    if inside in {".", ".."} or inside.startswith("../"):
        raise permanent("outside_store", f"{path} is not inside the store {root}")
    return inside


def unlink_missing_ok(name: str, folder_fd: int) -> None:
    """Delete a name that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder_fd)
