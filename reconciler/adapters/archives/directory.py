"""The directory of a zip, read strictly: what the archive promises, before a byte of it is unpacked.

A zip says everything twice (central directory and local headers), and attacks live between the two. Here both must
agree, sizes are known beforehand, regions may not overlap (which is what makes quadratic zip bombs), and nothing may
stand before the first member. Layout: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.
"""

import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import replace

from reconciler.adapters.archives.limits import (
    MAX_DIRECTORY_BYTES,
    MAX_ENTRIES,
    damaged,
    encrypted,
    too_large,
    truncated,
    unsafe,
    unsupported,
)
from reconciler.core.names import quote
from reconciler.core.records import dataclass

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ALL16, _ALL32 = 0xFFFF, 0xFFFF_FFFF
_METHODS = {0, 8, 12}  # stored, deflate, bzip2
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR = 0x0008
_HEADERS_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One member as the central directory tells it; ``start`` is where its packed bytes begin."""

    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    offset: int
    attributes: int
    raw_name: bytes
    start: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder: zip says so by a slash at the end of the name."""
        return self.name.endswith("/")


def read_directory(descriptor: int, size: int) -> list[Entry]:
    """Every entry, checked; raises Failure permanent where the archive is not sound."""
    count, directory_size, offset, end = _find_end(descriptor, size)
    if count > MAX_ENTRIES:
        raise too_large(f"it has {count} entries, more than {MAX_ENTRIES}")
    if directory_size > MAX_DIRECTORY_BYTES:
        raise too_large(f"its directory takes {directory_size} bytes")
    if offset + directory_size != end:
        raise damaged("its directory is not where it says")
    entries = list(_central(os.pread(descriptor, directory_size, offset), count))
    return _place(descriptor, entries, offset)


def _find_end(descriptor: int, size: int) -> tuple[int, int, int, int]:
    """Entry count, directory size, directory offset, and where the directory must end."""
    tail_at = max(0, size - 65_535 - _END.size)
    tail = os.pread(descriptor, size - tail_at, tail_at)
    at = len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at)) >= 0:
        if len(tail) - at >= _END.size and at + _END.size + _END.unpack_from(tail, at)[7] == len(tail):
            break
    else:
        if os.pread(descriptor, 4, 0) in {b"PK\3\4", b"PK\5\6"}:
            raise truncated("its directory is not there")
        raise damaged("it is no zip")
    _, disk, start_disk, here, count, directory_size, offset, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    if _needs_64(descriptor, end, count, directory_size, offset):
        return _find_end64(descriptor, end)
    if disk or start_disk or here != count:
        raise unsupported("it is one part of several")
    return count, directory_size, offset, end


def _needs_64(descriptor: int, end: int, count: int, directory_size: int, offset: int) -> bool:
    is_marked = count == _ALL16 or _ALL32 in {directory_size, offset}
    return is_marked and end >= _LOCATOR.size and os.pread(descriptor, 4, end - _LOCATOR.size) == b"PK\6\7"


def _find_end64(descriptor: int, end: int) -> tuple[int, int, int, int]:
    _, disk, at, disks = _LOCATOR.unpack(os.pread(descriptor, _LOCATOR.size, end - _LOCATOR.size))
    if disk or disks > 1:
        raise unsupported("it is one part of several")
    raw = os.pread(descriptor, _END64.size, at) if at < end else b""
    if len(raw) != _END64.size or raw[:4] != b"PK\6\6":
        raise damaged("its zip64 directory is not where it says")
    _, length, _, _, disk, start_disk, here, count, directory_size, offset = _END64.unpack(raw)
    if disk or start_disk or here != count:
        raise unsupported("it is one part of several")
    if at + 12 + length != end - _LOCATOR.size:
        raise damaged("its zip64 directory is not as long as it says")
    return count, directory_size, offset, at


def _central(data: bytes, count: int) -> Iterator[Entry]:
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(data) or data[at : at + 4] != b"PK\1\2":
            raise damaged("its directory has fewer entries than it says")
        values = _CENTRAL.unpack_from(data, at)
        name_end = at + _CENTRAL.size + values[10]
        extra_end = name_end + values[11]
        raw = data[at + _CENTRAL.size : name_end]
        at = extra_end + values[12]
        if at > len(data):
            raise damaged("an entry of its directory leaves it")
        name = _decode(raw, values[3])
        extra = _Extra.parse(data[name_end:extra_end], name)
        size, packed, offset = extra.widen(values[9], values[8], values[16])
        if values[13] not in {0, _ALL16}:
            raise unsupported("it is one part of several")
        entry = Entry(name, values[3], values[4], values[7], packed, size, offset, values[15] >> 16, raw)
        _check(entry, extra)
        yield entry
    if at != len(data):
        raise damaged("its directory has more entries than it says")


