"""Lives: each model's lifecycle and its last hundred steps. The table of ``core.lifecycle`` is the law here too."""

import sqlite3
from collections.abc import Collection, Sequence

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model
from reconciler.adapters.ledger.facts import StepRow
from reconciler.core.errors import Failure
from reconciler.core.lifecycle import IN_RUNTIME, Lifecycle, path, recover, transition
from reconciler.core.machine import HISTORY_LENGTH, Machine, Step

_EVENTFUL = frozenset({Lifecycle.CLEANUP, Lifecycle.EVICTED, Lifecycle.QUARANTINED, Lifecycle.DELETED})


class Lives:
    """Walk models through the lifecycle."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def state(self, model: str) -> Lifecycle:
        """Where a model stands; uninitialized where it is not known."""
        return self._access.read(lambda connection: _standing(connection, model)[0])

    def advance(self, model: str, to: Lifecycle) -> Step:
        """One legal step, now.

        Raises:
            Failure: permanent ``illegal_transition``.
        """
        with self._access.transaction() as connection:
            return self._walk(connection, model, [transition(self.state(model), to)])[0]

    def reach(self, model: str, to: Lifecycle) -> tuple[Step, ...]:
        """All steps of the shortest legal way, now; none where the model is there already.

        Raises:
            Failure: permanent ``illegal_transition`` where no way leads there.
        """
        with self._access.transaction() as connection:
            return self._walk(connection, model, path(self.state(model), to))

    def follow(self, model: str, to: Lifecycle) -> tuple[Step, ...]:
        """As :meth:`reach`, where nothing else need have happened on the way; otherwise the model stays as it is.

        A new revision is fetched beside the old one, and a loaded model is hashed again, without ever having been
        evicted or unloaded: such a model keeps its state.
        """
        with self._access.transaction() as connection:
            try:
                way = path(self.state(model), to, avoiding=_EVENTFUL)
            except Failure:
                return ()
            return self._walk(connection, model, way)

    def recover(self, loaded: Collection[str] = ()) -> dict[str, tuple[Lifecycle, Lifecycle]]:
        """Put every model that a crash caught in progress back to its last durable state; what changed, (from, to).

        ``loaded`` are the models that are observed in a runtime: of those a loaded or ready one stays, and one that
        was executing is ready. The falls are recorded as steps, though the table has no such transition.
        """
        changed: dict[str, tuple[Lifecycle, Lifecycle]] = {}
        with self._access.transaction() as connection:
            for name, word in connection.execute("SELECT name, lifecycle FROM models ORDER BY name").fetchall():
                state = Lifecycle(word)
                durable = recover(state)
                if name in loaded and state in IN_RUNTIME:
                    durable = Lifecycle.READY if state is Lifecycle.EXECUTING else state
                if durable is not state:
                    self._walk(connection, name, [durable])
                    changed[name] = (state, durable)
        return changed

    def history(self, model: str) -> tuple[StepRow, ...]:
        """The last hundred steps of a model, oldest first."""
        return self._access.read(lambda connection: _history(connection, model))

    def machine(self, model: str) -> Machine:
        """The model's walk as a value, for durations, averages and counts."""

        def query(connection: sqlite3.Connection) -> Machine:
            state, since = _standing(connection, model)
            steps = tuple(Step(*row[1:]) for row in _history(connection, model))
            return Machine(model, state, since, steps)

        return self._access.read(query)

    def _walk(self, connection: sqlite3.Connection, model: str, way: Sequence[Lifecycle]) -> tuple[Step, ...]:
        """Go through these states now, one after the other; each is a step of its own."""
        if not way:
            return ()
        ensure_model(connection, model, self._access.now())
        state, since = _standing(connection, model)
        steps = []
        for to in way:
            now = self._access.now()
            steps.append(Step(state, to, now, max(now - since, 0.0)))
            self._access.note("lifecycle", "saved", model, (state, to))
            state, since = to, now
        connection.execute(
            "UPDATE models SET lifecycle = ?, lifecycle_since = ?, changed_at = ? WHERE name = ?",
            (state.value, since, since, model),
        )
        connection.executemany(
            "INSERT INTO steps (model, source, target, at, lasted_s) VALUES (?, ?, ?, ?, ?)",
            [(model, step.source.value, step.target.value, step.at, step.lasted_s) for step in steps],
        )
        connection.execute(
            "DELETE FROM steps WHERE model = ?1 AND id <= "
            "(SELECT id FROM steps WHERE model = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (model, HISTORY_LENGTH),
        )
        return tuple(steps)


def _standing(connection: sqlite3.Connection, model: str) -> tuple[Lifecycle, float]:
    row = connection.execute("SELECT lifecycle, lifecycle_since FROM models WHERE name = ?", (model,)).fetchone()
    return (Lifecycle(row[0]), row[1]) if row else (Lifecycle.UNINITIALIZED, 0.0)


def _history(connection: sqlite3.Connection, model: str) -> tuple[StepRow, ...]:
    rows = connection.execute(
        "SELECT model, source, target, at, lasted_s FROM steps WHERE model = ? ORDER BY id", (model,)
    )
    return tuple(
        StepRow(name, Lifecycle(source), Lifecycle(target), at, lasted_s) for name, source, target, at, lasted_s in rows
    )
