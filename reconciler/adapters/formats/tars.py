"""The members of a tar, for looking into them: stepped over exactly as Python's :mod:`tarfile` steps, which loads them.

Told by the first header's own checksum, so that the oldest tars without a magic are known too. A member's size may
come from a pax header before it; links, folders and devices have no content whatever their size says.
"""

import re
from collections.abc import Iterator

from reconciler.adapters.formats.window import Lie, TooLong, Window

_BLOCK = 512
_MAX_EXTENDED_BYTES = 1 << 20
_SIZE = re.compile(rb"(?:\A|\n)\d+ size=(\d{1,19})\n")
_EXTENDED, _EMPTY = b"xXgLK", b"123456"


def members(window: Window) -> Iterator[Window]:
    """The content of each member; nothing where this is no tar. Ends where the headers end, or make no sense.

    Raises:
        TooLong: an extended header is longer than what is read.
    """
    at, size_before = 0, -1
    while (header := window.peek(at, _BLOCK)) and (size := _size(header)) >= 0:
        window.budget.step()
        kind = header[156:157]
        if kind in _EXTENDED:
            size_before = max(size_before, _told_size(window, at + _BLOCK, size)) if kind in b"xX" else size_before
        else:
            size = 0 if kind in _EMPTY else size if size_before < 0 else size_before
            size_before = -1
            if size:
                yield _content(window, at + _BLOCK, size)
        at += _BLOCK + -(-size // _BLOCK) * _BLOCK


def _content(window: Window, at: int, size: int) -> Window:
    try:
        return window.part(at, size)
    except Lie:  # cut off
        return window.part(at, max(0, window.size - at))


def _size(header: bytes) -> int:
    """The size that a header tells; -1 where it is none."""
    told, size = _number(header[148:156]), _number(header[124:136])
    if told <= 0 or len(header) != _BLOCK:
        return -1
    summed = header[:148] + b" " * 8 + header[156:]
    is_told = told == sum(summed) or told == sum(
        byte - 256 if byte > 127 else byte for byte in summed
    )  # signed, of old
    return size if is_told else -1


def _number(field: bytes) -> int:
    """Octal, or base 256 where its first bit is set; -1 where it is neither."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:])
    try:
        return int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        return -1


def _told_size(window: Window, at: int, size: int) -> int:
    if size > _MAX_EXTENDED_BYTES:
        raise TooLong(f"an extended header of {size} bytes is longer than what is read")
    found = _SIZE.findall(window.peek(at, size))
    return int(found[-1]) if found else -1
