"""What is already here of a file, and how far it may be trusted.

A :class:`Stand` is the state of one file between attempts: the running digest and how many chunks it covers, the bytes
after them that fill no chunk yet, and chunks further on ("islands") with digests of their own. Within a process it
goes from attempt to attempt; over processes it is built again from the record, by hashing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reconciler.adapters.fetch.partial import Partial, aligned_buffer
from reconciler.adapters.fetch.record import CHUNK_BYTES, Header, Kept, Record
from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken

DIGEST_CHARS = 32  # of a running digest, as recorded: it guards against torn writes, the whole digest against the rest


@dataclass(slots=True)
class Stand:
    """See the module. ``validator`` is strong or empty; ``size_bytes`` is the object's, once known."""

    url: str = ""
    validator: str = ""
    size_bytes: int | None = None
    hasher: Any = field(default_factory=hashlib.sha256)
    base: int = 0
    prefixes: list[str] = field(default_factory=list)
    tail: bytes = b""
    islands: dict[int, str] = field(default_factory=dict)
    recorded: int = 0  # prefixes that the record holds
    is_pieced: bool = False  # put together from more than one answer
    content: memoryview | None = None  # of a small file: all its bytes, once they are here

    @property
    def offset(self) -> int:
        """Where the next byte belongs."""
        covered = self.base * CHUNK_BYTES
        return (covered if self.size_bytes is None else min(covered, self.size_bytes)) + len(self.tail)

    @property
    def done_bytes(self) -> int:
        """Bytes that need not be fetched again."""
        return self.offset + len(self.islands) * CHUNK_BYTES

    @property
    def is_complete(self) -> bool:
        """Whether every byte is here."""
        return self.size_bytes is not None and self.offset == self.size_bytes

    def gaps(self) -> list[tuple[int, int | None]]:
        """Runs of missing chunks, end exclusive; the last is open where the size is unknown."""
        end = None if self.size_bytes is None else -(-self.size_bytes // CHUNK_BYTES)
        runs: list[tuple[int, int | None]] = []
        start = self.base
        for index in sorted(self.islands):
            if index > start:
                runs.append((start, index))
            start = index + 1
        if end is None or start < end:
            runs.append((start, end))
        return runs

    def forget(self) -> None:
        """Start over."""
        fresh = Stand()
        for name in Stand.__slots__:
            setattr(self, name, getattr(fresh, name))


def load(partial: Partial, kept: Kept, cancel: CancelToken, progress: Callable[[int], None]) -> Stand:
    """Hash what a record claims, and keep what agrees.

    Raises:
        Failure: transient; cancelled, or the disk cannot be read.
    """
    header = kept.header
    stand = Stand(header.url, header.validator, header.size_bytes, is_pieced=True)
    view = aligned_buffer(CHUNK_BYTES)
    _load_prefixes(stand, partial, kept, cancel, progress, view)
    stand.recorded = stand.base
    _load_tail(stand, partial, kept, view)
    for index, digest in sorted(kept.chunks.items()):
        if index < stand.base:
            continue
        _check(cancel)
        is_whole = partial.read_into(view, index * CHUNK_BYTES) == CHUNK_BYTES
        if is_whole and hashlib.sha256(view).hexdigest() == digest:
            stand.islands[index] = digest
    absorb(stand, partial, cancel)
    return stand


def absorb(stand: Stand, partial: Partial, cancel: CancelToken) -> None:
    """Islands that adjoin the finished start belong to it: the next byte is the first that is really missing."""
    view: memoryview | None = None
    while stand.base in stand.islands:
        _check(cancel)
        view = aligned_buffer(CHUNK_BYTES) if view is None else view
        digest = stand.islands.pop(stand.base)
        is_whole = partial.read_into(view, stand.base * CHUNK_BYTES) == CHUNK_BYTES
        if not is_whole or hashlib.sha256(view).hexdigest() != digest:
            return
        stand.tail = b""
        stand.hasher.update(view)
        stand.prefixes.append(stand.hasher.copy().hexdigest()[:DIGEST_CHARS])
        stand.base += 1


def _load_prefixes(
    stand: Stand, partial: Partial, kept: Kept, cancel: CancelToken, progress: Callable[[int], None], view: memoryview
) -> None:
    for index, digest in enumerate(kept.prefixes):
        _check(cancel)
        if partial.read_into(view, index * CHUNK_BYTES) != CHUNK_BYTES:
            return
        trial = stand.hasher.copy()
        trial.update(view)
        if trial.hexdigest()[:DIGEST_CHARS] != digest:
            return
        stand.hasher = trial
        stand.prefixes.append(digest)
        stand.base = index + 1
        progress(stand.base * CHUNK_BYTES)


def _load_tail(stand: Stand, partial: Partial, kept: Kept, view: memoryview) -> None:
    if kept.tail is None or stand.base != len(kept.prefixes):
        return
    count = kept.tail[0] - stand.base * CHUNK_BYTES
    if not 0 < count < CHUNK_BYTES or partial.read_into(view[:count], stand.base * CHUNK_BYTES) != count:
        return
    trial = stand.hasher.copy()
    trial.update(view[:count])
    if trial.hexdigest()[:DIGEST_CHARS] == kept.tail[1]:
        stand.tail = bytes(view[:count])


def hash_whole(partial: Partial, cancel: CancelToken, progress: Callable[[int], None]) -> Any:
    """The hasher that has seen the file from start to end."""
    hasher = hashlib.sha256()
    view = aligned_buffer(CHUNK_BYTES)
    offset = 0
    while count := partial.read_into(view, offset):
        _check(cancel)
        hasher.update(view[:count])
        offset += count
        progress(offset)
    return hasher


def save(stand: Stand, partial: Partial, record: Record, digest: str) -> None:
    """Write down everything at the end of an attempt, so that stopping in good order costs nothing.

    Raises:
        Failure: the disk's.
    """
    if stand.tail:
        partial.write(memoryview(stand.tail), stand.base * CHUNK_BYTES)
    partial.sync()
    if not record.is_open:
        record.begin(Header(stand.url, stand.validator, stand.size_bytes, digest))
        stand.recorded = 0
    lines = [("p", index, stand.prefixes[index]) for index in range(stand.recorded, _whole(stand))]
    lines += [("c", index, digest) for index, digest in sorted(stand.islands.items())]
    if stand.tail:
        whole = stand.hasher.copy()
        whole.update(stand.tail)
        lines.append(("t", stand.offset, whole.hexdigest()[:DIGEST_CHARS]))
    record.add(lines)
    stand.recorded = _whole(stand)


def _whole(stand: Stand) -> int:
    return min(stand.base, len(stand.prefixes))  # a short last chunk has no running digest of its own


def _check(cancel: CancelToken) -> None:
    if cancel.is_set():
        raise transient("cancelled", "stopped while checking what is already here")
