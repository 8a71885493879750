"""Digests of values: the generation of a manifest, the spec of a model, the plan.

All go through one canonical text: JSON with sorted keys and no white space, of plain values only.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.words import Digest


def digest_bytes(data: bytes) -> Digest:
    """The digest of bytes."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def digest_value(value: Any) -> Digest:
    """The digest of a JSON value; equal values give equal digests whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return digest_bytes(text.encode())


def spec_digest(model: DesiredModel) -> Digest:
    """Changes exactly where the manifest asks for other bytes.

    An artifact whose digest is declared is those bytes, wherever they come from; one without is whatever its first
    source serves. Priority, state, links, metadata and mirrors do not count.
    """
    return digest_value(
        {
            "files": [_identity(artifact) for artifact in model.artifacts],
            "extract": model.extract.value,
            "include": list(model.include),
            "exclude": list(model.exclude),
        }
    )


def links_digest(model: DesiredModel) -> Digest:
    """Under what a failure to make links is remembered: other bytes or other links are another matter."""
    return digest_value([model.spec_digest, list(model.links)])


def terms_digest(model: DesiredModel, mirrors: Iterable[str]) -> Digest:
    """On which terms the manifest takes the content, and from where; the spec's digest says which content.

    What failed for good, or is backing off, failed on these terms: on others it is tried again.
    """
    files = [[artifact.path, artifact.size_bytes, list(artifact.sources)] for artifact in model.artifacts]
    return digest_value([model.format, model.allow_unsafe, files, list(mirrors)])


def _identity(artifact: Artifact) -> list[str]:
    content = artifact.digest or (artifact.sources[0] if artifact.sources else "")
    return [artifact.path, content]
