"""How text looks: cells, columns, wrapping, colour. Pure; a string comes out.

Every text that came from outside passes :func:`clean`, so that no control character of a server's message or a file's
name reaches a terminal. Colour is added last, by :class:`Ink`; without it the same text is plain. On a terminal the
last column wraps below itself; into a pipe every row stays one line, which is what ``grep`` wants.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
MIN_LAST_COLUMN = 20


def clean(text: str) -> str:
    """``text`` on one line, control characters made visible."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    return " " if match[0] in "\n\t" else ascii(match[0])[1:-1]


def cells_wide(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


@dataclass(frozen=True, slots=True)
class Ink:
    """Whether to colour, how wide the page is (None: as wide as it takes), how much to tell."""

    colour: bool = False
    width: int | None = None
    verbose: bool = False

    def paint(self, style: str, text: str) -> str:
        """``text`` in that style; empty style or no colour leaves it as it is."""
        if not self.colour or not style or not text:
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    style: str = ""


Row = Sequence[Cell | str]


def columns(rows: Iterable[Row], ink: Ink, *, align: str = "", indent: int = 2) -> list[str]:
    """Rows as aligned lines. ``align`` holds one of ``<`` and ``>`` per column (default ``<``)."""
    table = [[_cell(cell) for cell in row] for row in rows]
    if not table:
        return []
    count = len(table[0])
    widths = [max(cells_wide(row[i].text) for row in table) for i in range(count - 1)]
    kept = [i for i in range(count - 1) if widths[i]]
    start = indent + sum(widths[i] + 2 for i in kept)
    sides = align.ljust(count, "<")
    lines = []
    for row in table:
        head = "".join(_padded(row[i], widths[i], sides[i], ink) + "  " for i in kept)
        lines += _hang(" " * indent + head, row[-1], start, ink)
    return lines


def _cell(cell: Cell | str) -> Cell:
    return Cell(clean(cell)) if isinstance(cell, str) else Cell(clean(cell.text), cell.style)


def _padded(cell: Cell, width: int, side: str, ink: Ink) -> str:
    space = " " * (width - cells_wide(cell.text))
    painted = ink.paint(cell.style, cell.text)
    return space + painted if side == ">" else painted + space


def _hang(head: str, last: Cell, start: int, ink: Ink) -> list[str]:
    """The last cell, wrapped below itself where the page is narrow."""
    if ink.width is None or start + cells_wide(last.text) <= ink.width:
        return [(head + ink.paint(last.style, last.text)).rstrip()]
    longest = max(map(cells_wide, last.text.split()), default=0)
    if ink.width - start < max(MIN_LAST_COLUMN, longest):  # no room beside: below, indented
        start = min(6, ink.width // 4)
        parts = _wrapped(last.text, max(MIN_LAST_COLUMN, ink.width - start))
        return [head.rstrip(), *(" " * start + ink.paint(last.style, part) for part in parts)]
    first, *rest = _wrapped(last.text, ink.width - start)
    return [head + ink.paint(last.style, first), *(" " * start + ink.paint(last.style, part) for part in rest)]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of words; a path or a digest stays whole, so that it can be copied."""
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [""]


def paragraph(text: str, ink: Ink, *, style: str = "", indent: int = 0) -> list[str]:
    """One paragraph, wrapped on a terminal."""
    return columns([[Cell(text, style)]], ink, indent=indent)


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 model``, ``2 models``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
