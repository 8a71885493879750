"""``when:`` — from a walked tree to a :class:`~reconciler.core.desired.Selector`."""

import re

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.tree import BROKEN, Node
from reconciler.core.desired import Comparison, LabelRequirement, Selector
from reconciler.core.units import parse_size

_EVERYWHERE = Selector()
_COMPARISON = re.compile(r"(>=|<=|==|>|<) ?(.*)", re.DOTALL)


def parse_when(node: Node | None, path: str, border: Border) -> Selector:
    """The machines a model is for."""
    if node is None:
        return _EVERYWHERE
    no_bound: Comparison | None = None
    return Selector(
        match_labels=parse_labels(node.child("matchLabels")),
        match_expressions=_expressions(node.child("matchExpressions"), f"{path}.matchExpressions", border),
        os=_words(node.child("os")),
        arch=_words(node.child("arch")),
        hostname=_words(node.child("hostname")),
        accelerator=_words(node.child("accelerator")),
        memory=border.convert(node.child("memory"), f"{path}.memory", _comparison, no_bound),
        disk=border.convert(node.child("disk"), f"{path}.disk", _comparison, no_bound),
    )


def parse_labels(node: Node | None) -> tuple[tuple[str, str], ...]:
    """Labels sorted by name; a number or boolean is its source text."""
    if node is None:
        return ()
    return tuple((key, child.text) for key, child in sorted(node.value.items()) if child.kind != BROKEN)


def _words(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    if node.kind == "array":
        return tuple(child.text for child in node.value if child.kind != BROKEN)
    return (node.text,)


def _expressions(node: Node | None, path: str, border: Border) -> tuple[LabelRequirement, ...]:
    requirements = []
    for index, child in enumerate(node.value if node is not None else ()):
        key, operator = child.child("key"), child.child("operator")
        if key is None or operator is None:
            continue
        values = _words(child.child("values"))
        needs_values = operator.value in ("In", "NotIn")
        if needs_values != child.has("values") or (needs_values and not values and child.child("values") is not None):
            expected = "values: [VALUE, …]" if needs_values else "no values"
            found = f"{operator.value} {'with' if child.has('values') and values else 'without'} values"
            border.findings.add(child.place, found, expected, path=f"{path}[{index}]")
        requirements.append(LabelRequirement(key.value, operator.value, values))
    return tuple(requirements)


def _comparison(text: str) -> Comparison:
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise ValueError('a comparison such as ">=8GiB"')
    return Comparison(match[1], parse_size(match[2]))
