"""Meta: facts about the store as a whole, the last good manifest, the last passes, and how fast downloads were."""

import math
import sqlite3
from typing import Any

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.facts import LastGood, Meta, PassRow

PASSES = 5
SAMPLES = 20
_LAST_GOOD = ("manifest", "manifest_label", "manifest_generation", "manifest_saved_at")
_SMALL = ("generation", "suspended_until", "last_cleanup_at", "device_id", "conditions")


def read_meta(connection: sqlite3.Connection) -> Meta:
    """All but the manifest's bytes."""
    values = _values(connection, _SMALL)
    rows = connection.execute("SELECT started_at, seconds, generation, outcome FROM passes ORDER BY id DESC")
    return Meta(**values, passes=tuple(map(PassRow._make, rows)), throughput_bytes_per_s=_throughput(connection))


def _throughput(connection: sqlite3.Connection) -> float | None:
    """Bytes per second over the last downloads, large ones counting more; None where there were none."""
    size_bytes, seconds = connection.execute("SELECT sum(size_bytes), sum(seconds) FROM throughput").fetchone()
    return size_bytes / seconds if seconds else None


def needs_rebuild(connection: sqlite3.Connection) -> bool:
    """Whether the store was not yet looked through since this database was made."""
    return bool(_values(connection, ("needs_rebuild",)))


def _values(connection: sqlite3.Connection, keys: tuple[str, ...]) -> dict[str, Any]:
    marks = ", ".join("?" * len(keys))
    return dict(connection.execute(f"SELECT key, value FROM meta WHERE key IN ({marks})", keys))  # noqa: S608


class MetaFacts:
    """Read and set facts about the whole."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get(self) -> Meta:
        """All but the manifest's bytes."""
        return self._access.read(read_meta)

    def set_generation(self, generation: str) -> None:
        """The digest of the manifest in force."""
        self._set(generation=generation)

    def set_device_id(self, device_id: str) -> None:
        """What roll-outs select this machine by."""
        self._set(device_id=device_id)

    def save_conditions(self, content: str) -> None:
        """The conditions that a watch told last, as JSON text."""
        self._set(conditions=content)

    def set_last_cleanup(self, at: float) -> None:
        """When the last automatic clean-up was."""
        self._set(last_cleanup_at=at)

    def suspend(self, until: float = math.inf) -> None:
        """Nothing is done until then (``inf``: until resumed)."""
        self._set(suspended_until=until)

    def resume(self) -> None:
        """Go on."""
        self._set(suspended_until=None)

    def mark_rebuilt(self) -> None:
        """The store was looked through: this database is whole."""
        self._set(needs_rebuild=None)

    def save_last_good(self, content: bytes, label: str, generation: str) -> None:
        """This manifest is valid and in force. ``content`` is as read: references to secrets, never secrets."""
        self._set(
            generation=generation,
            manifest=content,
            manifest_label=label,
            manifest_generation=generation,
            manifest_saved_at=self._access.now(),
        )

    def last_good(self) -> LastGood | None:
        """The manifest that was last valid."""
        values = self._access.read(lambda connection: _values(connection, _LAST_GOOD))
        return LastGood(*(values[key] for key in _LAST_GOOD)) if len(values) == len(_LAST_GOOD) else None

    def record_pass(self, row: PassRow) -> None:
        """A pass ended; the last five are kept."""
        with self._access.transaction() as connection:
            connection.execute("INSERT INTO passes (started_at, seconds, generation, outcome) VALUES (?, ?, ?, ?)", row)
            _keep(connection, "passes", PASSES)
            self._access.note("pass", "saved", row.generation)

    def record_throughput(self, size_bytes: int, seconds: float) -> None:
        """So many bytes were downloaded in so long; samples of nothing are left out."""
        if size_bytes <= 0 or seconds <= 0:
            return
        with self._access.transaction() as connection:
            connection.execute(
                "INSERT INTO throughput (at, size_bytes, seconds) VALUES (?, ?, ?)",
                (self._access.now(), size_bytes, seconds),
            )
            _keep(connection, "throughput", SAMPLES)

    def throughput(self) -> float | None:
        """As :class:`Meta` has it."""
        return self._access.read(_throughput)

    def _set(self, **values: str | float | bytes | None) -> None:
        with self._access.transaction() as connection:
            for key, value in values.items():
                if value is None:
                    connection.execute("DELETE FROM meta WHERE key = ?", (key,))
                else:
                    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
                self._access.note("meta", "deleted" if value is None else "saved", key)


def _keep(connection: sqlite3.Connection, table: str, count: int) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE id <= (SELECT id FROM {table} ORDER BY id DESC LIMIT 1 OFFSET ?)",  # noqa: S608
        (count,),
    )
