"""ONNX: a protobuf ``ModelProto`` (onnx/onnx ``onnx.proto3``). It has no magic, so the claim is a strict one.

Claimed: the known fields have their own wire types, ``ir_version`` is a plausible number, and producer, opset or graph
stand beside it. Read: producer, opset, graph name, and of every initializer its shape and type (never its data). A
reference to external data that is absolute or leaves the model's folder is an error: it would make the loader open a
file of the attacker's choice. Such references also stand in sparse initializers and in the attributes of nodes; only
those that hold the word itself are walked. What is too long to be walked is a warning.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from reconciler.adapters.formats.protobuf import SPAN, VARINT, Field, fields
from reconciler.adapters.formats.reader import Facts, HeaderReader, report
from reconciler.adapters.formats.window import Budget, Lie, TooLong, Window
from reconciler.core.ports import FormatReport

_MODEL = {
    1: VARINT,
    2: SPAN,
    3: SPAN,
    4: SPAN,
    5: VARINT,
    6: SPAN,
    7: SPAN,
    8: SPAN,
    14: SPAN,
    20: SPAN,
    25: SPAN,
    26: SPAN,
}
_GRAPH = {1, 2, 5, 10, 11, 12, 13, 14, 15, 16}
_DTYPES = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 8: "STRING", 9: "BOOL", 10: "F16", 11: "F64",
    12: "U32", 13: "U64", 14: "C64", 15: "C128", 16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2",
    20: "F8_E5M2FNUZ", 21: "U4", 22: "I4", 23: "F4", 24: "F8_E8M0",
}  # fmt: skip
# Which fields of a message hold messages that may lead to a tensor (onnx.proto3): field number: kind.
_LOCATION = 13  # TensorProto.external_data
_Parts = Mapping[int, str]
_TENSOR_PARTS: _Parts = {}
_PARTS: dict[str, _Parts] = {
    "model": {7: "counted graph", 20: "training", 25: "function"},
    "counted graph": {1: "node", 15: "sparse"},  # its initializers were looked at while they were counted
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": _TENSOR_PARTS,
}
_MAX_SEARCHED_BYTES = 1 << 20
_MAX_EXTERNAL = 64
_MAX_GRAPH_STEPS = 20_000


def _claims(window: Window) -> bool:
    if window.peek(0, 1) not in {b"\x08", b"\x12", b"\x3a", b"\x42"}:
        return False
    seen: set[int] = set()
    try:
        for field in fields(window):
            if _MODEL.get(field.number) != field.wire or (field.number == 1 and not 0 < field.value < 1000):
                return False
            if field.number in {2, 3}:
                field.text(window, 256)
            seen.add(field.number)
    except Lie:
        # Cut off, or a length that lies: ours where what came before is beyond chance.
        return 1 in seen and bool(seen & {2, 3, 7, 8}) and _producer_is_text(window)
    return 1 in seen and bool(seen & {7, 8})


def _producer_is_text(window: Window) -> bool:
    """Whether the second field is a printable producer name, as every exporter writes it."""
    try:
        for field in fields(window):
            if field.number == 2:
                return field.text(window, 256).isprintable()
    except Lie:
        return False
    return False


def _describe(window: Window) -> FormatReport:
    facts: Facts = {}
    weights: dict[str, int] = {}
    external: set[str] = set()
    notes: list[tuple[str, str]] = []
    try:
        for field in fields(window):
            if field.number == 7:
                with _or_note(notes, "its graph is too long to be counted"):
                    counted = replace(window, budget=Budget(steps_left=_MAX_GRAPH_STEPS))
                    _graph(counted, field, facts, weights, external)
            else:
                _property(window, field, facts)
    except TooLong:
        notes.append(("warning", "its properties are too many to be read"))
    with _or_note(notes, "it is too long to be searched for external data"):
        _hidden(replace(window, budget=Budget()), Field(0, SPAN, size=window.size), _PARTS["model"], external)
    if not notes and ("irVersion" not in facts or not {"opset", "graph"} & facts.keys()):
        raise Lie("it has neither graph nor opset")
    if weights and not notes:
        facts["parameters"] = sum(weights.values())
        facts["dtype"] = max(weights, key=lambda word: (weights[word], word))
    if external:
        facts["externalData"] = "\n".join(sorted(external))
    return report("onnx", facts, warnings=tuple(notes))


@contextlib.contextmanager
def _or_note(notes: list[tuple[str, str]], text: str) -> Iterator[None]:
    """What is too long to be walked is told, not refused."""
    try:
        yield
    except TooLong:
        notes.append(("warning", text))


def _property(window: Window, field: Field, facts: Facts) -> None:
    match field.number:
        case 1:
            facts["irVersion"] = field.value
        case 2:
            facts["producer"] = field.text(window, 200)
        case 8:
            _opset(window, field, facts)
        case 14:
            _note(window, field, facts)
        case _:
            pass


def _opset(window: Window, span: Field, facts: Facts) -> None:
    domain, version = "", 0
    for field in fields(window, span.offset, span.size):
        if field.number == 1:
            domain = field.text(window, 200)
        elif field.number == 2:
            version = field.value
    if domain in {"", "ai.onnx"} or "opset" not in facts:
        facts["opset"] = version


def _note(window: Window, span: Field, facts: Facts) -> None:
    """metadata_props: the few that have a name of ours."""
    pair = {field.number: field.text(window, 200) for field in fields(window, span.offset, span.size)}
    word = {"license": "license", "name": "name", "model_type": "architecture"}.get(pair.get(1, ""))
    if word:
        facts[word] = pair.get(2, "")


def _graph(window: Window, span: Field, facts: Facts, weights: dict[str, int], external: set[str]) -> None:
    facts["graph"] = ""
    for field in fields(window, span.offset, span.size):
        if field.number not in _GRAPH:
            raise Lie(f"its graph has an unknown field {field.number}")
        if field.number == 2:
            facts["graph"] = field.text(window, 200)
        elif field.number == 5:
            _initializer(window, field, weights, external)


def _initializer(window: Window, span: Field, weights: dict[str, int], external: set[str]) -> None:
    count, dtype = 1, ""
    for field in fields(window, span.offset, span.size):
        if field.number == 1:
            for length in _dimensions(window, field):
                count *= length
                if count >= 1 << 63:
                    raise Lie("a tensor has more weights than can be counted")
        elif field.number == 2:
            dtype = _DTYPES.get(field.value, f"type {field.value}")
        elif field.number == 13:
            _external(window, field, external)
    weights[dtype] = weights.get(dtype, 0) + count


def _hidden(window: Window, span: Field, parts: _Parts, external: set[str]) -> None:
    """External data of the tensors that stand somewhere below a message."""
    for field in fields(window, span.offset, span.size):
        if field.number == _LOCATION and parts is _TENSOR_PARTS:
            _external(window, field, external)
        inner = parts.get(field.number)
        if inner is not None and field.wire == SPAN and _mentions_location(window, field):
            _hidden(window, field, _PARTS[inner], external)


def _mentions_location(window: Window, span: Field) -> bool:
    """Whether the word stands in it; a long message is taken to hold it, since walking it steps over its data."""
    return span.size > _MAX_SEARCHED_BYTES or b"location" in window.at(span.offset, span.size)


def _dimensions(window: Window, field: Field) -> list[int]:
    """``dims`` is written packed or one by one."""
    if field.wire == VARINT:
        return [field.value]
    lengths, value, shift = [], 0, 0
    for byte in window.at(field.offset, min(field.size, 640)):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            lengths.append(value)
            value = shift = 0
    return lengths


def _external(window: Window, span: Field, external: set[str]) -> None:
    pair = {field.number: field.text(window, 4096) for field in fields(window, span.offset, span.size)}
    if pair.get(1) != "location":
        return
    location = pair.get(2, "")
    if location.startswith(("/", "\\")) or ".." in location.replace("\\", "/").split("/") or "\0" in location:
        raise Lie("its external data lies outside the model's folder")
    if len(external) < _MAX_EXTERNAL:
        external.add(location)


READER = HeaderReader("onnx", _claims, _describe, marks=b"\x08\x12\x3a\x42")
