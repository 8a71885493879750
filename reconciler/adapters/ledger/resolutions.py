"""Resolutions: what sources said that models are made of, so that a branch stays the commit it was resolved to.

A source URL with a query is left out of what is kept: the query may be a signature or a token, and secrets never reach
the database. Who reads a resolution takes the manifest's own sources for a file that has none here.
"""

import json
import sqlite3
from contextlib import suppress

from reconciler.adapters.ledger.access import Access
from reconciler.adapters.ledger.catalogue import ensure_model
from reconciler.adapters.ledger.facts import ResolutionRow
from reconciler.core.desired import Artifact
from reconciler.core.observed import Resolution
from reconciler.core.words import Digest, Role


def all_resolutions(connection: sqlite3.Connection) -> dict[tuple[str, Digest], ResolutionRow]:
    """Every resolution by (model, spec digest); one that makes no sense is as none: the source is asked again."""
    rows = connection.execute("SELECT model, spec_digest, content, resolved_at FROM resolutions ORDER BY 1, 2")
    found = {}
    for model, spec_digest, content, resolved_at in rows:
        with suppress(ValueError, LookupError, TypeError):
            found[model, spec_digest] = ResolutionRow(_decode(model, spec_digest, content), resolved_at)
    return found


class Resolutions:
    """Remember and forget resolutions."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get(self, model: str, spec_digest: Digest) -> ResolutionRow | None:
        """What one spec was resolved to."""
        return self._access.read(all_resolutions).get((model, spec_digest))

    def save(self, resolution: Resolution) -> None:
        """Remember what a spec was resolved to, now."""
        with self._access.transaction() as connection:
            now = self._access.now()
            ensure_model(connection, resolution.model, now)
            connection.execute(
                "INSERT OR REPLACE INTO resolutions (model, spec_digest, content, resolved_at) VALUES (?, ?, ?, ?)",
                (resolution.model, resolution.spec_digest, _encode(resolution), now),
            )
            self._access.note("resolution", "saved", resolution.model)

    def forget(self, model: str, spec_digest: Digest | None = None) -> int:
        """Forget one resolution of a model, or all; how many there were."""
        with self._access.transaction() as connection:
            count = connection.execute(
                "DELETE FROM resolutions WHERE model = ?1 AND (?2 IS NULL OR spec_digest = ?2)", (model, spec_digest)
            ).rowcount
            self._access.note("resolution", "deleted", model)
        return count


def _encode(resolution: Resolution) -> str:
    files = [
        {
            "path": file.path,
            "sources": [source for source in file.sources if is_kept(source)],
            "digest": file.digest,
            "size": file.size_bytes,
            "role": file.role.value,
            "optional": file.optional,
        }
        for file in resolution.files
    ]
    content = {
        "files": files,
        "revision": resolution.revision,
        "reason": resolution.reason,
        "message": resolution.message,
        "permanent": resolution.is_permanent,
    }
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def is_kept(source: str) -> bool:
    """Whether a source URL can hold no secret: no query and no user information."""
    authority = source.partition("://")[2].partition("/")[0]
    return "?" not in source and "@" not in authority


def _decode(model: str, spec_digest: Digest, content: str) -> Resolution:
    value = json.loads(content)
    files = tuple(
        Artifact(
            path=file["path"],
            sources=tuple(file["sources"]),
            digest=Digest(file["digest"]) if file["digest"] else None,
            size_bytes=file["size"],
            role=Role(file["role"]),
            optional=file["optional"],
        )
        for file in value["files"]
    )
    return Resolution(
        model, spec_digest, files, value["revision"], value["reason"], value["message"], value["permanent"]
    )
