"""What compressed bytes unpack to, from the front and only as far as somebody looks.

gzip, zlib (also with joblib's old mark before it), bzip2, xz, lzma and zstd, told by magic, and the raw deflate of zip
members. Streams that stand one behind another are one, as their loaders have it; damage is an end. What cannot be
unpacked here (lz4; zstd without its package), needs more memory than 80 MiB, or is looked at beyond 32 MiB raises
TooLong.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from reconciler.adapters.formats.window import Budget, TooLong, Window

MAX_UNPACKED_BYTES = 32 << 20
UNKNOWN_BYTES = 1 << 62  # the size of a window whose end nobody has seen yet
_MAX_PIECE_BYTES = 256 << 10
_MAX_MEMORY_BYTES = 80 << 20
_MAX_SKIPPED = 100
_ZF = re.compile(rb"ZF0x[0-9a-f]{1,16} *L? *")  # joblib before 0.10
_LZ4 = (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18")
_ZSTD = b"\x28\xb5\x2f\xfd"


class _Unpacker(Protocol):
    """One stream: what :mod:`bz2` and :mod:`lzma` offer; zlib is made to look like it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflater:
    """zlib with its left-over input kept inside; ``bits`` as in :func:`zlib.decompressobj`."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)
        self._owes = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not (self._inner.unconsumed_tail or self._owes)

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self._owes = len(piece) == max_length
        return piece


class _Stream:
    """Pieces kept as they come, so that any place in them can be looked at again."""

    def __init__(self, pieces: Iterator[bytes], budget: Budget) -> None:
        self._pieces = pieces
        self._budget = budget
        self._data = bytearray()

    def fetch(self, offset: int, count: int) -> bytes:
        """As :attr:`reconciler.adapters.formats.window.Window.fetch`."""
        while len(self._data) < offset + count and (piece := next(self._pieces, b"")):
            self._budget.read(len(piece))
            self._data += piece
            if len(self._data) > MAX_UNPACKED_BYTES:
                raise TooLong(f"it unpacks to more than is checked ({MAX_UNPACKED_BYTES >> 20} MiB)")
        return bytes(self._data[offset : offset + count])


def unpacked(window: Window) -> Window | None:
    """What the file unpacks to, or None where nothing comes out of it."""
    head = window.peek(0, 64)
    match = _ZF.match(head)
    at = match.end() if match else 0
    for _ in range(_MAX_SKIPPED):  # frames that zstd and lz4 step over
        head = window.peek(at, 8)
        if head[1:4] != b"\x2a\x4d\x18" or head[0] >> 4 != 5:
            break
        at += 8 + int.from_bytes(head[4:8], "little")
    else:
        raise TooLong("it begins with more empty frames than are checked")
    if head.startswith(_LZ4):
        raise TooLong("lz4 is not unpacked")
    make = _unpacker(head)
    if head.startswith(_ZSTD):
        pieces = _zstd_pieces(window, at)
    elif make is not None:
        pieces = _pieces(window, at, make)
    else:
        return None
    inner = Window(_Stream(pieces, window.budget).fetch, UNKNOWN_BYTES, window.budget)
    return inner if inner.peek(0, 1) else None


def inflated(window: Window) -> Window:
    """What raw deflate, as a zip holds it, unpacks to."""
    pieces = _pieces(window, 0, lambda: _Inflater(-zlib.MAX_WBITS))
    return Window(_Stream(pieces, window.budget).fetch, UNKNOWN_BYTES, window.budget)


def settled(window: Window) -> Window:
    """The same bytes with their true size known, which takes unpacking them all."""
    if window.size != UNKNOWN_BYTES:
        return window
    return Window.of_bytes(window.fetch(window.start, MAX_UNPACKED_BYTES + 1), window.budget)


def _unpacker(head: bytes) -> Callable[[], _Unpacker] | None:
    is_zlib = len(head) > 2 and head[0] == 0x78 and not int.from_bytes(head[:2]) % 31
    if head[:2] == b"\x1f\x8b" or is_zlib:
        return lambda: _Inflater(zlib.MAX_WBITS | 32)
    if head[:3] == b"BZh":
        import bz2  # noqa: PLC0415 -- rare

        return bz2.BZ2Decompressor
    if head[:6] == b"\xfd7zXZ\0" or head[:2] == b"\x5d\0":  # joblib goes by these two bytes
        import lzma  # noqa: PLC0415 -- rare

        return lambda: lzma.LZMADecompressor(memlimit=_MAX_MEMORY_BYTES)
    return None


def _pieces(packed: Window, at: int, make: Callable[[], _Unpacker]) -> Iterator[bytes]:
    """What the streams at ``at`` unpack to; small pieces first, since most looks end there."""
    reach, most, data = 512, 1024, b""
    while True:
        packed.budget.step()
        unpacker = make()
        while not unpacker.eof:
            if not data and unpacker.needs_input:
                data = packed.peek(at, reach)
                if not data:
                    return
                at, reach = at + len(data), min(reach * 8, _MAX_PIECE_BYTES)
            piece, data = _decompress(unpacker, data, most), b""
            if piece is None:
                return
            if piece:
                yield piece
                most = min(most * 4, _MAX_PIECE_BYTES)
        data = unpacker.unused_data.lstrip(b"\0")
        while not data:
            raw = packed.peek(at, _MAX_PIECE_BYTES)
            if not raw:
                return
            at, data = at + len(raw), raw.lstrip(b"\0")


def _decompress(unpacker: _Unpacker, data: bytes, most: int) -> bytes | None:
    """The next bytes; None where there is damage."""
    try:
        return unpacker.decompress(data, most)
    except (zlib.error, OSError, EOFError, ValueError):
        return None
    except Exception as error:
        if type(error).__name__ != "LZMAError":  # lzma is not imported for it
            raise
        if "limit" in str(error):
            raise TooLong("it needs more memory than is given to look at it") from None
        return None


class _Source:
    """A window as the file object that zstandard reads from."""

    def __init__(self, window: Window, at: int) -> None:
        self._window = window
        self._at = at

    def read(self, count: int) -> bytes:
        """The next bytes; none at the end."""
        data = self._window.peek(self._at, min(count, 4096))
        self._at += len(data)
        return data


def _zstd_pieces(packed: Window, at: int) -> Iterator[bytes]:
    try:
        import zstandard  # noqa: PLC0415 -- an extra
    except ImportError:
        raise TooLong("zstd is not unpacked without the zstandard package") from None
    most = 1024
    unpacker: Any = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    with unpacker.stream_reader(_Source(packed, at), read_across_frames=True) as reader:
        while True:
            try:
                piece = reader.read(most)
            except zstandard.ZstdError:
                return
            if not piece:
                return
            yield piece
            most = min(most * 4, _MAX_PIECE_BYTES)
