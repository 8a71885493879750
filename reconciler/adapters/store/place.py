"""A model's folder: prepared aside, swapped in one step, the old one taken apart with care.

1. A fresh folder is staged in ``partial/.place-<random>/<model>``: hard links to the blobs (relative symbolic links
   where the file system has no hard links), foreign files of the present folder linked over, the record as an extended
   attribute, folders synced.
2. ``renameat2(RENAME_EXCHANGE)`` swaps it with ``models/<model>``; whoever opens a path sees all of the old revision or
   all of the new. Where a file system cannot, the old folder is moved to ``partial/.swap-…`` first: for an instant
   there is none.
3. The old folder, now in ``partial/``, is *retired*: a name is dropped only where its inode lives on elsewhere in the
   store (a blob, a quarantined copy, the new folder). Anything else, such as a file that a stranger wrote in this
   very moment, is moved to the new folder, or to quarantine where its name is taken.

Removing a model is the same with nothing to stage. A kill between any two calls leaves ``models/<model>`` old, new or
(removal, or no exchange) absent, and a leftover that the next owner retires by rule 3 (:mod:`.sweep`).
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

from reconciler.adapters.store.blobs import require_file
from reconciler.adapters.store.folders import (
    failing,
    list_folder,
    make_folder,
    open_below,
    open_root,
    split,
    sync,
    sync_tree,
    walk_files,
)
from reconciler.adapters.store.layout import (
    BLOBS,
    MODELS,
    PARTIAL,
    PLACE_PREFIX,
    QUARANTINE,
    SWAP_PREFIX,
    Unplaced,
    blob_parts,
    link_text,
    temporary,
)
from reconciler.adapters.store.ownership import Owner, Ownership
from reconciler.adapters.store.record import set_record
from reconciler.adapters.store.syscalls import exchange, is_there, rename_noreplace
from reconciler.core.errors import refused, transient
from reconciler.core.names import check_collisions, check_path, check_segment
from reconciler.core.words import Digest

Syncing = Callable[[], AbstractContextManager[None]]
Files = Sequence[tuple[str, Digest]]  # path below the model's folder, digest of the blob
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV})


@dataclass(slots=True)
class _Job:
    """One change of one model's folder."""

    root_fd: int
    model: str
    ownership: Ownership
    aside_name: str  # the start of a quarantine name: time
    syncing: Syncing
    removed: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def place(  # noqa: PLR0913 -- what a placement is, by name
    root: str,
    model: str,
    files: Files,
    record: bytes,
    known: Mapping[str, Digest],
    *,
    now: float = 0.0,
    syncing: Syncing = nullcontext,
) -> Unplaced:
    """Make ``models/<model>`` hold exactly ``files`` and what strangers put there.

    Args:
        root: the store.
        model: the model's name, one segment.
        files: what to place; empty removes the model.
        record: written as the folder's extended attribute, best effort.
        known: what the ledger says was placed here so far, so that a drifted file is told from a foreign one.
        now: names what is set aside.
        syncing: what is held while the disk is waited for.

    Raises:
        Failure: refused ``foreign_file`` where a stranger's file stands at a path that is needed; transient
            ``blob_missing``; permanent ``hostile_name``; or what the operating system says. Nothing visible changed.
    """
    check_segment(model, "model name")
    check_collisions([check_path(path) for path, _ in files])
    with failing(f"cannot place {model}" if files else f"cannot remove {model}"), open_root(root) as root_fd:
        job = _Job(root_fd, model, Ownership(root_fd, known), f"{int(now)}", syncing)
        with _stage(job) as stage_fd:
            with open_below(stage_fd, (model,), create=True, durable=False) as tree_fd:
                if files:
                    _link_blobs(root_fd, tree_fd, files)
                _carry_over(job, tree_fd, frozenset(path for path, _ in files))
                if files:
                    set_record(tree_fd, record)
                with syncing():
                    sync_tree(tree_fd, model)
            _swap(job, stage_fd, is_empty=not files and not job.kept)
        return Unplaced(tuple(job.removed), tuple(job.set_aside), tuple(job.kept))


