"""A model's ``metadata``: facts for people and other programs, kept as JSON text so that they stay frozen.

Two rules of the catalogue hold here: the context length is 2048 for language and multimodal models where nobody says
otherwise, and only those can think aloud.
"""

import json
from typing import Any

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.tree import BROKEN, Node, plain
from reconciler.core.units import parse_size

DEFAULT_CONTEXT_LENGTH = 2048
_WITH_CONTEXT = frozenset({"language", "multimodal"})
_TEXTS = frozenset({"author", "license", "description", "dataset", "baseModel", "quantization", "version", "minOs"})


def parse_metadata(node: Node | None, path: str, border: Border) -> tuple[tuple[str, str], ...]:
    """Pairs of key and JSON text, sorted by key."""
    if node is None:
        return ()
    facts: dict[str, Any] = {}
    for key, child in node.value.items():
        if child.kind == BROKEN:
            continue
        if key in _TEXTS:
            facts[key] = child.text  # 1.10 is a version, not 1.1
        elif key == "tags":
            facts[key] = [tag.text for tag in child.value if tag.kind != BROKEN]
        elif key == "minMemory":
            facts[key] = border.convert(child, f"{path}.minMemory", parse_size, 0)
        else:
            facts[key] = plain(child)
    category = facts.get("category")
    if category in _WITH_CONTEXT:
        facts.setdefault("contextLength", DEFAULT_CONTEXT_LENGTH)
    elif category is not None and "supportsThinking" in facts:
        facts["supportsThinking"] = False
    return tuple((key, json.dumps(facts[key], ensure_ascii=False)) for key in sorted(facts))
