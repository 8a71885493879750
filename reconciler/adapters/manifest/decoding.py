"""Bytes to text: UTF-8, and no character that YAML, an editor or a terminal would trip over."""

import re

from reconciler.adapters.manifest.findings import Findings

# What YAML does not allow raw, and the separators that count as line ends in YAML 1.1 only.
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile(r"\r\n|\r|\n")
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_MAX_LISTED = 20  # unreadable characters told one by one


def decode(data: bytes, label: str, findings: Findings, limit_bytes: int) -> str | None:
    """The text, with every unreadable character noted and replaced; None where it is no text at all."""
    start = (label, 1, 1)
    if len(data) > limit_bytes:
        findings.add(start, f"a file of more than {limit_bytes:,} bytes", f"at most {limit_bytes:,} bytes")
        return None
    if data.startswith(_WIDE_MARKS):
        findings.add(start, "UTF-16 or UTF-32", "UTF-8", hint="save the file as UTF-8")
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        text = data.decode(errors="replace")
        before = data[: error.start].decode().removeprefix("\ufeff")
        findings.add(_place(label, before, len(before)), f"the byte 0x{data[error.start]:02x}, no UTF-8", "UTF-8 text")
    text = text.removeprefix("\ufeff")
    return _without_unreadable(text, label, findings)


def _without_unreadable(text: str, label: str, findings: Findings) -> str:
    count = 0
    for count, match in enumerate(_UNREADABLE.finditer(text), 1):
        if count > _MAX_LISTED:
            break
        findings.add(
            _place(label, text, match.start()),
            f"the character U+{ord(match[0]):04X}",
            "text without control characters",
        )
    return _UNREADABLE.sub("\N{REPLACEMENT CHARACTER}", text) if count else text


def _place(label: str, text: str, offset: int) -> tuple[str, int, int]:
    starts = [0, *(match.end() for match in _LINE_END.finditer(text, 0, offset))]
    return label, len(starts), offset - starts[-1] + 1
