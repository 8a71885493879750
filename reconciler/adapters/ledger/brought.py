"""What earlier passes found out about files that nobody declared.

That a file is a blob already, until its model is placed, so that an interruption or a failed sibling does not cost it;
and how large it is at least, so that one without room is not fetched in vain. A hint, not truth: who reads it looks
whether the blob is there.
"""

import sqlite3
from collections.abc import Iterable

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model
from reconciler.adapters.ledger.facts import BroughtRow


def all_brought(connection: sqlite3.Connection) -> dict[tuple[str, str], BroughtRow]:
    """Every row, by (model, path)."""
    rows = connection.execute("SELECT model, path, spec_digest, size_bytes, digest, source, validator FROM brought")
    return {(row.model, row.path): row for row in map(BroughtRow._make, rows)}


class Brought:
    """Remember and forget what was brought of models that are not placed yet."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get_all(self) -> dict[tuple[str, str], BroughtRow]:
        """Every row, by (model, path)."""
        return self._access.read(all_brought)

    def save(self, rows: Iterable[BroughtRow]) -> None:
        """Remember these; a path has one row, the latest."""
        with self._access.transaction() as connection:
            for row in rows:
                ensure_model(connection, row.model, self._access.now())
                connection.execute(
                    "INSERT OR REPLACE INTO brought (model, path, spec_digest, size_bytes, digest, source, validator) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
                self._access.note("brought", "saved", row.model)

    def settle(self, model: str) -> None:
        """The model is placed: its revision says what it is made of; how large the files are is kept."""
        with self._access.transaction() as connection:
            connection.execute("UPDATE brought SET digest = NULL WHERE model = ?", (model,))
