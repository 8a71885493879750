"""Harm to placed files, seen by one ``stat`` each: cheap enough to do every second, on any file system.

A placed file is a name of its blob's inode, so that whatever happens to either (content, mode, a name taken away)
changes what ``stat`` says of it. The mark is taken before a pass looks at the store: what changes afterwards, also by
the pass itself, is seen, and the pass after that finds nothing left to do.
"""

# ruff: noqa: PTH116 -- a stat per file a second: no objects in between

import os
import time
from collections.abc import Iterable

LEAST_S, MOST_S = 1.0, 4.0
SHARE = 1 / 400  # of one core, that a store of many files may cost

Mark = tuple[object, ...]


class Drift:
    """Watches ``models/`` of a store, declared links, and that the database is still the same file."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files: list[str] = []
        self._links: tuple[str, ...] = ()
        self._mark: Mark | None = None
        self._due = 0.0

    def rebase(self, links: Iterable[str] = ()) -> None:
        """From now on everything is compared with what is there now."""
        self._files, folders = [], [f"{self._root}/models"]
        self._links = tuple(links)
        for folder in folders:  # grows while it is walked
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        is_folder = entry.is_dir(follow_symlinks=False)
                        (folders if is_folder else self._files).append(entry.path)
            except OSError:
                continue
        self._mark = self._look()

    def has_changed(self) -> bool:
        """Whether anything differs from the mark; False where it is not yet time to look again."""
        now = time.monotonic()
        if self._mark is None or now < self._due:
            return False
        changed = self._look() != self._mark
        spent = time.monotonic() - now
        self._due = now + min(MOST_S, max(LEAST_S, spent / SHARE)) - 0.05
        return changed

    def _look(self) -> Mark:
        found: list[object] = [_file(path) for path in self._files]
        found += [_link(path) for path in self._links]
        found.append(_folder(f"{self._root}/models"))
        found.append(_identity(f"{self._root}/state.db"))
        return tuple(found)


def _file(path: str) -> object:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return (seen.st_ino, seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _folder(path: str) -> object:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return (seen.st_ino, seen.st_mtime_ns)


def _link(path: str) -> object:
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return (seen.st_ino, seen.st_mode, seen.st_ctime_ns)


def _identity(path: str) -> object:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
