"""Progress of work, on standard error.

On a terminal, after the first second: a line per model and a total, drawn anew five times a second and gone when the
work is done. Into a pipe: one plain line when a model starts and one when an action ends, nothing else. What is drawn
is :func:`frame`, a pure function of the counts; the thread only paints.

Work reports from many threads; a report only writes into a table under a lock.
"""

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Self

from reconciler.cli.layout import Ink, cells_wide, clean
from reconciler.cli.plan_text import SYMBOLS
from reconciler.cli.screen import ink_for, is_terminal, tell
from reconciler.cli.settings import Settings
from reconciler.core.actions import ActionKind, Outcome, OutcomeStatus, Plan
from reconciler.core.ports import Progress
from reconciler.core.units import format_duration, format_rate, format_size

FIRST_DRAWN_AFTER_S = 1.0
DRAWN_EVERY_S = 0.2
LONGEST_TOLD_S = 10 * 86400.0  # beyond it is not worth reading
_BAR = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One model's or the total's counts; rate in bytes per second, time in seconds."""

    name: str
    stage: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    rate: float | None = None
    seconds_left: float | None = None
    attempt: int = 1


@dataclass
class Board:
    """The counts of a run. Reports come from any thread."""

    planned_bytes: int = 0
    files: dict[str, dict[str, Progress]] = field(default_factory=dict)
    finished_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, progress: Progress) -> bool:
        """Take a report; True where it is the first of its model."""
        with self.lock:
            is_first = progress.model not in self.files
            self.files.setdefault(progress.model, {})[progress.path] = progress
            return is_first

    def finish(self, outcome: Outcome) -> None:
        """An action ended: its lines go, its bytes count."""
        with self.lock:
            self.files.pop(outcome.model, None)
            if outcome.kind is ActionKind.DOWNLOAD and outcome.status is OutcomeStatus.DONE:
                self.finished_bytes += outcome.bytes

    def lines(self) -> tuple[list[Line], Line]:
        """A line per model at work, and the total."""
        with self.lock:
            models = [_sum(model, list(files.values())) for model, files in self.files.items()]
            done = self.finished_bytes + sum(m.done_bytes for m in models if m.stage == "downloading")
            planned = self.planned_bytes
        rates = [model.rate for model in models if model.rate]
        rate = sum(rates) if rates else None
        left = max(0, planned - done) / rate if rate and planned else None
        return models, Line("total", "", done, planned or None, rate, left)


def _sum(model: str, files: list[Progress]) -> Line:
    """All files of one model as one line; its stage is that of the last file still at work."""
    at_work = [file for file in files if file.stage != "done"] or files
    totals = [file.total_bytes for file in files]
    rates = [file.rate for file in at_work if file.rate]
    done = sum(file.done_bytes for file in files)
    total = sum(size for size in totals if size is not None) if None not in totals else None
    rate = sum(rates) if rates else None
    left = (total - done) / rate if rate and total is not None else None
    if len(files) == 1:
        left = files[0].seconds_left if files[0].seconds_left is not None else left
    return Line(model, at_work[-1].stage, done, total, rate, left, max(file.attempt for file in at_work))


def frame(models: list[Line], total: Line, ink: Ink, rows: int, bar: str = "█░") -> list[str]:
    """The lines to draw on a terminal of ``ink.width`` columns and ``rows`` rows; none is as wide as the terminal."""
    room = max(1, rows - 3)
    shown = models[:room]
    width = max([cells_wide(clean(line.name)) for line in shown] + [5])
    width = min(width, max(8, (ink.width or 80) // 3))
    lines = [_drawn(line, width, ink, bar) for line in shown]
    if len(models) > room:
        lines.append(ink.paint("dim", f"  and {len(models) - room} more"))
    if total.total_bytes and (len(models) != 1 or total.total_bytes != models[0].total_bytes):
        lines.append(_drawn(total, width, ink, bar))
    return lines


def _drawn(line: Line, width: int, ink: Ink, bar: str) -> str:
    name = clean(line.name)
    name = name if cells_wide(name) <= width else name[: width - 1] + "~"
    parts = [f"{name}{' ' * (width - cells_wide(name))}"]
    if line.total_bytes:
        share = min(1.0, line.done_bytes / line.total_bytes)
        full = round(share * _BAR)
        if (ink.width or 80) >= 72 + width:
            parts.append(bar[0] * full + bar[1] * (_BAR - full))
        parts.append(f"{share:4.0%}")
        parts.append(f"{format_size(line.done_bytes)}/{format_size(line.total_bytes)}")
    else:
        parts.append(format_size(line.done_bytes))
    if line.rate:
        parts.append(format_rate(line.rate))
    if line.seconds_left is not None and line.seconds_left < LONGEST_TOLD_S:
        parts.append(f"{format_duration(line.seconds_left)} left")
    if line.stage:
        parts.append(line.stage if line.attempt <= 1 else f"{line.stage}, try {line.attempt}")
    text = "  ".join(parts)[: (ink.width or 80) - 1]
    return ink.paint("cyan", text[:width]) + text[width:]


class Quiet:
    """Reports into a pipe: one line at the start of a model's work, one at the end of each action."""

    def __init__(self) -> None:
        self.board = Board()

    def on_plan(self, plan: Plan) -> None:
        """Nothing to draw yet."""

    def report(self, progress: Progress) -> None:
        """One line for the first report of a model."""
        if self.board.report(progress) and progress.stage != "done":
            size = f" ({format_size(progress.total_bytes)})" if progress.total_bytes else ""
            tell(f"{clean(progress.model)}: {progress.stage}{size}")

    def finish(self, outcome: Outcome) -> None:
        """One line for the end."""
        self.board.finish(outcome)
        tell(outcome_line(outcome))

    def note(self, text: str) -> None:
        """Something a person should know now."""
        tell(text)


