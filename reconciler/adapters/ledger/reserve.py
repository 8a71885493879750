"""Room kept in hand, so that the ledger works on a full disk.

Three reserves (FACTS, SQLite): the write-ahead log is grown while there is room and never truncated, so that commits
overwrite blocks that are ours already; the database keeps some empty pages, so that a checkpoint has where to write;
and a *ballast* file beside the database is given up when even opening finds no room, and made again at close.
"""

# ruff: noqa: PTH108 -- paths are plain strings here: they go into URIs and get suffixes such as -wal

import contextlib
import os
import sqlite3

WAL_PAGES = 256  # of 4 KiB: 1 MiB
FREE_PAGES = 64
CHECKPOINT_PAGES = 128  # half the log: a checkpoint comes before the log would have to grow
BALLAST_BYTES = 3 << 19  # more than opening takes: the log and the shared-memory file


def ballast_of(path: str) -> str:
    """Where the ballast of a database lies."""
    return f"{path}-ballast"


def release_ballast(path: str) -> bool:
    """Give the ballast up; whether there was one."""
    try:
        os.unlink(ballast_of(path))
    except OSError:
        return False
    return True


def restore_ballast(path: str) -> bool:
    """Make the ballast where there is none; whether there is one now. A disk without room is no error."""
    ballast = ballast_of(path)
    try:
        descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return True
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(ballast)
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def grow(connection: sqlite3.Connection) -> None:
    """Make the log :data:`WAL_PAGES` long and see that the database has empty pages; no row changes.

    The log grows by a transaction that is too large for a tiny cache, so that its pages are spilled into the log, and
    that is then rolled back: the log stays long and nothing has to be synced.

    Raises:
        sqlite3.OperationalError: the disk is full; what was there is as it was.
    """
    connection.execute("DROP TABLE IF EXISTS scratch")  # a crash may have left it
    if int(connection.execute("PRAGMA freelist_count").fetchone()[0]) < FREE_PAGES // 2:
        _fill(connection, FREE_PAGES)
        connection.execute("COMMIT")
        connection.execute("DROP TABLE scratch")
    cache = int(connection.execute("PRAGMA cache_size").fetchone()[0])
    connection.execute("PRAGMA cache_size = 2")
    try:
        _fill(connection, WAL_PAGES)
        connection.execute("ROLLBACK")
    finally:
        connection.execute(f"PRAGMA cache_size = {cache}")
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()


def _fill(connection: sqlite3.Connection, pages: int) -> None:
    """Begin a transaction and put a table of so many pages into it; rolled back where there is no room."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE scratch (filler BLOB)")
        connection.execute(
            "WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < ?) "
            "INSERT INTO scratch SELECT zeroblob(3900) FROM counter",
            (pages,),
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
