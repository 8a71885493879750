"""Harm to placed files: heard at once, and found by a sweep where nothing is to be heard.

A placed file is a name of its blob's inode, so that whatever happens to either (content, mode, a name taken away)
changes what ``stat`` says of it. The mark is taken before a pass looks at the store: what changes afterwards, also by
the pass itself, is seen, and the pass after that finds nothing left to do.

File events below ``models/`` name a model, whose files then are looked at: harm is found within a fraction of a second,
however many models there are. Events are not the truth (a blob changed under its other name, a network file system,
an overflow), so a sweep goes through all files besides, a slice each second that costs a bounded share of a core. Where
events cannot be had the slices are larger.
"""

# ruff: noqa: PTH116 -- a stat per file: no objects in between

import os
import threading
import time
from collections.abc import Callable, Iterable

from reconciler.watch.ears import Ears
from reconciler.watch.hops import identities

EVERY_S = 1.0
SLICE_S, DEAF_SLICE_S = 0.0025, 0.025  # of each second, at most
SLICES = 3  # a sweep is spread over so many seconds where events can be had
_GRAIN = 64  # files between two looks at the clock

Mark = tuple[object, ...] | None


class Drift:
    """Watches ``models/`` of a store, declared links, and that the database is still the same file."""

    def __init__(
        self, root: str, ring: Callable[[], None] = lambda: None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._root, self._folder, self._ring, self._monotonic = root, f"{root}/models", ring, monotonic
        self._ears = Ears(self._hear, is_deep=True)
        self._marks: dict[str, list[tuple[str, Mark]]] = {}  # by model: its files
        self._around: Mark = None
        self._links: tuple[str, ...] = ()
        self._sweep: list[tuple[str, Mark]] = []
        self._share = 0  # files of the sweep in each second
        self._suspects: set[str] = set()
        self._guard = threading.Lock()
        self._due = 0.0
        self._is_based = False

    @property
    def trouble(self) -> str:
        """Why file events cannot be had; empty where they can."""
        return self._ears.trouble

    def close(self) -> None:
        """Stop listening."""
        self._ears.close()

    def rebase(self, links: Iterable[str] = ()) -> None:
        """From now on everything is compared with what is there now."""
        self._ears.listen(identities([self._folder]))
        with self._guard:
            self._suspects.clear()
        self._links = tuple(links)
        self._marks = {}
        for model in _names(self._folder):
            self._marks[model] = [(path, _file(path)) for path in _files(f"{self._folder}/{model}")]
        self._around = self._look_around()
        self._sweep = []
        self._is_based = True

    def has_changed(self) -> bool:
        """Whether anything that was heard of, or lies in this second's slice, differs from its mark."""
        if not self._is_based:
            return False
        with self._guard:
            suspects, self._suspects = self._suspects, set()
        if any(self._is_harmed(model) for model in suspects):
            return True
        if self._monotonic() < self._due:
            return False
        self._due = self._monotonic() + EVERY_S - 0.05
        self._ears.listen(identities([self._folder]))
        return self._look_around() != self._around or self._slice_has_changed()

    def _hear(self, paths: frozenset[str]) -> None:
        """Called in the thread that listens."""
        start = len(self._folder) + 1
        models = {path[start:].partition("/")[0] for path in paths if len(path) > start}
        with self._guard:
            self._suspects |= models
        self._ring()

    def _is_harmed(self, model: str) -> bool:
        marks = self._marks.get(model)
        if marks is None:
            return os.path.lexists(f"{self._folder}/{model}")
        return any(_file(path) != mark for path, mark in marks)

    def _slice_has_changed(self) -> bool:
        """Go on where the last slice ended."""
        if not self._sweep:
            self._sweep = [entry for files in self._marks.values() for entry in files]
            self._share = len(self._sweep) if self.trouble else len(self._sweep) // SLICES + 1
        rest = max(0, len(self._sweep) - self._share)
        end = time.perf_counter() + (DEAF_SLICE_S if self.trouble else SLICE_S)
        while len(self._sweep) > rest and time.perf_counter() < end:
            grain, self._sweep = self._sweep[-_GRAIN:], self._sweep[:-_GRAIN]
            if any(_file(path) != mark for path, mark in grain):
                return True
        return False

    def _look_around(self) -> Mark:
        links = (_link(path) for path in self._links)
        return (*links, _folder(self._folder), _identity(f"{self._root}/state.db"))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []


def _files(top: str) -> list[str]:
    """All that lies below a model's folder; the name itself where it is no folder."""
    found: list[str] = []
    folders = [top]
    for folder in folders:  # grows while it is walked
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    (folders if entry.is_dir(follow_symlinks=False) else found).append(entry.path)
        except NotADirectoryError:
            found.append(folder)
        except OSError:
            continue
    return found


def _file(path: str) -> Mark:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return (seen.st_ino, seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _folder(path: str) -> Mark:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return (seen.st_ino, seen.st_mtime_ns)


def _link(path: str) -> Mark:
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
