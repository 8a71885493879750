"""A manifest as a tree of positioned values: what stands where.

Kinds are the type words of JSON Schema (``object``, ``array``, ``string``, ``integer``, ``number``, ``boolean``,
``null``), so that the schema can be read against the tree as it is; ``broken`` marks a value that a problem was already
reported for, which nobody looks at again.

Plain scalars are told apart by the core schema of YAML 1.2 (chapter 10.3 of its specification): ``no`` and ``on`` and a
date are strings, ``0o17`` is an octal number, ``~`` is null. The source text of every scalar is kept, so that ``1.10``
can still be the version it was meant to be.
"""

import math
import re
from collections.abc import Callable
from typing import Any

BROKEN = "broken"
SECRETS_KEY = "credentials"  # what stands below it, in a manifest as in a bootstrap, may be a secret in the open
MAX_NUMBER_CHARACTERS = 400  # Python refuses to read thousands of digits; nobody means them

_NUMBERS: tuple[tuple[re.Pattern[str], str, Callable[[str], Any]], ...] = (
    (re.compile(r"[-+]?[0-9]+"), "integer", int),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"), "number", float),
    (re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+"), "integer", lambda text: int(text, 0)),
)
_WORDS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), ("null", None)),
    **dict.fromkeys(("true", "True", "TRUE"), ("boolean", True)),
    **dict.fromkeys(("false", "False", "FALSE"), ("boolean", False)),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), ("number", math.inf)),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), ("number", -math.inf)),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), ("number", math.nan)),
}
_MAY_BE_NUMBER = frozenset("0123456789+-.")


class Node:
    """One value.

    ``value`` is a dict of nodes, a list of nodes or a scalar; ``text`` is a scalar's source text after references to
    the environment were replaced, ``shown`` the text before that (None where there were none): only that may appear in
    a message. ``is_secret``: it stands at or below a key ``credentials``; no word of it may appear in a message. Lines
    and columns count from 1; those of the key are 0 for an element of a list and for the root.
    """

    __slots__ = (
        "column",
        "file",
        "is_plain",
        "is_secret",
        "key_column",
        "key_line",
        "kind",
        "line",
        "shown",
        "text",
        "value",
    )

    def __init__(self, kind: str, value: Any, text: str, place: tuple[str, int, int]) -> None:
        self.kind = kind
        self.value = value
        self.text = text
        self.file, self.line, self.column = place
        self.key_line = 0
        self.key_column = 0
        self.shown: str | None = None
        self.is_plain = False
        self.is_secret = False

    @property
    def place(self) -> tuple[str, int, int]:
        """File, line and column of the value."""
        return self.file, self.line, self.column

    @property
    def key_place(self) -> tuple[str, int, int]:
        """File, line and column of the key, or of the value where it has none."""
        return (self.file, self.key_line, self.key_column) if self.key_line else self.place

    def child(self, key: str) -> "Node | None":
        """The value under ``key``; None where there is none or it is broken."""
        node = self.value.get(key) if self.kind == "object" else None
        return node if node is not None and node.kind != BROKEN else None

    def has(self, key: str) -> bool:
        """Whether ``key`` stands there, with whatever value."""
        return self.kind == "object" and key in self.value


def resolve(text: str) -> tuple[str, Any]:
    """Kind and value of a plain scalar by the core schema.

    A number that is too long to be meant has kind ``broken``.
    """
    word = _WORDS.get(text)
    if word is not None:
        return word
    if text[0] not in _MAY_BE_NUMBER:
        return "string", text
    for pattern, kind, convert in _NUMBERS:
        if pattern.fullmatch(text):
            return (BROKEN, None) if len(text) > MAX_NUMBER_CHARACTERS else (kind, convert(text))
    return "string", text


def plain(node: Node) -> Any:
    """The tree as plain values, for digests, printing and other readers."""
    if node.kind == "object":
        return {key: plain(child) for key, child in node.value.items()}
    if node.kind == "array":
        return [plain(child) for child in node.value]
    return node.value


def merge(lower: Node, upper: Node) -> Node:
    """``upper`` over ``lower``: mappings key by key, anything else replaced. Every value keeps its own place."""
    if lower.kind != "object" or upper.kind != "object":
        return upper
    merged = Node("object", dict(lower.value), "", upper.place)
    merged.key_line, merged.key_column = upper.key_line, upper.key_column
    merged.is_secret = upper.is_secret
    for key, node in upper.value.items():
        below = merged.value.get(key)
        merged.value[key] = node if below is None else merge(below, node)
    return merged
