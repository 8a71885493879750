"""Models: the catalogue. A row outlives the model's files; only :meth:`Models.forget` and ``purge`` remove one."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.facts import ModelRow, Origin
from reconciler.core.lifecycle import ON_DISK, Lifecycle
from reconciler.core.words import Priority

_COLUMNS = ", ".join(ModelRow._fields)
_CATALOGUE = ("spec_digest", "category", "format", "metadata", "source", "download_bytes", "origin", "priority")
_ORIGINS = {origin.value: origin for origin in Origin}
_PRIORITIES: dict[int | None, Priority | None] = {None: None, **{int(priority): priority for priority in Priority}}
_STATES = {state.value: state for state in Lifecycle}
_STRENGTH = tuple(Origin)
_DOWNLOADED = ", ".join(f"'{state}'" for state in Lifecycle if state in ON_DISK)


def model_row(raw: tuple[Any, ...]) -> ModelRow:
    """The row of a ``SELECT`` of all columns in their order."""
    return ModelRow(*raw[:-4], _ORIGINS[raw[-4]], _PRIORITIES[raw[-3]], _STATES[raw[-2]], raw[-1] == 1)  # type: ignore[call-arg]


def all_models(connection: sqlite3.Connection) -> dict[str, ModelRow]:
    """Every row by name."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM models ORDER BY name")  # noqa: S608 -- our own names
    return {raw[0]: model_row(raw) for raw in rows}


def ensure_model(connection: sqlite3.Connection, name: str, now: float) -> None:
    """See that the model has a row."""
    connection.execute(
        "INSERT INTO models (name, created_at, changed_at, lifecycle_since) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (name, now, now, now),
    )


