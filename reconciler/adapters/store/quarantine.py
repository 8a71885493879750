"""Bad copies are set aside, not deleted: for a day somebody can look at them, and their good chunks can be reused.

The name in ``quarantine/`` tells when, why, and of which digest the copy should have been.
"""

import os
import re
import stat

from reconciler.adapters.store.blobs import relative
from reconciler.adapters.store.folders import failing, list_folder, open_below, open_root, split, sync
from reconciler.adapters.store.layout import QUARANTINE, aside_name, blob_parts
from reconciler.adapters.store.scan import quarantine_facts
from reconciler.adapters.store.syscalls import rename_noreplace
from reconciler.core.names import check_segment

_NOT_A_WORD = re.compile(r"[^a-z0-9_]+")


def quarantine(root: str, what: str, reason: str, now: float, digest: str = "") -> str:
    """Move a blob (by digest) or a file of the store (by path, meant to have ``digest``) there; its name there.

    Raises:
        Failure: ``file_vanished`` where it is gone, ``outside_store``, ``path_escape``, or what the system says.
    """
    if what.startswith("sha256:"):
        folders, name = blob_parts(what)
        digest = what
    else:
        folders, name = split(relative(root, what))
    word = _NOT_A_WORD.sub("_", reason.lower())[:40] or "bad"
    aside = aside_name(int(now), word, digest)
    with (
        failing(f"cannot set {what} aside"),
        open_root(root) as root_fd,
        open_below(root_fd, folders) as from_fd,
        open_below(root_fd, (QUARANTINE,), create=True) as aside_fd,
    ):
        rename_noreplace(name, aside, source_fd=from_fd, target_fd=aside_fd)
        sync(aside_fd, QUARANTINE)
        sync(from_fd, "/".join(folders))
    return aside


def drop_name(root: str, path: str) -> None:
    """Remove a placed file that is but another name of what was set aside."""
    folders, name = split(relative(root, path))
    with failing(f"cannot remove {path}"), open_root(root) as root_fd, open_below(root_fd, folders) as folder_fd:
        os.unlink(name, dir_fd=folder_fd)
        sync(folder_fd, "/".join(folders))


def clean_quarantine(root: str, older_than: float) -> int:
    """Delete what was set aside before ``older_than`` (seconds since the epoch); the allocated bytes freed."""
    freed_bytes = 0
    with failing(f"cannot clean the quarantine of {root}"), open_root(root) as root_fd:
        try:
            with open_below(root_fd, (QUARANTINE,)) as aside_fd:
                for entry in list_folder(aside_fd):
                    found = os.stat(entry.name, dir_fd=aside_fd, follow_symlinks=False)
                    is_due = quarantine_facts(entry.name, found)[0] < older_than
                    if is_due and not stat.S_ISDIR(found.st_mode):
                        os.unlink(entry.name, dir_fd=aside_fd)
                        freed_bytes += found.st_blocks * 512 if found.st_nlink == 1 else 0
        except FileNotFoundError:
            return 0
    return freed_bytes


def remove_quarantined(root: str, name: str) -> None:
    """Delete one bad copy; fine where it is gone."""
    with failing(f"cannot delete quarantine/{name}"), open_root(root) as root_fd:
        try:
            with open_below(root_fd, (QUARANTINE,)) as aside_fd:
                os.unlink(check_segment(name), dir_fd=aside_fd)
        except FileNotFoundError:
            return
