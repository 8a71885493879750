"""What every parser at the border shares: where problems go, what paths are relative to, who else knows words.

Parsers run on a tree that was walked against the schema. A value they meet has the right kind and shape, or is broken
and is passed over (:meth:`~reconciler.adapters.manifest.tree.Node.child` hides it), so that one mistake gives one
message and all mistakes are told at once.
"""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TypeVar

from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.nearest import nearest
from reconciler.adapters.manifest.tree import Node
from reconciler.core.desired import Diagnostic
from reconciler.core.records import dataclass
from reconciler.core.reference import FORMS, Reference, parse_reference, scheme_of

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Extensions:
    """Words that other packages registered: source schemes, formats and runtime types."""

    schemes: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    runtimes: frozenset[str] = frozenset()


def no_extensions() -> Extensions:
    """Nothing but what is built in."""
    return Extensions()


@dataclass(slots=True)
class Border:
    """The surroundings of one parse. ``extensions`` is asked only where a word is not one of ours."""

    findings: Findings
    folders: Mapping[str, str | None] = field(default_factory=dict)  # file label → absolute folder of that manifest
    extensions: Callable[[], Extensions] = no_extensions
    environ: Mapping[str, str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def convert(self, node: Node | None, path: str, function: Callable[..., _T], default: _T) -> _T:
        """``function(value)``; its ValueError says what was expected."""
        if node is None:
            return default
        try:
            return function(node.value)
        except ValueError as error:
            self.findings.value(node, path, str(error))
            return default

    def reference(self, node: Node, path: str) -> Reference | None:
        """A source by its scheme's grammar; None where it has no known scheme or reads wrong."""
        scheme = scheme_of(node.value)
        if scheme and scheme not in FORMS and scheme not in self.extensions().schemes:
            meant = nearest(scheme, FORMS)
            hint = f"did you mean {meant}?" if meant else ""
            self.findings.value(node, path, f"a source that starts with one of {', '.join(FORMS)}", hint=hint)
            return None
        try:
            return parse_reference(node.value, self.folders.get(node.file))
        except ValueError as error:
            self.findings.value(node, path, str(error))
            return None

    def local_path(self, node: Node, path: str) -> str | None:
        """An absolute path; a relative one is relative to the manifest."""
        text: str = node.value
        if not text.startswith("/"):
            folder = self.folders.get(node.file)
            if folder is None:
                self.findings.value(node, path, "an absolute path; there is no manifest folder to be relative to")
                return None
            text = posixpath.join(folder, text)
        return posixpath.normpath(text)
