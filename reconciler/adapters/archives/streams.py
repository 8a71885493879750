"""Compressed streams: gzip, bzip2, xz, zstd, or none, as an iterator of pieces that are never large.

Concatenated streams are one (as their own tools have it), zero padding after the last is ignored, anything else after
it is damage. Each format's own checksums are verified by its library; an end in the middle is ``archive_truncated``.
The ratio limit holds for the whole stream, see ``limits``.
"""

import os
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from reconciler.adapters.archives.limits import MAX_RATIO, RATIO_FREE_BYTES, damaged, too_large, truncated
from reconciler.core.errors import permanent

_READ_BYTES = 256 << 10
_PIECE_BYTES = 1 << 20
_ZSTD_READ_BYTES = 4 << 10  # its decoder cannot be stopped in between: so many bytes unpack to at most 128 MiB
_XZ_MEMORY_BYTES = 256 << 20
_ZSTD_WINDOW_BYTES = 1 << 27

_MAGICS = {
    "gz": re.compile(rb"\x1f\x8b\x08"),
    "bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zst": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}
_MAGIC_BYTES = 10


def compressed_as(head: bytes) -> str:
    """gz, bz2, xz or zst by the first 10 bytes; empty for none of them."""
    return next((kind for kind, magic in _MAGICS.items() if magic.match(head)), "")


class _Unpacker(Protocol):
    """One stream: what :mod:`bz2` and :mod:`lzma` offer; gzip and zstd are made to look like it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """zlib with its left-over input kept inside."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Unzstd:
    """zstandard's one-frame object; it always takes all its input."""

    needs_input = True

    def __init__(self) -> None:
        try:
            import zstandard  # noqa: PLC0415 -- an extra
        except ImportError:
            raise permanent(
                "zstd_missing", "a zstd archive needs the zstandard package", hint="pip install 'reconciler[zstd]'"
            ) from None
        self._inner = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        return bytes(self._inner.decompress(data))


class _Skipped:
    """A skippable frame of zstd: magic, length u32, and so many bytes that are somebody else's."""

    needs_input = True
    eof = False
    unused_data = b""

    def __init__(self) -> None:
        self._head = b""
        self._left = -1

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        if self._left < 0:
            self._head += data
            if len(self._head) < 8:
                return b""
            data, self._left = self._head[8:], int.from_bytes(self._head[4:8], "little")
        self._left, data = self._left - len(data[: self._left]), data[self._left :]
        self.eof, self.unused_data = not self._left, data
        return b""


def _unbzip2() -> _Unpacker:
    import bz2  # noqa: PLC0415 -- late

    return bz2.BZ2Decompressor()


def _unxz() -> _Unpacker:
    import lzma  # noqa: PLC0415 -- late

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


_UNPACKERS: dict[str, Callable[[], _Unpacker]] = {"gz": _Gunzip, "bz2": _unbzip2, "xz": _unxz, "zst": _Unzstd}


def pieces(descriptor: int, kind: str) -> Iterator[bytes]:
    """What the open file unpacks to; ``kind`` is gz, bz2, xz, zst or empty for the bytes as they are.

    Raises:
        Failure: permanent ``archive_damaged``, ``archive_truncated``, ``archive_too_large``, ``zstd_missing``.
    """
    raw = _raw(descriptor, _ZSTD_READ_BYTES if kind == "zst" else _READ_BYTES)
    if not kind:
        yield from raw
        return
    produced, data = 0, next(raw, b"")
    while data:
        unpacker = _Skipped() if kind == "zst" and data[1:4] == b"\x2a\x4d\x18" else _UNPACKERS[kind]()
        while not unpacker.eof:
            if not data and unpacker.needs_input and not (data := next(raw, b"")):
                raise truncated(f"its {kind} stream ends early")
            piece = _decompress(unpacker, data, kind)
            data = b""
            produced += len(piece)
            _check_ratio(produced, os.lseek(descriptor, 0, os.SEEK_CUR))
            if piece:
                yield piece
        data = _next_stream(unpacker.unused_data, raw, kind)


def _raw(descriptor: int, count: int) -> Iterator[bytes]:
    while data := os.read(descriptor, count):
        yield data


def _decompress(unpacker: _Unpacker, data: bytes, kind: str) -> bytes:
    try:
        return unpacker.decompress(data, _PIECE_BYTES)
    except (zlib.error, OSError, EOFError, ValueError, MemoryError):
        raise damaged(f"its {kind} stream cannot be unpacked") from None
    except Exception as error:
        if type(error).__name__ in {"LZMAError", "ZstdError"}:
            raise damaged(f"its {kind} stream cannot be unpacked") from None
        raise


def _next_stream(rest: bytes, raw: Iterator[bytes], kind: str) -> bytes:
    """The start of a stream that follows, or nothing; zero padding in between is ignored."""
    data = rest.lstrip(b"\0")
    while not data and (more := next(raw, b"")):
        data = more.lstrip(b"\0")
    while data and len(data) < _MAGIC_BYTES and (more := next(raw, b"")):
        data += more
    if data and not _MAGICS[kind].match(data):
        raise damaged(f"other bytes follow its {kind} stream")
    return data


def _check_ratio(produced: int, consumed: int) -> None:
    if produced > RATIO_FREE_BYTES and produced > MAX_RATIO * max(consumed, 1):
        raise too_large(f"{consumed} bytes unpack to more than {produced}")


class Feed:
    """Pieces as a stream that is read by count."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._piece = memoryview(b"")

    def some(self, most: int) -> memoryview:
        """Up to ``most`` bytes; empty only at the end."""
        if not len(self._piece):
            self._piece = memoryview(next(self._source, b""))
        taken, self._piece = self._piece[:most], self._piece[most:]
        return taken

    def exactly(self, count: int) -> bytes:
        """``count`` bytes; fewer only at the end."""
        parts = bytearray()
        while len(parts) < count and (piece := self.some(count - len(parts))):
            parts += piece
        return bytes(parts)
