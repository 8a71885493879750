"""The problems of a manifest as they are found, and the words they are told in."""

import re

from reconciler.adapters.manifest.tree import Node
from reconciler.core.errors import Problem
from reconciler.core.reference import MAX_REFERENCE_CHARACTERS, display

MAX_PROBLEMS = 1000  # nobody reads more; a hostile file must not make us write more
_MAX_QUOTED = 60
_LAST_STEP = re.compile(r'(?:"[^"]*"|[^."]+)(?:\[[0-9]+\])*$')
_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


class Findings:
    """Collects problems; each place and text once."""

    def __init__(self) -> None:
        self._problems: dict[Problem, None] = {}

    def __len__(self) -> int:
        return len(self._problems)

    @property
    def is_full(self) -> bool:
        """Whether no further problem will be kept."""
        return len(self._problems) >= MAX_PROBLEMS

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that was found so far."""
        return tuple(self._problems)

    def add(self, place: tuple[str, int, int], found: str, expected: str, *, hint: str = "", path: str = "") -> None:
        """Note a problem at (file, line, column)."""
        file, line, column = place
        if not self.is_full:
            self._problems[Problem(file, line, column, found, expected, hint, path)] = None

    def value(self, node: Node, path: str, expected: str, *, hint: str = "") -> None:
        """Note that a value is not what was expected, and mark it so that nobody complains again."""
        self.add(node.place, f"{_label(path)}{describe(node)}", expected, hint=hint, path=path)
        node.kind = "broken"


def _label(path: str) -> str:
    match = _LAST_STEP.search(path)
    return f"{match[0]} is " if match else ""


def step(path: str, key: str) -> str:
    """``path`` and one key more; a key with a dot in it is put in quotes."""
    shown = f'"{key}"' if "." in key else key
    return f"{path}.{shown}" if path else shown


def describe(node: Node) -> str:
    """What stands there, for a message: never a value of the environment, a query or user information."""
    if node.shown is not None:
        return f"{quoted(node.shown)}, whose value is something else"
    match node.kind:
        case "null":
            return "empty" if not node.text else "null"
        case "object" | "array":
            return _KINDS[node.kind] if node.value else f"{_KINDS[node.kind]} without entries"
        case "string":
            return _describe_text(node.value)
        case "boolean":
            return node.text
        case _:
            return clipped(node.text)


def _describe_text(text: str) -> str:
    if len(text) > MAX_REFERENCE_CHARACTERS:
        return f"a text of {len(text):,} characters"
    return quoted(display(text) if "://" in text else text) if text else "an empty text"


def quoted(text: str) -> str:
    """In double quotes, on one line, cut to a readable length."""
    return f'"{clipped(text)}"'


def clipped(text: str) -> str:
    """On one line, cut to a readable length; however long ``text`` is, this costs little."""
    shown = text[:_MAX_QUOTED]
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in shown)
    return f"{clean}…" if len(text) > _MAX_QUOTED else clean


def kind_words(kinds: tuple[str, ...]) -> str:
    """``a text or a list``."""
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds)


def shorten(words: list[str], limit: int = 30) -> str:
    """Words in a row; too many are cut."""
    return ", ".join(words[:limit]) + (", …" if len(words) > limit else "")
