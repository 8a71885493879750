"""``${NAME}`` in values: replaced from the environment, never printed again.

``$${`` stands for ``${``. A plain scalar is read once more by the core schema after it was replaced, so that
``connections: ${N}`` can be a number; an empty value stays an empty text and never becomes null. The node remembers how
it was written: that is what messages show, since a value of the environment may be a secret.
"""

import math
import re
from collections.abc import Mapping

from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.tree import BROKEN, Node, resolve

_REFERENCE = re.compile(r"\$(\$?)\{(?:([A-Za-z_][A-Za-z0-9_]*)\})?")
_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python spells bytes that are no UTF-8


def substitute(node: Node, environ: Mapping[str, str], findings: Findings) -> None:
    """Replace every reference in a scalar; a node with a wrong one is marked broken."""
    source = node.text
    parts: list[str] = []
    end, used = 0, False
    for match in _REFERENCE.finditer(source):
        parts.append(source[end : match.start()])
        end = match.end()
        if match[1]:
            parts.append(match[0][1:])
            continue
        used = True
        value, trouble = _look_up(match[2], environ)
        parts.append(value)
        if trouble:
            hint = "" if match[2] else "between { } or [ ] it stands in quotes"
            findings.add(_place(node, match.start()), *trouble, hint=hint)
            node.kind = BROKEN
    if node.kind == BROKEN:
        return
    node.text = node.value = "".join([*parts, source[end:]])
    if used:
        node.shown = source
        if node.is_plain:
            _resolve_again(node)


def _resolve_again(node: Node) -> None:
    if not node.text:
        return
    kind, value = resolve(node.text)
    if kind != BROKEN and not (kind == "number" and not math.isfinite(value)):
        node.kind, node.value = kind, value


def _look_up(name: str | None, environ: Mapping[str, str]) -> tuple[str, tuple[str, str] | None]:
    """The value, and what is wrong with the reference where something is: (found, expected)."""
    if name is None:
        return "", ("${ without a name and }", "${NAME}, or $${ for a literal ${")
    value = environ.get(name)
    if value is None:
        return "", (f"${{{name}}}, which is not set", f"the environment variable {name} to be set")
    if _SURROGATE.search(value):
        return "", (f"${{{name}}}, whose value is no UTF-8", "UTF-8 text")
    return value, None


def _place(node: Node, offset: int) -> tuple[str, int, int]:
    """Where the reference stands. An offset tells that only in a scalar of one line without escapes."""
    if "\n" in node.text:
        return node.place
    return node.file, node.line, node.column + offset + (0 if node.is_plain else 1)
