"""Safetensors: a header length u64, that many bytes of JSON, then tensor data without holes.

The rules are those of the reference implementation (huggingface/safetensors ``safetensors/src/tensor.rs``): ranges in
order without hole or overlap, the last one ends with the file, each as long as its shape and dtype ask for. Beyond
them: a key that stands twice is an error, and a dtype newer than this reader only a warning. A header over 4 MiB or of
over 20,000 tensors (the format allows 100 MB) is not parsed, which a warning tells; its length is checked all the same.
"""

import json
import re
from typing import Any

from reconciler.adapters.formats.reader import Facts, HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport

MAX_HEADER_BYTES = 100_000_000
_MAX_PARSED_BYTES = 4 << 20
_MAX_PARSED_TENSORS = 20_000
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def _claims(window: Window) -> bool:
    head = window.peek(0, 64)
    text = head[8:].lstrip(b" \n\r\t")
    if not text.startswith(b"{") or (text[1:2] or b"?") not in b'"} \n\r\t':
        return False
    if b"\0" in head[:8]:
        return True
    if head[8:9] != b"{":
        return False
    try:
        head[:8].decode()
    except UnicodeDecodeError:
        return True
    return False


def _describe(window: Window) -> FormatReport:
    length = int.from_bytes(window.at(0, 8), "little")
    if length > window.size - 8:
        raise Lie(f"its header says {length} bytes, but the file ends at {window.size}")
    if length > MAX_HEADER_BYTES:
        raise Lie(f"its header of {length} bytes is longer than the format allows")
    if length > _MAX_PARSED_BYTES:
        return report("safetensors", {}, warnings=(("warning", f"a header of {length} bytes is not read"),))
    text = window.at(8, length)
    bare = text
    if (_has_too_many_brackets(text) or _has_too_many_items(text)) and text.count(b'"') <= 20 * _MAX_PARSED_TENSORS:
        bare = _TEXT.sub(b"", text).ljust(length)  # those within texts are free
    if _has_too_many_brackets(bare):
        raise Lie("its header is no list of tensors")
    if text.count(b'"data_offsets"') > _MAX_PARSED_TENSORS or _has_too_many_items(bare):
        return report("safetensors", {}, warnings=(("warning", "a header of so many tensors is not read"),))
    tensors = _parse(text)
    notes = tensors.pop("__metadata__", None)
    notes = {} if notes is None else notes
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise Lie("its __metadata__ is not a mapping of texts")
    return _sum_up(tensors, notes, window.size - 8 - length)


def _has_too_many_brackets(text: bytes) -> bool:
    """Even ``"a":{"dtype":"U8","shape":[],"data_offsets":[0,0]},`` is longer: so many are built to cost memory."""
    return text.count(b"[") * 12 + text.count(b"{") * 24 > len(text) + 1000


def _has_too_many_items(text: bytes) -> bool:
    return text.count(b",") > 10 * _MAX_PARSED_TENSORS


def _parse(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except RecursionError:
        raise Lie("its header is nested too deep") from None
    except ValueError:
        raise Lie("its header is not JSON") from None
    if not isinstance(value, dict):
        raise Lie("its header is not a mapping")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Lie("a key stands twice in its header")
    return value


def _no_constant(word: str) -> Any:
    raise Lie(f"its header holds {word}")


def _sum_up(tensors: dict[str, Any], notes: dict[str, str], data_bytes: int) -> FormatReport:
    spans: list[tuple[int, int]] = []
    weights: dict[str, int] = {}
    for name, entry in tensors.items():
        dtype, count, start, end = _entry(name, entry)
        spans.append((start, end))
        weights[dtype] = weights.get(dtype, 0) + count
    expected = 0
    for start, end in sorted(spans):
        if start != expected:
            raise Lie(f"tensor data has a {'hole' if start > expected else 'overlap'} at {min(start, expected)}")
        expected = end
    if expected != data_bytes:
        raise Lie(f"its tensors take {expected} bytes, but the file holds {data_bytes}")
    facts: Facts = {
        "architecture": notes.get("modelspec.architecture", ""),
        "parameters": sum(weights.values()),
        "dtype": max(weights, key=lambda word: (weights[word], word), default=""),
        "tensors": len(tensors),
        "name": notes.get("modelspec.title", ""),
        "license": notes.get("license", notes.get("modelspec.license", "")),
        "framework": notes.get("format", ""),
    }
    unknown = [word for word in weights if word not in _BITS]
    warnings = (("warning", f"a dtype newer than this reader: {unknown[0][:80]}"),) if unknown else ()
    return report("safetensors", facts, warnings=warnings)


def _entry(name: str, entry: Any) -> tuple[str, int, int, int]:
    """One tensor: dtype, number of weights, first and last byte (exclusive)."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end]}:
            pass
        case _:
            raise Lie(f"tensor {name[:80]!r} is not dtype, shape and data_offsets")
    if not all(type(number) is int and 0 <= number < 1 << 64 for number in (*shape, start, end)) or start > end:
        raise Lie(f"tensor {name[:80]!r} has a shape or a range that is none")
    count = 1
    for length in shape:
        count *= length
        if count >= 1 << 64:
            raise Lie(f"tensor {name[:80]!r} has more weights than can be counted")
    if dtype in _BITS and count * _BITS[dtype] != (end - start) * 8:
        raise Lie(f"tensor {name[:80]!r} has {end - start} bytes, its shape asks for {count * _BITS[dtype] // 8}")
    return dtype, count, start, end


READER = HeaderReader("safetensors", _claims, _describe, marks=b"{ \n\r\t", mark_at=8)
