"""Which folders must be watched so that no way of changing a manifest goes unseen.

A manifest may be reached over symbolic links, each of which can be pointed elsewhere: a Kubernetes ConfigMap swaps
``..data``, a configuration tool swaps a link two folders up. So every folder that holds a link on the way is watched,
the folder of the file itself, and the one above it (a folder may be removed and made again). Files themselves are never
watched: after one atomic replace such a watch is deaf for ever.
"""

# ruff: noqa: PTH115, PTH116, PTH118, PTH120 -- paths are text here, as the watcher wants them

import os
from collections.abc import Iterable, Mapping

MAX_HOPS = 40
_NETWORK_TYPES = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "fuse",
    "ncpfs",
    "virtiofs",
    "vboxsf",
)


def folders_of(paths: Iterable[str]) -> frozenset[str]:
    """The folders to watch for these absolute paths; a path that ends in ``/`` is a folder whose entries count."""
    found: set[str] = set()
    for path in paths:
        found |= _hops(path + "*" if path.endswith("/") else path)
    return frozenset(found)


def _hops(path: str) -> set[str]:
    """Walk as the kernel does: one name at a time, links replaced by what they say."""
    found: set[str] = set()
    here, names = "/", [name for name in reversed(path.split("/")) if name]
    links = 0
    while names:
        name = names.pop()
        if name == "..":
            here = os.path.dirname(here)
        if name in {".", ".."}:
            continue
        full = os.path.join(here, name)
        try:
            target = os.readlink(full)
        except OSError:
            if not names or not os.path.isdir(full):  # noqa: PTH112
                return found | {here, os.path.dirname(here)}
            here = full
            continue
        found.add(here)
        links += 1
        if links > MAX_HOPS:
            return found
        here = "/" if target.startswith("/") else here
        names += [part for part in reversed(target.split("/")) if part]
    return found | {here}


def identities(folders: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """(device, inode) of each folder that is there: a watch on one that was made again is deaf."""
    found = {}
    for folder in folders:
        try:
            seen = os.stat(folder)
        except OSError:
            continue
        found[folder] = (seen.st_dev, seen.st_ino)
    return found


def network_folder(folders: Iterable[str], mounts: str = "/proc/self/mountinfo") -> str:
    """The first folder on a file system where another machine's writes raise no events here; empty where none is."""
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            table = [_mount(line) for line in file]
    except OSError:
        return ""
    for folder in sorted(folders):
        point = max((row for row in table if _is_below(folder, row[0])), key=lambda row: len(row[0]), default=("", ""))
        if point[1].startswith(_NETWORK_TYPES):
            return folder
    return ""


def _mount(line: str) -> tuple[str, str]:
    """(mount point, type) of one line of ``mountinfo``, see proc(5)."""
    head, _, tail = line.partition(" - ")
    point = head.split()[4].replace("\\040", " ")
    return point, tail.split()[0]


def _is_below(folder: str, point: str) -> bool:
    return folder == point or folder.startswith(point.rstrip("/") + "/")
