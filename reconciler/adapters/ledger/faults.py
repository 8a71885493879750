"""What SQLite's errors mean here: one table from result codes to our sorted failures."""

import sqlite3
from enum import Enum
from typing import NoReturn

from reconciler.core.errors import Failure, FailureKind


class Fault(Enum):
    """What is the matter with the database, as far as we act on it."""

    BUSY = "busy"
    FULL = "full"
    LOST = "lost"  # its content cannot be believed
    READ_ONLY = "read_only"
    UNREADABLE = "unreadable"
    IO = "io"
    BUG = "bug"  # ours: a broken constraint, a wrong statement


_FAULTS = {
    sqlite3.SQLITE_BUSY: Fault.BUSY,
    sqlite3.SQLITE_LOCKED: Fault.BUSY,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_CORRUPT: Fault.LOST,
    sqlite3.SQLITE_NOTADB: Fault.LOST,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Fault.UNREADABLE,
    sqlite3.SQLITE_PERM: Fault.UNREADABLE,
    sqlite3.SQLITE_AUTH: Fault.UNREADABLE,
    sqlite3.SQLITE_IOERR: Fault.IO,
}


def fault_of(error: sqlite3.Error) -> Fault:
    """What an error means. A shared-memory file that cannot be made longer is a full disk."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the sqlite3 module itself: text that is no text, or a wrong call of ours
        return Fault.LOST if isinstance(error, sqlite3.OperationalError) else Fault.BUG
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return Fault.FULL
    return _FAULTS.get(code & 0xFF, Fault.BUG)


_MEANINGS: dict[Fault, tuple[FailureKind, str, str, str]] = {  # kind, reason, message, hint
    Fault.BUSY: (FailureKind.TRANSIENT, "ledger_busy", "{} is being written by another process", "try again"),
    Fault.FULL: (FailureKind.TRANSIENT, "disk_full", "no room on the disk to write {}", "free some space"),
    Fault.LOST: (
        FailureKind.PERMANENT,
        "ledger_corrupt",
        "{} is damaged",
        "the next apply sets it aside and rebuilds it from the store",
    ),
    Fault.READ_ONLY: (
        FailureKind.REFUSED,
        "ledger_read_only",
        "{} cannot be written",
        "check the mount and the permissions",
    ),
    Fault.UNREADABLE: (FailureKind.REFUSED, "ledger_unreadable", "{} cannot be opened", "check who owns the store"),
    Fault.IO: (FailureKind.TRANSIENT, "ledger_io_error", "reading or writing {} failed", "check the disk"),
}


def failure_of(error: sqlite3.Error, path: str) -> Failure | None:
    """The failure to raise instead; None where the error is our own mistake and must not be hidden."""
    meaning = _MEANINGS.get(fault_of(error))
    if meaning is None:
        return None
    kind, reason, message, hint = meaning
    return Failure(kind, reason, message.format(path), hint=hint)


def rethrow(error: sqlite3.Error, path: str) -> NoReturn:
    """Raise what ``error`` means; the error itself where it is our own mistake.

    Raises:
        Failure: sorted, see :func:`failure_of`.
    """
    failure = failure_of(error, path)
    if failure is None:
        raise error
    raise failure from error


def lost(message: str) -> sqlite3.DatabaseError:
    """The error that SQLite would raise, for damage that it does not see itself."""
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
