"""The moving lines of :mod:`reconciler.cli.progress`, drawn with rich.

:func:`frame` makes the table of one moment out of counts; which columns it has depends on the room: the bar goes first
where the terminal is narrow, then the stage, the rate and the time left. :class:`Drawing` keeps the table at the foot
of the terminal and writes lines above it. Nothing is drawn by a thread of its own: the caller says when.

The cursor is never hidden: a process that is killed could not bring it back. No line is as wide as the terminal, so
that the ``^C`` of a person who stops the run does not wrap.
"""

import shutil
import sys
from typing import TextIO

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reconciler.cli.layout import cells_wide, clean
from reconciler.cli.progress import Line
from reconciler.core.units import format_duration, format_rate, format_size

LONGEST_TOLD_S = 10 * 86400.0  # beyond it is not worth reading
_SPARE = 3  # columns left free at the right: room for ^C
_GAP = 2
_BAR = 20
_FEWEST_NAME = 8
_SHORT_NAME = 24
_USUAL = {"share": 4, "bytes": 13, "left": 11, "rate": 9, "stage": 11}  # cells wide at least, so that nothing jumps
_BY_WORTH = ("share", "bytes", "left", "rate", "stage", "bar")
_IN_ORDER = ("bar", "share", "bytes", "rate", "left", "stage")
_STYLES = {"name": "cyan", "share": "bold", "rate": "green", "stage": "dim"}
_RIGHT = frozenset({"share", "rate"})


def frame(models: list[Line], total: Line, width: int, rows: int) -> RenderableType:
    """The lines of one moment for a terminal of ``width`` columns and ``rows`` rows; never as large as it."""
    room = max(1, rows - 3)
    shown = models[:room]
    lines = list(shown)
    has_total = len(models) != 1 or (total.total_bytes or 0) > (models[0].total_bytes or 0)
    if total.total_bytes and has_total:
        lines.append(total)
    table = _table(lines, width - _SPARE)
    hidden = len(models) - len(shown)
    if not hidden:
        return table
    return Group(table, Text(f"and {hidden} more at work", style="dim", no_wrap=True, overflow="crop"))


def _table(lines: list[Line], width: int) -> Table:
    cells = [_cells(line) for line in lines]
    longest = max([cells_wide(clean(line.name)) for line in lines] + [_FEWEST_NAME])
    spare = width - sum(_USUAL.values()) - _BAR - _GAP * len(_BY_WORTH)
    name = min(longest, max(_FEWEST_NAME, width // 3))
    name = min(name, max(spare, _SHORT_NAME))  # a long name gives way to the bar
    taken = _columns(cells, width - name)
    table = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column(style=_STYLES["name"], width=name, no_wrap=True, overflow="ellipsis")
    for key in taken:
        side: JustifyMethod = "right" if key in _RIGHT else "left"
        table.add_column(style=_STYLES.get(key, ""), width=taken[key], justify=side, no_wrap=True, overflow="crop")
    for line, row in zip(lines, cells, strict=True):
        bar = ProgressBar(total=line.total_bytes or 1, completed=line.done_bytes, width=_BAR)
        parts: list[RenderableType] = [Text(clean(line.name))]
        parts += [(bar if line.total_bytes else "") if key == "bar" else Text(row[key]) for key in taken]
        table.add_row(*parts)
    return table


def _columns(cells: list[dict[str, str]], room: int) -> dict[str, int]:
    """The columns that fit, in the order of the page, and how wide each is."""
    widths = {key: max([usual, *(cells_wide(row[key]) for row in cells)]) for key, usual in _USUAL.items()}
    widths["bar"] = _BAR
    taken = set()
    for key in _BY_WORTH:
        if room < widths[key] + _GAP:
            break
        room -= widths[key] + _GAP
        taken.add(key)
    return {key: widths[key] for key in _IN_ORDER if key in taken}


def _cells(line: Line) -> dict[str, str]:
    """Every column but name and bar as text; empty where nothing is known."""
    share = ""
    size = format_size(line.done_bytes) if line.done_bytes else ""
    if line.total_bytes:
        share = f"{min(1.0, line.done_bytes / line.total_bytes):.0%}"
        size = f"{format_size(line.done_bytes)}/{format_size(line.total_bytes)}"
    is_told = line.seconds_left is not None and line.seconds_left < LONGEST_TOLD_S
    return {
        "share": share,
        "bytes": size,
        "rate": format_rate(line.rate) if line.rate else "",
        "left": f"{format_duration(round(line.seconds_left or 0))} left" if is_told else "",
        "stage": line.stage if line.attempt <= 1 else f"{line.stage}, try {line.attempt}",
    }


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 -- rich's signature
        """See the module: it stays."""
        return False


class Drawing:
    """The table at the foot of the terminal. Not for several threads at once.

    Raises:
        OSError: from every method, where the terminal went away.
    """

    def __init__(self, *, has_colour: bool, stream: TextIO | None = None) -> None:
        self._console = _Console(
            file=sys.stderr if stream is None else stream,
            force_terminal=True,
            color_system="standard" if has_colour else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def draw(self, models: list[Line], total: Line, phase: str = "") -> None:
        """Draw this moment; ``phase`` where there are no counts yet."""
        size = shutil.get_terminal_size()
        drawn: RenderableType = frame(models, total, size.columns, size.lines)
        if phase and not models:
            drawn = Text(f"{phase} ...", style="dim", no_wrap=True, overflow="ellipsis")
        self._live.update(drawn, refresh=True)

    def tell(self, text: str) -> None:
        """A line that stays, above the table."""
        self._console.print(Text.from_ansi(text), soft_wrap=True)

    def close(self) -> None:
        """Clear the table."""
        self._live.stop()
