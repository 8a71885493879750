"""The one writing connection of a process, shared by its threads.

A re-entrant lock is held through a transaction, so that threads take turns and never see half of another's work; keep
transactions short, each outermost one costs a sync of the disk. A transaction inside another is a savepoint: where it
fails and the failure is caught, the outer one goes on without it. Observers are told after the commit and outside the
lock, and what they raise breaks nothing.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import NoReturn, TypeVar

from reconciler.adapters.ledger.access import Loss
from reconciler.adapters.ledger.facts import Change
from reconciler.adapters.ledger.faults import Fault, fault_of, lost, rethrow
from reconciler.adapters.ledger.opening import GATE, connect, forget_writer, open_to_write
from reconciler.adapters.ledger.reserve import release_ballast, restore_ballast
from reconciler.adapters.ledger.schema import LOST_ID, is_blank, is_ours
from reconciler.core.errors import refused
from reconciler.core.lifecycle import Lifecycle

T = TypeVar("T")
Watcher = Callable[[Change], None]


class Writer:
    """The ledger's data for the owner of the store. ``set_aside`` names a lost database that was moved away."""

    is_writable = True

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        self.path = path
        self.now = now
        self._connection, self.set_aside = open_to_write(path, now())
        self.loss = Loss.CORRUPT if self.set_aside else Loss.NONE
        self._lock = threading.RLock()
        self._depth = 0
        self._is_whole = False
        self._pending: list[Change] = []
        self._watchers: dict[object, Watcher] = {}
        self._process = os.getpid()
        self._is_open = True
        self._marks: list[tuple[int, ...]] = []  # of the files when they were found right last

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What ``query`` answers, of one moment; within a transaction it sees what that wrote.

        Raises:
            Failure: ``ledger_corrupt`` (permanent); ``ledger_busy``, ``ledger_io_error`` (transient).
        """
        with self._lock:
            self._check_usable()
            if self._depth:
                return query(self._connection)
            try:
                self._connection.execute("BEGIN")
                try:
                    return query(self._connection)
                finally:
                    self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._give_up(error)

    @contextmanager
    def transaction(self, *, is_whole: bool = False) -> Iterator[sqlite3.Connection]:
        """All that is written within is there together or not at all; see :class:`.access.Access`.

        Raises:
            Failure: ``disk_full``, ``ledger_busy``, ``ledger_io_error`` (transient); ``ledger_corrupt`` (permanent).
        """
        with self._lock:
            self._check_usable()
            is_outermost = self._depth == 0
            if not is_outermost and self._is_whole:
                yield self._connection
                return
            begin, commit, undo = _WORDS[is_outermost]
            mark = len(self._pending)
            try:
                self._connection.execute(begin)
                self._depth += 1
                self._is_whole = is_whole and is_outermost
                try:
                    yield self._connection
                finally:
                    self._depth -= 1
                    self._is_whole = False
                self._connection.execute(commit)
            except BaseException as error:
                del self._pending[mark:]
                self._undo(undo)
                if isinstance(error, sqlite3.Error):
                    self._give_up(error)
                raise
            changes = self._take_pending() if is_outermost else ()
        for change in changes:
            self._tell(change)

    def note(self, noun: str, operation: str, key: str, step: tuple[Lifecycle, Lifecycle] | None = None) -> None:
        """Tell observers after the commit."""
        if self._watchers:
            self._pending.append(Change(noun, operation, key, (step,) if step else ()))

    def observe(self, watcher: Watcher) -> Callable[[], None]:
        """Tell ``watcher`` of every changed row from now on; the answer takes it away again."""
        token = object()
        self._watchers[token] = watcher

        def remove() -> None:
            self._watchers.pop(token, None)

        return remove

    def check(self) -> None:
        """See that others can read what this one wrote: its own memory may serve it long after the file was harmed.

        A connection of its own begins with nothing in memory, as that of another program does. Files that were not
        touched since they were found right are not opened.

        Raises:
            Failure: ``ledger_corrupt`` (permanent). What else hinders the look says nothing.
        """
        marks = [_mark(f"{self.path}{tail}") for tail in ("", "-wal", "-shm")]
        if not self._is_open or marks == self._marks:
            return
        try:
            with closing(connect(self.path, "mode=ro")) as other:
                if not is_ours(other) or is_blank(other):
                    raise lost("it is not what was written")
        except sqlite3.Error as error:
            if fault_of(error) is Fault.LOST:
                with self._lock:
                    self._give_up(error)
        else:
            self._marks = marks

    def close(self) -> None:
        """Empty the log into the database, so that readers find it clean, and make the ballast where there is room."""
        with GATE, self._lock:
            if not self._is_open:
                return
            self._is_open = False
            self._connection.close()
            forget_writer(self.path)
            restore_ballast(self.path)

    def _check_usable(self) -> None:
        if not self._is_open:
            raise refused("ledger_closed", f"{self.path} was closed")
        if os.getpid() != self._process:
            raise RuntimeError("a ledger does not outlive a fork: open it anew in the child")

    def _undo(self, statements: tuple[str, ...]) -> None:
        if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
            for statement in statements:
                with suppress(sqlite3.Error):
                    self._connection.execute(statement)

    def _give_up(self, error: sqlite3.Error) -> NoReturn:
        fault = fault_of(error)
        if fault is Fault.FULL:
            release_ballast(self.path)  # the next try has room
        if fault is Fault.LOST:
            with suppress(sqlite3.Error):
                self._connection.execute(f"PRAGMA application_id = {LOST_ID}")
        rethrow(error, self.path)

    def _take_pending(self) -> tuple[Change, ...]:
        """Each row's change once, with all the steps of its life, in the order of the first."""
        steps: dict[tuple[str, str, str], list[tuple[Lifecycle, Lifecycle]]] = {}
        for change in self._pending:
            steps.setdefault(change[:3], []).extend(change.steps)
        self._pending.clear()
        return tuple(Change(*row, tuple(walked)) for row, walked in steps.items())

    def _tell(self, change: Change) -> None:
        for watcher in tuple(self._watchers.values()):
            with suppress(Exception):  # a stranger's callable must not break the ledger
                watcher(change)


def _mark(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 -- the ledger's paths are plain strings
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


_WORDS: dict[bool, tuple[str, str, tuple[str, ...]]] = {
    True: ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",)),
    False: ("SAVEPOINT inner", "RELEASE inner", ("ROLLBACK TO inner", "RELEASE inner")),
}
