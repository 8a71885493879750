"""Whose is a file below ``models/``? Decided by inode, never by name alone.

=====================  =======================================================  ==========================
the file               told by                                                  when its folder is replaced
=====================  =======================================================  ==========================
ours                   its inode is a blob's or a quarantined copy's, or it is  removed (the blob stays)
                       our relative link to a blob
drifted                the ledger knows the path, the inode is none of ours     set aside in quarantine
foreign                anything else                                            kept, at its place
=====================  =======================================================  ==========================
"""

import os
import stat
from collections.abc import Mapping
from enum import Enum

from reconciler.adapters.store.folders import list_folder, open_below, split
from reconciler.adapters.store.layout import BLOBS, QUARANTINE, blob_parts, digest_of_link
from reconciler.core.words import Digest

Inode = tuple[int, int]


class Owner(Enum):
    """Whose a file is."""

    OURS = "ours"
    DRIFTED = "drifted"
    FOREIGN = "foreign"


class Ownership:
    """Answers for one change of one model's folder.

    The usual case, a file that still is the blob the ledger says, costs one ``stat``; all inodes of the store are
    listed only where that does not settle it, and once.
    """

    def __init__(self, root_fd: int, known: Mapping[str, Digest]) -> None:
        self._root_fd = root_fd
        self._known = known
        self._listed: frozenset[Inode] | None = None

    def of(self, path: str, found: os.stat_result, tree_fd: int) -> Owner:
        """Whose the file at ``path`` below the open folder ``tree_fd`` is; ``found`` is its lstat."""
        if stat.S_ISLNK(found.st_mode):
            folders, name = split(path)
            with open_below(tree_fd, folders) as folder_fd:
                is_ours = digest_of_link(os.readlink(name, dir_fd=folder_fd)) is not None
        else:
            is_ours = self._is_known_blob(path, found) or self.is_kept(found)
        if is_ours:
            return Owner.OURS
        return Owner.DRIFTED if path in self._known else Owner.FOREIGN

    def is_kept(self, found: os.stat_result) -> bool:
        """Whether a blob or a quarantined copy holds this inode, so that dropping the name loses no byte."""
        if found.st_nlink < 2 or stat.S_ISLNK(found.st_mode):
            return False
        if self._listed is None:
            self._listed = self._list()
        return (found.st_dev, found.st_ino) in self._listed

    def forget(self) -> None:
        """Look again: something was set aside since."""
        self._listed = None

    def _is_known_blob(self, path: str, found: os.stat_result) -> bool:
        digest = self._known.get(path)
        if digest is None or found.st_nlink < 2:
            return False
        folders, name = blob_parts(digest)
        try:
            with open_below(self._root_fd, folders) as folder_fd:
                blob = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (blob.st_dev, blob.st_ino) == (found.st_dev, found.st_ino)

    def _list(self) -> frozenset[Inode]:
        return frozenset(_inodes(self._root_fd, BLOBS, 1) | _inodes(self._root_fd, (QUARANTINE,), 0))


def _inodes(base_fd: int, parts: tuple[str, ...], deeper: int) -> set[Inode]:
    """The inodes of the files in a folder and ``deeper`` levels below."""
    found: set[Inode] = set()
    try:
        with open_below(base_fd, parts) as folder_fd:
            for entry in list_folder(folder_fd):
                if not entry.is_dir(follow_symlinks=False):
                    at = os.stat(entry.name, dir_fd=folder_fd, follow_symlinks=False)
                    found.add((at.st_dev, at.st_ino))
                elif deeper:
                    found |= _inodes(folder_fd, (entry.name,), deeper - 1)
    except FileNotFoundError:
        pass
    return found
