"""Declared links: the one thing written outside the store. Only a symbolic link of ours is replaced or removed.

One of ours is one that the ledger knows and that still leads into ``models/``: here, or where the store lay before it
was moved. A link that somebody put in its place is theirs, whatever the ledger says of the path.
"""

# ruff: noqa: PTH103, PTH108, PTH115, PTH117, PTH119, PTH120 -- paths are plain strings here, as the system calls want them

import os

from reconciler.adapters.store.folders import failing, open_folder, sync
from reconciler.core.errors import permanent, refused
from reconciler.core.stored import LinkFact


def make_link(root: str, target: str, link: str, *, is_own: bool = False) -> bool:
    """Make ``link`` a symbolic link to ``target``, in one step; True where something was written.

    Args:
        root: the store's folder, which no link leads into.
        target: absolute path, normally a placed file.
        link: absolute path; missing parent folders are made.
        is_own: whether the ledger knows a link of ours at this path, so that it may be replaced.

    Raises:
        Failure: refused ``link_blocked`` where something of somebody else's stands there; permanent ``link_in_store``.
    """
    if f"{os.path.realpath(os.path.dirname(link))}/".startswith(f"{os.path.realpath(root)}/"):
        hint = "models/ already has every model under its name; name a place outside"
        raise permanent("link_in_store", f"the link {link} would stand inside the store", hint=hint)
    with failing(f"cannot link {link}"):
        folder = os.path.dirname(link)
        os.makedirs(folder, 0o755, exist_ok=True)
        folder = os.path.realpath(folder)
        name = os.path.basename(link)
        with open_folder(folder) as folder_fd:
            try:
                os.symlink(target, name, dir_fd=folder_fd)
            except FileExistsError:
                present = _text(name, folder_fd)
                if present == target:
                    return False
                if present is None or not (is_own and _leads_to_models(root, present, target)):
                    raise _blocked(link, present) from None
                _replace(target, name, folder_fd)
            sync(folder_fd, folder)
    return True


def _replace(target: str, name: str, folder_fd: int) -> None:
    fresh = f".{name[:200]}.{os.urandom(4).hex()}"
    os.symlink(target, fresh, dir_fd=folder_fd)
    try:
        os.rename(fresh, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except OSError:
        os.unlink(fresh, dir_fd=folder_fd)
        raise


def _leads_to_models(root: str, present: str, target: str) -> bool:
    """Whether a link's text is one that we wrote: below this store, or below ``models/NAME/`` of the store that was."""
    inside = target.removeprefix(f"{root}/models/").partition("/")[0]
    path = os.path.normpath(present)
    return path.startswith(f"{root}/") or (os.path.isabs(path) and f"/models/{inside}/" in path)


def _text(name: str, folder_fd: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder_fd)
    except OSError:
        return None


def _blocked(link: str, present: str | None) -> Exception:
    what = "a file or folder that is" if present is None else "a link that is"
    return refused(
        "link_blocked", f"at {link} stands {what} not the reconciler's", hint="move it away, or drop the link"
    )


def link_fact(root: str, link: str, target: str, *, is_own: bool = False) -> LinkFact:
    """How a declared link stands. A link to the right target is right, whoever made it."""
    try:
        present = os.readlink(link)
    except FileNotFoundError:
        return LinkFact(link, is_right=False)
    except OSError:
        return LinkFact(link, is_right=False, is_foreign=os.path.lexists(link))
    is_ours = is_own and _leads_to_models(root, present, target)
    return LinkFact(link, is_right=present == target, is_foreign=present != target and not is_ours)


def remove_link(root: str, link: str) -> bool:
    """Remove ``link`` where it still is a symbolic link into this store; whether it was removed."""
    try:
        present = os.readlink(link)
    except OSError:
        return False
    if not os.path.isabs(present) or not os.path.normpath(present).startswith(f"{root}/"):
        return False
    with failing(f"cannot remove the link {link}"):
        os.unlink(link)
        folder = os.path.realpath(os.path.dirname(link))
        with open_folder(folder) as folder_fd:
            sync(folder_fd, folder)
    return True
