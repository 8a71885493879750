"""The schema against the tree: every value that is not what the schema says, with its place.

A small interpreter of the part of JSON Schema draft-07 that the manifest's schema uses (see :mod:`rules`). It exists
because a validator of plain values can tell neither line nor column, and tells what failed rather than what to type. A
test holds its verdicts equal to those of ``jsonschema``.

Values that fail are marked broken, so that later stages pass over them in silence.
"""

from reconciler.adapters.manifest.findings import HIDDEN, Findings, clipped, quoted_key, step
from reconciler.adapters.manifest.nearest import as_boolean, nearest_key, respell
from reconciler.adapters.manifest.rules import Rule, Schema, homes
from reconciler.adapters.manifest.tree import BROKEN, Node, resolve


class Walker:
    """Checks trees against one schema."""

    def __init__(self, schema: Schema, findings: Findings) -> None:
        self._schema = schema
        self._findings = findings

    def check(self, root: Node, *, is_whole: bool = True) -> None:
        """Check a document; ``is_whole`` is False for one that others are still merged with: nothing is missing yet."""
        self._check(self._schema.root, root, "", is_whole)

    def _check(self, rule: Rule, node: Node, path: str, is_whole: bool) -> None:
        kind = node.kind
        if kind == BROKEN:
            return
        if rule.kinds and kind not in rule.kinds and not self._fits_otherwise(rule, node):
            self._wrong_kind(rule, node, path)
            return
        kind = node.kind
        if kind == "string":
            self._text(rule, node, path)
        elif kind == "object":
            self._object(rule, node, path, is_whole)
        elif kind == "array":
            self._array(rule, node, path)
        else:
            self._number(rule, node, path)

    # --- kinds ------------------------------------------------------------------------------------------------

    def _fits_otherwise(self, rule: Rule, node: Node) -> bool:
        """Whether the value can be taken as another kind; it then is."""
        if node.kind == "number" and node.value.is_integer() and "integer" in rule.kinds:
            node.kind, node.value = "integer", int(node.value)
            return True
        if node.kind == "integer" and "number" in rule.kinds:
            return True
        if node.kind not in ("integer", "number", "boolean", "string"):
            return False
        if "string" in rule.kinds and (node.shown is not None or (rule.takes_text and rule.matches(node.text))):
            node.kind, node.value = "string", node.text
            return True
        if node.shown is not None and node.text:  # "${N}" in quotes where a number is wanted
            kind, value = resolve(node.text)
            if kind in rule.kinds:
                node.kind, node.value = kind, value
                return True
        return False

    def _wrong_kind(self, rule: Rule, node: Node, path: str) -> None:
        node.is_secret = node.is_secret or rule.is_secret
        hint = ""
        if node.kind == "null":
            hint = "give it a value or leave the key out"
        elif node.is_secret:
            hint = _SECRET if "object" in rule.kinds else ""
        elif node.kind == "string" and node.shown is None:
            hint = self._hint(rule, node.value)
        elif node.kind in ("integer", "number") and "string" in rule.kinds and not rule.words and node.shown is None:
            meant = respell(node.text, rule.matches)
            hint = f"did you mean {meant}?" if meant else 'put it in quotes: "…"' if rule.matches(node.text) else ""
        elif "array" in rule.kinds and rule.items and node.kind in rule.items.kinds:
            hint = "write it as a list: [ … ]"
        self._findings.value(node, path, rule.expected, hint=hint)

    def _hint(self, rule: Rule, text: str) -> str:
        if "boolean" in rule.kinds and (word := as_boolean(text)):
            return f"did you mean {word}?"
        if "integer" in rule.kinds and resolve(text or "~")[0] == "integer":
            return "write it without quotes"
        if "string" in rule.kinds:
            meant = respell(text, rule.matches, rule.words)
            return f"did you mean {meant}?" if meant and meant != text else ""
        return "write it as a list: [ … ]" if rule.items and "string" in rule.items.kinds else ""

    # --- values -----------------------------------------------------------------------------------------------

    def _text(self, rule: Rule, node: Node, path: str) -> None:
        if rule.words:
            if node.value not in rule.words:
                self._bad_text(rule, node, path)
        elif not rule.matches(node.value):
            self._bad_text(rule, node, path)

    def _bad_text(self, rule: Rule, node: Node, path: str) -> None:
        hint = self._hint(rule, node.value) if node.shown is None and not node.is_secret else ""
        self._findings.value(node, path, rule.expected, hint=hint)

    def _number(self, rule: Rule, node: Node, path: str) -> None:
        least, most = rule.bounds
        value = node.value
        if rule.words and not any(value is word for word in rule.words if isinstance(word, bool)):
            self._findings.value(node, path, rule.expected)
        elif node.kind == "boolean" or value is None:
            return
        elif (least is not None and value < least) or (most is not None and value > most):
            hint = ""
            if "string" in rule.kinds and value > 0 and node.shown is None:
                meant = respell(node.text, lambda text: not text.isdigit() and rule.matches(text))
                hint = f"did you mean {meant}?" if meant else ""
            self._findings.value(node, path, rule.expected, hint=hint)

    def _array(self, rule: Rule, node: Node, path: str) -> None:
        least, most = rule.count
        size = len(node.value)
        if size < least:
            self._findings.value(node, path, rule.expected)
            return
        if most is not None and size > most:
            self._findings.value(node, path, f"a list of at most {most}")
            return
        if rule.items is not None:
            for index, child in enumerate(node.value):
                self._check(rule.items, child, f"{path}[{index}]", is_whole=True)

    def _object(self, rule: Rule, node: Node, path: str, is_whole: bool) -> None:
        for key, child in node.value.items():
            schema = rule.properties.get(key)
            if schema is not None:
                self._check(self._schema.rule(schema), child, step(path, key), is_whole)
                continue
            shown = HIDDEN if node.is_secret and (rule.names is None or rule.names.is_secret) else key
            if rule.names is not None and not rule.names.matches(key):
                found = f"the name {quoted_key(shown)}"
                self._findings.add(child.key_place, found, rule.names.expected, path=step(path, shown))
                child.kind = BROKEN
            elif rule.additional is False:
                self._unknown_key(rule, key, child, path, shown)
            elif isinstance(rule.additional, Rule):
                self._check(rule.additional, child, step(path, shown), is_whole)
        self._count(rule, node, path, is_whole)

    def _count(self, rule: Rule, node: Node, path: str, is_whole: bool) -> None:
        least, most = rule.entries
        size = len(node.value)
        if (most is not None and size > most) or (is_whole and size < least):
            shown = (HIDDEN if node.is_secret and key not in rule.properties else key for key in node.value)
            keys = ", ".join(step("", key) for key in shown) or "none"
            self._findings.add(node.key_place, f"{path} with {clipped(keys)}", rule.expected, path=path)
            node.kind = BROKEN
            return
        if is_whole:
            for key in rule.required:
                if key not in node.value:
                    self._missing(rule, node, path, key)

    def _missing(self, rule: Rule, node: Node, path: str, key: str) -> None:
        wanted = self._schema.rule(rule.properties[key])
        place = node.key_place if path else (node.file, 1, 1)
        where = path or "the manifest"
        expected = f"{key}: {clipped(wanted.words[0])}" if len(wanted.words) == 1 else f"{key}: {wanted.expected}"
        self._findings.add(place, f"{where} without {key}", expected, path=f"{path}.{key}".lstrip("."))

    def _unknown_key(self, rule: Rule, key: str, child: Node, path: str, shown: str) -> None:
        places, meant = homes().get(key), nearest_key(key, rule.properties)
        hint = f"did you mean {meant}?" if meant else ""
        if places:
            hint = f"{key} belongs to {' or '.join(places)}"
        found, path = f"the unknown key {quoted_key(shown)}", step(path, shown)
        self._findings.add(child.key_place, found, rule.expected_keys, hint=hint, path=path)
        child.kind = BROKEN


_SECRET = "a secret does not belong in a manifest; give the name of the variable or file that holds it"  # noqa: S105 -- a sentence
