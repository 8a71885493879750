"""Looking at the whole store: one ``stat`` per file, nothing opened, nothing changed.

A placed file is told from a foreign one by its inode: the folder listing already names it (``d_ino``), so a file that
is a blob costs no further call. Links are never followed. Bytes are allocated blocks, each inode once, because that is
what the disk loses.
"""

# ruff: noqa: PTH112, PTH115, PTH123 -- paths are plain strings here, as the system calls want them

import json
import os
import re
import stat
from dataclasses import dataclass, field
from typing import Any

from reconciler.adapters.store.folders import file_stat
from reconciler.adapters.store.layout import (
    FOLDERS,
    MODELS,
    PARTIAL,
    QUARANTINE,
    Blob,
    Partial,
    Placed,
    Quarantined,
    StoreScan,
    digest_of_link,
)
from reconciler.core.words import Digest

_HEX64 = re.compile(r"[0-9a-f]{64}")
_ASIDE = re.compile(r"(\d+)-[0-9a-f]+-(.*?)(?:-([0-9a-f]{64}))?")
_UNCOUNTED = ("state.db", "lock", "control.sock", "source.git")  # state.db, -wal, -shm, and one that was moved aside
_MAX_SIDECAR_BYTES = 8 << 20

Entry = os.DirEntry[str]


def scan(root: str) -> StoreScan:
    """All that lies below ``root``; an empty scan where there is no store. Never raises for what cannot be read."""
    if not os.path.isdir(root):
        return StoreScan()
    return _Scan(root).run()


