"""The problems of a manifest as they are found, and the words they are told in."""

import re

from reconciler.adapters.manifest.tree import Node
from reconciler.core.errors import MAX_PROBLEMS, Problem
from reconciler.core.reference import FORMS, MAX_REFERENCE_CHARACTERS, display, scheme_of

HIDDEN = "(not shown)"  # in place of every word that may be a secret
_MAX_QUOTED = 60
_WITH_REVISION = re.compile(r"hf://[^/:@?#]+/|oci://[^/:@?#]+(?::[0-9]{1,5})?/")  # an @ further on is grammar
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
    """``path`` and one key more; a key with a dot in it is put in quotes, one like a URL shows no secret."""
    clean = _clean_key(key)
    shown = f'"{clean}"' if "." in clean else clean
    return f"{path}.{shown}" if path else shown


def describe(node: Node) -> str:
    """What stands there, for a message: never a secret, a value of the environment, a query or user information."""
    match node.kind:
        case "object" | "array":
            return _KINDS[node.kind] if node.value else f"{_KINDS[node.kind]} without entries"
        case _ if node.is_secret:
            return f"a value {HIDDEN}"
        case _ if node.shown is not None:
            return f"{quoted(_clean(node.shown))}, whose value is something else"
        case "null":
            return "null" if node.text else "empty"
        case "string":
            return _describe_text(node.value)
        case _:
            return clipped(node.text)


def _describe_text(text: str) -> str:
    if len(text) > MAX_REFERENCE_CHARACTERS:
        return f"a text of {len(text):,} characters"
    return quoted(_clean(text)) if text else "an empty text"


def _clean(text: str) -> str:
    """Without what may be a secret in a URL, or in what was meant to be one: all before an @ and all after a ?."""
    scheme = scheme_of(text)
    is_url = text.startswith("://", len(scheme))
    clean = display(text) if is_url else text
    at, query = text.rfind("@"), len(re.split("[?#]", text, maxsplit=1)[0])
    if _WITH_REVISION.match(text) or (query > at and "@" not in clean and "?" not in clean):
        return clean
    end = len(scheme) + 1 if is_url or scheme in FORMS else 0
    start = text[:end] + "/" * (len(text) - end - len(text[end:].lstrip("/\\")))
    if query < at:  # either may be part of the other: nothing is safe
        return f"{start}…"
    return f"{start}…{text[at:query]}" if at >= 0 else f"{text[:query]}…"


def _clean_key(key: str) -> str:
    """A key that may be a URL without its secrets; ``whisper@v2`` is a name that went wrong and is shown."""
    return _clean(key) if "/" in key or ":" in key else key


def quoted_key(key: str) -> str:
    """A key in double quotes, without secrets."""
    return quoted(_clean_key(key))


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
