"""Does a file hold a pickle anywhere a loader would find it?

Looked at, whatever the file says it is: the first byte (raw pickle, legacy ``torch.save``, joblib); every member of a
zip and, one level deep, of a zip within it; every member of a plain tar (``torch`` before 0.1.10, NeMo); NumPy arrays
of objects; and the first bytes of what gzip, bzip2, xz, lzma, zlib or zstd unpack to (joblib compresses whole
pickles). What cannot be looked at within the budget counts as unsafe. An archive that is going to be extracted is
looked at afterwards, member by member.
"""

import re
import zlib

from reconciler.adapters.formats import npy, pickles, zips
from reconciler.adapters.formats.window import Budget, Lie, TooLong, Window

_MAX_MEMBERS = 4_000
_MEMBER_BYTES = 4 << 10
_NESTED_BYTES = 4 << 20
_UNPACKED_BYTES = 256 << 10
_BZIP2_BLOCK_BYTES = 1_000_000  # nothing comes out before the first block is whole
_PICKLE_NAME = re.compile(rb"(^|/)data\.pkl$|\.(pkl|pickle)$", re.IGNORECASE)
_ZF = re.compile(rb"ZF0x[0-9a-f]{1,16} *L? *")  # joblib before 0.10


def holds_pickle(window: Window, depth: int = 0) -> bool:
    """Whether loading this file could run code that it carries."""
    try:
        return _starts(window) or _in_zip(window, depth) or (depth == 0 and (_in_tar(window) or _wrapped(window)))
    except TooLong:
        return True
    except Lie:
        return False


def _starts(window: Window, *, is_cut: bool = False) -> bool:
    return pickles.holds_pickle(window, is_cut=is_cut) or npy.has_objects(window)


def _in_zip(window: Window, depth: int) -> bool:
    found = [member for member in zips.members(window) or () if not member.name.endswith(b"/")]
    if len(found) > _MAX_MEMBERS or any(_PICKLE_NAME.search(member.name) for member in found):
        return True
    return any(_in_member(window, member, depth) for member in found)


def _in_member(window: Window, member: zips.ZipMember, depth: int) -> bool:
    try:
        inner = zips.content(window, member, _MEMBER_BYTES)
        if depth or inner.peek(0, 4) != b"PK\3\4":
            return _starts(inner, is_cut=member.method != 0)
        inner = zips.content(window, member, _NESTED_BYTES)
        return holds_pickle(inner, depth=1) or (member.method != 0 and _local_names(inner))
    except TooLong:
        raise
    except Lie:
        return False


def _local_names(window: Window) -> bool:
    """A packed zip within a zip may be longer than what is unpacked here: its local headers tell names."""
    data = window.peek(0, _NESTED_BYTES)
    for match in re.finditer(rb"PK\3\4.{22}(..)..", data, re.DOTALL):
        name = data[match.end() : match.end() + int.from_bytes(match[1], "little")]
        if _PICKLE_NAME.search(name):
            return True
    return False


def _in_tar(window: Window) -> bool:
    if window.peek(257, 5) != b"ustar":
        return False
    at = 0
    while at + 512 <= window.size:
        window.budget.step()
        header = window.at(at, 512)
        size = _octal(header[124:136])
        if size is None or not header[0]:
            return False
        if header[156:157] in b"0\0" and at + 512 + size <= window.size and _starts(window.part(at + 512, size)):
            return True
        at += 512 + -(-size // 512) * 512
    return False


def _octal(field: bytes) -> int | None:
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return None


def _wrapped(window: Window) -> bool:
    packed = window.peek(0, 64 << 10)
    if packed.startswith(b"BZh"):
        packed = window.peek(0, _BZIP2_BLOCK_BYTES)
    match = _ZF.match(packed)
    inner = _unpack(packed[match.end() :] if match else packed)
    return bool(inner) and _starts(Window.of_bytes(inner, Budget()), is_cut=True)


def _unpack(packed: bytes) -> bytes:
    """The first bytes of what a compressed file unpacks to; empty where it is none."""
    try:
        if packed[:2] == b"\x1f\x8b" or (len(packed) > 2 and packed[0] == 0x78 and not int.from_bytes(packed[:2]) % 31):
            return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(packed, _UNPACKED_BYTES)
        if packed[:3] == b"BZh":
            import bz2  # noqa: PLC0415 -- rare

            return bz2.BZ2Decompressor().decompress(packed, _UNPACKED_BYTES)
        if packed[:6] == b"\xfd7zXZ\0" or packed[:3] == b"\x5d\0\0":
            return _unpack_xz(packed)
        if packed[:4] == b"\x28\xb5\x2f\xfd":
            return _unpack_zstd(packed)
    except (zlib.error, OSError, EOFError, ValueError, MemoryError):
        return b""
    return b""


def _unpack_xz(packed: bytes) -> bytes:
    import lzma  # noqa: PLC0415 -- rare

    try:
        return lzma.LZMADecompressor(memlimit=80 << 20).decompress(packed, _UNPACKED_BYTES)
    except lzma.LZMAError as error:
        if "limit" in str(error):
            raise TooLong("it needs more memory than is given to look at it") from None
        return b""


def _unpack_zstd(packed: bytes) -> bytes:
    try:
        import zstandard  # noqa: PLC0415 -- an extra
    except ImportError:
        return b""
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed) as reader:
            data: bytes = reader.read(_UNPACKED_BYTES)
            return data
    except zstandard.ZstdError:
        return b""
