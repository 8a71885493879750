"""Is this a pickle? Answered by walking opcodes, never by loading one.

A pickle is a program for a stack machine: whoever loads it runs it. The walk below knows each opcode's argument and
its effect on the depth of the stack, so that chance bytes fall out after a few opcodes. The verdict:

- protocol 2 and later start with PROTO: a pickle where STOP is reached, where an opcode that imports or calls is
  reached (the unpickler runs what comes before a broken end), or where the budget ends first;
- without PROTO (protocol 0 and 1, or stripped): a pickle where an import by plausible identifiers is followed by a
  call or by STOP, where an import by a registered number is followed by both, or where STOP is the file's last byte.

A loader may take several pickles one behind another (the legacy ``torch.save`` does), so the walk goes on after STOP.
An argument is stepped over to its end however long it is; what passes the budget raises TooLong.
Text, weights and other formats fall out at once; ``tests/adapters/formats`` measures that.
"""

import functools
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler.adapters.formats.window import Lie, Window

MAX_OPCODES = 20_000
_PLENTY = 200  # so many valid opcodes in a row are no chance
_MAX_TEXT_BYTES = 64 << 10
_IDENTIFIER = re.compile(rb"[A-Za-z_]\w*(\.\w+|\.<locals>)*")
_ANY, _QUOTE, _DIGIT = re.compile(b""), re.compile(rb"""['"]"""), re.compile(rb"[\s\d+-]")
_FIRST = {"STRING": _QUOTE, **dict.fromkeys(("INT", "LONG", "GET", "PUT"), _DIGIT)}  # how such a line must begin
_NAMED = frozenset({"GLOBAL", "STACK_GLOBAL", "INST"})
_IMPORTS = _NAMED | {"EXT1", "EXT2", "EXT4"}  # the latter by the number of what the loading program has registered
_CALLS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})


class Opcode(NamedTuple):
    """``width``: bytes of the argument, or -1 a line, -3 two lines, -10-n a length of n bytes and so many more."""

    name: str
    width: int
    pops: int
    pushes: int
    to_mark: bool


# Every opcode up to protocol 5: its code (* for one that takes all above the mark), name, width, pops, pushes. As
# ``pickletools`` has it, which a test compares; to import that takes longer than to look into a hundred files.
_TABLE = """
    28 MARK 0 0 1, 29 EMPTY_TUPLE 0 0 1, 2e STOP 0 1 0, 30 POP 0 1 0, 31* POP_MARK 0 0 0, 32 DUP 0 1 2,
    42 BINBYTES -14 0 1, 43 SHORT_BINBYTES -11 0 1, 46 FLOAT -1 0 1, 47 BINFLOAT 8 0 1, 49 INT -1 0 1,
    4a BININT 4 0 1, 4b BININT1 1 0 1, 4c LONG -1 0 1, 4d BININT2 2 0 1, 4e NONE 0 0 1, 50 PERSID -1 0 1,
    51 BINPERSID 0 1 1, 52 REDUCE 0 2 1, 53 STRING -1 0 1, 54 BINSTRING -14 0 1, 55 SHORT_BINSTRING -11 0 1,
    56 UNICODE -1 0 1, 58 BINUNICODE -14 0 1, 5d EMPTY_LIST 0 0 1, 61 APPEND 0 2 1, 62 BUILD 0 2 1, 63 GLOBAL -3 0 1,
    64* DICT 0 0 1, 65* APPENDS 0 1 1, 67 GET -1 0 1, 68 BINGET 1 0 1, 69* INST -3 0 1, 6a LONG_BINGET 4 0 1,
    6c* LIST 0 0 1, 6f* OBJ 0 0 1, 70 PUT -1 0 0, 71 BINPUT 1 0 0, 72 LONG_BINPUT 4 0 0, 73 SETITEM 0 3 1,
    74* TUPLE 0 0 1, 75* SETITEMS 0 1 1, 7d EMPTY_DICT 0 0 1, 80 PROTO 1 0 0, 81 NEWOBJ 0 2 1, 82 EXT1 1 0 1,
    83 EXT2 2 0 1, 84 EXT4 4 0 1, 85 TUPLE1 0 1 1, 86 TUPLE2 0 2 1, 87 TUPLE3 0 3 1, 88 NEWTRUE 0 0 1,
    89 NEWFALSE 0 0 1, 8a LONG1 -11 0 1, 8b LONG4 -14 0 1, 8c SHORT_BINUNICODE -11 0 1, 8d BINUNICODE8 -18 0 1,
    8e BINBYTES8 -18 0 1, 8f EMPTY_SET 0 0 1, 90* ADDITEMS 0 1 1, 91* FROZENSET 0 0 1, 92 NEWOBJ_EX 0 3 1,
    93 STACK_GLOBAL 0 2 1, 94 MEMOIZE 0 1 1, 95 FRAME 8 0 0, 96 BYTEARRAY8 -18 0 1, 97 NEXT_BUFFER 0 0 1,
    98 READONLY_BUFFER 0 1 1
"""


