"""Finished files become blobs together: folders are opened once, and names made durable once.

The order of rule 6 holds for the batch: the bytes of each file are synced and verified already → mode 0444 → rename
*without replace* → :meth:`Batch.sync`, which syncs every folder touched → only then the caller records anything. Many
syncs in a row cost one commit of the file system's journal, syncs in between cost one each. A kill anywhere leaves each
file as a partial or as a blob, whole.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from reconciler.adapters.store.blobs import relative
from reconciler.adapters.store.folders import (
    FILE_MODE,
    failing,
    file_stat,
    open_below,
    open_child,
    open_root,
    split,
    sync,
)
from reconciler.adapters.store.layout import BLOBS, PARTIAL, QUARANTINE, aside_name, blob_parts
from reconciler.adapters.store.syscalls import rename_noreplace
from reconciler.core.errors import refused, transient
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest

_MOST_KEPT = 8  # open folders of one batch; as many batches as models may be under way

Finished = tuple[str, Digest, int]  # path below the root (or absolute), digest, size in bytes


def commit_many(root: str, finished: Sequence[Finished]) -> tuple[FileStat, ...]:
    """Make finished files blobs, durable when it returns. Stats in the order given; raises as :meth:`Batch.commit`."""
    with open_batch(root) as batch:
        stats = tuple(batch.commit(*each) for each in finished)
        batch.sync()
        return stats


@contextmanager
def open_batch(root: str) -> Iterator["Batch"]:
    """A batch for the block; the folders that all its files have in common stay open that long."""
    with ExitStack() as stack:
        with failing(f"cannot commit to the store {root}"):
            root_fd = stack.enter_context(open_root(root))
            partial_fd = stack.enter_context(open_below(root_fd, (PARTIAL,), create=True))
            blobs_fd = stack.enter_context(open_below(root_fd, BLOBS, create=True))
        batch = Batch(root, root_fd, partial_fd, blobs_fd)
        stack.callback(batch.close)
        yield batch


class Batch:
    """See the module. ``commit`` may be called from several threads."""

    def __init__(self, root: str, root_fd: int, partial_fd: int, blobs_fd: int) -> None:
        self._root = root
        self._root_fd = root_fd
        self._partial_fd = partial_fd
        self._blobs_fd = blobs_fd
        self._touched: set[str] = set()
        self._kept: dict[str, int] = {}  # open folders, from the first file that comes into one until it is synced

    def commit(self, path: str, digest: Digest, size_bytes: int) -> FileStat:
        """Make a finished file (below the root) a blob. Its name is durable after :meth:`sync`.

        Raises:
            Failure: transient ``size_mismatch`` where it is not as long as said (it is left where it is); or what the
                operating system says.
        """
        folders, name = split(relative(self._root, path))
        (*_, shard), blob_name = blob_parts(digest)
        with failing(f"cannot commit to the store {self._root}"), self._folder_of(folders) as source_fd:
            _seal(source_fd, name, size_bytes, path)
            self._touched.add(shard)
            with self._shard(shard) as target_fd:
                try:
                    rename_noreplace(name, blob_name, source_fd=source_fd, target_fd=target_fd)
                except FileExistsError:
                    _keep_better(self._root_fd, (source_fd, name), (target_fd, blob_name), size_bytes)
                return file_stat(os.stat(blob_name, dir_fd=target_fd, follow_symlinks=False))

    def count_on(self, digest: Digest) -> None:
        """A blob that another batch has committed, and may not have synced yet: :meth:`sync` does it too."""
        (*_, shard), _ = blob_parts(digest)
        self._touched.add(shard)

    def sync(self) -> None:
        """Make the names of all that was committed durable.

        The folder of the folders is synced too, whoever made them: another batch may not have come to it yet.
        """
        if not self._touched:
            return
        with failing(f"cannot sync the store {self._root}"):
            for shard in sorted(self._touched):
                with self._shard(shard) as folder_fd:
                    sync(folder_fd, f"{'/'.join(BLOBS)}/{shard}")
            sync(self._blobs_fd, "/".join(BLOBS))
        self._touched.clear()

    def close(self) -> None:
        """Let go of the folders; no other call is under way."""
        for folder_fd in self._kept.values():
            os.close(folder_fd)
        self._kept.clear()

    @contextmanager
    def _shard(self, shard: str) -> Iterator[int]:
        """The folder of blobs that begin so, open; the first ones stay open until the batch is closed."""
        kept_fd = self._kept.get(shard)
        if kept_fd is not None:
            yield kept_fd
            return
        folder_fd = open_child(self._blobs_fd, shard, create=True, durable=False)
        is_kept = len(self._kept) < _MOST_KEPT and self._kept.setdefault(shard, folder_fd) == folder_fd
        try:
            yield folder_fd
        finally:
            if not is_kept:
                os.close(folder_fd)

    @contextmanager
    def _folder_of(self, folders: tuple[str, ...]) -> Iterator[int]:
        if folders == (PARTIAL,):
            yield self._partial_fd
            return
        with open_below(self._root_fd, folders) as folder_fd:
            yield folder_fd


def _seal(folder_fd: int, name: str, size_bytes: int, path: str) -> None:
    """Check what is about to become a blob, and take the write bits from it."""
    with _opened(folder_fd, name) as fd:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise refused("path_escape", f"{path} is no regular file", hint="remove it")
        if found.st_size != size_bytes:
            raise transient(
                "size_mismatch",
                f"{path} has {found.st_size} bytes where {size_bytes} were verified",
                hint="something else wrote to it; it must be started over",
            )
        os.fchmod(fd, FILE_MODE)


@contextmanager
def _opened(folder_fd: int, name: str) -> Iterator[int]:
    """Open, whatever it is, but never through a link and never waiting for a pipe."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _keep_better(root_fd: int, source: tuple[int, str], target: tuple[int, str], size_bytes: int) -> None:
    """A blob of that name is there: keep it where its size is right, else set it aside for the verified one."""
    found = os.stat(target[1], dir_fd=target[0], follow_symlinks=False)
    if stat.S_ISREG(found.st_mode) and found.st_size == size_bytes:
        os.chmod(target[1], FILE_MODE, dir_fd=target[0])
        os.unlink(source[1], dir_fd=source[0])
        return
    with open_below(root_fd, (QUARANTINE,), create=True) as aside_fd:
        aside = aside_name(0, "wrong_size", target[1])
        rename_noreplace(target[1], aside, source_fd=target[0], target_fd=aside_fd)
    rename_noreplace(source[1], target[1], source_fd=source[0], target_fd=target[0])
