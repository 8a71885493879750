"""CTranslate2 ``model.bin`` (OpenNMT/CTranslate2 ``python/ctranslate2/specs/model_spec.py``, ``_serialize``).

u32 binary version, the specification's name (u16 length with the closing NUL), u32 revision, u32 variable count; each
variable: name, u8 rank, u32 dimensions, u8 dtype, u32 bytes, data. No magic: the specification's name is the claim.
"""

import re

from reconciler.adapters.formats.reader import Facts, HeaderReader, report
from reconciler.adapters.formats.window import Cursor, Lie, TooLong, Window
from reconciler.core.ports import FormatReport

_DTYPES = {0: "F32", 1: "I8", 2: "I16", 3: "I32", 4: "F16", 5: "BF16"}
_BYTES = {"F32": 4, "I8": 1, "I16": 2, "I32": 4, "F16": 2, "BF16": 2}
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9]{2,62}(Spec|Model)?\0")


def _claims(window: Window) -> bool:
    head = window.peek(0, 6)
    version, length = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:6], "little")
    if len(head) < 6 or not 2 <= version <= 32 or not 4 <= length <= 64:
        return False
    return _NAME.fullmatch(window.at(6, length)) is not None


def _string(cursor: Cursor) -> str:
    raw = cursor.take(cursor.number("u16"))
    if not raw.endswith(b"\0"):
        raise Lie(f"a name without its end stands at {cursor.offset}")
    return raw[:-1].decode()


def _describe(window: Window) -> FormatReport:
    cursor = Cursor(window)
    version, name, revision, count = cursor.number("u32"), _string(cursor), cursor.number("u32"), cursor.number("u32")
    if count * 9 > cursor.left:
        raise Lie(f"{count} variables do not fit into {window.size} bytes")
    weights: dict[str, int] = {}
    notes: tuple[tuple[str, str], ...] = ()
    try:
        for _ in range(count if version >= 4 else 0):
            _variable(cursor, weights)
    except TooLong:
        notes = (("warning", "it has too many variables to be counted"),)
    facts: Facts = {"architecture": name, "version": version, "revision": revision, "variables": count}
    if weights and not notes:
        dtype = max(weights, key=lambda word: (weights[word], word))
        facts |= {"parameters": sum(weights.values()), "dtype": dtype}
        facts["quantization"] = {"I8": "int8", "I16": "int16", "F16": "fp16", "BF16": "bf16", "F32": "fp32"}.get(
            dtype, ""
        )
    return report("ctranslate2", facts, warnings=notes)


def _variable(cursor: Cursor, weights: dict[str, int]) -> None:
    cursor.window.budget.step()
    _string(cursor)
    count = 1
    for _ in range(cursor.take(1)[0]):
        count *= cursor.number("u32")
    kind, size = cursor.take(1)[0], cursor.number("u32")
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise Lie(f"a variable of unknown type {kind} stands at {cursor.offset}")
    if count * _BYTES[dtype] != size:
        raise Lie(f"a variable of {size} bytes stands at {cursor.offset}, its shape asks for {count * _BYTES[dtype]}")
    weights[dtype] = weights.get(dtype, 0) + count
    cursor.skip(size)


READER = HeaderReader("ctranslate2", _claims, _describe, marks=bytes(range(2, 33)))
