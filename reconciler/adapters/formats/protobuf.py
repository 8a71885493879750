"""The protobuf wire format, walked without a schema and without trusting a length.

:func:`fields` yields the fields of one message; the content of a length-delimited field is a span (offset, size), so
that gigabytes of weights are stepped over, never read.
"""

from collections.abc import Iterator

from reconciler.adapters.formats.window import Cursor, Lie, Window
from reconciler.core.records import dataclass

VARINT, FIXED64, SPAN, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its number, wire type, and the number it holds or where its bytes lie."""

    number: int
    wire: int
    value: int = 0
    offset: int = 0
    size: int = 0

    def text(self, window: Window, limit: int = 1024) -> str:
        """Its bytes as text, cut at ``limit``; raises Lie where they are none."""
        if self.wire != SPAN:
            raise Lie(f"field {self.number} is no text")
        data = window.at(self.offset, min(self.size, limit))
        try:
            return data.decode("utf-8", "strict" if self.size <= limit else "ignore")
        except UnicodeDecodeError:
            raise Lie(f"field {self.number} is no text") from None


def varint(cursor: Cursor) -> int:
    """A base-128 number of at most 64 bits; raises Lie where it is longer."""
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.take(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF
    raise Lie(f"a number of more than ten bytes stands at {cursor.offset}")


def fields(window: Window, offset: int = 0, size: int | None = None) -> Iterator[Field]:
    """The fields of the message at ``offset``; raises Lie where it does not parse or leaves its ``size``."""
    end = window.size if size is None else offset + size
    cursor = Cursor(window.part(0, end), offset)
    while cursor.left:
        window.budget.step()
        tag = varint(cursor)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise Lie(f"field number {number} stands at {cursor.offset}")
        if wire == VARINT:
            yield Field(number, wire, varint(cursor))
        elif wire == SPAN:
            length = varint(cursor)
            at = cursor.offset
            if length > cursor.left:
                raise Lie(f"it ends at {end} bytes, but {length} bytes are promised at {at}")
            yield Field(number, wire, 0, at, length)
            cursor.skip(length)
        elif wire in {FIXED64, FIXED32}:
            yield Field(number, wire, int.from_bytes(cursor.take(8 if wire == FIXED64 else 4), "little"))
        else:
            raise Lie(f"wire type {wire} stands at {cursor.offset}")
