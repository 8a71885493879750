"""What every printed document begins with."""

from typing import Any

FORMAT_VERSION = "1.0"  # minor versions only add

Document = dict[str, Any]


def heading(kind: str) -> Document:
    """The first two keys of every document."""
    return {"format_version": FORMAT_VERSION, "kind": kind}