class Models:
    """Find, save and count catalogue rows."""

    def __init__(self, access: Access) -> None:
        self._access = access

    # --- one row

    def get(self, name: str) -> ModelRow | None:
        """The row of ``name``."""
        found = self._select("WHERE name = ?", (name,))
        return found[0] if found else None

    def save(self, row: ModelRow) -> None:
        """Insert the row, or replace every column of it. ``created_at`` of a known row stays, ``changed_at`` is now."""
        now = self._access.now()
        kept = self.get(row.name)
        values = row._replace(created_at=kept.created_at if kept else row.created_at or now, changed_at=now)
        with self._access.transaction() as connection:
            columns = ModelRow._fields
            update = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
            connection.execute(
                f"INSERT INTO models ({_COLUMNS}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608 -- our own names
                f"ON CONFLICT (name) DO UPDATE SET {update}",
                tuple(values),
            )
            self._access.note("model", "saved", row.name)

    def update(self, name: str, values: Mapping[str, object]) -> None:
        """Set some columns of a row, which is made where there is none. Keys are fields of :class:`ModelRow`."""
        unknown = values.keys() - set(ModelRow._fields[1:])
        if unknown:
            raise KeyError(f"no such column: {', '.join(sorted(unknown))}")
        with self._access.transaction() as connection:
            now = self._access.now()
            ensure_model(connection, name, now)
            settings = ", ".join(f"{column} = ?" for column in ("changed_at", *values))
            connection.execute(
                f"UPDATE models SET {settings} WHERE name = ?",  # noqa: S608 -- columns are checked above
                (now, *values.values(), name),
            )
            self._access.note("model", "saved", name)

    def merge(self, remote: ModelRow) -> ModelRow:
        """Take over what another place says of a model, and give the result.

        Catalogue fields come from ``remote`` unless the row here has a stronger origin; runtime fields stay as they
        are here; of the usage the larger counts.
        """
        with self._access.transaction():
            local = self.get(remote.name)
            merged = merge_rows(local or ModelRow(remote.name, origin=Origin.DEFAULTS), remote)
            self.save(merged)
        return merged

    def delete(self, name: str) -> bool:
        """Mark the model evicted; its row stays. Whether there was one."""
        with self._access.transaction() as connection:
            now = self._access.now()
            changed = connection.execute(
                "UPDATE models SET lifecycle = 'evicted', lifecycle_since = ?, changed_at = ? WHERE name = ?",
                (now, now, name),
            ).rowcount
            self._access.note("model", "saved", name)
        return changed > 0

    def forget(self, name: str) -> bool:
        """Remove the row and all that hangs on it. Whether there was one."""
        with self._access.transaction() as connection:
            changed = connection.execute("DELETE FROM models WHERE name = ?", (name,)).rowcount
            self._access.note("model", "deleted", name)
        return changed > 0

    # --- many rows

    def get_all(self) -> dict[str, ModelRow]:
        """Every row by name."""
        return self._access.read(all_models)

    def by_category(self, category: str) -> list[ModelRow]:
        """Rows of one category, by name."""
        return self._select("WHERE category = ? ORDER BY name", (category,))

    def by_format(self, format_name: str) -> list[ModelRow]:
        """Rows of one format, by name."""
        return self._select("WHERE format = ? ORDER BY name", (format_name,))

    def downloaded(self) -> list[ModelRow]:
        """Rows whose lifecycle says that their files are on disk, by name."""
        return self._select(f"WHERE lifecycle IN ({_DOWNLOADED}) ORDER BY name")

    def recently_used(self, limit: int) -> list[ModelRow]:
        """The rows used last, newest first; never used ones are left out."""
        return self._select("WHERE last_used > 0 ORDER BY last_used DESC, name LIMIT ?", (limit,))

    def by_size(self, limit_bytes: int | None = None) -> list[ModelRow]:
        """Rows by size on disk, largest first; with a limit only those that are not larger."""
        if limit_bytes is None:
            return self._select("ORDER BY size_bytes DESC, name")
        return self._select("WHERE size_bytes <= ? ORDER BY size_bytes DESC, name", (limit_bytes,))

    def search(self, text: str) -> list[ModelRow]:
        """Rows whose name, category, format, source or metadata holds ``text``, whatever the case of ASCII letters."""
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        places = ("name", "category", "format", "source", "metadata")
        where = " OR ".join(f"{place} LIKE ? ESCAPE '\\'" for place in places)
        return self._select(f"WHERE {where} ORDER BY name", (pattern,) * len(places))

    def pending_sync(self) -> list[ModelRow]:
        """Rows that changed since they were last synced, by name."""
        return self._select("WHERE synced_at IS NULL OR changed_at > synced_at ORDER BY name")

    def mark_synced(self, names: Iterable[str]) -> None:
        """These rows are known elsewhere now."""
        with self._access.transaction() as connection:
            rows = [(self._access.now(), name) for name in names]
            connection.executemany("UPDATE models SET synced_at = max(?, changed_at) WHERE name = ?", rows)

    def counts(self) -> dict[Lifecycle, int]:
        """How many rows are in each state; every state is there."""
        rows = self._access.read(
            lambda connection: connection.execute(
                "SELECT lifecycle, count(*) FROM models GROUP BY lifecycle"
            ).fetchall()
        )
        return {**dict.fromkeys(Lifecycle, 0), **{Lifecycle(state): count for state, count in rows}}

    def total_bytes(self) -> int:
        """Bytes on disk of all downloaded models; what two of them share counts twice."""
        query = f"SELECT coalesce(sum(size_bytes), 0) FROM models WHERE lifecycle IN ({_DOWNLOADED})"  # noqa: S608
        return int(self._access.read(lambda connection: connection.execute(query).fetchone()[0]))

    def purge(self) -> int:
        """Remove the rows of models that are not downloaded, not pinned and have no revision; how many."""
        with self._access.transaction() as connection:
            rows = connection.execute(
                f"SELECT name FROM models WHERE lifecycle NOT IN ({_DOWNLOADED}) AND pinned = 0 "  # noqa: S608
                "AND NOT EXISTS (SELECT 1 FROM revisions WHERE model = name) "
                "AND NOT EXISTS (SELECT 1 FROM overrides WHERE model = name)"
            ).fetchall()
            for (name,) in rows:
                self.forget(name)
        return len(rows)

    def _select(self, clause: str, values: tuple[object, ...] = ()) -> list[ModelRow]:
        query = f"SELECT {_COLUMNS} FROM models {clause}"  # noqa: S608 -- clauses are written above
        return self._access.read(lambda connection: [model_row(raw) for raw in connection.execute(query, values)])


def merge_rows(local: ModelRow, remote: ModelRow) -> ModelRow:
    """See :meth:`Models.merge`."""
    usage: dict[str, Any] = {
        "last_used": max(local.last_used, remote.last_used),
        "use_count": max(local.use_count, remote.use_count),
    }
    if _STRENGTH.index(local.origin) > _STRENGTH.index(remote.origin):
        return local._replace(**usage)
    return local._replace(**{name: getattr(remote, name) for name in _CATALOGUE}, **usage)
