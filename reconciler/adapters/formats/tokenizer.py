"""Tokenizer files: Hugging Face ``tokenizer.json`` and SentencePiece models.

``tokenizer.json`` may be tens of megabytes, so its first and last bytes tell, not a parse. A SentencePiece model is a
protobuf whose field 1 repeats pieces {1: text, 2: score}; the first ones are special pieces such as ``<unk>``.
"""

import re

from reconciler.adapters.formats.protobuf import SPAN, fields
from reconciler.adapters.formats.reader import HeaderReader, report
from reconciler.adapters.formats.window import Window
from reconciler.core.ports import FormatReport

_JSON = re.compile(rb'\s*\{\s*"version"\s*:\s*"\d[^"]{0,20}"\s*,\s*"(truncation|padding|added_tokens)"')
_KIND = re.compile(rb'"model"\s*:\s*\{\s*"type"\s*:\s*"(\w{1,40})"')
_SPECIAL = {"<unk>", "<s>", "</s>", "<pad>"}


def _claims(window: Window) -> bool:
    return _JSON.match(window.peek(0, 4096)) is not None or _is_sentencepiece(window)


def _is_sentencepiece(window: Window) -> bool:
    if window.peek(0, 1) != b"\x0a":
        return False
    pieces = []
    for field in fields(window):
        if field.number != 1 or field.wire != SPAN or field.size > 4096:
            return False
        inner = next(iter(fields(window, field.offset, field.size)), None)
        if inner is None or inner.number != 1:
            return False
        pieces.append(inner.text(window, 200))
        if len(pieces) == 4:
            break
    return bool(_SPECIAL & set(pieces))


def _describe(window: Window) -> FormatReport:
    if window.peek(0, 1) == b"\x0a":
        return report("tokenizer", {"type": "sentencepiece"})
    warnings = (
        () if window.peek(max(0, window.size - 64), 64).rstrip().endswith(b"}") else (("error", "it is cut off"),)
    )
    kind = _KIND.search(window.peek(0, 1 << 18))
    return report("tokenizer", {"type": kind[1].decode() if kind else ""}, warnings=warnings)


READER = HeaderReader("tokenizer", _claims, _describe, marks=b"{ \t\n\r\f\v")
