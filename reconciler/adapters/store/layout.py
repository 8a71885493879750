"""Where everything lies in the store, and the facts that come out of it.

::

    blobs/sha256/<2 hex>/<64 hex>      immutable content, mode 0444
    models/<name>/<file>               hard links to blobs; the folder bears the record as an extended attribute
    partial/<key>, partial/<key>.json  an unfinished download and the engine's notes on it
    partial/.place-<random>/<name>     a model's folder being prepared, or the old one being removed
    partial/.swap-<random>/<name>      the old folder, for an instant, where the file system cannot exchange names
    partial/.stage-<random>/           an archive being unpacked
    partial/.import-<random>           a file being copied in
    quarantine/<time>-<random>-<why>[-<digest it should have>]   bad copies
    state.db*, lock                    not counted

All the temporary names are made under the owner's lock, and are swept (:mod:`.sweep`) by the next owner.
"""

import hashlib
import os
import re
from typing import Any

from reconciler.core.names import check_digest
from reconciler.core.records import dataclass
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest

BLOBS = ("blobs", "sha256")
MODELS = "models"
PARTIAL = "partial"
QUARANTINE = "quarantine"
FOLDERS = ("blobs", MODELS, PARTIAL, QUARANTINE)
RECORD_ATTRIBUTE = "user.reconciler.record"
PLACE_PREFIX = ".place-"
SWAP_PREFIX = ".swap-"
STAGE_PREFIX = ".stage-"
IMPORT_PREFIX = ".import-"

_LINK_TEXT = re.compile(r"(?:\.\./)+blobs/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as it lies there: nothing about whether its content is right."""

    digest: Digest
    stat: FileStat
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A file below ``models/<model>/``.

    ``digest`` is the blob whose inode it is (or that our relative link names); None: it is no blob's, so it is foreign
    or drifted, which only the ledger can tell. ``is_link``: a symbolic link stands there. ``allocated_bytes`` counts
    what no blob counts already.
    """

    model: str
    path: str
    digest: Digest | None
    stat: FileStat
    allocated_bytes: int = 0
    is_link: bool = False


@dataclass(frozen=True, slots=True)
class Partial:
    """An unfinished download, and the engine's notes on it (JSON lines) as far as they are anybody else's business.

    ``size_bytes`` may be preallocated. ``sidecar`` is the object on the first line of the notes, None where there is
    none to read; ``notes`` counts the whole lines after it.
    """

    name: str
    size_bytes: int
    allocated_bytes: int
    modified_at: float
    sidecar: dict[str, Any] | None = None
    notes: int = 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A bad copy that was set aside: ``since`` in seconds since the epoch, ``reason`` the word given for it.

    ``digest`` is the one it should have had, where its name tells.
    """

    name: str
    size_bytes: int
    allocated_bytes: int
    since: float
    reason: str
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class StoreScan:
    """What lies in the store. ``used_bytes`` is all of it: allocated blocks, each inode once, without ``state.db*``.

    ``foreign`` are relative paths outside ``models/`` that are none of ours (in ``models/`` see :class:`Placed`), and
    ``foreign_bytes`` their blocks. ``models`` names every folder below ``models/``, also an empty one. ``leftovers``
    are temporary names that a crash left (:meth:`Store.sweep` clears them); they count into ``used_bytes``.
    """

    exists: bool = False
    blobs: tuple[Blob, ...] = ()  # by digest
    placed: tuple[Placed, ...] = ()  # by model, path
    models: tuple[str, ...] = ()
    partials: tuple[Partial, ...] = ()  # by name
    quarantined: tuple[Quarantined, ...] = ()  # by name
    leftovers: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    quarantine_bytes: int = 0
    foreign_bytes: int = 0
    used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Unplaced:
    """What removing a model's files did: relative paths removed, set aside as bad copies, and foreign ones kept."""

    removed: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RebuiltModel:
    """What the store itself tells of a model: its record (None where it has none) and its files."""

    name: str
    record: bytes | None
    files: tuple[Placed, ...]


def blob_parts(digest: str) -> tuple[tuple[str, ...], str]:
    """A blob's folders and name below the root.

    Raises:
        Failure: permanent ``bad_digest``.
    """
    text = check_digest(digest).removeprefix("sha256:")
    return (*BLOBS, text[:2]), text


def partial_key(model: str, path: str, identity: str) -> str:
    """The name of an unfinished download: 32 hex digits. ``identity`` is the digest, or the URL where none is known."""
    return hashlib.sha256(f"{model}\0{path}\0{identity}".encode()).hexdigest()[:32]


def link_text(digest: str, depth: int) -> str:
    """The relative link to a blob from a file ``depth`` folders below the root."""
    folders, name = blob_parts(digest)
    return "../" * depth + "/".join((*folders, name))


def digest_of_link(text: str) -> Digest | None:
    """The blob that one of our relative links names; None for anybody else's link."""
    match = _LINK_TEXT.fullmatch(text)
    return Digest(f"sha256:{match[2]}") if match else None


def temporary(prefix: str) -> str:
    """A fresh name below ``partial/``."""
    return prefix + os.urandom(8).hex()


def aside_name(since: int, word: str, digest: str = "") -> str:
    """A fresh name below ``quarantine/``; the digest's algorithm is left out."""
    name = f"{since}-{os.urandom(4).hex()}-{word}"
    return f"{name}-{digest.removeprefix('sha256:')}" if digest else name
