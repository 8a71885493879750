"""Reading untrusted headers within bounds.

Every reader in this package sees a file only through a :class:`Window`: a span of bytes whose length is known and
whose reads are counted. A count that a header gives is compared with what the file can hold *before* anything is
allocated for it; what does not fit raises :class:`Lie`. Two budgets make hostile files cheap: bytes read (64 MiB over
the whole look at a file) and steps (elementary items visited). Both are counts, not clocks, so that a busy machine
comes to the same verdict as an idle one; they are set so that the worst file costs about 100 ms.

Limits: memory stays near one chunk (1 MiB) plus what a reader takes in one piece (never above 16 MiB).
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_READ_BYTES = 64 << 20
MAX_PIECE_BYTES = 16 << 20
MAX_STEPS = 30_000
CHUNK_BYTES = 1 << 20

_LITTLE = {"u16": struct.Struct("<H"), "u32": struct.Struct("<I"), "u64": struct.Struct("<Q")}
_BIG = {"u16": struct.Struct(">H"), "u32": struct.Struct(">I"), "u64": struct.Struct(">Q")}


class Lie(Exception):  # noqa: N818 -- the header lies; it is caught inside this package and becomes a report's error
    """The header says something that the file cannot hold."""


class TooLong(Lie):
    """Not a lie by proof: the header is too long to be checked within the budget."""


@dataclass(slots=True)
class Budget:
    """What may still be spent on one file: bytes to read and steps to take."""

    bytes_left: int = MAX_READ_BYTES
    steps_left: int = MAX_STEPS

    def read(self, count: int) -> None:
        """Pay for ``count`` bytes."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise TooLong("its header is longer than what is checked (64 MiB)")

    def step(self, count: int = 1) -> None:
        """Pay for ``count`` items."""
        self.steps_left -= count
        if self.steps_left < 0:
            raise TooLong(f"its header has more items than are checked ({MAX_STEPS})")


@dataclass(slots=True)
class Window:
    """A span of a file or of bytes; offsets count from its start, ``size`` is its length in bytes."""

    fetch: Callable[[int, int], bytes]
    size: int
    budget: Budget = field(default_factory=Budget)
    start: int = 0

    @classmethod
    def of_file(cls, descriptor: int, size: int) -> "Window":
        """Over an open file of ``size`` bytes."""
        return cls(lambda offset, count: os.pread(descriptor, count, offset), size)

    @classmethod
    def of_bytes(cls, data: bytes, budget: Budget | None = None) -> "Window":
        """Over bytes in memory."""
        return cls(lambda offset, count: data[offset : offset + count], len(data), budget or Budget())

    @classmethod
    def of_memory(cls, data: memoryview) -> "Window":
        """Over bytes that are somebody else's; only what is looked at is copied."""
        return cls(lambda offset, count: bytes(data[offset : offset + count]), len(data))

    def part(self, offset: int, size: int, budget: Budget | None = None) -> "Window":
        """A span of this one, paid from the same budget or another; raises Lie where it does not lie inside."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise Lie(f"a part at {offset} of {size} bytes lies outside the file's {self.size} bytes")
        return Window(self.fetch, size, budget or self.budget, self.start + offset)

    def peek(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``; fewer at the end."""
        count = max(0, min(count, self.size - offset, MAX_PIECE_BYTES))
        self.budget.read(count)
        return self.fetch(self.start + offset, count)

    def at(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes at ``offset``; raises Lie where there are fewer."""
        if count > MAX_PIECE_BYTES:
            raise TooLong(f"a piece of {count} bytes at {offset} is longer than what is checked")
        data = self.peek(offset, count) if 0 <= offset <= self.size else b""
        if len(data) != count:
            raise Lie(f"it ends at {self.size} bytes, but {count} bytes are promised at {offset}")
        return data


class Cursor:
    """Reads a window from front to back through one chunk; numbers little-endian unless ``is_big``."""

    def __init__(self, window: Window, offset: int = 0, *, is_big: bool = False) -> None:
        self.window = window
        self.order = _BIG if is_big else _LITTLE
        self._chunk = b""
        self._base = offset
        self._at = 0

    @property
    def offset(self) -> int:
        """Where the next byte comes from."""
        return self._base + self._at

    @property
    def left(self) -> int:
        """Bytes between here and the end of the window."""
        return self.window.size - self.offset

    def view(self) -> tuple[bytes, int]:
        """The chunk in memory and the position in it; for scanning without a call per item."""
        return self._chunk, self._at

    def need(self, count: int) -> int:
        """Have ``count`` bytes in memory; their position in the chunk. Raises Lie where the file is shorter."""
        if self._at + count > len(self._chunk):
            offset = self.offset
            self._chunk = self.window.at(offset, min(max(count, CHUNK_BYTES), max(count, self.left)))
            self._base, self._at = offset, 0
        return self._at

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        start = self.need(count)
        self._at = start + count
        return self._chunk[start : self._at]

    def skip(self, count: int) -> None:
        """Go on by ``count`` bytes without reading them; raises Lie past the end."""
        if count < 0 or count > self.left:
            raise Lie(f"it ends at {self.window.size} bytes, but {count} bytes are promised at {self.offset}")
        self._at += count
        if self._at > len(self._chunk):
            self._base, self._at, self._chunk = self._base + self._at, 0, b""

    def number(self, kind: str) -> int:
        """The next unsigned number; ``kind`` is u16, u32 or u64."""
        layout = self.order[kind]
        start = self.need(layout.size)
        self._at = start + layout.size
        value: int = layout.unpack_from(self._chunk, start)[0]
        return value
