"""Blobs: finished content, addressed by digest, never written again.

How finished files become blobs stands in :mod:`.batch`.
"""

# ruff: noqa: PTH117 -- paths are plain strings here, as the system calls want them

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reconciler.adapters.store.folders import failing, file_stat, open_below, open_root, sync
from reconciler.adapters.store.layout import blob_parts
from reconciler.core.errors import Failure, permanent, refused
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest


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


@contextmanager
def open_file(folder_fd: int, name: str) -> Iterator[int]:
    """A regular file for reading, never through a link and never blocking on a pipe.

    Raises:
        Failure: refused ``path_escape`` where it is no regular file.
    """
    require_file(folder_fd, name)
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def require_file(folder_fd: int, name: str) -> None:
    """Make sure that a regular file stands there.

    Raises:
        Failure: refused ``path_escape`` where something else does.
    """
    found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise refused("path_escape", f"{name!r} in the store is no regular file", hint="remove it")


def relative(root: str, path: str) -> str:
    """``path`` below the root.

    Raises:
        Failure: permanent ``outside_store``.
    """
    below = path[len(root) + 1 :] if path.startswith(f"{root}/") else ""
    if below.replace("/", "").isalnum() and "//" not in f"/{below}/":  # as nearly all are: for every small file
        return below
    inside = os.path.relpath(path, root) if os.path.isabs(path) else os.path.normpath(path)
    if inside in {".", ".."} or inside.startswith("../"):
        raise permanent("outside_store", f"{path} is not inside the store {root}")
    return inside


def unlink_missing_ok(name: str, folder_fd: int) -> None:
    """Delete a name that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder_fd)
