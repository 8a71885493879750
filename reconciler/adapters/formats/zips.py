"""The member list of a zip, read within bounds: enough to look for pickles, not to extract.

Model files are zips too: PyTorch's ``.pt``, NumPy's ``.npz``, Keras 3. The central directory is found from the end, as
every loader finds it, so that bytes before the zip hide nothing. Where the comment or what follows holds the mark of a
directory, too, loaders differ in which they take: :func:`directories` gives them all.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from reconciler.adapters.formats.packed import inflated
from reconciler.adapters.formats.window import Lie, TooLong, Window
from reconciler.core.records import dataclass

MAX_DIRECTORY_BYTES = 8 << 20
MAX_MEMBERS = 20_000
_MAX_DIRECTORIES = 8
_TAIL_BYTES = 65_536 + 22
_HEADERS_BYTES = 4 << 20
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
    return next(directories(window), None)


def sound(window: Window) -> list[ZipMember]:
    """The members of what is known to be a zip; raises Lie where its directory is gone."""
    if (found := members(window)) is None:
        raise Lie("its zip directory is not there")
    return found


def names(window: Window) -> list[bytes]:
    """The members' names; where a zip has lost its directory, those in the headers of its first 4 MiB."""
    found = members(window)
    return header_names(window) if found is None else [member.name for member in found]


def header_names(window: Window) -> list[bytes]:
    """Names in the members' own headers, of the first 4 MiB of a zip."""
    data = window.peek(0, _HEADERS_BYTES) if window.peek(0, 4) == b"PK\3\4" else b""
    headers = re.finditer(rb"PK\x03\x04.{22}(..)..", data, re.DOTALL)
    return [data[head.end() : head.end() + int.from_bytes(head[1], "little")] for head in headers]


def directories(window: Window) -> Iterator[list[ZipMember]]:
    """The members of everything that could be taken for the zip's directory, from the end.

    Raises:
        Lie: there is one, and none that is sound.
        TooLong: one cannot be checked within bounds, or there are too many of them.
    """
    tail_at = max(0, window.size - _TAIL_BYTES)
    tail = window.peek(tail_at, _TAIL_BYTES)
    at, broken = len(tail), None
    seen: set[_Place] = set()
    count = 0
    while (at := tail.rfind(b"PK\5\6", 0, at)) >= 0:
        window.budget.step()
        for place in _places(window, tail_at + at, tail[at : at + _END.size]):
            if place in seen:
                continue
            seen.add(place)
            try:
                found = _directory(window, place)
            except TooLong:
                raise
            except Lie as lie:
                broken = broken or lie
                continue
            count += 1
            if count > _MAX_DIRECTORIES:
                raise TooLong("it has more zip directories than are checked")
            yield found
    if broken and not count:
        raise broken


class _Place(NamedTuple):
    """Where a directory may stand; ``shift`` is what its offsets are counted from."""

    start: int
    size: int
    entries: int
    shift: int


def _places(window: Window, end: int, record: bytes) -> Iterator[_Place]:
    """Where the end record at ``end``, or the zip64 record it may stand for, says that the directory is.

    Loaders differ: Python counts back from the record, others take its offset; with zip64 some take the record that the
    locator names, Python the one right before the locator.
    """
    if len(record) < _END.size:
        return
    _, _, _, _, count, size, offset, _ = _END.unpack(record)
    told = [(count, size, offset, end), *_wide_records(window, end)]
    for count, size, offset, behind in told:
        for start, shift in ((behind - size, behind - size - offset), (offset, 0)):
            if 0 <= start <= window.size - size and (not size or window.peek(start, 4) == b"PK\1\2"):
                yield _Place(start, size, count, shift)


def _wide_records(window: Window, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(entries, size, offset, where it stands) of the zip64 records that the end record at ``end`` may stand for."""
    locator = window.peek(end - 20, 20) if end >= 20 else b""
    if locator.startswith(b"PK\6\7"):
        for at in (end - 20 - _END64.size, int.from_bytes(locator[8:16], "little")):
            if 0 <= at <= window.size - _END64.size and (wide := window.at(at, _END64.size)).startswith(b"PK\6\6"):
                _, _, _, _, _, _, _, entries, size, offset = _END64.unpack(wide)
                yield entries, size, offset, at


def _directory(window: Window, place: _Place) -> list[ZipMember]:
    if place.size > MAX_DIRECTORY_BYTES or place.entries > MAX_MEMBERS:
        raise TooLong(f"its zip directory of {place.entries} members is longer than what is checked")
    return list(_entries(window.at(place.start, place.size), place.entries, place.shift))


def _entries(data: bytes, count: int, shift: int) -> Iterator[ZipMember]:
    at = found = 0
    while at + _ENTRY.size <= len(data):
        entry = _ENTRY.unpack_from(data, at)
        if entry[0] != b"PK\1\2":
            if found < count:
                raise Lie("its zip directory is broken")
            return
        name_size, extra_size, comment_size = entry[10], entry[11], entry[12]
        name = data[at + _ENTRY.size : at + _ENTRY.size + name_size]
        extra = data[at + _ENTRY.size + name_size : at + _ENTRY.size + name_size + extra_size]
        packed, offset = _large(extra, entry[8], entry[9], entry[16])
        yield ZipMember(name, entry[4], packed, offset + shift)
        found += 1
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


def content(window: Window, member: ZipMember) -> Window:
    """What a member holds; raises Lie where it is not there.

    Stored and deflated only, which is all that frameworks write; of other methods nothing can be said (TooLong).
    """
    head = window.at(member.offset, 30)
    if head[:4] != b"PK\3\4":
        raise Lie("a zip member has no header")
    start = member.offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    packed = window.part(start, min(member.packed_bytes, window.size - start))
    if member.method not in {0, 8}:
        raise TooLong(f"a zip member is packed by method {member.method}")
    return inflated(packed) if member.method else packed
