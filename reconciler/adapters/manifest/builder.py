"""The trees of one file, built from the events of the YAML parser, with a stack and no recursion."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from reconciler.adapters.manifest.decoding import REPLACED
from reconciler.adapters.manifest.environment import substitute
from reconciler.adapters.manifest.findings import HIDDEN, Findings, clipped, quoted, quoted_key
from reconciler.adapters.manifest.syntax import explain
from reconciler.adapters.manifest.tree import BROKEN, SECRETS_KEY, Node, resolve
from reconciler.core.records import dataclass

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a manifest may cost. A model takes 7 to 20 values and 100 to 500 bytes."""

    size_bytes: int = 8 << 20
    depth: int = 32
    values: int = 500_000
    documents: int = 1000


class Stop(Exception):  # noqa: N818 -- not an error: a limit was met and noted
    """Reading further makes no sense."""


@dataclass(slots=True)
class _Key:
    """A key whose value comes next; ``text`` is None where the key itself was refused."""

    text: str | None
    line: int
    column: int


class Builder:
    """Builds trees from events. One frame of the stack per open mapping or list."""

    def __init__(self, label: str, environ: Mapping[str, str], findings: Findings, limits: Limits) -> None:
        self.documents: list[Node] = []
        self.is_whole = True
        self.spans_lines = False  # whether a flow collection or a text in quotes does
        self._label = label
        self._environ = environ
        self._findings = findings
        self._limits = limits
        self._count = 0
        self._root: Node | None = None
        self._last: Node | None = None
        self._stack: list[Node] = []
        self._keys: list[_Key | None] = []  # the pending key of each frame
        self._handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._start,
            yaml.SequenceStartEvent: self._start,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentEndEvent: self._end_document,
        }

    def take_all(self, loader: Any) -> None:
        """Take every event in. This loop and what it calls is most of what a large manifest costs."""
        next_event, handlers = loader.get_event, self._handlers
        try:
            while (event := next_event()) is not None:
                handler = handlers.get(type(event))
                if handler is not None:
                    handler(event)
        finally:
            loader.dispose()

    def give_up(self) -> None:
        """Hand out what was read before reading stopped; the value it stopped in is not judged."""
        self.is_whole = False
        if self._last is not None and not (self._last.kind in ("object", "array") and self._last.value):
            self._last.kind = BROKEN
        if self._root is not None:
            self.documents.append(self._root)

    def syntax_error(self, error: yaml.YAMLError, text: str) -> tuple[int, int]:
        """Note where the syntax broke, in words for people; its line and column."""
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        found, expected, hint = explain(error, text, line, column)
        self._findings.add((self._label, line, column), found, expected, hint=hint)
        self.give_up()
        return line, column

    # --- events -----------------------------------------------------------------------------------------------

    def _scalar(self, event: Any) -> None:
        if self._is_at_key():
            self._keys[-1] = self._key(event)
            return
        mark = event.start_mark
        text: str = event.value
        is_plain = event.style is None or event.style == ""
        kind, value = resolve(text) if is_plain else ("string", text)
        node = Node(kind, value, text, (self._label, mark.line + 1, mark.column + 1))
        node.is_plain = is_plain
        if event.end_mark.line > mark.line:
            self.spans_lines = True
        if event.tag is not None or event.anchor is not None:
            self._refuse_properties(event)
            node.kind = BROKEN
        elif kind != "string":
            self._check_number(node)
        else:
            self._check_text(node)
        self._attach(node)

    def _start(self, event: Any) -> None:
        mark = event.start_mark
        is_mapping = type(event) is yaml.MappingStartEvent
        node = Node("object" if is_mapping else "array", {} if is_mapping else [], "", self._place(mark))
        if len(self._stack) >= self._limits.depth:
            self._findings.add(node.place, f"nesting deeper than {self._limits.depth}", "a manifest that is less deep")
            raise Stop
        if event.tag is not None or event.anchor is not None:
            self._refuse_properties(event)
        if self._is_at_key():
            self._findings.add(node.place, "a mapping or list in place of a key", "a name")
            self._keys[-1] = _Key(None, node.line, node.column)
            self._counted(node)
        else:
            self._attach(node)
        self._stack.append(node)
        self._keys.append(None)

    def _end(self, event: Any) -> None:
        node = self._stack.pop()
        self._keys.pop()
        if event.end_mark.line >= node.line and event.end_mark.index > event.start_mark.index:
            self.spans_lines = True  # with a bracket at its end
        # A collection that stood in place of a key leaves its parent waiting for the value, as a key does.

    def _alias(self, event: Any) -> None:
        self._findings.add(
            self._place(event.start_mark),
            f"the alias {self._unless_secret(f'*{clipped(event.anchor)}')}",
            "the value itself",
            hint="write it out; what all models share goes under defaults:",
        )
        mark = event.start_mark
        if self._is_at_key():
            self._keys[-1] = _Key(None, mark.line + 1, mark.column + 1)
        else:
            self._attach(Node(BROKEN, None, "", self._place(mark)))

    def _end_document(self, _event: Any) -> None:
        if self._root is not None:
            self.documents.append(self._root)
        self._root = None
        if len(self.documents) > self._limits.documents:
            place = self.documents[-1].place
            limit = self._limits.documents
            self._findings.add(place, f"more than {limit} documents", f"a file of at most {limit} documents")
            raise Stop

    # --- parts ------------------------------------------------------------------------------------------------

    def _place(self, mark: Any) -> tuple[str, int, int]:
        return self._label, mark.line + 1, mark.column + 1

    def _is_at_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].kind == "object" and self._keys[-1] is None

    def _is_secret(self) -> bool:
        """Whether what comes next, a key or a value, stands at or below the key of secrets."""
        if not self._stack:
            return False
        key = self._keys[-1]
        return self._stack[-1].is_secret or (key is not None and key.text == SECRETS_KEY)

    def _unless_secret(self, text: str) -> str:
        return HIDDEN if self._is_secret() else text

    def _counted(self, node: Node) -> None:
        self._count += 1
        if self._count > self._limits.values:
            limit = f"{self._limits.values:,}"
            self._findings.add(node.place, f"more than {limit} values", f"a manifest of at most {limit} values")
            raise Stop
        if self._findings.is_full:
            raise Stop

    def _attach(self, node: Node) -> None:
        self._counted(node)
        self._last = node
        if not self._stack:
            self._root = node
            return
        parent = self._stack[-1]
        key = self._keys[-1]
        if key is None:
            node.is_secret = parent.is_secret
            parent.value.append(node)
            return
        self._keys[-1] = None
        if key.text is None:
            return
        node.is_secret = parent.is_secret or key.text == SECRETS_KEY
        node.key_line, node.key_column = key.line, key.column
        first = parent.value.get(key.text)
        if first is not None:
            self._findings.add(
                node.key_place,
                f"the key {quoted_key(HIDDEN if parent.is_secret else key.text)} again",
                "every key once",
                hint=f"first at line {first.key_line}, column {first.key_column}",
            )
            return
        parent.value[key.text] = node

    def _key(self, event: Any) -> _Key:
        mark = event.start_mark
        place = self._place(mark)
        text: str = event.value
        key = _Key(text, place[1], place[2])
        if event.tag is not None or event.anchor is not None:
            self._refuse_properties(event)
        if event.style:
            if _CONTROL.search(text):
                self._findings.add(place, "a control character in a key", "a name")
                key.text = None
            return key
        if text == "<<":
            self._findings.add(
                place, "the merge key <<", "keys written out", hint="what all models share goes under defaults:"
            )
            key.text = None
        elif resolve(text)[0] != "string":
            shown = self._unless_secret(clipped(text) or "(nothing)")
            hint = f'write "{shown}" in quotes' if text and shown != HIDDEN else ""
            self._findings.add(place, f"the key {shown}, which is no text", "a name", hint=hint)
            key.text = None
        return key

    def _refuse_properties(self, event: Any) -> None:
        place = self._place(event.start_mark)
        if event.anchor is not None:
            hint = "what all models share goes under defaults:"
            shown = self._unless_secret(f"&{clipped(event.anchor)}")
            self._findings.add(place, f"the anchor {shown}", "a plain value", hint=hint)
        if event.tag is not None:
            self._findings.add(place, f"the tag {self._unless_secret(quoted(event.tag))}", "a value without a tag")

    def _check_number(self, node: Node) -> None:
        if node.kind == BROKEN:
            self._findings.add(node.place, f"a number of {len(node.text)} digits", "a number that is shorter")
        elif node.kind == "number" and not math.isfinite(node.value):
            self._findings.add(node.place, self._unless_secret(node.text), "a finite number")
            node.kind = BROKEN

    def _check_text(self, node: Node) -> None:
        if REPLACED in node.text:  # told when the bytes were decoded
            node.kind = BROKEN
            return
        if "${" in node.text:
            substitute(node, self._environ, self._findings)
        elif node.is_plain:  # a plain scalar cannot hold what the file may not
            return
        if _CONTROL.search(node.text):
            self._findings.add(node.place, "a control character in a text", "text without control characters")
            node.kind = BROKEN
