"""The ledger's door: open, look at everything at once, become a writer, close.

What may be asked of single rows is in the parts by noun (``ledger.models``, ``ledger.revisions``, …), what is recorded
together in :mod:`reconciler.adapters.ledger.recording`.
"""

# ruff: noqa: PTH103, PTH118, PTH119 -- paths are plain strings here: they go into URIs and get suffixes such as -wal

import os
import sqlite3
from collections.abc import Callable
from typing import Self

from reconciler.adapters.ledger.access import Loss
from reconciler.adapters.ledger.brought import all_brought
from reconciler.adapters.ledger.catalogue import all_models
from reconciler.adapters.ledger.events import Events
from reconciler.adapters.ledger.facts import Change, EventType, LedgerFacts
from reconciler.adapters.ledger.failures import all_failures
from reconciler.adapters.ledger.links import all_links
from reconciler.adapters.ledger.loads import all_loads
from reconciler.adapters.ledger.meta import needs_rebuild, read_meta
from reconciler.adapters.ledger.overrides import all_overrides
from reconciler.adapters.ledger.proofs import all_proofs
from reconciler.adapters.ledger.reading import Reader
from reconciler.adapters.ledger.recording import Recording
from reconciler.adapters.ledger.resolutions import all_resolutions
from reconciler.adapters.ledger.revisions import all_revisions
from reconciler.adapters.ledger.writing import Writer

FILE_NAME = "state.db"


class Ledger(Recording):
    """The store's memory. Open it with :meth:`open`, close it with :meth:`close` or as a context."""

    @classmethod
    def open(cls, store_path: str, *, now: Callable[[], float], writable: bool) -> "Ledger":
        """The ledger of a store. Without ``writable`` nothing below the store is created or changed.

        Raises:
            Failure: refused ``ledger_too_new``, ``ledger_unreadable``, ``ledger_read_only``; transient ``ledger_busy``,
                ``disk_full``, ``ledger_io_error``.
        """
        path = os.path.join(store_path, FILE_NAME)
        if not writable:
            ledger = cls(Reader(path, now))
            ledger.is_rebuild_due()  # a newer or unreadable database is told at once
            return ledger
        os.makedirs(store_path, exist_ok=True)
        return cls(_writer(path, now))

    def become_writer(self) -> None:
        """From now on this ledger may write. Nothing happens where it may already.

        Raises:
            Failure: as :meth:`open`.
        """
        if not self.is_writable:
            self._bind(_writer(self._access.path, self._access.now))

    # --- what it is

    @property
    def path(self) -> str:
        """Where the database lies."""
        return self._access.path

    @property
    def is_writable(self) -> bool:
        """Whether it may write."""
        return self._access.is_writable

    @property
    def is_lost(self) -> bool:
        """Opened to read, and what is there cannot be believed: it reads as empty. True from the first read on."""
        return not self.is_writable and self._access.loss is Loss.CORRUPT

    @property
    def was_rebuilt(self) -> bool:
        """Whether the store must be looked through, because this memory began empty; until ``meta.mark_rebuilt()``.

        True where the database is missing, lost or fresh, also when a rebuild was cut off by a crash.
        """
        return self.is_rebuild_due()

    def is_rebuild_due(self) -> bool:
        """See :attr:`was_rebuilt`."""
        return self._access.read(needs_rebuild)

    # --- all at once

    def snapshot(self) -> LedgerFacts:
        """All that observing needs, of one moment."""
        return self._access.read(_snapshot)

    def observe(self, watcher: Callable[[Change], None]) -> Callable[[], None]:
        """Tell ``watcher`` of changed rows after each commit; the answer takes it away. A reader tells nothing."""
        return self._access.observe(watcher) if isinstance(self._access, Writer) else _nothing

    def check(self) -> None:
        """See that what was written can be read by others. A reader finds out whenever it reads.

        Raises:
            Failure: ``ledger_corrupt`` (permanent).
        """
        if isinstance(self._access, Writer):
            self._access.check()

    def reopen(self) -> None:
        """The file was taken away from under an open ledger: begin a new one in its place, that may write.

        Raises:
            Failure: as :meth:`open`.
        """
        self._access.close()
        self._bind(Reader(self._access.path, self._access.now))  # should the next line fail: as a reader until it works
        self._bind(_writer(self._access.path, self._access.now))

    def close(self) -> None:
        """Leave the database clean for readers."""
        self._access.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _writer(path: str, now: Callable[[], float]) -> Writer:
    writer = Writer(path, now)
    if writer.set_aside:
        name = os.path.basename(writer.set_aside)
        message = f"the database could not be believed; it was moved to {name} and is rebuilt from the store"
        Events(writer).record(EventType.WARNING, "ledger_rebuilt", message)
    return writer


def _snapshot(connection: sqlite3.Connection) -> LedgerFacts:
    return LedgerFacts(
        models=all_models(connection),
        revisions=all_revisions(connection),
        proofs=all_proofs(connection),
        failures=all_failures(connection),
        resolutions=all_resolutions(connection),
        overrides=all_overrides(connection),
        loads=all_loads(connection),
        links=all_links(connection),
        meta=read_meta(connection),
        brought=all_brought(connection),
    )


def _nothing() -> None:
    """Taking away a watcher that was never added."""
