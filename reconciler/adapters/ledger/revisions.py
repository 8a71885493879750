"""Revisions: which files make up a model, now and before. At most one revision of a model is current."""

import sqlite3
from collections.abc import Iterable

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model
from reconciler.adapters.ledger.facts import FileRow, RevisionRow
from reconciler.core.words import Digest, Role

_COLUMNS = (
    "id, model, spec_digest, revision, source, format, archive_digest, installed_at, superseded_at, "
    "signed_by, signed_under"
)
_ORDER = "ORDER BY model, superseded_at IS NOT NULL, superseded_at DESC, installed_at DESC, spec_digest"
_ROLES = {role.value: role for role in Role}


def all_revisions(connection: sqlite3.Connection) -> dict[str, tuple[RevisionRow, ...]]:
    """Every model's revisions, the current one first."""
    return _group(connection, "", "", ())


def revisions_of(connection: sqlite3.Connection, model: str) -> tuple[RevisionRow, ...]:
    """One model's revisions, the current one first."""
    files = "WHERE revision_id IN (SELECT id FROM revisions WHERE model = ?)"
    return _group(connection, files, "WHERE model = ?", (model,)).get(model, ())


def _group(
    connection: sqlite3.Connection, files_where: str, where: str, values: tuple[object, ...]
) -> dict[str, tuple[RevisionRow, ...]]:
    files: dict[int, list[FileRow]] = {}
    query = (
        f"SELECT revision_id, path, digest, size_bytes, role FROM artifacts {files_where} "  # noqa: S608 -- our own
        "ORDER BY revision_id, position"
    )
    for owner, path, digest, size, role in connection.execute(query, values):
        file = FileRow(path, digest, size, _ROLES[role])
        if owner in files:
            files[owner].append(file)
        else:
            files[owner] = [file]
    grouped: dict[str, tuple[RevisionRow, ...]] = {}
    query = f"SELECT {_COLUMNS} FROM revisions {where} {_ORDER}"  # noqa: S608 -- our own names
    for key, model, spec_digest, *rest in connection.execute(query, values):
        row = RevisionRow(model, spec_digest, tuple(files.get(key, ())), *rest)
        grouped[model] = (*grouped[model], row) if model in grouped else (row,)
    return grouped


class Revisions:
    """Find, install and remove revisions."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def of(self, model: str) -> tuple[RevisionRow, ...]:
        """All revisions of a model: the current one first, then the superseded ones, newest first."""
        return self._access.read(lambda connection: revisions_of(connection, model))

    def current(self, model: str) -> RevisionRow | None:
        """The revision under ``models/``."""
        return next((row for row in self.of(model) if row.is_current), None)

    def get(self, model: str, spec_digest: Digest) -> RevisionRow | None:
        """One revision."""
        return next((row for row in self.of(model) if row.spec_digest == spec_digest), None)

    def install(self, row: RevisionRow) -> None:
        """Record the revision, files and all; it becomes current unless ``superseded_at`` is set.

        What was current is superseded now. A revision that is known is replaced (a rollback makes it current again).
        """
        now = self._access.now()
        with self._access.transaction() as connection:
            ensure_model(connection, row.model, now)
            if row.is_current:
                connection.execute(
                    "UPDATE revisions SET superseded_at = ? WHERE model = ? AND superseded_at IS NULL", (now, row.model)
                )
            connection.execute(
                "DELETE FROM revisions WHERE model = ? AND spec_digest = ?", (row.model, row.spec_digest)
            )
            values = (row.model, row.spec_digest, row.revision, row.source, row.format, row.archive_digest)
            key = connection.execute(
                f"INSERT INTO revisions ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (*values, row.installed_at or now, row.superseded_at, row.signed_by, row.signed_under),
            ).lastrowid
            connection.executemany(
                "INSERT INTO artifacts (revision_id, position, path, digest, size_bytes, role) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [(key, position, *file) for position, file in enumerate(row.files)],
            )
            self._access.note("revision", "saved", row.model)

    def remove(self, model: str, spec_digest: Digest) -> RevisionRow | None:
        """Forget one revision and give what it was; the proofs of blobs that nobody else uses go with it."""
        with self._access.transaction() as connection:
            row = next((row for row in revisions_of(connection, model) if row.spec_digest == spec_digest), None)
            if row is None:
                return None
            connection.execute("DELETE FROM revisions WHERE model = ? AND spec_digest = ?", (model, spec_digest))
            connection.executemany(
                "DELETE FROM proofs WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM artifacts WHERE digest = ?1)",
                [(file.digest,) for file in row.files],
            )
            self._access.note("revision", "deleted", model)
        return row

    def users_of(self, digests: Iterable[Digest]) -> dict[Digest, tuple[str, ...]]:
        """Which models have a revision, current or not, with a file of these bytes; unused digests are left out."""
        wanted = tuple(dict.fromkeys(digests))

        def query(connection: sqlite3.Connection) -> dict[Digest, tuple[str, ...]]:
            found = {}
            for digest in wanted:
                rows = connection.execute(
                    "SELECT DISTINCT model FROM artifacts JOIN revisions ON id = revision_id "
                    "WHERE digest = ? ORDER BY model",
                    (digest,),
                ).fetchall()
                if rows:
                    found[digest] = tuple(name for (name,) in rows)
            return found

        return self._access.read(query)
