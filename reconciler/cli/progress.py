"""Progress of work, on standard error.

On a terminal, after the first second: a line per model and a total, drawn anew five times a second and gone when the
work is done (:mod:`reconciler.cli.drawing` does it with rich, and is imported only then). Into a pipe: one plain line
when a model starts and one when an action ends, nothing else.

Work reports from many threads; a report only writes into a table under a lock. One thread paints.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import TYPE_CHECKING, Self

from reconciler.cli.layout import Ink, clean
from reconciler.cli.screen import ink_for, is_terminal, tell
from reconciler.cli.settings import Settings
from reconciler.core.actions import ActionKind, Outcome, OutcomeStatus, Plan
from reconciler.core.ports import Progress
from reconciler.core.records import dataclass
from reconciler.core.units import format_duration, format_size

if TYPE_CHECKING:
    from reconciler.cli.drawing import Drawing

FIRST_DRAWN_AFTER_S = 1.0
DRAWN_EVERY_S = 0.2
_COUNTED = (ActionKind.DOWNLOAD, ActionKind.VERIFY)  # what takes its time by the byte


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
    planned: dict[str, int] = field(default_factory=dict)  # bytes by the id of the action
    actions: int = 0
    ended: int = 0
    files: dict[str, dict[str, Progress]] = field(default_factory=dict)
    finished_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, plan: Plan) -> None:
        """What there is to do."""
        with self.lock:
            self.actions = len(plan.actions)
            self.planned = {action.id: action.bytes or 0 for action in plan.actions if action.kind in _COUNTED}
            self.planned_bytes = sum(self.planned.values())

    def report(self, progress: Progress) -> bool:
        """Take a report; True where it is the first of its model."""
        with self.lock:
            is_first = progress.model not in self.files
            self.files.setdefault(progress.model, {})[progress.path] = progress
            return is_first

    def finish(self, outcome: Outcome) -> None:
        """An action ended: its lines go. What it was to bring counts as done, or is not to come any more."""
        with self.lock:
            self.ended += 1
            self.files.pop(outcome.model, None)
            if outcome.kind not in _COUNTED:
                return
            size = self.planned.get(outcome.id, outcome.bytes)
            if outcome.status in (OutcomeStatus.DONE, OutcomeStatus.SKIPPED):
                self.finished_bytes += size
            else:
                self.planned_bytes = max(0, self.planned_bytes - size)

    def lines(self) -> tuple[list[Line], Line]:
        """A line per model at work, and the total."""
        with self.lock:
            models = [_sum(model, list(files.values())) for model, files in self.files.items()]
            done = self.finished_bytes + sum(model.done_bytes for model in models if model.stage != "extracting")
            planned = self.planned_bytes
            stage = f"{self.ended} of {self.actions} done" if self.actions > 1 else ""
        rates = [model.rate for model in models if model.rate]
        rate = sum(rates) if rates else None
        left = max(0, planned - done) / rate if rate and planned else None
        return models, Line("total", stage, min(done, planned or done), planned or None, rate, left)


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


class Quiet:
    """Reports into a pipe: one line at the start of a model's work, one at the end of each action."""

    def __init__(self) -> None:
        self.board = Board()

    def on_plan(self, plan: Plan) -> None:
        """Nothing to draw yet."""

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Nothing to hide."""
        yield

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
    """Reports on a terminal. Used as a context manager around the work.

    What failed is written above the moving lines at once; what is done as well, unless ``is_followed_by_result`` says
    that a table on the same terminal is about to tell it.
    """

    def __init__(self, ink: Ink, *, is_followed_by_result: bool = False) -> None:
        self.board = Board()
        self._ink = ink
        self._is_followed_by_result = is_followed_by_result
        self._phase = "looking at the manifest, the store and the sources"
        self._notes: deque[str] = deque()
        self._drawing: Drawing | None = None
        self._stop = threading.Event()
        self._paint = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2)
        with self.hidden():
            pass

    def on_plan(self, plan: Plan) -> None:
        """The total to come."""
        self._phase = ""
        self.board.expect(plan)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Clear the moving lines for the length of the block: somebody else writes to the terminal."""
        with self._paint:
            if self._drawing is not None:
                with _while_somebody_reads(self._stop):
                    self._drawing.close()
                self._drawing = None
            self._flush_notes()
            yield

    def report(self, progress: Progress) -> None:
        """Only write it down."""
        self.board.report(progress)

    def finish(self, outcome: Outcome) -> None:
        """What stays on the screen, if anything."""
        self.board.finish(outcome)
        if outcome.status is OutcomeStatus.FAILED:
            self.note(self._ink.paint("red", outcome_line(outcome)))
        elif not self._is_followed_by_result:
            self.note(outcome_line(outcome))

    def note(self, text: str) -> None:
        """A line that stays. Takes no lock: it may come from a signal handler."""
        self._notes.append(text)

    def write(self, text: str) -> None:
        """A log line."""
        self.note(text.rstrip("\n"))

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._stop.wait(DRAWN_EVERY_S):
            with self._paint, _while_somebody_reads(self._stop):
                if time.monotonic() - begun >= FIRST_DRAWN_AFTER_S:
                    self._draw()
                self._flush_notes()

    def _draw(self) -> None:
        models, total = self.board.lines()
        if self._drawing is None:
            if not models and not self._phase:
                return
            from reconciler.cli.drawing import Drawing  # noqa: PLC0415 -- rich takes its time; short work needs none

            self._drawing = Drawing(has_colour=self._ink.colour)
        self._drawing.draw(models, total, self._phase)

    def _flush_notes(self) -> None:
        say = tell if self._drawing is None else self._drawing.tell
        while self._notes:
            say(self._notes.popleft())


@contextmanager
def _while_somebody_reads(stop: threading.Event) -> Iterator[None]:
    """A terminal that went away ends the drawing, not the work."""
    try:
        yield
    except (OSError, ValueError):
        stop.set()


@contextmanager
def progress_for(settings: Settings) -> Iterator[Live | Quiet]:
    """The right kind for standard error."""
    if not is_terminal(sys.stderr):
        yield Quiet()
        return
    is_followed = is_terminal(sys.stdout) and settings.output == "text"
    with Live(ink_for(settings, sys.stderr), is_followed_by_result=is_followed) as live:
        yield live