def outcome_line(outcome: Outcome) -> str:
    """``llama: download done, 4.7 GB in 42s``."""
    text = f"{clean(outcome.model)}: {outcome.kind.value} {outcome.status.value}"
    if outcome.status is OutcomeStatus.DONE:
        size = format_size(outcome.bytes) if outcome.bytes else ""
        time = f"in {format_duration(outcome.seconds)}" if outcome.seconds >= 0.1 else ""
        detail = " ".join(part for part in (size, time) if part)
        return f"{text}, {detail}" if detail else text
    reason = f", {outcome.reason}" if outcome.reason else ""
    return f"{text}{reason}: {clean(outcome.message)}" if outcome.message else f"{text}{reason}"


class Live:
    """Reports on a terminal. Used as a context manager around the work."""

    def __init__(self, ink: Ink) -> None:
        self.board = Board()
        self._ink = ink
        self._drawn = 0
        self._stop = threading.Event()
        self._paint = threading.Lock()
        self._bar = "█░" if (sys.stderr.encoding or "").lower().startswith("utf") else "#-"
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2)
        with self._paint:
            self._erase()
            self._flush_notes()
            sys.stderr.flush()

    def on_plan(self, plan: Plan) -> None:
        """The total to come."""
        self.board.planned_bytes = plan.summary.bytes_download

    def report(self, progress: Progress) -> None:
        """Only write it down."""
        self.board.report(progress)

    def finish(self, outcome: Outcome) -> None:
        """A line that stays, above the moving ones."""
        self.board.finish(outcome)
        style = SYMBOLS[outcome.kind][1] if outcome.status is OutcomeStatus.DONE else "yellow"
        self.note(self._ink.paint("red" if outcome.status is OutcomeStatus.FAILED else style, outcome_line(outcome)))

    def note(self, text: str) -> None:
        """A line that stays. Takes no lock: it may come from a signal handler."""
        self.board.notes.append(text)

    def write(self, text: str) -> None:
        """A log line."""
        self.note(text.rstrip("\n"))

    def _run(self) -> None:
        if self._stop.wait(FIRST_DRAWN_AFTER_S):
            return
        while not self._stop.is_set():
            with self._paint:
                self._draw()
            self._stop.wait(DRAWN_EVERY_S)

    def _draw(self) -> None:
        size = shutil.get_terminal_size()
        models, total = self.board.lines()
        lines = frame(models, total, replace(self._ink, width=size.columns), size.lines, self._bar)
        self._erase()
        self._flush_notes()
        self._put("".join(f"{line}\n" for line in lines))
        self._drawn = len(lines)

    def _erase(self) -> None:
        if self._drawn:
            self._put(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0

    def _flush_notes(self) -> None:
        while self.board.notes:
            self._put(self.board.notes.pop(0) + "\n")

    def _put(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            self._stop.set()


@contextmanager
def progress_for(settings: Settings) -> Iterator[Live | Quiet]:
    """The right kind for standard error."""
    if is_terminal(sys.stderr):
        with Live(ink_for(settings, sys.stderr)) as live:
            yield live
    else:
        yield Quiet()
