"""The verbs that read. None of them writes below the store."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from reconciler.adapters.ledger import EventRow, Ledger
from reconciler.core.document import observed_digest
from reconciler.core.errors import Failure, permanent
from reconciler.core.history import History, RevisionFact, Transition
from reconciler.core.notices import Check, Event, event_from
from reconciler.core.observed import ObservedState
from reconciler.core.ports import CancelToken
from reconciler.core.show import Shown
from reconciler.core.status import Status
from reconciler.core.usage import Df, measure_df
from reconciler.core.why import Why, why
from reconciler.core.words import Role
from reconciler.library.opened import EMPTY, Opened
from reconciler.planning import plan_pass, tell_lost
from reconciler.reconcile import Deadline
from reconciler.resolve import NEVER, Patient
from reconciler.watch import client, marks
from reconciler.watch.live import see_status

FOLLOW_EVERY_S = 0.5
ASK_FOR_S = 10.0  # a person waits for the answer


class Reading(Opened):
    """What is there, what happened, and why."""

    def status(self) -> Status:
        """State, conditions and reasons of every model."""
        live = self._live()
        with self.world.ledger() as ledger:
            return see_status(self.world, ledger, self._in_force(ledger), live, is_kept=self.desired is None)

    def why(self, name: str, *, offline: bool = False) -> Why:
        """The chain of facts behind the present decision on one model, and the smallest change that would turn it.

        Origins are asked for sizes that nobody declared, as :meth:`plan` does, but not for long.
        """
        with self.world.ledger() as ledger:
            asking = Deadline(NEVER, ASK_FOR_S)
            made = plan_pass(
                self.world, self._in_force(ledger) or EMPTY, ledger, offline=offline, asker=Patient(asking)
            )
            return why(made.desired, made.sight.observed, name)

    def snapshot(self) -> ObservedState:
        """Everything that a plan for this machine needs, and no secret."""
        with self.world.ledger() as ledger:
            observed = plan_pass(self.world, self._in_force(ledger) or EMPTY, ledger).sight.observed
        return replace(observed, digest=observed_digest(observed))

    def path(self, name: str) -> str:
        """The absolute path of a model's primary file.

        Raises:
            Failure: permanent ``not_present``.
        """
        with self.world.ledger() as ledger:
            row = ledger.revisions.current(name)
        primary = next((file for file in row.files if file.role is Role.PRIMARY), None) if row else None
        path = self.world.store.placed_path(name, primary.path) if primary else ""
        if not path or not os.path.exists(path):  # noqa: PTH110
            raise permanent("not_present", f"{name} is not in the store", hint="run reconciler apply")
        return path

    def events(self, after: int = 0, model: str | None = None, limit: int | None = None) -> Sequence[Event]:
        """What happened, oldest first: after a sequence number, or the last ``limit``."""
        with self.world.ledger() as ledger:
            found = _events(ledger, after, model, limit)
            tell_lost(ledger)
            return found

    def follow_events(self, after: int, model: str | None, cancel: CancelToken) -> Iterator[Event]:
        """Events later than ``after`` as they happen, until cancelled, or until the watch that tells them stops."""
        if self._live().pid:
            keys = {"after": after, "model": model, "follow": True}
            for answer in client.follow(self.store_path, "events", cancel, **keys):
                yield event_from(answer["event"])
            return
        while not cancel.is_set():
            with self.world.ledger() as ledger:
                found = _events(ledger, after, model, None)
            for event in found:
                after = event.seq
                yield event
            cancel.wait(FOLLOW_EVERY_S)

    def history(self, name: str) -> History:
        """One model's lifecycle and revisions.

        Raises:
            Failure: permanent ``unknown_model``, ``ledger_lost``.
        """
        with self.world.ledger() as ledger:
            if ledger.is_lost:
                text = f"the history of {name} is lost: {ledger.path} cannot be believed"
                raise permanent("ledger_lost", text, hint="the next apply rebuilds the database; history begins anew")
        return self._read_history(name)

    def _read_history(self, name: str) -> History:
        with self.world.ledger() as ledger:
            row = marks.known(ledger, name)
            steps = ledger.lives.history(name)
            stored = ledger.revisions.of(name)
        return History(
            model=name,
            lifecycle=row.lifecycle.value,
            transitions=tuple(Transition(s.at, s.source.value, s.target.value, s.lasted_s) for s in steps),
            revisions=tuple(
                RevisionFact(
                    r.spec_digest, r.revision, sum(f.size_bytes for f in r.files), r.installed_at, r.is_current
                )
                for r in stored
            ),
            use_count=row.use_count,
            last_used=row.last_used or None,
        )

    def show(self, name: str) -> Shown:
        """Everything that is known of one model; the headers of its files are read now.

        Raises:
            Failure: permanent ``unknown_model``.
        """
        from reconciler.library.showing import show_model  # noqa: PLC0415 -- the readers of formats

        live, history = self._live(), self._history(name)
        with self.world.ledger() as ledger:
            return show_model(self.world, ledger, self._in_force(ledger), live, history)

    def _history(self, name: str) -> History:
        """Also of a model that the ledger does not know: it has none."""
        try:
            return self._read_history(name)
        except Failure:
            return History(name, "", (), (), 0, None)

    def df(self) -> Df:
        """What the store takes, by part, format and model."""
        with self.world.ledger() as ledger:
            desired = self._in_force(ledger) or EMPTY
            made = plan_pass(self.world, desired, ledger, offline=True)
        return measure_df(desired.cache, made.sight.observed)

    def doctor(self) -> Sequence[Check]:
        """Whether store, clock, disk, database and plug-ins are fit."""
        from reconciler.doctor import examine  # noqa: PLC0415

        return examine(self.world)


def _events(ledger: Ledger, after: int, model: str | None, limit: int | None) -> list[Event]:
    if model is None and after:
        rows = ledger.events.since(after, limit=limit or 10_000)
    else:
        rows = ledger.events.latest(limit or 10_000, model=model)
    return [_event(row) for row in rows if row.seq > after]


def _event(row: EventRow) -> Event:
    return Event(row.seq, row.time, row.type.value, row.reason, row.model, row.message, row.count)