@functools.cache
def opcodes() -> dict[int, Opcode]:
    """Every opcode by its code."""
    table = {}
    for entry in _TABLE.split(","):
        code, name, width, pops, pushes = entry.split()
        table[int(code[:2], 16)] = Opcode(name, int(width), int(pops), int(pushes), code.endswith("*"))
    return table


@dataclass(slots=True)
class Walk:
    """How far a walk came. ``end`` is stop, broken, short (the file ends in an argument) or budget."""

    opcodes: int = 0
    has_import: bool = False
    has_name: bool = False  # the import is by name
    has_call: bool = False
    end: str = "broken"
    offset: int = 0
    depth: int = 0
    marks: list[int] = field(default_factory=list)


def holds_pickle(window: Window) -> bool:
    """Whether a pickle starts at the window's first byte, or right behind what looks like harmless ones."""
    walk = Walk(end="stop")
    while walk.end == "stop":
        head = window.peek(walk.offset, 2)
        if len(head) < 2 or head[0] not in opcodes():
            return False
        walk = _walk(window, walk.offset)
        if _is_pickle(window, head, walk):
            return True
    return False


def _is_pickle(window: Window, head: bytes, walk: Walk) -> bool:
    if head[0] == 0x80 and head[1] <= 5:
        return walk.end in {"stop", "budget"} or walk.has_import or walk.has_call or walk.opcodes >= _PLENTY
    has_end = walk.end in {"stop", "budget"}
    if (walk.has_name and (walk.has_call or has_end)) or (walk.has_call and has_end):
        return True
    is_last = walk.end == "stop" and not window.peek(walk.offset, 1)
    return walk.end == "budget" or (is_last and walk.opcodes > 1)


def _walk(window: Window, offset: int) -> Walk:
    table, walk = opcodes(), Walk(offset=offset)
    while walk.opcodes < MAX_OPCODES:
        window.budget.step()
        chunk = window.peek(walk.offset, 1)
        opcode = table.get(chunk[0]) if chunk else None
        if opcode is None:
            walk.end = "broken" if chunk else "short"
            return walk
        try:
            length = _argument(window, walk.offset + 1, opcode)
        except Lie:
            walk.end = "short"
            return walk
        if length < 0 or not _apply(walk, opcode):
            return walk
        walk.opcodes += 1
        walk.offset += 1 + length
        if opcode.name == "STOP":
            walk.end = "stop"
            return walk
    walk.end = "budget"
    return walk


def _argument(window: Window, offset: int, opcode: Opcode) -> int:
    """How many bytes the argument takes; -1 where it is none. Raises Lie where the file is too short for it."""
    width = opcode.width
    if width >= 0:
        if offset + width > window.size:
            raise Lie("short")
        return width
    if width <= -10:
        count = -10 - width
        size = int.from_bytes(window.at(offset, count), "little")
        if size > window.size - offset - count:
            raise Lie("short")
        return count + size
    text, length = _line(window, offset)
    if width == -1:
        return length if _FIRST.get(opcode.name, _ANY).match(text) else -1
    second, more = _line(window, offset + length)
    return length + more if _IDENTIFIER.fullmatch(text) and _IDENTIFIER.fullmatch(second) else -1


def _line(window: Window, offset: int) -> tuple[bytes, int]:
    """A line's text (of a very long one its beginning), and its length with the newline; Lie where it never ends."""
    text, at, reach = b"", offset, 128
    while data := window.peek(at, reach):
        end = data.find(b"\n")
        if len(text) < _MAX_TEXT_BYTES:
            text += data if end < 0 else data[:end]
        if end >= 0:
            return text, at + end + 1 - offset
        at, reach = at + len(data), min(reach * 32, 1 << 20)
    raise Lie("short")


def _apply(walk: Walk, opcode: Opcode) -> bool:
    """Change the depth as the opcode would; False where the stack machine would fail."""
    if opcode.name == "MARK":
        walk.marks.append(walk.depth)
        return True
    floor = walk.marks[-1] if walk.marks else 0
    if opcode.name in {"POP", "POP_MARK"} and walk.marks and (opcode.to_mark or walk.depth == floor):
        walk.depth = walk.marks.pop()
        return True
    if opcode.to_mark:
        if not walk.marks:
            return False
        walk.depth = walk.marks.pop()
        floor = walk.marks[-1] if walk.marks else 0
    if walk.depth - opcode.pops < floor:
        return False
    walk.depth += opcode.pushes - opcode.pops
    walk.has_import |= opcode.name in _IMPORTS
    walk.has_name |= opcode.name in _NAMED
    walk.has_call |= opcode.name in _CALLS and walk.has_import
    return True