@dataclass(slots=True)
class _Scan:
    root: str
    blobs: list[Blob] = field(default_factory=list)
    by_inode: dict[int, Blob] = field(default_factory=dict)
    placed: list[Placed] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    partials: list[Partial] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)
    bad: set[tuple[int, int]] = field(default_factory=set)  # inodes of bad copies that were set aside
    used_bytes: int = 0
    foreign_bytes: int = 0

    def run(self) -> StoreScan:
        top = {entry.name: entry for entry in self.list("")}
        for name in (QUARANTINE, *(name for name in FOLDERS if name != QUARANTINE)):
            entry = top.pop(name, None)
            if entry is None:
                continue
            if entry.is_dir(follow_symlinks=False):
                _STEPS[name](self)
            else:
                self.stranger(entry, name)
        for name, entry in top.items():
            if not name.startswith(_UNCOUNTED):
                self.stranger(entry, name)
        return self.result()

    def result(self) -> StoreScan:
        return StoreScan(
            exists=True,
            blobs=tuple(sorted(self.blobs, key=lambda blob: blob.digest)),
            placed=tuple(sorted(self.placed, key=lambda file: (file.model, file.path))),
            models=tuple(sorted(self.models)),
            partials=tuple(sorted(self.partials, key=lambda partial: partial.name)),
            quarantined=tuple(sorted(self.quarantined, key=lambda copy: copy.name)),
            leftovers=tuple(sorted(self.leftovers)),
            foreign=tuple(sorted(self.foreign)),
            unreadable=tuple(sorted(self.unreadable)),
            quarantine_bytes=sum(copy.allocated_bytes for copy in self.quarantined),
            foreign_bytes=self.foreign_bytes,
            used_bytes=self.used_bytes,
        )

    def list(self, path: str) -> list[Entry]:
        """A folder's entries; one that cannot be read is noted and counts as empty."""
        try:
            with os.scandir(f"{self.root}/{path}") as entries:
                return list(entries)
        except FileNotFoundError:
            return []
        except OSError:
            self.unreadable.append(path)
            return []

    def count(self, found: os.stat_result) -> int:
        """The blocks that this name adds."""
        if found.st_nlink > 1:
            key = (found.st_dev, found.st_ino)
            if key in self.seen:
                return 0
            self.seen.add(key)
        allocated = found.st_blocks * 512
        self.used_bytes += allocated
        return allocated

    def stranger(self, entry: Entry, path: str) -> None:
        """Something of nobody's: counted, with all below it."""
        if entry.is_dir(follow_symlinks=False):
            for child in self.list(path):
                self.stranger(child, f"{path}/{child.name}")
            return
        found = _stat(entry)
        if found is not None:
            self.foreign.append(path)
            self.foreign_bytes += self.count(found)

    def scan_blobs(self) -> None:
        for algorithm in self.list("blobs"):
            if algorithm.name != "sha256" or not algorithm.is_dir(follow_symlinks=False):
                self.stranger(algorithm, f"blobs/{algorithm.name}")
                continue
            for shard in self.list("blobs/sha256"):
                path = f"blobs/sha256/{shard.name}"
                if len(shard.name) == 2 and shard.is_dir(follow_symlinks=False):
                    self.scan_shard(shard.name, path)
                else:
                    self.stranger(shard, path)

    def scan_shard(self, shard: str, path: str) -> None:
        for entry in self.list(path):
            name = entry.name
            is_blob = name.startswith(shard) and _HEX64.fullmatch(name) and entry.is_file(follow_symlinks=False)
            if not is_blob:
                self.stranger(entry, f"{path}/{name}")
                continue
            found = _stat(entry)
            if found is None:
                continue
            self.count(found)
            blob = Blob(Digest(f"sha256:{name}"), file_stat(found), found.st_blocks * 512)
            self.blobs.append(blob)
            self.by_inode[found.st_ino] = blob

    def scan_models(self) -> None:
        for entry in self.list(MODELS):
            if entry.is_dir(follow_symlinks=False):
                self.models.append(entry.name)
                self.scan_model(entry.name, "")
            else:
                self.stranger(entry, f"{MODELS}/{entry.name}")

    def scan_model(self, model: str, prefix: str) -> None:
        for entry in self.list(f"{MODELS}/{model}/{prefix}"):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                self.scan_model(model, f"{path}/")
                continue
            blob = self.by_inode.get(entry.inode())
            if blob is not None:
                self.placed.append(Placed(model, path, blob.digest, blob.stat))
            else:
                self.scan_odd(entry, model, path)

    def scan_odd(self, entry: Entry, model: str, path: str) -> None:
        """A file below ``models/`` whose listing names no blob: a link of ours, or foreign, or drifted."""
        found = _stat(entry)
        if found is None or (found.st_dev, found.st_ino) in self.bad:
            return  # a second name of what was set aside, which a crash has kept: no model's file any more
        is_link = stat.S_ISLNK(found.st_mode)
        digest = _digest_of_link(entry) if is_link else None
        blob = self.by_inode.get(found.st_ino)  # overlay file systems list other inodes than they stat
        if blob is not None and blob.stat.device == found.st_dev:
            self.placed.append(Placed(model, path, blob.digest, blob.stat))
            return
        self.placed.append(Placed(model, path, digest, file_stat(found), self.count(found), is_link))

    def scan_partial(self) -> None:
        entries = {entry.name: entry for entry in self.list(PARTIAL)}
        for name, entry in entries.items():
            if name.startswith("."):
                self.leftovers.append(f"{PARTIAL}/{name}")
                self.count_tree(entry, f"{PARTIAL}/{name}")
                continue
            found = _stat(entry)
            if found is None or (name.endswith(".json") and name.removesuffix(".json") in entries):
                self.used_bytes += found.st_blocks * 512 if found else 0
                continue
            if not found.st_mode & stat.S_IWUSR:  # a commit was cut off: the sweep makes it writable again
                self.leftovers.append(f"{PARTIAL}/{name}")
            sidecar, notes = _read_sidecar(entries.get(f"{name}.json"))
            allocated = self.count(found)
            self.partials.append(Partial(name, found.st_size, allocated, found.st_mtime, sidecar, notes))

    def scan_quarantine(self) -> None:
        for entry in self.list(QUARANTINE):
            if entry.is_dir(follow_symlinks=False):
                self.stranger(entry, f"{QUARANTINE}/{entry.name}")
                continue
            found = _stat(entry)
            if found is not None:
                since, reason, digest = quarantine_facts(entry.name, found)
                allocated = self.count(found)
                self.bad.add((found.st_dev, found.st_ino))
                self.quarantined.append(Quarantined(entry.name, found.st_size, allocated, since, reason, digest))

    def count_tree(self, entry: Entry, path: str) -> None:
        if entry.is_dir(follow_symlinks=False):
            for child in self.list(path):
                self.count_tree(child, f"{path}/{child.name}")
        elif (found := _stat(entry)) is not None:
            self.count(found)


_STEPS = {
    "blobs": _Scan.scan_blobs,
    MODELS: _Scan.scan_models,
    PARTIAL: _Scan.scan_partial,
    QUARANTINE: _Scan.scan_quarantine,
}


def quarantine_facts(name: str, found: os.stat_result) -> tuple[float, str, Digest | None]:
    """When and why a copy was set aside (by its change time where its name does not tell), and what it should be."""
    match = _ASIDE.fullmatch(name)
    if match is None:
        return found.st_ctime, "unknown", None
    digest = Digest(f"sha256:{match[3]}") if match[3] else None
    return float(match[1]) or found.st_ctime, match[2], digest


def _stat(entry: Entry) -> os.stat_result | None:
    """None where it vanished between listing and looking."""
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def _digest_of_link(entry: Entry) -> Digest | None:
    try:
        return digest_of_link(os.readlink(entry.path))
    except OSError:
        return None


def _read_sidecar(entry: Entry | None) -> tuple[dict[str, Any] | None, int]:
    """The engine's notes: the object on the first line, and how many whole lines follow it."""
    if entry is None or not entry.is_file(follow_symlinks=False):
        return None, 0
    try:
        with open(entry.path, "rb") as file:
            head, *rest = file.read(_MAX_SIDECAR_BYTES).split(b"\n")
        value = json.loads(head)
    except (OSError, ValueError):
        return None, 0
    return (value, max(0, len(rest) - 1)) if isinstance(value, dict) else (None, 0)
