"""How text looks: cells, columns, wrapping, colour. Pure; a string comes out.

Every text that came from outside passes :func:`clean`, so that no control character of a server's message or a file's
name reaches a terminal. Colour is added last, by :class:`Ink`; without it the same text is plain. On a terminal the
last column wraps below itself, and moments are local time; into a pipe every row stays one line, which is what ``grep``
wants, and moments stay UTC, which is what sorts.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from reconciler.core.moments import parse_moment
from reconciler.core.records import dataclass

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
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
    return sum(map(_cells_of, text))


def _cells_of(char: str) -> int:
    """None for what joins or changes the character before it, two for a wide one."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


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
    """Rows as aligned lines. ``align`` holds one of ``<`` and ``>`` per column (default ``<``).

    On a page too narrow for the columns beside each other, every row flows over as many lines as it takes.
    """
    is_page = ink.width is not None
    table = [[_cell(cell, is_page=is_page) for cell in row] for row in rows]
    if not table:
        return []
    count = len(table[0])
    widths = [max(cells_wide(row[i].text) for row in table) for i in range(count - 1)]
    kept = [i for i in range(count - 1) if widths[i]]
    start = indent + sum(widths[i] + 2 for i in kept)
    sides = align.ljust(count, "<")
    if ink.width is not None and start > ink.width:
        return [line for row in table for line in _flowing([row[i] for i in (*kept, count - 1)], ink, indent)]
    lines = []
    for row in table:
        head = "".join(_padded(row[i], widths[i], sides[i], ink) + "  " for i in kept)
        lines += _hang(" " * indent + head, row[-1], start, ink)
    return lines


def _flowing(row: Sequence[Cell], ink: Ink, indent: int) -> list[str]:
    """One row without columns: its words one after another, each in its cell's style, below a hanging indent."""
    lines, width = [""], 0
    for cell in row:
        for number, word in enumerate(_words(cell.text, (ink.width or 0) - indent - 2)):
            gap = indent if not width else 1 if number else 2
            if width > indent + 2 and width + gap + cells_wide(word) > (ink.width or 0):
                lines.append("")
                width, gap = 0, indent + 2
            lines[-1] += " " * gap + ink.paint(cell.style, word)
            width += gap + cells_wide(word)
    return lines


def _cell(cell: Cell | str, *, is_page: bool) -> Cell:
    text, style = (cell, "") if isinstance(cell, str) else (cell.text, cell.style)
    return Cell(clean(with_local_times(text) if is_page else text), style)


def with_local_times(text: str) -> str:
    """``text`` with the moments in it as a person's clock shows them, without milliseconds."""
    return _MOMENT.sub(lambda match: local_text(parse_moment(match[0])), text)


def local_text(moment: float) -> str:
    """``2026-11-23 19:37:32``, here."""
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _padded(cell: Cell, width: int, side: str, ink: Ink) -> str:
    space = " " * (width - cells_wide(cell.text))
    painted = ink.paint(cell.style, cell.text)
    return space + painted if side == ">" else painted + space


def _hang(head: str, last: Cell, start: int, ink: Ink) -> list[str]:
    """The last cell, wrapped below itself where the page is narrow."""
    if ink.width is None or start + cells_wide(last.text) <= ink.width:
        return [(head + ink.paint(last.style, last.text)).rstrip()]
    beside = max(MIN_LAST_COLUMN, ink.width - start)
    longest = max(map(cells_wide, _words(last.text, beside)), default=0)
    if ink.width - start < max(MIN_LAST_COLUMN, longest):  # no room beside: below, indented
        start = min(6, ink.width // 4)
        parts = _wrapped(last.text, max(MIN_LAST_COLUMN, ink.width - start))
        return [head.rstrip(), *(" " * start + ink.paint(last.style, part) for part in parts)]
    first, *rest = _wrapped(last.text, ink.width - start)
    return [head + ink.paint(last.style, first), *(" " * start + ink.paint(last.style, part) for part in rest)]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of words; a path or a digest stays whole, so that it can be copied."""
    lines, used = [""], 0
    for word in _words(text, width):
        gap = 1 if used else 0
        if used and used + gap + cells_wide(word) > width:
            lines.append("")
            used = gap = 0
        lines[-1] += " " * gap + word
        used += gap + cells_wide(word)
    return lines


def _words(text: str, width: int) -> Iterator[str]:
    """The words of ``text``; a script that is written without spaces may break between any two characters."""
    for word in text.split():
        if word.isascii() or cells_wide(word) <= width:
            yield word
            continue
        part, used = "", 0
        for char in word:
            if used + _cells_of(char) > width:
                yield part
                part, used = "", 0
            part += char
            used += _cells_of(char)
        yield part


def paragraph(text: str, ink: Ink, *, style: str = "", indent: int = 0) -> list[str]:
    """One paragraph, wrapped on a terminal."""
    return columns([[Cell(text, style)]], ink, indent=indent)


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 model``, ``2 models``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
