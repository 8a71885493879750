"""The ledger: its parts by noun, and what is recorded in one transaction because it is one thing that happened.

``with ledger.transaction():`` groups any calls; each ``record_…`` is a transaction of its own, or joins the one around
it. The lifecycle goes along by the shortest legal way, so that the executor need not tell every state.
"""

# ruff: noqa: PTH103, PTH118, PTH119 -- paths are plain strings here: they go into URIs and get suffixes such as -wal

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Self

from reconciler.adapters.ledger.access import Access, Loss
from reconciler.adapters.ledger.catalogue import Models, all_models
from reconciler.adapters.ledger.events import Events
from reconciler.adapters.ledger.facts import Change, EventType, Installed, JournalRow, LedgerFacts, RevisionRow
from reconciler.adapters.ledger.failures import Failures, all_failures
from reconciler.adapters.ledger.journal import Journal
from reconciler.adapters.ledger.links import Links, all_links
from reconciler.adapters.ledger.lives import Lives
from reconciler.adapters.ledger.loads import Loads, all_loads
from reconciler.adapters.ledger.meta import MetaFacts, needs_rebuild, read_meta
from reconciler.adapters.ledger.overrides import Overrides, all_overrides
from reconciler.adapters.ledger.proofs import Proofs, all_proofs
from reconciler.adapters.ledger.reading import Reader
from reconciler.adapters.ledger.resolutions import Resolutions, all_resolutions
from reconciler.adapters.ledger.revisions import Revisions, all_revisions
from reconciler.adapters.ledger.usage import Usage
from reconciler.adapters.ledger.writing import Writer
from reconciler.core.lifecycle import ON_DISK, Lifecycle
from reconciler.core.ports import Proof
from reconciler.core.state import Digest, FailureFact, FileStat

FILE_NAME = "state.db"


