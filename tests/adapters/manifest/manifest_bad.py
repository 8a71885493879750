"""How the corpus of bad manifests is written down."""

from typing import NamedTuple

HEAD = "apiVersion: reconciler/v1\n"
MODEL = HEAD + "models:\n  m:\n    source: https://h.example/m.gguf\n"


class Case(NamedTuple):
    """One bad manifest and, as ``LINE:COLUMN FOUND → NEAREST WORD``, everything that must be said of it."""

    name: str
    data: bytes
    expected: tuple[str, ...]
    environ: dict[str, str]


def case(name, text, *expected, environ=None):
    data = text if isinstance(text, bytes) else text.encode()
    return Case(name, data, expected, environ or {})


def at_top(text):
    return HEAD + "models: {}\n" + text


def in_model(text):
    return MODEL + text


def from_source(text):
    return HEAD + "models:\n  m:\n    source: " + text + "\n"


def with_files(text):
    return HEAD + "models:\n  m:\n    files:\n" + text
