"""The digest of a manifest in force: over what it means, not over how it is written.

It changes where the desired state changes, and only there: formatting, comments, the order of keys, files and
documents, ``1GiB`` or ``1073741824``, a default written out or left out are all the same. Values of the environment go
into the hash and nowhere else.
"""

import json
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

from reconciler.core.desired import DesiredState
from reconciler.core.digests import digest_bytes
from reconciler.core.words import Digest

_NOT_MEANING = frozenset({"diagnostics", "digest", "files"})


def generation(state: DesiredState) -> Digest:
    """The digest of ``state`` without diagnostics, places and file names."""
    text = json.dumps(state, default=_changed_fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest_bytes(text.encode())


def _changed_fields(value: Any) -> dict[str, Any]:
    """Only fields that differ from their default, so that a new field does not change every digest there is."""
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} has no place in a desired state")
    return {
        name: found
        for name, default in _defaults(type(value))
        if (found := getattr(value, name)) is not default and found != default
    }


@cache
def _defaults(kind: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (entry.name, None if entry.default is MISSING else entry.default)
        for entry in fields(kind)
        if entry.name not in _NOT_MEANING
    )
