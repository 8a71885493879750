"""Repair a damaged copy: fetch only the parts that are bad.

A finished file carries, as an extended attribute of its own, running digests (SHA-256 of everything from the start) at
as many places as the file system lets it. Walking through a damaged copy, the running digest agrees until the first bad
part; that part is fetched, which makes the digest agree again, and so every other bad part is found too, at the cost of
hashing once. Where the copy ends, the rest is an ordinary download. What was proven or fetched is recorded like any
download's, so that an interrupted repair goes on where it was. A wrong attribute cannot do harm: the digest of the
whole file decides, and the fall-back is a full download.
"""

import os
from collections.abc import Callable
from dataclasses import field

from reconciler.adapters.fetch.partial import Partial, aligned_buffer
from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.adapters.fetch.resume import DIGEST_CHARS, Stand
from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken
from reconciler.core.records import dataclass

ATTRIBUTE = "user.reconciler.chunks"
_MARK_BYTES = 8
_MARKS = (8_000, 1_900, 370)  # what fits: XFS keeps 64 KiB, Btrfs 16; an ext4 inode's attributes share 4 KiB
_RUN_BYTES = 8 << 20  # of a hole, fetched at once: no more than an interruption may cost

# Writes bytes start to end - 1 of the object into the partial.
FetchPart = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Index:
    """Running digests of a file of ``size_bytes``, one after every ``step_chunks`` whole chunks."""

    size_bytes: int
    step_chunks: int
    marks: tuple[bytes, ...]

    @classmethod
    def of(cls, size_bytes: int, prefixes: list[str], most: int = _MARKS[-1]) -> "Index":
        """The index from the running digest (hex) after every chunk, of ``most`` marks."""
        step = max(1, -(-len(prefixes) // most))
        marks = [bytes.fromhex(prefix)[:_MARK_BYTES] for prefix in prefixes[step - 1 :: step]]
        return cls(size_bytes, step, tuple(marks))

    @property
    def step_bytes(self) -> int:
        """How far one mark lies from the next: the least that is fetched."""
        return self.step_chunks * CHUNK_BYTES

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
        return cls(size, step, marks) if len(marks) == size // (step * CHUNK_BYTES) else None


def index_of(path: str) -> Index | None:
    """The index a file carries; None where it carries none."""
    try:
        index = Index.unpack(os.getxattr(path, ATTRIBUTE))
    except (OSError, AttributeError):
        return None
    return index if index is not None and index.marks else None


def keep_index(partial: Partial, stand: Stand) -> None:
    """Give a finished file its index, as fine as the file system takes it; one it does not take is left out."""
    prefixes, size = stand.prefixes, stand.size_bytes
    if size is None or len(prefixes) < 2 or len(prefixes) != size // CHUNK_BYTES:
        return
    for most in _MARKS:
        if partial.note(ATTRIBUTE, Index.of(size, prefixes, most).pack()):
            return


@dataclass(slots=True)
class Mender:
    """Moves ``stand`` on through the damaged copy at ``path``, into ``partial``, as far as the copy reaches."""

    path: str
    index: Index
    digest: str
    partial: Partial
    stand: Stand
    fetch_part: FetchPart
    cancel: CancelToken
    progress: Callable[[], None]
    _buffer: memoryview = field(default_factory=lambda: aligned_buffer(CHUNK_BYTES))

    def mend(self) -> bool:
        """False where what was fetched does not agree with the index: one of the two is wrong.

        Raises:
            Failure: of the disk or of ``fetch_part``; the stand holds what is proven by then.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return True
        try:
            return self._walk(fd, min(os.fstat(fd).st_size, self.index.size_bytes))
        finally:
            os.close(fd)

    def _walk(self, fd: int, copied_bytes: int) -> bool:
        while self._start < copied_bytes:
            end = self._end_of_part(self._start)
            if self._take(lambda view, at: _read(fd, view, at), end, is_copied=True):
                os.posix_fadvise(fd, 0, end, os.POSIX_FADV_DONTNEED)
            elif end > copied_bytes:
                return True  # the copy ends here: the rest is no repair any more
            elif not self._bring(self._end_of_hole(fd, end)):
                return False
            self.progress()
        return True

    def mend_next(self) -> bool:
        """Fetch one part more, as if it were bad; False where it does not agree with the index."""
        return self._bring(self._end_of_part(self._start))

    def _bring(self, end: int) -> bool:
        self.fetch_part(self._start, end)
        while self._start < end:
            if not self._take(self.partial.read_into, self._end_of_part(self._start), is_copied=False):
                return False
        return True

    @property
    def _start(self) -> int:
        return min(self.stand.base * CHUNK_BYTES, self.index.size_bytes)

    def _end_of_part(self, start: int) -> int:
        step = self.index.step_bytes
        return min((start // step + 1) * step, self.index.size_bytes)

    def _end_of_hole(self, fd: int, end: int) -> int:
        """A bad part that is a hole is bad as far as the hole reaches: one request for all of it."""
        try:
            data = os.lseek(fd, self._start, os.SEEK_DATA)
        except OSError:
            data = os.fstat(fd).st_size  # nothing but a hole
        while end < data and end - self._start < _RUN_BYTES and self._end_of_part(end) <= data:
            end = self._end_of_part(end)
        return end

    def _take(self, read: Callable[[memoryview, int], int], end: int, *, is_copied: bool) -> bool:
        """Hash the bytes up to ``end``; they become the stand's where they agree with the mark there."""
        stand, start = self.stand, self._start
        trial, prefixes = stand.hasher.copy(), []
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
                prefixes.append(trial.copy().hexdigest()[:DIGEST_CHARS])
        if not self._agrees(trial.digest(), end):
            return False
        stand.hasher, stand.base, stand.tail = trial, -(-end // CHUNK_BYTES), b""
        stand.prefixes += prefixes
        return True

    def _agrees(self, found: bytes, end: int) -> bool:
        if end == self.index.size_bytes and f"sha256:{found.hex()}" != self.digest:
            return False
        number, rest = divmod(end, self.index.step_bytes)
        return bool(rest) or found[:_MARK_BYTES] == self.index.marks[number - 1]


def _read(fd: int, view: memoryview, at: int) -> int:
    """As many bytes as the copy has there; none where the disk cannot read them, which is a kind of damage too."""
    try:
        return os.preadv(fd, [view], at)
    except OSError:
        return 0
