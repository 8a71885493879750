"""Bytes to text: UTF-8, and no character that YAML, an editor or a terminal would trip over."""

import re

from reconciler.adapters.manifest.findings import Findings

REPLACED = "\N{REPLACEMENT CHARACTER}"  # stands where something unreadable was; a problem tells of it
# What YAML does not allow raw, the separators that count as line ends in YAML 1.1 only, and lone surrogates, which is
# how bytes that are no UTF-8 come out of the decoder.
_UNREADABLE = "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffc\U00010000-\U0010ffff]"
_PLAIN = re.compile(r"[\t\n\r\x20-\x7e]*")  # most manifests, and made in a tenth of the time
_LINE_END = re.compile(r"\r\n|\r|\n")
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_MAX_LISTED = 20  # unreadable characters told one by one
_BINARY_SHARE = 0.1  # with more unreadable characters than this at its start, a file is no text at all
_MIN_UNREADABLE = 4
_HEAD_CHARACTERS = 4096
_MAGIC = (  # what a model file in place of the manifest starts with
    (b"GGUF", "a GGUF model"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x7fELF", "a program"),
)


def decode(data: bytes, label: str, findings: Findings, limit_bytes: int) -> str | None:
    """The text, with every unreadable character noted and replaced; None where it is no text at all."""
    start = (label, 1, 1)
    if len(data) > limit_bytes:
        findings.add(start, f"a file of more than {limit_bytes:,} bytes", f"at most {limit_bytes:,} bytes")
        return None
    if data.startswith(_WIDE_MARKS):
        findings.add(start, "UTF-16 or UTF-32", "UTF-8", hint="save the file as UTF-8")
        return None
    text = data.decode(errors="surrogateescape").removeprefix("\ufeff")
    if _PLAIN.fullmatch(text):
        return text
    if _is_binary(text):
        what = next((words for magic, words in _MAGIC if data.startswith(magic)), "binary content")
        findings.add(start, what, "a manifest in YAML, as UTF-8 text", hint="look at which file -f names")
        return None
    count = 0
    for count, match in enumerate(re.finditer(_UNREADABLE, text), 1):
        if count > _MAX_LISTED:
            break
        findings.add(_place(label, text, match.start()), *_sentence(ord(match[0])))
    return re.sub(_UNREADABLE, REPLACED, text) if count else text


def _is_binary(text: str) -> bool:
    head = text[:_HEAD_CHARACTERS]
    return len(re.findall(_UNREADABLE, head)) > max(_MIN_UNREADABLE - 1, len(head) * _BINARY_SHARE)


def _sentence(code: int) -> tuple[str, str]:
    if 0xDC80 <= code <= 0xDCFF:
        return f"the byte 0x{code - 0xDC00:02x}, no UTF-8", "UTF-8 text"
    return f"the character U+{code:04X}", "text without control characters"


def _place(label: str, text: str, offset: int) -> tuple[str, int, int]:
    starts = [0, *(match.end() for match in _LINE_END.finditer(text, 0, offset))]
    return label, len(starts), offset - starts[-1] + 1
