"""How the repository's parts reach the database: one small protocol, with a reader and a writer behind it."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Protocol, TypeVar

from reconciler.core.lifecycle import Lifecycle

T = TypeVar("T")


class Loss(StrEnum):
    """Why the ledger has nothing to remember."""

    NONE = ""
    MISSING = "missing"  # there is no database, or an empty file
    CORRUPT = "corrupt"  # what is there cannot be believed


class Access(Protocol):
    """The database, for parts that do not care who else uses it."""

    path: str
    now: Callable[[], float]
    loss: Loss
    is_writable: bool

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What ``query`` answers, of one moment."""
        ...

    def transaction(self, *, is_whole: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        """All that is written within is there together or not at all; one inside another joins it.

        Where the outermost ``is_whole``, nobody inside catches a failure of those further in: none is undone alone.
        """
        ...

    def note(self, noun: str, operation: str, key: str, step: tuple[Lifecycle, Lifecycle] | None = None) -> None:
        """Tell observers of a changed row, once the transaction is committed."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
