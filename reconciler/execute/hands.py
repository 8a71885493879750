"""Many small jobs side by side: who has them works on them itself, and helpers join while the process has hands free.

Every model that is being fetched has a thread of its own already. Threads cost each other time in Python: with many
models under way each brings its own files, with one model under way eight hands do. A helper is taken on whenever a job
is finished and there is room, so that the last model of many is not left to a single one. Helpers are threads of a
pool: to start a thread means to wait for it, each time.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from reconciler.execute.gate import Gate

Job = TypeVar("Job")
Result = TypeVar("Result")

HANDS = 12  # of one process; the threads that brought the jobs work however many they are
HANDS_AT_ONCE = 8  # of one who has jobs


class Hands:
    """Counts the hands of a process."""

    def __init__(self, most: int = HANDS, gate: Gate | None = None) -> None:
        self.gate = gate or Gate()
        self._most = most
        self._busy = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="hand")

    def help(self, work: Callable[[], None]) -> Future[None]:
        """Have ``work`` done by a thread of the pool, for one who has entered.

        Raises:
            RuntimeError: no more threads are to be had.
        """
        return self._pool.submit(work)

    def do(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result | Exception]:
        """Do all jobs; what each gave or raised, in their order."""
        crew = _Crew(self, work, list(jobs))
        self.enter()
        try:
            with self.gate.hold():
                crew.work_on()
        finally:
            self.leave()
        with self.gate.aside():
            return crew.results()

    def try_enter(self) -> bool:
        """One more hand, where there is room."""
        with self._lock:
            if self._busy >= self._most:
                return False
            self._busy += 1
            return True

    def enter(self) -> None:
        """One more hand."""
        with self._lock:
            self._busy += 1

    def leave(self) -> None:
        """One hand is free again."""
        with self._lock:
            self._busy -= 1


class _Crew(Generic[Job, Result]):
    """The jobs of one owner, and who works on them."""

    def __init__(self, hands: Hands, work: Callable[[Job], Result], jobs: list[Job]) -> None:
        self._hands = hands
        self._work = work
        self._left: Iterator[tuple[int, Job]] = iter(enumerate(jobs))
        self._unbegun = len(jobs)
        self._results: dict[int, Result | BaseException] = {}
        self._helpers: list[Future[None]] = []
        self._lock = threading.Lock()

    def work_on(self) -> None:
        """Take jobs until none is left."""
        while (entry := self._next()) is not None:
            index, job = entry
            self._take_on()
            try:
                self._results[index] = self._work(job)
            except BaseException as error:  # noqa: BLE001 -- told to the owner of the jobs, in its own thread
                self._results[index] = error
            self._hands.gate.tell()

    def results(self) -> list[Result | Exception]:
        """What came of the jobs, when all helpers are done."""
        while self._helpers:
            self._helpers.pop().result()
        found = []
        for _, result in sorted(self._results.items()):
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
            found.append(result)
        return found

    def _next(self) -> tuple[int, Job] | None:
        with self._lock:
            self._unbegun -= 1
            return next(self._left, None)

    def _take_on(self) -> None:
        """One helper more where jobs wait and hands are free."""
        with self._lock:
            most = HANDS_AT_ONCE - 1 if self._hands.gate.is_slow else 1  # who waits at the gate to see how it goes
            if self._unbegun < 1 or len(self._helpers) >= most or not self._hands.try_enter():
                return
            has_entered = [True]
            try:
                self._helpers.append(self._hands.help(lambda: self._help(has_entered)))
            except RuntimeError:  # no more threads are to be had: those that are here do it
                has_entered.clear()  # the pool has the job all the same, and may come to it
                self._hands.leave()

    def _help(self, has_entered: list[bool]) -> None:
        with self._lock:
            if not has_entered:
                return
        try:
            with self._hands.gate.hold():
                self.work_on()
        finally:
            self._hands.leave()
