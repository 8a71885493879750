"""GGUF versions 2 and 3, little- and big-endian (ggml's ``docs/gguf.md``).

Layout: ``GGUF``, version u32, tensor count u64, key count u64, the keys, the tensor table, padding to
``general.alignment``, tensor data. The vocabulary makes the header long (hundreds of thousands of strings of a few
bytes); :func:`_skip_strings` walks it with one regular expression per 1,024 strings, which is what keeps a 40 GB
model's header within 50 ms.

A header longer than the budget is told by a warning, with the keys read so far (the vocabulary stands behind those that
describe the model). Checked: counts against the file's size, key types, nesting of arrays, alignment, every tensor's
range (inside the file, aligned, not overlapping another).
"""

import functools
import re
import struct
from dataclasses import dataclass, field

from reconciler.adapters.formats.peft import scale_of
from reconciler.adapters.formats.reader import Fact, Facts, HeaderReader, report
from reconciler.adapters.formats.window import Cursor, Lie, TooLong, Window
from reconciler.core.ports import FormatReport

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_BATCHES = ((1024, 20), (64, 2))  # strings at once, and what they cost in steps
_ONE_BY_ONE = 64
_MAX_TEXT_BYTES = 1 << 20
_MAX_ALPHA = 1e6
_REPOSITORY = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/?")
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8  # name length, number of dimensions, type, offset
_MIN_KEY_BYTES = 8 + 4 + 1

# ggml_type: (word, weights per block, bytes per block); ggml.h.
TENSOR_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
# general.file_type: llama.cpp's llama_ftype.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
    39: "NVFP4", 40: "Q1_0",
}  # fmt: skip


@dataclass(slots=True)
class _Tensors:
    """What the tensor table adds up to."""

    parameters: int = 0
    weights: dict[str, int] = field(default_factory=dict)  # by type
    spans: list[tuple[int, int]] = field(default_factory=list)
    unknown: int = 0
    ranks: set[int] = field(default_factory=set)  # of a LoRA adapter: the inner length of its pairs

    @property
    def majority(self) -> str:
        """The type that most weights have."""
        return max(self.weights, key=lambda word: (self.weights[word], word), default="")


def _claims(window: Window) -> bool:
    return window.peek(0, 4) == b"GGUF"


def _describe(window: Window) -> FormatReport:
    version, is_big = _version(window)
    cursor = Cursor(window, 8, is_big=is_big)
    tensor_count, key_count = cursor.number("u64"), cursor.number("u64")
    if tensor_count * _MIN_TENSOR_BYTES + key_count * _MIN_KEY_BYTES > cursor.left:
        raise Lie(f"{tensor_count} tensors and {key_count} keys do not fit into {window.size} bytes")
    keys: dict[str, Fact | None] = {}
    tensors = _Tensors()
    notes: tuple[tuple[str, str], ...] = ()
    try:
        for _ in range(key_count):
            name, value = _key(cursor)
            if name in keys:
                raise Lie("a key stands twice")
            keys[name] = value
        tensors = _table(cursor, tensor_count, _alignment(keys))
    except TooLong as limit:
        notes = (("warning", str(limit)),)
    if tensors.unknown:
        notes = (("warning", f"{tensors.unknown} tensors of a type newer than this reader"),)
    return report("gguf", _facts(keys, tensors, version, is_big=is_big), warnings=notes)


def _version(window: Window) -> tuple[int, bool]:
    raw = window.at(4, 4)
    little, big = int.from_bytes(raw, "little"), int.from_bytes(raw, "big")
    version, is_big = (big, True) if little > 0xFFFF else (little, False)
    if version not in {2, 3}:
        raise Lie(f"GGUF version {version} is not 2 or 3")
    return version, is_big


def _text(cursor: Cursor, limit: int = _MAX_TEXT_BYTES) -> str:
    length = cursor.number("u64")
    if length > min(limit, cursor.left):
        raise Lie(f"a string of {length} bytes stands at {cursor.offset}")
    return cursor.take(length).decode("utf-8", "replace")


def _key(cursor: Cursor) -> tuple[str, Fact | None]:
    cursor.window.budget.step()
    name = _text(cursor, 65_535)
    return name, _value(cursor, cursor.number("u32"))


def _value(cursor: Cursor, kind: int) -> Fact | None:
    """A scalar or short string; None for an array and a long string, which are only stepped over."""
    if kind in _SCALARS:
        layout = (">" if cursor.order["u16"].format[0] == ">" else "<") + _SCALARS[kind]
        value: Fact = struct.unpack(layout, cursor.take(struct.calcsize(layout)))[0]
        return value
    if kind == _STRING:
        length = cursor.number("u64")
        if length > _MAX_TEXT_BYTES:
            cursor.skip(length)
            return None
        if length > cursor.left:
            raise Lie(f"a string of {length} bytes stands at {cursor.offset}")
        return cursor.take(length).decode("utf-8", "replace")
    if kind == _ARRAY:
        _skip_array(cursor, depth=0)
        return None
    raise Lie(f"a value of unknown type {kind} stands at {cursor.offset}")


def _skip_array(cursor: Cursor, depth: int) -> None:
    kind, count = cursor.number("u32"), cursor.number("u64")
    if kind in _SCALARS:
        cursor.skip(count * struct.calcsize("<" + _SCALARS[kind]))
    elif kind == _STRING:
        if count * 8 > cursor.left:
            raise Lie(f"an array of {count} strings stands at {cursor.offset}")
        _skip_strings(cursor, count)
    elif kind == _ARRAY and depth < 2:
        if count * 12 > cursor.left:
            raise Lie(f"an array of {count} arrays stands at {cursor.offset}")
        for _ in range(count):
            cursor.window.budget.step()
            _skip_array(cursor, depth + 1)
    else:
        raise Lie(f"an array of unknown type {kind} stands at {cursor.offset}")


