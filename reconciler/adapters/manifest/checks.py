"""What only shows when all models are looked at together."""

import posixpath
import re
from collections.abc import Mapping

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.findings import describe, quoted
from reconciler.adapters.manifest.nearest import nearest
from reconciler.adapters.manifest.tree import Node
from reconciler.core.names import fold

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_Owners = dict[str, tuple[str, Node]]  # the path of a link → its model, and where it stands


def check_names(models: Node, border: Border) -> None:
    """Two model names become two folders: they must differ on every file system."""
    seen: dict[str, tuple[str, Node]] = {}
    for name, node in models.value.items():
        key = fold(name)
        if key not in seen:
            seen[key] = (name, node)
            continue
        other, first = seen[key]
        found = f"the model {quoted(name)} beside {quoted(other)}"
        border.findings.add(
            node.key_place, found, "names that differ in more than case", hint=f"first at {_at(first)}", path="models"
        )


def check_links(models: Node, border: Border) -> None:
    """Every link is absolute, clean, written by one model only, and in no folder that another link would have to be."""
    owners: _Owners = {}
    for name, node in models.value.items():
        links, state = node.child("links"), node.child("state")
        if links is None or (state is not None and state.value == "absent"):
            continue
        for index, link in enumerate(links.value):
            if link.kind == "string":
                _check_link(name, link, f"models.{name}.links[{index}]", owners, border)
    _check_nesting(owners, border)


def _check_link(name: str, link: Node, path: str, owners: _Owners, border: Border) -> None:
    text: str = link.value
    if _CONTROL.search(text):
        border.findings.value(link, path, "a path without control characters")
        return
    if not text.startswith("/") or posixpath.normpath(text) != text or text.startswith("//"):
        border.findings.value(link, path, "an absolute path of a file, without . and .. and without a slash at its end")
        return
    if text in owners:
        other, first = owners[text]
        found = f"the link {describe(link)}, which {other} writes too"
        border.findings.add(link.place, found, "a link that one model writes", hint=f"first at {_at(first)}", path=path)
        return
    owners[text] = (name, link)


def _check_nesting(owners: _Owners, border: Border) -> None:
    """In this order what is below a link comes right behind it."""
    above = ""
    for text in sorted(owners, key=lambda path: path.replace("/", "\0")):
        if not above or not text.startswith(f"{above}/"):
            above = text
            continue
        (name, link), (other, first) = owners[text], owners[above]
        found = f"the link {describe(link)}, below a link of {other}"
        expected = "a link in a folder that is no link itself"
        border.findings.add(link.place, found, expected, hint=f"that one at {_at(first)}", path=f"models.{name}.links")


def check_dependencies(models: Node, border: Border) -> None:
    """``dependsOn`` names models of the manifest and comes to an end."""
    graph: dict[str, dict[str, Node]] = {}
    for name, node in models.value.items():
        wanted = node.child("dependsOn")
        if wanted is None:
            continue
        graph[name] = {}
        for index, child in enumerate(wanted.value):
            if child.kind != "string":
                continue
            if child.value in models.value:
                graph[name][child.value] = child
                continue
            meant = nearest(child.value, models.value)
            hint = f"did you mean {meant}?" if meant else ""
            border.findings.value(child, f"models.{name}.dependsOn[{index}]", "a model of this manifest", hint=hint)
    _check_cycles(graph, border)


def _check_cycles(graph: Mapping[str, Mapping[str, Node]], border: Border) -> None:
    """Take away what depends on nothing until nothing changes; what is left goes round in circles."""
    left = {name: set(wanted) & set(graph) for name, wanted in graph.items()}
    while free := [name for name, wanted in left.items() if not wanted]:
        for name in free:
            del left[name]
        for wanted in left.values():
            wanted.difference_update(free)
    for name in sorted(left):
        target = min(left[name])
        node = graph[name][target]
        path = f"models.{name}.dependsOn"
        border.findings.value(node, path, "dependencies without a circle", hint=f"{target} needs {name} in the end")


def _at(node: Node) -> str:
    file, line, column = node.key_place
    return f"{file}:{line}:{column}"
