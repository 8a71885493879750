"""Links: the declared links that this tool made, and so the only things outside the store that it may delete.

A link's own path is absolute; what it points at is kept relative to the store.
"""

import sqlite3

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model
from reconciler.adapters.ledger.facts import LinkRow


def all_links(connection: sqlite3.Connection) -> tuple[LinkRow, ...]:
    """Every link, by path."""
    return tuple(map(LinkRow._make, connection.execute("SELECT path, model, target FROM links ORDER BY path")))


class Links:
    """Remember and forget links."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get_all(self) -> tuple[LinkRow, ...]:
        """Every link, by path."""
        return self._access.read(all_links)

    def of(self, model: str) -> tuple[LinkRow, ...]:
        """The links of one model, by path."""
        return tuple(row for row in self.get_all() if row.model == model)

    def save(self, row: LinkRow) -> None:
        """The tool made this link."""
        with self._access.transaction() as connection:
            ensure_model(connection, row.model, self._access.now())
            connection.execute("INSERT OR REPLACE INTO links (path, model, target) VALUES (?, ?, ?)", row)
            self._access.note("link", "saved", row.path)

    def forget(self, path: str) -> bool:
        """The link is gone; whether it was known."""
        with self._access.transaction() as connection:
            count = connection.execute("DELETE FROM links WHERE path = ?", (path,)).rowcount
            self._access.note("link", "deleted", path)
        return count > 0
