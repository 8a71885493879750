"""Keys that the grammar has and nothing acts on yet: said aloud by every plan, never passed over in silence.

A pattern is a dotted path; ``*`` stands for any key. ``=WORD`` narrows it to that value, ``!=WORD`` to any other.
A line goes when its effect arrives.
"""

import re
from collections.abc import Iterator, Mapping

from reconciler.adapters.manifest.tree import BROKEN, Node
from reconciler.core.desired import Diagnostic

NOT_YET: Mapping[str, str] = {
    "cache.compression=zstd": "compression at rest is not supported yet; files are stored as they are",
    "runtimes.*.type!=page-cache": "only runtimes of type page-cache are supported yet; nothing is loaded to this one",
}
_PATTERN = re.compile(r"([^=!]+)(?:(!?=)(.+))?")


def not_yet(root: Node, table: Mapping[str, str] = NOT_YET) -> tuple[Diagnostic, ...]:
    """One diagnostic per line of the table that applies: its first place, and how many more there are."""
    diagnostics = []
    for pattern, sentence in table.items():
        places = list(_places(root, pattern))
        if places:
            path, node = places[0]
            more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
            file, line, column = node.key_place
            diagnostics.append(Diagnostic("not_supported_yet", f"{path}{more}: {sentence}", f"{file}:{line}:{column}"))
    return tuple(diagnostics)


def _places(root: Node, pattern: str) -> Iterator[tuple[str, Node]]:
    match = _PATTERN.fullmatch(pattern)
    if match is None:
        raise AssertionError(pattern)
    path, operator, word = match.groups()
    for name, node in _descend(root, path.split("."), ""):
        if operator is None or (node.value == word) == (operator == "="):
            yield name, node


def _descend(node: Node, steps: list[str], path: str) -> Iterator[tuple[str, Node]]:
    if not steps:
        yield path, node
        return
    if node.kind != "object":
        return
    keys = list(node.value) if steps[0] == "*" else [steps[0]] if steps[0] in node.value else []
    for key in keys:
        child = node.value[key]
        if child.kind != BROKEN:
            yield from _descend(child, steps[1:], f"{path}.{key}".lstrip("."))
