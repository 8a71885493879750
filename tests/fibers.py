"""A clock that only moves when everybody waits, and threads that take turns: a run is a function of its seed.

The loop under test runs in the main thread, everything beside it in fibers: threads of which one runs at a time and
gives way only by waiting on this clock. So equal seeds give equal runs, and an hour takes a second.
"""

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Self


class Crash(BaseException):
    """The machine lost power here."""


class _Fiber:
    def __init__(self) -> None:
        self.turn, self.back = threading.Semaphore(0), threading.Semaphore(0)
        self.ticket = 0  # what wakes it: an older wake-up is void


class Clock:
    """Seconds since the run began, and who waits for which moment."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._local = threading.local()
        self._fibers: set[_Fiber] = set()
        self._is_down = False

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._heap, (moment, next(self._order), call))

    def sleep(self, seconds: float) -> None:
        """Let the others run until then."""
        if self._is_down:
            raise Crash
        fiber = getattr(self._local, "fiber", None)
        if fiber is None:
            self._run_until(self.now + seconds)
        else:
            self.park(seconds)

    def wait_until(self, check: Callable[[], bool], seconds: float) -> bool:
        """The main thread waits: from one happening to the next."""
        end = self.now + seconds
        while not check() and self.now < end:
            self._run_until(min(end, self._heap[0][0]) if self._heap else end)
        return check()

    def park(self, seconds: float) -> None:
        """A fiber gives way, until its time is up or somebody wakes it."""
        fiber = self._local.fiber
        fiber.ticket += 1
        self._wake_at(self.now + seconds, fiber, fiber.ticket)
        fiber.back.release()
        fiber.turn.acquire()
        if self._is_down:
            raise Crash

    def me(self) -> Callable[[], None]:
        """What wakes the fiber that calls this."""
        fiber = self._local.fiber
        return lambda: self._wake_at(self.now, fiber, fiber.ticket)

    def spawn(self, run: Callable[[], None], _name: str = "") -> None:
        """A new fiber; its first turn comes at once."""
        fiber = _Fiber()
        self._fibers.add(fiber)
        threading.Thread(target=self._live, args=(fiber, run), daemon=True).start()
        self._wake_at(self.now, fiber, 0)

    def kill(self) -> None:
        """The process is gone: no fiber takes another step."""
        self._is_down = True
        while self._fibers:
            self._give_turn(next(iter(self._fibers)))
        self._is_down = False

    def _live(self, fiber: _Fiber, run: Callable[[], None]) -> None:
        self._local.fiber = fiber
        fiber.turn.acquire()
        try:
            if not self._is_down:
                run()
        except Crash:
            pass
        finally:
            self._fibers.discard(fiber)
            fiber.back.release()

    def _wake_at(self, moment: float, fiber: _Fiber, ticket: int) -> None:
        def wake() -> None:
            if fiber in self._fibers and fiber.ticket == ticket:
                fiber.ticket += 1
                self._give_turn(fiber)

        self.at(moment, wake)

    def _give_turn(self, fiber: _Fiber) -> None:
        fiber.turn.release()
        fiber.back.acquire()

    def _run_until(self, moment: float) -> None:
        while self._heap and self._heap[0][0] <= moment:
            at, _, call = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            call()
        self.now = max(self.now, moment)


class Pool:
    """As ``ThreadPoolExecutor``, of fibers."""

    clock: Clock

    def __init__(self, *_: object, **__: object) -> None:
        self._futures: list[Future] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while any(not future.done() for future in self._futures):
            self.clock.sleep(0.05)

    def submit(self, call: Callable, *arguments: object) -> Future:
        future: Future = Future()

        def run() -> None:
            try:
                future.set_result(call(*arguments))
            except BaseException as error:
                future.set_exception(error)
                if isinstance(error, Crash):
                    raise

        self._futures.append(future)
        self.clock.spawn(run)
        return future


def wait(futures: Iterable[Future], timeout: float, return_when: str = "") -> tuple[set[Future], set[Future]]:
    """As ``concurrent.futures.wait`` for the first that is done."""
    del return_when
    futures = list(futures)
    if not any(future.done() for future in futures):
        wake = Pool.clock.me()
        for future in futures:
            future.add_done_callback(lambda _: wake())
        Pool.clock.park(timeout)
    done = {future for future in futures if future.done()}
    return done, set(futures) - done
