"""When to look again without being asked: the full pass, the earliest retry, the end of a suspension.

Times of the ledger are wall-clock times, so the loop asks once a second what is due and a clock that is set does no
harm; the interval is monotonic. A pass that keeps failing without saying when to try again is put off longer each
time: nothing here ever runs hot.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from reconciler.watch.bell import INTERVAL, RETRY

JITTER = 0.05
FIRST_DELAY_S, LAST_DELAY_S = 5.0, 300.0


@dataclass(slots=True)
class Agenda:
    """What is due when. ``now`` is the wall clock, ``random`` gives numbers in [0, 1)."""

    interval_s: float
    now: Callable[[], float]
    random: Callable[[], float]
    monotonic: Callable[[], float] = time.monotonic
    moments: tuple[float, ...] = ()  # wall clock: retries, end of suspension
    _full_at: float = field(init=False, default=0.0)
    _again_at: float | None = field(init=False, default=None)
    _fruitless: int = field(init=False, default=0)
    _guard: threading.Lock = field(init=False, default_factory=threading.Lock)  # passes add moments from their threads

    def plan_full(self) -> None:
        """A pass begins: the next full one is an interval away, give or take."""
        self._full_at = self.monotonic() + self.interval_s * (1 + JITTER * (2 * self.random() - 1))

    def set_moments(self, moments: Iterable[float | None]) -> None:
        """What the last plan waits for."""
        with self._guard:
            self.moments = tuple(moment for moment in moments if moment is not None and moment != float("inf"))

    def add_moment(self, moment: float) -> None:
        """Something failed in a pass that goes on: its retry does not wait for the pass's end."""
        with self._guard:
            self.moments = (*self.moments, moment)

    def note(self, *, was_fruitless: bool) -> None:
        """A pass ended; a fruitless one left something undone and nothing says when to try again."""
        self._fruitless = self._fruitless + 1 if was_fruitless else 0
        delay_s = min(LAST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._fruitless - 1, 10))
        self._again_at = self.monotonic() + delay_s if was_fruitless else None

    def due(self) -> frozenset[str]:
        """The triggers that are due now; each is told once."""
        found = set()
        moment = self.monotonic()
        if moment >= self._full_at:
            found.add(INTERVAL)
        if self._again_at is not None and moment >= self._again_at:
            self._again_at = None
            found.add(RETRY)
        wall = self.now()
        with self._guard:
            if any(at <= wall for at in self.moments):
                self.moments = tuple(at for at in self.moments if at > wall)
                found.add(RETRY)
        return frozenset(found)

    def next_s(self) -> float:
        """Seconds until the next thing is due, never negative."""
        moment, wall = self.monotonic(), self.now()
        spans = [self._full_at - moment, *(at - wall for at in self.moments)]
        if self._again_at is not None:
            spans.append(self._again_at - moment)
        return max(0.0, min(spans))

    def next_run_at(self) -> float:
        """The same as a moment of the wall clock."""
        return self.now() + self.next_s()
