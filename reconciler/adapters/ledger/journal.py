"""The journal: actions that were begun. One that is still there at start-up was cut off by a crash."""

import json
import sqlite3

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.facts import JournalRow
from reconciler.core.actions import ActionKind


class Journal:
    """Begin, finish and list actions."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def start(self, row: JournalRow) -> None:
        """The action begins; one of the same id is replaced. ``started_at`` 0 means now."""
        with self._access.transaction() as connection:
            paths = json.dumps(row.paths)
            connection.execute(
                "INSERT OR REPLACE INTO journal (id, model, kind, started_at, spec_digest, subject, paths) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row._replace(started_at=row.started_at or self._access.now())[:-1], paths),
            )
            self._access.note("journal", "saved", row.id)

    def finish(self, action_id: str) -> bool:
        """The action ended, however; whether it was known."""
        with self._access.transaction() as connection:
            count = connection.execute("DELETE FROM journal WHERE id = ?", (action_id,)).rowcount
            self._access.note("journal", "deleted", action_id)
        return count > 0

    def clear(self) -> int:
        """Forget all; how many there were."""
        with self._access.transaction() as connection:
            return connection.execute("DELETE FROM journal").rowcount

    def unfinished(self) -> tuple[JournalRow, ...]:
        """What was begun and not finished, oldest first."""
        return self._access.read(_all)


def _all(connection: sqlite3.Connection) -> tuple[JournalRow, ...]:
    rows = connection.execute(
        "SELECT id, model, kind, started_at, spec_digest, subject, paths FROM journal ORDER BY started_at, id"
    )
    return tuple(
        JournalRow(key, model, ActionKind(kind), started_at, spec_digest, subject, tuple(json.loads(paths)))
        for key, model, kind, started_at, spec_digest, subject, paths in rows
    )
