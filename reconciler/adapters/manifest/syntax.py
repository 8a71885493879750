"""What libyaml complains about, in words for people."""

from typing import Any

TAB = ("a tab", "spaces", "YAML is indented with spaces only")
_CUT_OFF = "the file may be cut off"
# libyaml's words → (what stands there, what was expected, hint); the first that is contained counts.
_WORDS: tuple[tuple[str, tuple[str, str, str]], ...] = (
    ("tab character", TAB),
    (
        "mapping values are not allowed",
        ("a second ':' or a wrong indentation", "one key and one value per line", "put a value with ': ' in quotes"),
    ),
    (
        "block sequence entries are not allowed",
        ("a list on the line of its key", "the list on lines of its own, or [A, B]", ""),
    ),
    ("unexpected end of stream", ("the end of the file inside quotes", "the closing quote", _CUT_OFF)),
    ("unexpected document indicator", ("a new document inside quotes", "the closing quote", _CUT_OFF)),
    ("expected ',' or ']'", ("a list that is not closed", "',' or ']'", "")),
    ("expected ',' or '}'", ("a mapping that is not closed", "',' or '}'", "")),
    ("expected '-' indicator", ("something that is no entry of the list", "'- ' at the list's indentation", "")),
    (
        "did not find expected key",
        ("something that is no key", "a key at this indentation", "look at the line above for quotes or indentation"),
    ),
    ("could not find expected ':'", ("a line without ':'", "KEY: VALUE", _CUT_OFF)),
    (
        "expected <document start>",
        ("something after the end of the document", "keys at the indentation of the first, or ---", ""),
    ),
    ("expected node content", ("a bracket or sign where a value belongs", "a value", "")),
    ("unknown escape character", ("an unknown escape after \\", "an escape that YAML knows, or single quotes", "")),
    ("expected hexdecimal", ("an escape that is cut off", "hex digits after \\x, \\u or \\U", "")),
    ("expected hexadecimal", ("an escape that is cut off", "hex digits after \\x, \\u or \\U", "")),
    ("invalid Unicode character escape", ("an escape for no character", "a character of Unicode", "")),
    ("incompatible YAML document", ("a YAML version that is unknown", "%YAML 1.2", "")),
    ("unknown directive", ("an unknown directive", "no line that starts with %", "")),
    ("undefined tag handle", ("a tag", "a value without a tag", "")),
    ("maximum nesting", ("nesting that is far too deep", "a manifest that is less deep", "")),
)
_STARTS = {
    "\t": TAB,
    "@": ("'@' at the start of a value", "a value in quotes", "'@' is reserved by YAML"),
    "`": ("'`' at the start of a value", "a value in quotes", "'`' is reserved by YAML"),
    "%": ("'%' at the start of a value", "a value in quotes", "'%' is reserved by YAML"),
}


def explain(error: Any, text: str, line: int, column: int) -> tuple[str, str, str]:
    """What stands there, what was expected, and a hint; ``line`` and ``column`` of ``error`` count from 1."""
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    character = _character(text, line, column)
    if "cannot start any token" in problem and character in _STARTS:
        return _STARTS[character]
    for words, sentence in _WORDS:
        if words in problem:
            return sentence
    return f"YAML that cannot be read ({problem})", "valid YAML", ""


def _character(text: str, line: int, column: int) -> str:
    lines = text.split("\n", line)
    row = lines[line - 1] if line <= len(lines) else ""
    if row[column - 1 : column].isspace() or not row[: column - 1].strip():  # the mark stands before the white space
        rest = row[column - 1 :]
        indentation = rest[: len(rest) - len(rest.lstrip())]
        if "\t" in indentation:
            return "\t"
    return row[column - 1 : column]
