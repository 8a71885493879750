"""Opening the database: to read without leaving a trace, or to write with everything prepared.

*To write*: WAL with ``synchronous=FULL``, migrated, reserves grown. What cannot be believed (no database at all, bad
pages, a stranger's file) is moved aside together with its log, never over anything, and a fresh database is begun.

*To read*: a database that was closed cleanly has no log, and is opened ``immutable``: no lock, no shared memory, no
system call that writes. See :mod:`reconciler.adapters.ledger.reading` for when that may be believed.

POSIX drops all of a process's locks on a file when it closes any descriptor of it. So an immutable connection never
lives in a process beside a writing one: :data:`GATE` is held while one is read or a writer opens, and
:func:`has_writer` tells who writes here.
"""

# ruff: noqa: PTH100, PTH104, PTH110, PTH114, PTH116, PTH120 -- paths are plain strings here: they go into URIs and get suffixes such as -wal

import contextlib
import os
import sqlite3
import stat
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from reconciler.adapters.ledger.faults import Fault, fault_of, lost, rethrow
from reconciler.adapters.ledger.reserve import CHECKPOINT_PAGES, grow, release_ballast
from reconciler.adapters.ledger.schema import is_blank, is_ours, migrate
from reconciler.core.errors import refused

BUSY_TIMEOUT_S = 5.0
GATE = threading.RLock()
_WRITERS: Counter[str] = Counter()


class Opened(NamedTuple):
    """A connection that may write; ``set_aside`` is the name that a lost database was given, if one was."""

    connection: sqlite3.Connection
    set_aside: str | None


def address(path: str, *options: str) -> str:
    """The ``file:`` URI of a database; any byte may stand in its path."""
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}?{'&'.join(options)}"


def connect(path: str, *options: str) -> sqlite3.Connection:
    """A connection that threads may share under a lock; transactions are ours to begin."""
    connection = sqlite3.connect(
        address(path, *options), uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA temp_store = MEMORY")  # a sort must not need the disk
    return connection


def has_writer(path: str) -> bool:
    """Whether this process holds a writing connection to ``path``."""
    return _WRITERS[os.path.realpath(path)] > 0


def forget_writer(path: str) -> None:
    """A writing connection of this process was closed."""
    _WRITERS[os.path.realpath(path)] -= 1


def open_to_write(path: str, now: float) -> Opened:
    """A prepared connection; what stood at ``path`` and could not be believed was set aside.

    Raises:
        Failure: ``ledger_too_new``, ``ledger_unreadable``, ``ledger_read_only`` (refused); ``ledger_busy``,
            ``disk_full``, ``ledger_io_error`` (transient).
    """
    with GATE:
        set_aside = None
        if _is_no_file(path):
            set_aside = _set_aside(path, now)
        for _ in range(4):  # at most: as it is, after the ballast, after setting aside, after both
            try:
                connection = _prepare(path, now)
            except sqlite3.Error as error:
                fault = fault_of(error)
                if fault is Fault.LOST and set_aside is None:
                    set_aside = _set_aside(path, now)
                elif not (fault is Fault.FULL and release_ballast(path)):
                    _refuse_read_only(path, error)
                    rethrow(error, path)
            else:
                _WRITERS[os.path.realpath(path)] += 1
                return Opened(connection, set_aside)
        raise refused("ledger_unreadable", f"{path} cannot be made usable", hint="look at the files beside it")


def _refuse_read_only(path: str, error: sqlite3.Error) -> None:
    """SQLite says of a read-only file system only that it cannot open the database."""
    with contextlib.suppress(OSError):
        if os.statvfs(os.path.dirname(os.path.abspath(path))).f_flag & os.ST_RDONLY:
            hint = "mount the file system read-write, or name another --store"
            raise refused("ledger_read_only", f"{path} is on a read-only file system", hint=hint) from error


def _prepare(path: str, now: float) -> sqlite3.Connection:
    connection = connect(path, "mode=rwc")
    try:
        _check(connection)
        _configure(connection)
        migrate(connection, now)
        _grow(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged commits in a power cut
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_size_limit = -1")  # a log that was grown stays grown
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def _check(connection: sqlite3.Connection) -> None:
    """See that the database is blank, or ours and whole.

    Raises:
        sqlite3.DatabaseError: with the code for a corrupt database.
    """
    if is_blank(connection):
        return
    if not is_ours(connection):
        raise lost("it belongs to another program")
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise lost(str(verdict))


def _grow(connection: sqlite3.Connection, path: str) -> None:
    """Fill the reserves; with neither room nor ballast the ledger opens all the same and each write tells."""
    try:
        grow(connection)
    except sqlite3.Error as error:
        if fault_of(error) is not Fault.FULL or release_ballast(path):
            raise


def _is_no_file(path: str) -> bool:
    """Whether something that is no regular file stands in place of the database, its log or its shared memory."""
    for tail in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.stat(path + tail).st_mode):
                return True
    return os.path.islink(path) and not os.path.exists(path)


def _set_aside(path: str, now: float) -> str:
    """Move the database and its log to a free name; that name.

    Raises:
        Failure: refused ``ledger_read_only`` where the folder cannot be changed.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    stem = f"{path}.corrupt-{moment}"
    target = stem
    number = 0
    while any(os.path.lexists(target + tail) for tail in ("", "-wal", "-shm")):
        number += 1
        target = f"{stem}.{number}"
    try:
        for tail in ("-wal", "-shm", ""):  # the database last: until then the loss is seen again
            with contextlib.suppress(FileNotFoundError):
                os.rename(path + tail, target + tail)
        _sync_folder(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise refused("ledger_read_only", f"{path} is damaged and cannot be moved aside: {error.strerror}") from error
    return target


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
