"""Overrides: decisions a person made by hand. Those on one topic, such as pin and unpin, replace each other."""

import sqlite3

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model
from reconciler.core.observed import Override

TOPICS = {
    "pin": "pin",
    "unpin": "pin",
    "load": "load",
    "unload": "load",
    "rollback": "rollback",
    "pause": "hold",
    "cancel": "hold",
}


def all_overrides(connection: sqlite3.Connection) -> tuple[Override, ...]:
    """Every override, by model and kind."""
    rows = connection.execute("SELECT model, kind, made_at, spec_digest FROM overrides ORDER BY model, topic")
    return tuple(Override(*raw) for raw in rows)


class Overrides:
    """Remember and clear overrides."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get_all(self) -> tuple[Override, ...]:
        """Every override, by model and kind."""
        return self._access.read(all_overrides)

    def of(self, model: str) -> tuple[Override, ...]:
        """What was decided by hand about one model."""
        return tuple(row for row in self.get_all() if row.model == model)

    def save(self, override: Override) -> None:
        """Remember a decision in place of the last one on the same topic."""
        with self._access.transaction() as connection:
            ensure_model(connection, override.model, self._access.now())
            connection.execute(
                "INSERT OR REPLACE INTO overrides (model, topic, kind, made_at, spec_digest) VALUES (?, ?, ?, ?, ?)",
                (override.model, TOPICS[override.kind], override.kind, override.made_at, override.spec_digest),
            )
            self._access.note("override", "saved", override.model)

    def clear(self, model: str, *, kind: str | None = None) -> int:
        """Forget one kind of override of a model, or all of them; how many there were."""
        with self._access.transaction() as connection:
            count = connection.execute(
                "DELETE FROM overrides WHERE model = ?1 AND (?2 IS NULL OR kind = ?2)", (model, kind)
            ).rowcount
            self._access.note("override", "deleted", model)
        return count
