"""Repair a damaged copy: fetch only the parts that are bad.

A finished file carries, as an extended attribute of its own, running digests (SHA-256 of everything from the start) at
up to 370 places. Walking through a damaged copy, the running digest agrees until the first bad part; that part is
fetched, which makes the digest agree again, and so every other bad part is found too, at the cost of hashing once. A
wrong attribute cannot do harm: the digest of the whole file decides, and the fall-back is a full download.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reconciler.adapters.fetch.partial import Partial, aligned_buffer
from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken

ATTRIBUTE = "user.reconciler.chunks"
_MARK_BYTES = 8
_MAX_MARKS = 370  # an ext4 inode's attributes share one block of 4 KiB

# Writes bytes start to end - 1 of the object into the partial.
FetchPart = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Index:
    """Running digests of a file of ``size_bytes``, one after every ``step_chunks`` whole chunks."""

    size_bytes: int
    step_chunks: int
    marks: tuple[bytes, ...]

    @classmethod
    def of(cls, size_bytes: int, prefixes: list[str]) -> "Index":
        """The index from the running digest (hex) after every chunk."""
        step = max(1, -(-len(prefixes) // _MAX_MARKS))
        marks = [bytes.fromhex(prefix)[:_MARK_BYTES] for prefix in prefixes[step - 1 :: step]]
        return cls(size_bytes, step, tuple(marks))

    def pack(self) -> bytes:
        """As kept with the file."""
        return b"1 %d %d\n" % (self.size_bytes, self.step_chunks) + b"".join(self.marks)

    @classmethod
    def unpack(cls, data: bytes) -> "Index | None":
        """The index that :meth:`pack` wrote; None for anything else."""
        head, mark, rest = data.partition(b"\n")
        try:
            version, size, step = (int(word) for word in head.split(b" "))
        except ValueError:
            return None
        if version != 1 or not mark or size < 0 or step < 1 or len(rest) % _MARK_BYTES:
            return None
        marks = tuple(rest[at : at + _MARK_BYTES] for at in range(0, len(rest), _MARK_BYTES))
        return cls(size, step, marks) if len(marks) <= _MAX_MARKS else None


def index_of(path: str) -> Index | None:
    """The index a file carries; None where it carries none."""
    try:
        return Index.unpack(os.getxattr(path, ATTRIBUTE))
    except (OSError, AttributeError):
        return None


@dataclass(slots=True)
class Mender:
    """Walks through the damaged copy at ``path`` and makes ``partial`` the whole file."""

    path: str
    index: Index
    digest: str
    partial: Partial
    fetch_part: FetchPart
    cancel: CancelToken
    hasher: Any = field(default_factory=hashlib.sha256)
    prefixes: list[str] = field(default_factory=list)
    _buffer: memoryview = field(default_factory=lambda: aligned_buffer(CHUNK_BYTES))

    def mend(self) -> bool:
        """True where ``partial`` now holds the declared digest.

        Raises:
            Failure: of the disk or of ``fetch_part``.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            step_bytes = self.index.step_chunks * CHUNK_BYTES
            for number, start in enumerate(range(0, self.index.size_bytes, step_bytes)):
                end = min(start + step_bytes, self.index.size_bytes)
                if not self._mend_part(fd, number, start, end):
                    return False
        except OSError as error:
            raise transient("io_error", f"cannot read {self.path}: {error.strerror}") from error
        finally:
            os.close(fd)
        return True

    def _mend_part(self, fd: int, number: int, start: int, end: int) -> bool:
        if self._take(lambda view, at: os.preadv(fd, [view], at), number, start, end, is_copied=True):
            return True
        self.fetch_part(start, end)
        return self._take(self.partial.read_into, number, start, end, is_copied=False)

    def _take(
        self, read: Callable[[memoryview, int], int], number: int, start: int, end: int, *, is_copied: bool
    ) -> bool:
        """Hash one part; keep the result where it agrees with the mark."""
        trial, prefixes = self.hasher.copy(), []
        for at in range(start, end, CHUNK_BYTES):
            if self.cancel.is_set():
                raise transient("cancelled", f"stopped while repairing {self.path}")
            view = self._buffer[: min(CHUNK_BYTES, end - at)]
            if read(view, at) != len(view):
                return False
            trial.update(view)
            if is_copied:
                self.partial.write(view, at)
            if len(view) == CHUNK_BYTES:
                prefixes.append(trial.copy().hexdigest()[:32])
        is_marked = number < len(self.index.marks) and end - start == self.index.step_chunks * CHUNK_BYTES
        found = trial.digest()
        if is_marked and found[:_MARK_BYTES] != self.index.marks[number]:
            return False
        if end == self.index.size_bytes and f"sha256:{found.hex()}" != self.digest:
            return False
        self.hasher = trial
        self.prefixes += prefixes
        return True
