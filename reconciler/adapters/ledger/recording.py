"""What is recorded in one transaction because it is one thing that happened.

``with ledger.transaction():`` groups any calls; each ``record_…`` is a transaction of its own, or joins the one around
it. The lifecycle goes along by the shortest legal way, so that the executor need not tell every state.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.brought import Brought
from reconciler.adapters.ledger.catalogue import Models
from reconciler.adapters.ledger.events import Events
from reconciler.adapters.ledger.facts import EventType, Installed, JournalRow, RevisionRow
from reconciler.adapters.ledger.failures import Failures
from reconciler.adapters.ledger.journal import Journal
from reconciler.adapters.ledger.links import Links
from reconciler.adapters.ledger.lives import Lives
from reconciler.adapters.ledger.loads import Loads
from reconciler.adapters.ledger.meta import MetaFacts
from reconciler.adapters.ledger.overrides import Overrides
from reconciler.adapters.ledger.proofs import Proofs
from reconciler.adapters.ledger.resolutions import Resolutions
from reconciler.adapters.ledger.revisions import Revisions
from reconciler.adapters.ledger.usage import Usage
from reconciler.core.lifecycle import IN_RUNTIME, ON_DISK, Lifecycle
from reconciler.core.observed import FailureFact
from reconciler.core.ports import Proof
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest

_SETTLED_BY_INSTALLING = ("download", "verify", "extract", "link", "adopt")


class Recording:
    """The parts by noun, and the things that happen to several of them at once."""

    def __init__(self, access: Access) -> None:
        self._bind(access)

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
        self.brought = Brought(access)

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Group writes: together or not at all, and one sync of the disk."""
        return self._access.transaction()

    def start_action(self, row: JournalRow, lifecycle: Lifecycle | None = None) -> None:
        """An action begins; with ``lifecycle`` the model goes there, see :meth:`Lives.follow`."""
        with self.transaction():
            self.journal.start(row)
            if lifecycle is not None:
                self.lives.follow(row.model, lifecycle)

    def finish_action(self, action_id: str, lifecycle: Lifecycle | None = None, *, model: str = "") -> None:
        """An action ended, however; with ``lifecycle`` the ``model`` goes there, see :meth:`Lives.follow`."""
        with self.transaction():
            self.journal.finish(action_id)
            if lifecycle is not None and model:
                self.lives.follow(model, lifecycle)

    def record_installed(self, installed: Installed) -> None:
        """A model was placed: revision, files, proofs, catalogue row, lifecycle, event, and its failures are over."""
        with self._access.transaction(is_whole=True):
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
                    signed_by=installed.signed_by,
                    signed_under=installed.signed_under,
                )
            )
            self.proofs.save(installed.proofs)
            self.brought.settle(installed.model)
            self.failures.settle(installed.model, _SETTLED_BY_INSTALLING)
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

        Where it was the current one the model is evicted, and its loads and links are forgotten with it.
        """
        with self.transaction():
            row = self.revisions.remove(model, spec_digest)
            if self.revisions.current(model) is None:
                self.loads.forget(model)
                for link in self.links.of(model):
                    self.links.forget(link.path)
                self._leave_disk(model)
            self.journal.finish(action_id)
            self._tell("evicted", message, model)
        return row

    def record_failure(
        self, fact: FailureFact, *, fingerprint: str = "", action_id: str = "", lifecycle: Lifecycle = Lifecycle.ERROR
    ) -> None:
        """A step failed: remembered with when to try again, told as an event, the model in ``lifecycle``.

        A model that is loaded stays so: the failure of another step takes nothing from it.
        """
        with self.transaction():
            self.failures.save(fact, fingerprint=fingerprint)
            if self.lives.state(fact.model) not in IN_RUNTIME:
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
            if not self.loads.of(model) and self.lives.state(model) in IN_RUNTIME:
                self.lives.reach(model, Lifecycle.VALIDATED)
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

    def _leave_disk(self, model: str) -> None:
        state = self.lives.state(model)
        if state in ON_DISK or state is Lifecycle.ERROR:
            self.lives.reach(model, Lifecycle.EVICTED)
        elif state is Lifecycle.QUARANTINED:
            self.lives.reach(model, Lifecycle.DISCOVERED)

    def _end(self, model: str, lifecycle: Lifecycle, action_id: str) -> None:
        self.lives.follow(model, lifecycle)
        self.journal.finish(action_id)

    def _tell(self, reason: str, message: str, model: str, kind: EventType = EventType.NORMAL) -> None:
        if message:
            self.events.record(kind, reason, message, model=model)