@functools.cache
def _batch(count: int, *, is_big: bool) -> re.Pattern[bytes]:
    """Matches exactly ``count`` strings of up to 127 bytes; the likely lengths come first."""
    lengths = [*range(4, 16), *range(4), *range(16, 128)]
    zeros = rb"\0{7}"
    heads = [(zeros + re.escape(bytes([n]))) if is_big else (re.escape(bytes([n])) + zeros) for n in lengths]
    branches = b"|".join(head + b".{%d}" % length for head, length in zip(heads, lengths, strict=True))
    return re.compile(b"(?:" + branches + b"){%d}+" % count, re.DOTALL)


def _skip_strings(cursor: Cursor, count: int) -> None:
    """Step over an array of strings: by batches, and one by one around the rare long ones."""
    while count:
        done = next((size for size, cost in _BATCHES if size <= count and _skip_batch(cursor, size, cost)), 0)
        if not done:
            done = min(count, _ONE_BY_ONE)
            cursor.window.budget.step(done // 4 + 1)
            for _ in range(done):
                cursor.skip(cursor.number("u64"))
        count -= done


def _skip_batch(cursor: Cursor, size: int, cost: int) -> bool:
    cursor.need(min(cursor.left, size * 32))
    chunk, position = cursor.view()
    match = _batch(size, is_big=cursor.order["u16"].format[0] == ">").match(chunk, position)
    if match is None:
        return False
    cursor.window.budget.step(cost)
    cursor.skip(match.end() - position)
    return True


def _alignment(keys: dict[str, Fact | None]) -> int:
    value = keys.get("general.alignment", 32)
    if not isinstance(value, int) or value < 1 or value & (value - 1):
        raise Lie(f"alignment {value} is not a power of two")
    return value


def _table(cursor: Cursor, count: int, alignment: int) -> _Tensors:
    tensors, names = _Tensors(), set()
    for _ in range(count):
        cursor.window.budget.step()
        name = _text(cursor, 1024)
        names.add(name)
        shape = _tensor(cursor, tensors, alignment)
        if shape and name.endswith(".lora_b"):
            tensors.ranks.add(shape[0])
    if len(names) != count:
        raise Lie("a tensor's name stands twice")
    data = -(-cursor.offset // alignment) * alignment
    end = 0
    for start, length in sorted(tensors.spans):
        if start < end:
            raise Lie(f"two tensors overlap at {start}")
        end = start + length
    if tensors.spans and data + end > cursor.window.size:
        raise Lie(f"its tensors end at {data + end} bytes, but the file ends at {cursor.window.size}")
    return tensors


def _tensor(cursor: Cursor, tensors: _Tensors, alignment: int) -> list[int]:
    dimensions = cursor.number("u32")
    if dimensions > 4:
        raise Lie(f"a tensor of {dimensions} dimensions stands at {cursor.offset}")
    shape = [cursor.number("u64") for _ in range(dimensions)]
    kind, offset = cursor.number("u32"), cursor.number("u64")
    weights = 1
    for length in shape:
        weights *= length
    if offset % alignment:
        raise Lie(f"a tensor's offset {offset} is not aligned to {alignment}")
    if kind not in TENSOR_TYPES:
        tensors.unknown += 1
        tensors.spans.append((offset, 0))
        return shape
    word, block, block_bytes = TENSOR_TYPES[kind]
    if shape and shape[0] % block:
        raise Lie(f"a row of {shape[0]} weights is not made of {word} blocks of {block}")
    tensors.parameters += weights
    tensors.weights[word] = tensors.weights.get(word, 0) + weights
    tensors.spans.append((offset, weights // block * block_bytes))
    return shape


def _facts(keys: dict[str, Fact | None], tensors: _Tensors, version: int, *, is_big: bool) -> Facts:
    architecture = keys.get("general.architecture") or ""
    file_type = keys.get("general.file_type")
    facts: Facts = {"architecture": architecture, "version": version}
    context = keys.get(f"{architecture}.context_length")
    if isinstance(context, int):
        facts["contextLength"] = context
    facts["quantization"] = FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else ""
    facts["quantization"] = facts["quantization"] or tensors.majority
    if tensors.parameters:
        facts["parameters"] = tensors.parameters
    for key, word in (("general.name", "name"), ("general.license", "license"), ("general.type", "type")):
        facts[word] = keys.get(key) or ""
    if facts["type"] == "adapter":
        facts |= _adapter(keys, tensors)
    if is_big:
        facts["byteOrder"] = "big"
    return facts


def _adapter(keys: dict[str, Fact | None], tensors: _Tensors) -> Facts:
    """What llama.cpp's ``llama-adapter.cpp`` goes by: strength alpha / rank; without alpha, 1."""
    facts: Facts = {"adapter": keys.get("adapter.type") or ""}
    alpha = keys.get("adapter.lora.alpha")
    rank = max(tensors.ranks, default=0)
    if rank:
        facts["rank"] = rank
    if isinstance(alpha, int | float) and 0 <= alpha <= _MAX_ALPHA:
        facts["alpha"] = alpha
        if len(tensors.ranks) == 1 and rank:
            facts["scale"] = scale_of(alpha, rank) if alpha else 1.0
    url, name = keys.get("general.base_model.0.repo_url"), keys.get("general.base_model.0.name")
    match = _REPOSITORY.fullmatch(url) if isinstance(url, str) else None
    facts["baseModel"] = match[1] if match else name if isinstance(name, str) else ""
    return facts


READER = HeaderReader("gguf", _claims, _describe, marks=b"G")
