"""Events: the last ten thousand things that happened.

An event like the model's last one is not another row: the row's ``count`` rises and it moves to the end under a new
``seq``, so that who follows by ``seq`` sees it again and a model that fails all night fills one line (``x17 over 8m``).
"""

import sqlite3

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.facts import EventRow, EventType

LIMIT = 10_000
_TRIM_EVERY = 64
_FIELDS = "seq, time, first_time, type, reason, model, message, count"


class Events:
    """Record and read events."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def record(self, kind: EventType, reason: str, message: str, *, model: str = "") -> int:
        """Something happened now; its ``seq``. A model's events are compared among themselves."""
        now = self._access.now()
        with self._access.transaction() as connection:
            last = connection.execute(
                "SELECT seq, type, reason, message FROM events WHERE model = ? ORDER BY seq DESC LIMIT 1", (model,)
            ).fetchone()
            first_time, count = now, 1
            if last is not None and last[1:] == (kind.value, reason, message):
                first_time, count = connection.execute(
                    "SELECT first_time, count + 1 FROM events WHERE seq = ?", last[:1]
                ).fetchone()
                connection.execute("DELETE FROM events WHERE seq = ?", last[:1])
            seq = (
                connection.execute(
                    f"INSERT INTO events ({_FIELDS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 -- our own names
                    (now, first_time, kind.value, reason, model, message, count),
                ).lastrowid
                or 0
            )
            if seq % _TRIM_EVERY == 0:
                _trim(connection)
            self._access.note("event", "saved", model)
        return seq

    def since(self, seq: int = 0, *, limit: int = LIMIT) -> tuple[EventRow, ...]:
        """Events after ``seq``, oldest first; with a limit the oldest of them."""
        return self._select("WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))

    def latest(self, limit: int, *, model: str | None = None) -> tuple[EventRow, ...]:
        """The last events, of one model or of all, oldest first."""
        rows = self._select("WHERE ?1 IS NULL OR model = ?1 ORDER BY seq DESC LIMIT ?2", (model, limit))
        return tuple(reversed(rows))

    def _select(self, clause: str, values: tuple[object, ...]) -> tuple[EventRow, ...]:
        query = f"SELECT {_FIELDS} FROM events {clause}"  # noqa: S608 -- clauses are written above
        return self._access.read(lambda connection: tuple(map(_event, connection.execute(query, values))))


def _event(raw: tuple[int, float, float, str, str, str, str, int]) -> EventRow:
    seq, time, first_time, kind, *rest = raw
    return EventRow(seq, time, first_time, EventType(kind), *rest)  # type: ignore[arg-type]


def _trim(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM events WHERE seq <= (SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?)", (LIMIT,)
    )
