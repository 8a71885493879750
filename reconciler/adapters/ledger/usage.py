"""Usage: when a model was last used, how often, and how often on each day (UTC)."""

import sqlite3
from datetime import UTC, datetime

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model

DAYS = 366


def day_of(moment: float) -> str:
    """The UTC day of a time, as ``2026-11-01``."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


class Usage:
    """Count uses."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def record(self, model: str, times: int = 1, *, at: float | None = None) -> None:
        """The model was used, now or at a time that a runtime told: last use, count and day in one transaction.

        A late report never moves the last use back.
        """
        moment = self._access.now() if at is None else at
        with self._access.transaction() as connection:
            ensure_model(connection, model, self._access.now())
            connection.execute(
                "UPDATE models SET last_used = max(last_used, ?), use_count = use_count + ? WHERE name = ?",
                (moment, times, model),
            )
            connection.execute(
                "INSERT INTO usage (model, day, count) VALUES (?, ?, ?) "
                "ON CONFLICT (model, day) DO UPDATE SET count = count + excluded.count",
                (model, day_of(moment), times),
            )
            connection.execute(
                "DELETE FROM usage WHERE model = ?1 AND day < (SELECT day FROM usage WHERE model = ?1 "
                "ORDER BY day DESC LIMIT 1 OFFSET ?2)",
                (model, DAYS - 1),
            )
            self._access.note("model", "saved", model)

    def days(self, model: str) -> dict[str, int]:
        """Uses per day, oldest first; days without use are left out."""

        def query(connection: sqlite3.Connection) -> dict[str, int]:
            return dict(connection.execute("SELECT day, count FROM usage WHERE model = ? ORDER BY day", (model,)))

        return self._access.read(query)
