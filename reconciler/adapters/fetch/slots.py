"""Who may download now: a number of slots handed out in strict order of priority, and connections per origin."""

import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.adapters.fetch.redirects import Origin
from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken

_REMEMBERED_S = 600.0  # how long an origin that turned a connection away is not asked for so many


class Slots:
    """A priority queue before a fixed number of places; equal priorities keep their order of arrival.

    A place that becomes free is handed to the one whose turn it is; nobody else is woken, however many wait.
    """

    def __init__(self, places: int) -> None:
        self._places = self._free = places
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, int, threading.Event]] = []
        self._order = itertools.count()

    def resize(self, places: int) -> None:
        """Another number of places; who has one keeps it."""
        with self._lock:
            self._free += places - self._places
            self._places = places
            self._hand_out()

    @contextmanager
    def hold(self, priority: int, cancel: CancelToken) -> Iterator[None]:
        """Wait for a place, keep it within the block.

        Raises:
            Failure: transient ``cancelled``.
        """
        turn = threading.Event()
        entry = (-priority, next(self._order), turn)
        with self._lock:
            heapq.heappush(self._waiting, entry)
            self._hand_out()
        while not turn.wait(0.2):
            if cancel.is_set() and self._leave(entry):
                raise transient("cancelled", "stopped while waiting for its turn")
        try:
            yield
        finally:
            with self._lock:
                self._free += 1
                self._hand_out()

    def _hand_out(self) -> None:
        while self._free > 0 and self._waiting:
            self._free -= 1
            heapq.heappop(self._waiting)[2].set()

    def _leave(self, entry: tuple[int, int, threading.Event]) -> bool:
        """Give up waiting; False where the place was handed over at this very moment."""
        with self._lock:
            if entry[2].is_set():
                return False
            self._waiting.remove(entry)
            heapq.heapify(self._waiting)
            return True


class Connections:
    """Counts connections per origin, and remembers which origin turned one away."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._enough: dict[Origin, tuple[int, float]] = {}  # where more were refused: how many, until when (monotonic)
        self._condition = threading.Condition()
        self._open: Counter[Origin] = Counter()

    def resize(self, most: int) -> None:
        """Another cap; who has one keeps it."""
        with self._condition:
            self._most = most
            self._condition.notify_all()

    def try_take(self, origin: Origin) -> bool:
        """Take one more where the cap allows, and the origin."""
        with self._condition:
            enough, until = self._enough.get(origin, (self._most, 0.0))
            if self._open[origin] >= (min(enough, self._most) if time.monotonic() < until else self._most):
                return False
            self._open[origin] += 1
            return True

    def take(self, origin: Origin, cancel: CancelToken) -> None:
        """Wait for one.

        Raises:
            Failure: transient ``cancelled``.
        """
        with self._condition:
            while self._open[origin] >= self._most:
                self._condition.wait(0.2)
                if cancel.is_set():
                    raise transient("cancelled", f"stopped while waiting for a connection to {origin[1]}")
            self._open[origin] += 1

    def give_back(self, origin: Origin, *, is_refused: bool = False) -> None:
        """One is closed; ``is_refused``: the origin did not want it beside the others."""
        with self._condition:
            self._open[origin] -= 1
            if is_refused:
                self._enough[origin] = (max(1, self._open[origin]), time.monotonic() + _REMEMBERED_S)
            if not self._open[origin]:
                del self._open[origin]
            self._condition.notify_all()