@contextmanager
def _stage(job: _Job) -> Iterator[int]:
    """A fresh folder below ``partial/``; at the end whatever it holds is retired and it is gone."""
    name = temporary(PLACE_PREFIX)
    with open_below(job.root_fd, (PARTIAL,), create=True) as partial_fd:
        make_folder(partial_fd, name)
        try:
            with open_below(partial_fd, (name,)) as stage_fd:
                try:
                    yield stage_fd
                finally:
                    retire(job.root_fd, stage_fd, job.model, job.ownership)
        finally:
            with suppress(OSError):  # not empty where retiring failed: the sweep goes on from there
                os.rmdir(name, dir_fd=partial_fd)


def _link_blobs(root_fd: int, tree_fd: int, files: Files) -> None:
    """The files of the staged folder."""
    try:
        with open_below(root_fd, BLOBS) as blobs_fd:
            for path, digest in files:
                _link_blob(blobs_fd, tree_fd, path, digest)
    except FileNotFoundError as error:
        raise transient("blob_missing", f"the blob of {files[0][0]} is not in the store") from error


def _link_blob(blobs_fd: int, tree_fd: int, path: str, digest: Digest) -> None:
    folders, name = split(path)
    (*_, shard), blob_name = blob_parts(digest)
    try:
        with (
            open_below(blobs_fd, (shard,)) as blob_fd,
            open_below(tree_fd, folders, create=True, durable=False) as folder_fd,
        ):
            require_file(blob_fd, blob_name)
            try:
                os.link(blob_name, name, src_dir_fd=blob_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                os.symlink(link_text(digest, 2 + len(folders)), name, dir_fd=folder_fd)
    except FileNotFoundError as error:
        raise transient("blob_missing", f"the blob {digest} of {path} is not in the store") from error


def _carry_over(job: _Job, tree_fd: int, wanted: frozenset[str]) -> None:
    """Bring strangers' files of the present folder into the staged one, and drifted ones into quarantine."""
    try:
        with open_below(job.root_fd, (MODELS, job.model)) as old_fd:
            for path, found in list(walk_files(old_fd)):
                owner = job.ownership.of(path, found, old_fd)
                if owner is Owner.OURS:
                    job.removed.append(path)
                elif owner is Owner.DRIFTED:
                    _set_aside(job, old_fd, path)
                    job.set_aside.append(path)
                else:
                    _carry(job, old_fd, tree_fd, path, wanted)
                    job.kept.append(path)
    except FileNotFoundError:
        return


def _carry(job: _Job, old_fd: int, tree_fd: int, path: str, wanted: frozenset[str]) -> None:
    folders, name = split(path)
    try:
        with open_below(old_fd, folders) as from_fd, open_below(tree_fd, folders, create=True, durable=False) as to_fd:
            os.link(name, name, src_dir_fd=from_fd, dst_dir_fd=to_fd, follow_symlinks=False)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        blocked = next((other for other in wanted if _overlap(other, path)), path)
        raise refused(
            "foreign_file",
            f"models/{job.model}/{path} is not the reconciler's, and {blocked} must go there",
            hint=f"`reconciler adopt {job.model}` takes it over, or move it away",
        ) from error


def _overlap(first: str, second: str) -> bool:
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")


def _set_aside(job: _Job, old_fd: int, path: str) -> None:
    """A drifted file gets a second name in quarantine; its first one goes with the old folder."""
    folders, name = split(path)
    aside = f"{job.aside_name}-{os.urandom(4).hex()}-drifted"
    with open_below(old_fd, folders) as from_fd, open_below(job.root_fd, (QUARANTINE,), create=True) as aside_fd:
        os.link(name, aside, src_dir_fd=from_fd, dst_dir_fd=aside_fd, follow_symlinks=False)
        sync(aside_fd, QUARANTINE)
    job.ownership.forget()


def _swap(job: _Job, stage_fd: int, *, is_empty: bool) -> None:
    """The one visible step: afterwards the stage holds the old folder, if there was one."""
    model = job.model
    with open_below(job.root_fd, (MODELS,), create=True) as models_fd:
        has_old = is_there(model, models_fd)
        if has_old and not stat.S_ISDIR(os.stat(model, dir_fd=models_fd, follow_symlinks=False).st_mode):
            raise refused("foreign_file", f"models/{model} is not a folder the reconciler made", hint="move it away")
        if is_empty:
            os.rmdir(model, dir_fd=stage_fd)
            if has_old:
                os.rename(model, model, src_dir_fd=models_fd, dst_dir_fd=stage_fd)
        elif not has_old:
            rename_noreplace(model, model, source_fd=stage_fd, target_fd=models_fd)
        elif not exchange(model, model, first_fd=stage_fd, second_fd=models_fd):
            _swap_in_two_steps(job, stage_fd, models_fd)
        with job.syncing():
            sync(models_fd, MODELS)


def _swap_in_two_steps(job: _Job, stage_fd: int, models_fd: int) -> None:
    """For file systems that cannot exchange: old one away, new one in; the sweep undoes the first alone."""
    name = temporary(SWAP_PREFIX)
    with open_below(job.root_fd, (PARTIAL,)) as partial_fd:
        make_folder(partial_fd, name)
        with open_below(partial_fd, (name,)) as swap_fd:
            os.rename(job.model, job.model, src_dir_fd=models_fd, dst_dir_fd=swap_fd)
            try:
                os.rename(job.model, job.model, src_dir_fd=stage_fd, dst_dir_fd=models_fd)
            except OSError:
                os.rename(job.model, job.model, src_dir_fd=swap_fd, dst_dir_fd=models_fd)
                raise
            retire(job.root_fd, swap_fd, job.model, job.ownership)
        os.rmdir(name, dir_fd=partial_fd)


def retire(root_fd: int, stage_fd: int, model: str, ownership: Ownership) -> None:
    """Take apart the folder ``model`` below the stage, losing no byte that has no other name in the store."""
    try:
        with open_below(stage_fd, (model,)) as tree_fd:
            for path, found in list(walk_files(tree_fd)):
                folders, name = split(path)
                with open_below(tree_fd, folders) as folder_fd:
                    if _is_elsewhere(root_fd, model, path, found, ownership, tree_fd):
                        os.unlink(name, dir_fd=folder_fd)
                    else:
                        _bring_back(root_fd, folder_fd, model, path)
            _remove_folders(tree_fd)
    except FileNotFoundError:
        return
    os.rmdir(model, dir_fd=stage_fd)


def _is_elsewhere(
    root_fd: int, model: str, path: str, found: os.stat_result, ownership: Ownership, tree_fd: int
) -> bool:
    if ownership.of(path, found, tree_fd) is Owner.OURS:
        return True
    folders, name = split(path)
    try:
        with open_below(root_fd, (MODELS, model, *folders)) as folder_fd:
            other = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino)


def _bring_back(root_fd: int, folder_fd: int, model: str, path: str) -> None:
    """A stranger's file that was not carried over: to the place it had, or else to quarantine."""
    folders, name = split(path)
    try:
        with open_below(root_fd, (MODELS, model, *folders), create=True) as target_fd:
            rename_noreplace(name, name, source_fd=folder_fd, target_fd=target_fd)
            sync(target_fd, path)
    except (FileExistsError, NotADirectoryError):
        with open_below(root_fd, (QUARANTINE,), create=True) as aside_fd:
            rename_noreplace(name, f"0-{os.urandom(4).hex()}-name_taken", source_fd=folder_fd, target_fd=aside_fd)
            sync(aside_fd, QUARANTINE)


def _remove_folders(tree_fd: int) -> None:
    for entry in list_folder(tree_fd):
        with open_below(tree_fd, (entry.name,)) as child_fd:
            _remove_folders(child_fd)
        os.rmdir(entry.name, dir_fd=tree_fd)
