"""Failures: what went wrong last, per model and step, and when it may be tried again: back-off is state."""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model
from reconciler.adapters.ledger.facts import FailureRow
from reconciler.core.observed import FailureFact

_FIELDS = "model, spec_digest, kind, reason, message, attempts, retry_at, step, fingerprint, failed_at"


def all_failures(connection: sqlite3.Connection) -> tuple[FailureRow, ...]:
    """Every failure, by model and step."""
    rows = connection.execute(f"SELECT {_FIELDS} FROM failures ORDER BY model, step")  # noqa: S608 -- our own names
    return tuple(
        FailureRow(replace(FailureFact(*fact), step=step), fingerprint, failed_at)
        for *fact, step, fingerprint, failed_at in rows
    )


class Failures:
    """Remember and clear failures."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get_all(self) -> tuple[FailureRow, ...]:
        """Every failure, by model and step."""
        return self._access.read(all_failures)

    def of(self, model: str) -> tuple[FailureRow, ...]:
        """What a model failed at, by step."""
        return tuple(row for row in self.get_all() if row.fact.model == model)

    def save(self, fact: FailureFact, *, fingerprint: str = "") -> None:
        """Remember a failure in place of the last one at the same step. ``fingerprint``: what the source answered."""
        with self._access.transaction() as connection:
            now = self._access.now()
            ensure_model(connection, fact.model, now)
            values = (fact.model, fact.spec_digest, fact.kind, fact.reason, fact.message, fact.attempts, fact.retry_at)
            connection.execute(
                f"INSERT OR REPLACE INTO failures ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (*values, fact.step, fingerprint, now),
            )
            self._access.note("failure", "saved", fact.model)

    def clear(self, model: str | None = None, *, step: str | None = None) -> int:
        """Forget the failures of one model or of all, at one step or at all; how many there were."""
        with self._access.transaction() as connection:
            rows = connection.execute(
                "SELECT model, step FROM failures WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR step = ?2)",
                (model, step),
            ).fetchall()
            self._delete(connection, rows)
        return len(rows)

    def settle(self, model: str, steps: Collection[str]) -> None:
        """Forget the failures of one model at these steps."""
        with self._access.transaction() as connection:
            rows = connection.execute("SELECT model, step FROM failures WHERE model = ?", (model,)).fetchall()
            self._delete(connection, [row for row in rows if row[1] in steps])

    def _delete(self, connection: sqlite3.Connection, rows: Sequence[tuple[str, str]]) -> None:
        if rows:
            connection.executemany("DELETE FROM failures WHERE model = ? AND step = ?", rows)
        for name, _ in rows:
            self._access.note("failure", "deleted", name)
