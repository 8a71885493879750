"""The manifest's schema as rules that can be walked fast.

``schemas/manifest.v1.schema.json`` is the one table of keys, types and words. It uses a small part of draft-07, and
each keyword of that part has its field of :class:`Rule`; a test fails where the schema grows a keyword that has none.
On top stand four annotations that other validators pass over:

* ``x-expected``: the phrase after "expected" in a message;
* ``x-aliases``: words that people write in place of a key;
* ``x-secret``: what stands there, a name or something in place of a mapping, is never printed;
* ``x-text``: a number written there is taken as its source text (a digest of 64 decimal digits).

Rules are built when they are first met: a manifest with three keys pays for three keys.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from reconciler.adapters.manifest.findings import kind_words, quoted, shorten
from reconciler.adapters.manifest.schemas import load_schema

KEYWORDS = frozenset(
    {
        "type",
        "enum",
        "const",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "items",
        "minItems",
        "maxItems",
    }
    | {"properties", "additionalProperties", "propertyNames", "required", "minProperties", "maxProperties", "$ref"}
)
ANNOTATIONS = frozenset(
    {"$schema", "$id", "title", "description", "default", "examples", "definitions"}
    | {"x-expected", "x-aliases", "x-secret", "x-text"}
)


class Schema:
    """A schema document and the rules made of it so far."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._rules: dict[int, Rule] = {}

    @property
    def root(self) -> "Rule":
        """The rule of a whole document."""
        return self.rule(self._document)

    def rule(self, schema: Mapping[str, Any]) -> "Rule":
        """The rule of one subschema."""
        rule = self._rules.get(id(schema))
        if rule is None:
            rule = self._rules[id(schema)] = self._build(schema)
        return rule

    def _build(self, schema: Mapping[str, Any]) -> "Rule":
        target = schema
        while "$ref" in target:  # draft-07: whatever stands beside a $ref only annotates
            target = self._document["definitions"][target["$ref"].rpartition("/")[2]]
        if target is not schema:
            return self.rule(target)
        kinds = schema.get("type", ())
        items = schema.get("items")
        names = schema.get("propertyNames")
        additional = schema.get("additionalProperties", True)
        return Rule(
            kinds=(kinds,) if isinstance(kinds, str) else tuple(kinds),
            words=tuple(schema["enum"]) if "enum" in schema else (schema["const"],) if "const" in schema else (),
            pattern=schema.get("pattern", ""),
            length=(schema.get("minLength", 0), schema.get("maxLength")),
            bounds=(schema.get("minimum"), schema.get("maximum")),
            items=None if items is None else self.rule(items),
            count=(schema.get("minItems", 0), schema.get("maxItems")),
            properties=schema.get("properties", {}),
            additional=additional if isinstance(additional, bool) else self.rule(additional),
            names=None if names is None else self.rule(names),
            required=tuple(schema.get("required", ())),
            entries=(schema.get("minProperties", 0), schema.get("maxProperties")),
            phrase=schema.get("x-expected", ""),
            is_secret=schema.get("x-secret", False),
            takes_text=schema.get("x-text", False),
        )


@dataclass(slots=True, eq=False)
class Rule:
    """What one value must be. Bounds are (least, most), None where open; ``properties`` are still subschemas."""

    kinds: tuple[str, ...]
    words: tuple[Any, ...]
    pattern: str
    length: tuple[int, int | None]
    bounds: tuple[int | None, int | None]
    items: "Rule | None"
    count: tuple[int, int | None]
    properties: Mapping[str, Any]
    additional: "bool | Rule"
    names: "Rule | None"
    required: tuple[str, ...]
    entries: tuple[int, int | None]
    phrase: str
    is_secret: bool
    takes_text: bool
    is_scalar: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_scalar = "object" not in self.kinds and "array" not in self.kinds

    @property
    def expected(self) -> str:
        """The phrase after "expected"."""
        if self.phrase:
            return self.phrase
        if self.words:
            words = [str(word).lower() if isinstance(word, bool) else word for word in self.words]
            return f"one of {', '.join(words)}" if len(words) > 1 else quoted(words[0])
        least, most = self.bounds
        if self.kinds == ("integer",) and least is not None and most is not None:
            return f"a whole number from {least:,} to {most:,}"
        return kind_words(self.kinds)

    @property
    def expected_keys(self) -> str:
        """The phrase after "expected" for an unknown key."""
        return f"one of {shorten(sorted(self.properties))}"

    def matches(self, text: str) -> bool:
        """Whether ``text`` satisfies the pattern and the length."""
        least, most = self.length
        if len(text) < least or (most is not None and len(text) > most):
            return False
        return not self.pattern or _compiled(self.pattern).search(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@cache
def manifest_schema() -> Schema:
    """The schema of manifests."""
    return Schema(load_schema("manifest"))


@cache
def model_properties() -> Mapping[str, Any]:
    """The keys of a model, each with its subschema."""
    properties: Mapping[str, Any] = load_schema("manifest")["definitions"]["model"]["properties"]
    return properties


@cache
def homes() -> Mapping[str, tuple[str, ...]]:
    """For every key of a section: the sections it belongs to. For hints only."""
    document = load_schema("manifest")
    found: dict[str, list[str]] = {}
    sections = {key: document["properties"][key] for key in ("cache", "memory", "network")}
    sections["a model"] = document["definitions"]["model"]
    sections["the manifest"] = document
    for section, schema in sections.items():
        for key in schema["properties"]:
            found.setdefault(key, []).append(section)
    return {key: tuple(places) for key, places in found.items()}
