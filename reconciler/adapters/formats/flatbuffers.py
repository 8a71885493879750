"""FlatBuffers, as far as recognising one takes: root table, vtable, scalars, strings and vectors, all in range.

Layout (google/flatbuffers ``docs/internals``): u32 offset of the root table, four bytes of file identifier; a table
starts with the distance back to its vtable; a vtable is u16 sizes and then the offset of each field in the table.
"""

from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.records import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A table at ``offset``; ``fields`` are positions of its fields within it, 0 where absent."""

    window: Window
    offset: int
    fields: tuple[int, ...]

    @classmethod
    def root(cls, window: Window) -> "Table":
        """The root table of the buffer."""
        return cls.at(window, int.from_bytes(window.at(0, 4), "little"))

    @classmethod
    def at(cls, window: Window, offset: int) -> "Table":
        """The table at ``offset``; raises Lie where it or its vtable is out of range."""
        window.budget.step()
        vtable = offset - int.from_bytes(window.at(offset, 4), "little", signed=True)
        if vtable < 4:
            raise Lie(f"the table at {offset} has its layout outside the file")
        head = window.at(vtable, 4)
        length, table_bytes = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:], "little")
        if length < 4 or length % 2 or table_bytes < 4 or offset + table_bytes > window.size:
            raise Lie(f"the table at {offset} has an impossible layout")
        raw = window.at(vtable + 4, length - 4)
        places = tuple(int.from_bytes(raw[at : at + 2], "little") for at in range(0, len(raw), 2))
        if any(place >= table_bytes for place in places):
            raise Lie(f"the table at {offset} has a field outside itself")
        return cls(window, offset, places)

    def number(self, slot: int, width: int = 4) -> int:
        """An unsigned scalar of ``width`` bytes; 0 where absent."""
        place = self.fields[slot] if slot < len(self.fields) else 0
        return int.from_bytes(self.window.at(self.offset + place, width), "little") if place else 0

    def _follow(self, slot: int) -> int:
        distance = self.number(slot)
        return self.offset + self.fields[slot] + distance if distance else 0

    def text(self, slot: int, limit: int = 200) -> str:
        """A string, cut at ``limit`` bytes; empty where absent."""
        if not (at := self._follow(slot)):
            return ""
        length = int.from_bytes(self.window.at(at, 4), "little")
        if at + 4 + length > self.window.size:
            raise Lie(f"a string of {length} bytes stands at {at}")
        return self.window.at(at + 4, min(length, limit)).decode("utf-8", "replace")

    def table(self, slot: int) -> "Table | None":
        """A table within; None where absent."""
        at = self._follow(slot)
        return Table.at(self.window, at) if at else None

    def vector(self, slot: int) -> tuple[int, int]:
        """A vector of 4-byte items: where its first item stands, and how many there are."""
        if not (at := self._follow(slot)):
            return 0, 0
        count = int.from_bytes(self.window.at(at, 4), "little")
        if count * 4 > self.window.size - at - 4:
            raise Lie(f"a list of {count} items stands at {at}")
        return at + 4, count

    def tables(self, slot: int, limit: int) -> list["Table"]:
        """The first ``limit`` tables of a vector."""
        first, count = self.vector(slot)
        places = range(first, first + 4 * min(count, limit), 4)
        return [Table.at(self.window, at + int.from_bytes(self.window.at(at, 4), "little")) for at in places]