class Ledger:
    """The store's memory. Open it with :meth:`open`, close it with :meth:`close` or as a context."""

    def __init__(self, access: Access) -> None:
        self._bind(access)

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

    def _bind(self, access: Access) -> None:
        self._access = access
        self.models = Models(access)
        self.revisions = Revisions(access)
        self.proofs = Proofs(access)
        self.failures = Failures(access)
        self.resolutions = Resolutions(access)
        self.overrides = Overrides(access)
        self.loads = Loads(access)
        self.links = Links(access)
        self.journal = Journal(access)
        self.events = Events(access)
        self.usage = Usage(access)
        self.lives = Lives(access)
        self.meta = MetaFacts(access)

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

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Group writes: together or not at all, and one sync of the disk."""
        return self._access.transaction()

    def observe(self, watcher: Callable[[Change], None]) -> Callable[[], None]:
        """Tell ``watcher`` of changed rows after each commit; the answer takes it away. A reader tells nothing."""
        return self._access.observe(watcher) if isinstance(self._access, Writer) else _nothing

    def close(self) -> None:
        """Leave the database clean for readers."""
        self._access.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- things that happened

    def start_action(self, row: JournalRow, lifecycle: Lifecycle | None = None) -> None:
        """An action begins; with ``lifecycle`` the model goes there."""
        with self.transaction():
            self.journal.start(row)
            if lifecycle is not None:
                self.lives.reach(row.model, lifecycle)

    def finish_action(self, action_id: str, lifecycle: Lifecycle | None = None, *, model: str = "") -> None:
        """An action ended, however; with ``lifecycle`` the ``model`` goes there."""
        with self.transaction():
            self.journal.finish(action_id)
            if lifecycle is not None and model:
                self.lives.reach(model, lifecycle)

    def record_installed(self, installed: Installed) -> None:
        """A model was placed: revision, files, proofs, catalogue row, lifecycle, event, and its failures are over."""
        with self.transaction():
            self._record_catalogue(installed)
            self.revisions.install(
                RevisionRow(
                    installed.model,
                    installed.spec_digest,
                    installed.files,
                    installed.revision,
                    installed.source,
                    installed.format,
                    installed.archive_digest,
                )
            )
            self.proofs.save(installed.proofs)
            self.failures.clear(installed.model, step="download")
            self.failures.clear(installed.model, step="extract")
            self._end(installed.model, Lifecycle.VALIDATED, installed.action_id)
            self._tell("installed", installed.message, installed.model)

    def record_verified(self, model: str, proofs: Iterable[Proof], *, action_id: str = "", message: str = "") -> None:
        """Files of a model were hashed and found right."""
        with self.transaction():
            self.proofs.save(proofs)
            self.failures.clear(model, step="verify")
            self._end(model, Lifecycle.VALIDATED, action_id)
            self._tell("verified", message, model)

    def record_verified_blob(self, digest: Digest, stat: FileStat) -> None:
        """One blob was hashed and found right just now, whoever uses it."""
        self.proofs.save([Proof(digest, stat, self._access.now())])

    def record_quarantined(
        self, model: str, digests: Iterable[Digest], *, action_id: str = "", message: str = ""
    ) -> None:
        """Files of a model were hashed and found wrong: their proofs go; the revision stays as what should be."""
        with self.transaction():
            self.proofs.forget(digests)
            self.lives.reach(model, Lifecycle.QUARANTINED)
            self.journal.finish(action_id)
            self._tell("quarantined", message, model, EventType.WARNING)

    def record_evicted(
        self, model: str, spec_digest: Digest, *, action_id: str = "", message: str = ""
    ) -> RevisionRow | None:
        """A revision's files are gone from the store; what it was. The catalogue row stays.

        Where it was the current one the model is evicted, and its loads and links are forgotten: the files went last.
        """
        with self.transaction():
            row = self.revisions.remove(model, spec_digest)
            if row is None or row.is_current:
                self.loads.forget(model)
                for link in self.links.of(model):
                    self.links.forget(link.path)
                if self.lives.state(model) in ON_DISK:
                    self.lives.reach(model, Lifecycle.EVICTED)
            self.journal.finish(action_id)
            self._tell("evicted", message, model)
        return row

    def record_failure(
        self, fact: FailureFact, *, fingerprint: str = "", action_id: str = "", lifecycle: Lifecycle = Lifecycle.ERROR
    ) -> None:
        """A step failed: remembered with when to try again, told as an event, the model in ``lifecycle``."""
        with self.transaction():
            self.failures.save(fact, fingerprint=fingerprint)
            self.lives.reach(fact.model, lifecycle)
            self.journal.finish(action_id)
            self._tell(fact.reason, fact.message, fact.model, EventType.WARNING)

    def clear_failure(self, model: str | None = None, *, step: str | None = None) -> int:
        """Forget failures of one model or of all; how many there were. The lifecycle goes on with the next action."""
        return self.failures.clear(model, step=step)

    def record_load(self, model: str, runtime: str, size_bytes: int, *, action_id: str = "", message: str = "") -> None:
        """A model was observed loaded, holding so many bytes of RAM."""
        with self.transaction() as connection:
            self.loads.save(model, runtime, size_bytes)
            connection.execute("UPDATE models SET memory_bytes = ? WHERE name = ?", (size_bytes, model))
            self.failures.clear(model, step="load")
            self._end(model, Lifecycle.READY, action_id)
            self._tell("loaded", message, model)

    def record_unload(self, model: str, runtime: str | None = None, *, action_id: str = "", message: str = "") -> None:
        """A model was observed gone from a runtime, or from all."""
        with self.transaction():
            self.loads.forget(model, runtime)
            self.failures.clear(model, step="unload")
            if not self.loads.of(model):
                self._end(model, Lifecycle.VALIDATED, "")
            self.journal.finish(action_id)
            self._tell("unloaded", message, model)

    def record_use(self, model: str, times: int = 1) -> None:
        """The model was used now."""
        self.usage.record(model, times)

    def _record_catalogue(self, installed: Installed) -> None:
        from_files = sum(file.size_bytes for file in installed.files)
        known = {
            "metadata": installed.metadata or None,
            "priority": installed.priority,
            "pinned": installed.pinned,
            "category": installed.category or None,
            "format": installed.format or None,
            "source": installed.source or None,
            "download_bytes": installed.download_bytes,
            "memory_bytes": installed.memory_bytes,
            "spec_digest": installed.spec_digest,
            "size_bytes": from_files,
        }
        self.models.update(installed.model, {key: value for key, value in known.items() if value is not None})

    def _end(self, model: str, lifecycle: Lifecycle, action_id: str) -> None:
        self.lives.reach(model, lifecycle)
        self.journal.finish(action_id)

    def _tell(self, reason: str, message: str, model: str, kind: EventType = EventType.NORMAL) -> None:
        if message:
            self.events.record(kind, reason, message, model=model)


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
    )


def _nothing() -> None:
    """Taking away a watcher that was never added."""
