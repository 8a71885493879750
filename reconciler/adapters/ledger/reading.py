"""Reading without a trace.

A reader below the store creates and changes nothing. It therefore keeps no connection: each :meth:`Reader.read` looks
at the files, opens, reads and closes.

- No log beside the database (it was closed cleanly): opened immutable, and afterwards looked at again; where a writer
  came in between, what was read is thrown away and read anew.
- A log: a writer is alive, or was killed. Opened in the usual way; the shared-memory file may be touched.
- A log on a read-only file system cannot be recovered in place: a copy outside the store is.
- No database, or one that cannot be believed: an empty one in memory answers, and :attr:`Reader.loss` says why.
- A database of an older version is copied into memory and migrated there.
"""

# ruff: noqa: PTH116, PTH118 -- paths are plain strings here: they go into URIs and get suffixes such as -wal

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn, TypeVar

from reconciler.adapters.ledger.access import Loss
from reconciler.adapters.ledger.faults import Fault, fault_of, lost, rethrow
from reconciler.adapters.ledger.opening import GATE, connect, has_writer
from reconciler.adapters.ledger.schema import MIGRATIONS, check_version, is_blank, is_ours, migrate
from reconciler.core.errors import refused, transient
from reconciler.core.lifecycle import Lifecycle
from reconciler.core.os_errors import map_os_error

T = TypeVar("T")
_ATTEMPTS = 8


class _Sight(NamedTuple):
    """What the files look like from outside; equal where no writer was there in between."""

    identity: tuple[int, int, int, int, int] | None  # device, inode, size, mtime, ctime
    is_regular: bool
    log_bytes: int


class Reader:
    """The ledger's data for those who must not write. Threads may share one."""

    is_writable = False

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        self.path = path
        self.now = now
        self.loss = Loss.NONE
        self._lost: _Sight | None = None  # what could not be believed once is not believed in part

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What ``query`` answers, of one moment. It may be called again where a writer got in between.

        Raises:
            Failure: refused ``ledger_too_new``, ``ledger_unreadable``; transient ``ledger_busy``, ``ledger_io_error``.
        """
        for attempt in range(_ATTEMPTS):
            with GATE:
                sight = _look(self.path)
                try:
                    with self._opened(sight) as connection:
                        answer = _ask(connection, query)
                except sqlite3.Error as error:
                    if _look(self.path) == sight or attempt == _ATTEMPTS - 1:
                        return self._salvage(error, sight, query)
                else:
                    if sight.log_bytes or _look(self.path) == sight:
                        return answer
        raise refused("ledger_busy", f"{self.path} changes all the time while it is read", hint="try again")

    def transaction(self, *, is_whole: bool = False) -> NoReturn:  # noqa: ARG002 -- as the writer's
        """Never: this one reads.

        Raises:
            Failure: refused ``ledger_read_only``.
        """
        raise refused("ledger_read_only", f"{self.path} was opened to read only")

    def note(self, noun: str, operation: str, key: str, step: tuple[Lifecycle, Lifecycle] | None = None) -> None:
        """Nothing changes here."""

    def close(self) -> None:
        """Nothing is held open."""

    @contextlib.contextmanager
    def _opened(self, sight: _Sight) -> Iterator[sqlite3.Connection]:
        if sight.identity is None or (sight.identity[2] == 0 and sight.log_bytes == 0 and sight.is_regular):
            connection = self._empty(Loss.MISSING)
        elif not sight.is_regular or sight == self._lost:
            connection = self._empty(Loss.CORRUPT)
        else:
            is_clean = sight.log_bytes == 0 and not has_writer(self.path)
            connection = connect(self.path, "mode=ro", *(["immutable=1"] if is_clean else []))
            self.loss = Loss.NONE
        with contextlib.closing(connection), contextlib.closing(self._current(connection)) as current:
            yield current

    def _current(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """The same data with the tables of today."""
        connection.execute("BEGIN")  # one moment for all that is read
        if not is_ours(connection) or is_blank(connection):
            return self._empty(Loss.MISSING if is_blank(connection) else Loss.CORRUPT)
        if check_version(connection) == len(MIGRATIONS):
            return connection
        memory = sqlite3.connect(":memory:", isolation_level=None)
        connection.execute("COMMIT")
        connection.backup(memory)
        migrate(memory, self.now())
        return memory

    def _empty(self, loss: Loss) -> sqlite3.Connection:
        self.loss = loss
        memory = sqlite3.connect(":memory:", isolation_level=None)
        migrate(memory, self.now())
        return memory

    def _salvage(self, error: sqlite3.Error, sight: _Sight, query: Callable[[sqlite3.Connection], T]) -> T:
        """Answer after ``error``: from nothing where the database is lost, from a copy where it lies read-only."""
        fault = fault_of(error)
        if fault is Fault.LOST:
            self._lost = sight
            with contextlib.closing(self._empty(Loss.CORRUPT)) as connection:
                return query(connection)
        if fault in (Fault.UNREADABLE, Fault.READ_ONLY) and _is_readable_log(self.path):
            return self._read_copy(query)
        return rethrow(error, self.path)

    def _read_copy(self, query: Callable[[sqlite3.Connection], T]) -> T:
        import shutil  # noqa: PLC0415 -- slow to import, and hardly ever needed
        import tempfile  # noqa: PLC0415 -- the same

        with tempfile.TemporaryDirectory(prefix="reconciler-ledger-") as folder:
            copy = os.path.join(folder, "state.db")
            try:
                for tail in ("", "-wal"):
                    shutil.copyfile(self.path + tail, copy + tail)
                with (
                    contextlib.closing(connect(copy, "mode=rw")) as connection,
                    contextlib.closing(self._current(connection)) as current,
                ):
                    self.loss = Loss.NONE
                    return query(current)
            except (OSError, sqlite3.Error) as error:
                raise refused("ledger_unreadable", f"{self.path} cannot be read, nor a copy of it: {error}") from error


def _ask(connection: sqlite3.Connection, query: Callable[[sqlite3.Connection], T]) -> T:
    """The answer. A word that is none of ours is damage: a read-only connection does not look at the checks.

    Raises:
        sqlite3.Error: as SQLite says, or with the code for a corrupt database.
    """
    try:
        return query(connection)
    except (ValueError, KeyError, TypeError) as error:
        raise lost(f"a row makes no sense: {error}") from error


def _look(path: str) -> _Sight:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _Sight(None, is_regular=False, log_bytes=0)
    except PermissionError as error:
        raise map_os_error(error, f"cannot look at {path}") from error
    except OSError as error:
        text = f"cannot look at {path}: {error.strerror}"
        raise transient("ledger_io_error", text, hint="check the disk") from error
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    log_bytes = 0
    with contextlib.suppress(OSError):
        log_bytes = os.stat(f"{path}-wal").st_size
    return _Sight(identity, stat.S_ISREG(found.st_mode), log_bytes)


def _is_readable_log(path: str) -> bool:
    return all(os.access(path + tail, os.R_OK) for tail in ("", "-wal"))
