"""After a crash: what an interrupted change left in ``partial/`` is finished or undone by the next owner.

* ``.swap-…/<model>``: the old folder of a swap in two steps. Where ``models/<model>`` is missing it goes back, else
  it is retired.
* ``.place-…/<model>``: a folder being prepared, or an old one being removed: retired (see :mod:`.place`).
* ``.stage-…``, ``.import-…``: made anew by whoever needs them, so they go.
* a partial without write bits: a commit was cut off between the mode and the rename; it gets its write bit back, so
  that its engine can open it.
"""

import os
import stat
from contextlib import suppress

from reconciler.adapters.store.folders import (
    failing,
    list_folder,
    open_below,
    open_root,
    remove_empty,
    remove_tree,
    sync,
)
from reconciler.adapters.store.layout import IMPORT_PREFIX, MODELS, PARTIAL, PLACE_PREFIX, STAGE_PREFIX, SWAP_PREFIX
from reconciler.adapters.store.ownership import Ownership
from reconciler.adapters.store.place import retire
from reconciler.adapters.store.syscalls import is_there, rename_noreplace

_PARTIAL_MODE = 0o644


def sweep(root: str) -> tuple[str, ...]:
    """Clear every leftover; their names, in order. Does nothing, and writes nothing, where there is none.

    Raises:
        Failure: what the operating system says.
    """
    swept: list[str] = []
    with failing(f"cannot clear leftovers in the store {root}"), open_root(root) as root_fd:
        try:
            with open_below(root_fd, (PARTIAL,)) as partial_fd:
                for prefix in (SWAP_PREFIX, PLACE_PREFIX, STAGE_PREFIX, IMPORT_PREFIX):
                    swept += [
                        _sweep_one(root_fd, partial_fd, entry.name)
                        for entry in list_folder(partial_fd)
                        if entry.name.startswith(prefix)
                    ]
                _give_write_bits_back(partial_fd)
        except FileNotFoundError:
            return ()
    return tuple(swept)


def _sweep_one(root_fd: int, partial_fd: int, name: str) -> str:
    if name.startswith((STAGE_PREFIX, IMPORT_PREFIX)):
        if stat.S_ISDIR(os.stat(name, dir_fd=partial_fd, follow_symlinks=False).st_mode):
            remove_tree(partial_fd, name)
        else:
            os.unlink(name, dir_fd=partial_fd)
        return name
    with open_below(partial_fd, (name,)) as stage_fd:
        for entry in list_folder(stage_fd):
            if not (name.startswith(SWAP_PREFIX) and _went_back(root_fd, stage_fd, entry.name)):
                retire(root_fd, stage_fd, entry.name, Ownership(root_fd, {}))
        remove_empty(stage_fd)
    with suppress(OSError):
        os.rmdir(name, dir_fd=partial_fd)
    return name


def _went_back(root_fd: int, swap_fd: int, model: str) -> bool:
    with open_below(root_fd, (MODELS,), create=True) as models_fd:
        if is_there(model, models_fd):
            return False
        rename_noreplace(model, model, source_fd=swap_fd, target_fd=models_fd)
        sync(models_fd, MODELS)
        return True


def _give_write_bits_back(partial_fd: int) -> None:
    for entry in list_folder(partial_fd):
        if entry.is_file(follow_symlinks=False):
            found = os.stat(entry.name, dir_fd=partial_fd, follow_symlinks=False)
            if not found.st_mode & stat.S_IWUSR and found.st_nlink == 1:
                os.chmod(entry.name, _PARTIAL_MODE, dir_fd=partial_fd)
