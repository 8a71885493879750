"""The member list of a zip, read within bounds: enough to look for pickles, not to extract.

Model files are zips too: PyTorch's ``.pt``, NumPy's ``.npz``, Keras 3. The central directory is found from the end, as
every loader finds it, so that bytes before the zip hide nothing.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.adapters.formats.window import Lie, TooLong, Window

MAX_DIRECTORY_BYTES = 8 << 20
MAX_MEMBERS = 20_000
_TAIL_BYTES = 65_536 + 22
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END64 = struct.Struct("<4sQ2H2L4Q")


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One entry of the central directory; ``offset`` is where its local header stands in the window."""

    name: bytes
    method: int
    packed_bytes: int
    offset: int


def members(window: Window) -> list[ZipMember] | None:
    """The members, or None where there is no zip.

    Raises:
        Lie: there is one, and its directory is broken or longer than what is checked.
    """
    tail_at = max(0, window.size - _TAIL_BYTES)
    tail = window.peek(tail_at, _TAIL_BYTES)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) - found < _END.size:
        return None
    _, _, _, _, count, size, offset, _ = _END.unpack_from(tail, found)
    end = tail_at + found
    if count == 0xFFFF or 0xFFFF_FFFF in {size, offset}:
        count, size, offset, end = _end64(window, end, (count, size, offset))
    shift = end - size - offset  # bytes that stand before the zip
    if shift < 0 or size > MAX_DIRECTORY_BYTES or count > MAX_MEMBERS:
        if size <= end and window.peek(end - size, 4) != b"PK\1\2":
            return None  # chance bytes in another kind of file
        if shift < 0:
            raise Lie("its zip directory lies outside the file")
        raise TooLong(f"its zip directory of {count} members is longer than what is checked")
    data = window.at(end - size, size)
    if size and not data.startswith(b"PK\1\2"):
        return None
    return list(_entries(data, shift))


def _end64(window: Window, end: int, plain: tuple[int, int, int]) -> tuple[int, int, int, int]:
    locator = window.peek(end - 20, 20) if end >= 20 else b""
    if not locator.startswith(b"PK\6\7"):
        return (*plain, end)
    # The record stands before its locator; its own offset may be shifted by bytes before the zip.
    at = int.from_bytes(locator[8:16], "little")
    for place in (at, end - 20 - _END64.size):
        if 0 <= place <= window.size - _END64.size:
            record = _END64.unpack(window.at(place, _END64.size))
            if record[0] == b"PK\6\6":
                return record[7], record[8], record[9], place
    raise Lie("its zip64 directory lies outside the file")


def _entries(data: bytes, shift: int) -> Iterator[ZipMember]:
    at = 0
    while at + _ENTRY.size <= len(data):
        entry = _ENTRY.unpack_from(data, at)
        if entry[0] != b"PK\1\2":
            raise Lie("its zip directory is broken")
        name_size, extra_size, comment_size = entry[10], entry[11], entry[12]
        name = data[at + _ENTRY.size : at + _ENTRY.size + name_size]
        extra = data[at + _ENTRY.size + name_size : at + _ENTRY.size + name_size + extra_size]
        packed, offset = _large(extra, entry[8], entry[9], entry[16])
        yield ZipMember(name, entry[4], packed, offset + shift)
        at += _ENTRY.size + name_size + extra_size + comment_size


def _large(extra: bytes, packed: int, unpacked: int, offset: int) -> tuple[int, int]:
    """Packed size and offset, from the zip64 extra field where they are all ones."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            values = [int.from_bytes(extra[i : i + 8], "little") for i in range(at + 4, at + 4 + size - 7, 8)]
            if unpacked == 0xFFFF_FFFF and values:
                values.pop(0)
            if packed == 0xFFFF_FFFF and values:
                packed = values.pop(0)
            if offset == 0xFFFF_FFFF and values:
                offset = values.pop(0)
            break
        at += 4 + size
    return packed, offset


def content(window: Window, member: ZipMember, limit: int) -> Window:
    """A member's first ``limit`` bytes (all of a stored one), unpacked; raises Lie where it is not there.

    Stored and deflated only, which is all that frameworks write; of other methods nothing can be said (TooLong).
    """
    head = window.at(member.offset, 30)
    if head[:4] != b"PK\3\4":
        raise Lie("a zip member has no header")
    start = member.offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    size = min(member.packed_bytes, window.size - start)
    if member.method == 0:
        return window.part(start, size)
    packed = window.at(start, min(size, limit))
    if member.method != 8:
        raise TooLong(f"a zip member is packed by method {member.method}")
    try:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
    except zlib.error:
        raise Lie("a zip member cannot be inflated") from None
    return Window.of_bytes(head, window.budget)