def _decode(raw: bytes, flags: int) -> str:
    """UTF-8 where it is marked or valid (macOS does not mark it), else the code page of old."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        if flags & 0x0800:
            raise unsafe(f"member {quote(repr(raw))} has a name that is no UTF-8") from None
        return raw.decode("cp437")


@dataclass(slots=True)
class _Extra:
    """The extra fields that change what an entry means."""

    wide: list[int]
    unicode_name: bytes | None
    name: str

    @classmethod
    def parse(cls, data: bytes, name: str) -> "_Extra":
        found = cls([], None, name)
        at = 0
        while at + 4 <= len(data):
            kind, size = struct.unpack_from("<2H", data, at)
            body = data[at + 4 : at + 4 + size]
            if len(body) != size:
                raise damaged(f"member {quote(name)} has a broken extra field")
            if kind == 0x0001:
                found.wide = [int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body) - 7, 8)]
            elif kind == 0x7075:
                found.unicode_name = body[5:]
            at += 4 + size
        return found

    def widen(self, size: int, packed: int, offset: int) -> tuple[int, int, int]:
        """The three numbers, each taken from zip64 where it is all ones."""
        wide = iter(self.wide)
        try:
            return tuple(next(wide) if value == _ALL32 else value for value in (size, packed, offset))  # type: ignore[return-value]
        except (StopIteration, RuntimeError):
            raise damaged(f"member {quote(self.name)} has no zip64 sizes") from None


def _check(entry: Entry, extra: _Extra) -> None:
    if entry.flags & _ENCRYPTED or entry.method == 99:
        raise encrypted(entry.name)
    kind = stat.S_IFMT(entry.attributes)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR} or (kind == stat.S_IFDIR and not entry.is_folder):
        raise unsafe(f"member {quote(entry.name)} is neither file nor folder")
    if extra.unicode_name is not None and extra.unicode_name != entry.name.encode():
        raise unsafe(f"member {quote(entry.name)} has two names")
    if entry.is_folder and entry.size_bytes:
        raise unsafe(f"member {quote(entry.name)} is a folder with content")
    if entry.method not in _METHODS:
        raise unsupported(f"member {quote(entry.name)} is packed by method {entry.method}")
    if entry.method == 0 and entry.packed_bytes != entry.size_bytes:
        raise damaged(f"member {quote(entry.name)} is stored, but its sizes differ")


def _place(descriptor: int, entries: list[Entry], end: int) -> list[Entry]:
    """Read each local header, compare, and see that no two regions overlap."""
    ordered = sorted(entries, key=lambda entry: entry.offset)
    if not ordered:
        return []
    placed: dict[int, Entry] = {}
    free_from = 0
    for entry, until in zip(ordered, [*(entry.offset for entry in ordered[1:]), end], strict=True):
        if entry.offset + _LOCAL.size + entry.packed_bytes > end:  # zip64 numbers pass what a file offset can be
            raise damaged(f"member {quote(entry.name)} lies outside the archive")
        if entry.offset < free_from or entry.offset in placed:
            raise unsafe(f"member {quote(entry.name)} overlaps another")
        start = _local(descriptor, entry)
        free_from = start + entry.packed_bytes
        if free_from > until:
            raise unsafe(f"member {quote(entry.name)} overlaps what follows it")
        placed[entry.offset] = replace(entry, start=start)
    if ordered[0].offset:
        raise unsafe("other bytes stand before its first member")
    return [placed[entry.offset] for entry in entries]


def local_names(descriptor: int) -> list[bytes]:
    """Names in the headers of the first 4 MiB: what a zip whose directory is broken seems to hold."""
    data = os.pread(descriptor, _HEADERS_BYTES, 0)
    found = re.finditer(rb"PK\x03\x04.{22}(..)..", data, re.DOTALL)
    return [data[match.end() : match.end() + int.from_bytes(match[1], "little")] for match in found]


def _local(descriptor: int, entry: Entry) -> int:
    """Where the packed bytes begin; raises where the local header tells another story than the directory."""
    raw = os.pread(descriptor, _LOCAL.size + len(entry.raw_name), entry.offset)
    if len(raw) != _LOCAL.size + len(entry.raw_name) or raw[:4] != b"PK\3\4":
        raise damaged(f"member {quote(entry.name)} has no header")
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack_from(raw)
    if flags & _ENCRYPTED:
        raise encrypted(entry.name)
    if name_size != len(entry.raw_name) or raw[_LOCAL.size :] != entry.raw_name or method != entry.method:
        raise unsafe(f"member {quote(entry.name)} is another one in its header")
    is_later = bool(flags & _DESCRIPTOR)
    for told, known in ((crc, entry.crc), (packed, entry.packed_bytes), (size, entry.size_bytes)):
        is_open = told == _ALL32 or (is_later and told == 0)
        if told != known and not is_open:
            raise unsafe(f"member {quote(entry.name)} has other sizes in its header")
    return entry.offset + _LOCAL.size + int(name_size) + int(extra_size)
