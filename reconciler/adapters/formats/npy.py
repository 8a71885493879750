"""NumPy: ``.npy`` arrays and ``.npz`` (a zip of them). An array of objects is a pickle (numpy ``format.py``).

A ``.npy`` is a magic, a version, a header length and the header: a Python literal of descr, fortran_order and shape.
It is not evaluated: it must be made of the few kinds of tokens that NumPy writes (no escape, no text beside a text, no
comment), and one text that names an object type is enough to count as a pickle.
"""

import re

from reconciler.adapters.formats import zips
from reconciler.adapters.formats.reader import Facts, HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 64 << 10
_TEXT = re.compile(rb"""'[^'\\\n]*+'|"[^"\\\n]*+\"""")
_TOKENS = re.compile(rb"(?:[\s{}()\[\],:]++|\d++L?|True|False|(?:" + _TEXT.pattern + rb""")(?!\s*+['"]))*+""")
_OBJECT = re.compile(rb"(?<![A-Za-z_])(O\d*+|object\w*+)\s*+[,'\"]", re.IGNORECASE)
_DESCR = re.compile(rb"""['"]descr['"]\s*:\s*['"]([^'"]{1,40})['"]""")
_SHAPE = re.compile(rb"""['"]shape['"]\s*:\s*\(([\d, L]{0,400})\)""")


def _header(window: Window) -> bytes:
    """The header text of a ``.npy``; raises Lie where it does not fit or is longer than what numpy takes."""
    version = window.at(6, 1)[0]
    width = 2 if version == 1 else 4
    length = int.from_bytes(window.at(8, width), "little")
    if length > _MAX_HEADER_BYTES:
        raise Lie(f"a header of {length} bytes is longer than what is read")
    return window.at(8 + width, length)


def has_objects(window: Window) -> bool:
    """Whether this is an array of objects, which NumPy stores as a pickle; True also where the header lies."""
    if window.peek(0, 6) != _MAGIC:
        return False
    try:
        header = _header(window)
    except Lie:
        return True
    return not _TOKENS.fullmatch(header) or any(_OBJECT.search(text) for text in _TEXT.findall(header))


def _claims(window: Window) -> bool:
    return window.peek(0, 6) == _MAGIC


def _describe(window: Window) -> FormatReport:
    header = _header(window)
    facts: Facts = {}
    if found := _DESCR.search(header):
        facts["dtype"] = found[1].decode("ascii", "replace")
    if found := _SHAPE.search(header):
        count = 1
        for length in re.findall(rb"\d{1,18}", found[1]):
            count *= int(length)
        facts["parameters"] = min(count, 1 << 63)
    return report("npy", facts)


def _claims_npz(window: Window) -> bool:
    if window.peek(0, 4) != b"PK\3\4":
        return False
    found = zips.names(window)
    return bool(found) and all(name.endswith(b".npy") for name in found)


def _describe_npz(window: Window) -> FormatReport:
    return report("npz", {"arrays": len(zips.sound(window))})


READER = HeaderReader("npy", _claims, _describe, marks=b"\x93")
ARCHIVE_READER = HeaderReader("npz", _claims_npz, _describe_npz, marks=b"P")
