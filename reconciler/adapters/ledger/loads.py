"""Loads: what this tool loaded into which runtime. Whether it is still there is for the runtime to say."""

import sqlite3

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model
from reconciler.adapters.ledger.facts import LoadRow


def all_loads(connection: sqlite3.Connection) -> tuple[LoadRow, ...]:
    """Every load, by model and runtime."""
    rows = connection.execute("SELECT model, runtime, size_bytes, loaded_at FROM loads ORDER BY model, runtime")
    return tuple(map(LoadRow._make, rows))


class Loads:
    """Remember and forget loads."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get_all(self) -> tuple[LoadRow, ...]:
        """Every load, by model and runtime."""
        return self._access.read(all_loads)

    def of(self, model: str) -> tuple[LoadRow, ...]:
        """Where a model is loaded."""
        return tuple(row for row in self.get_all() if row.model == model)

    def save(self, model: str, runtime: str, size_bytes: int) -> None:
        """The model holds so many bytes of RAM in the runtime since now."""
        with self._access.transaction() as connection:
            now = self._access.now()
            ensure_model(connection, model, now)
            connection.execute(
                "INSERT OR REPLACE INTO loads (model, runtime, size_bytes, loaded_at) VALUES (?, ?, ?, ?)",
                (model, runtime, size_bytes, now),
            )
            self._access.note("load", "saved", model)

    def forget(self, model: str, runtime: str | None = None) -> int:
        """The model is no longer in the runtime, or in any; how many loads there were."""
        with self._access.transaction() as connection:
            count = connection.execute(
                "DELETE FROM loads WHERE model = ?1 AND (?2 IS NULL OR runtime = ?2)", (model, runtime)
            ).rowcount
            self._access.note("load", "deleted", model)
        return count
