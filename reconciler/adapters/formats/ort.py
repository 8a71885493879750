"""ORT: ONNX Runtime's own FlatBuffer ``InferenceSession``, identifier ``ORTM`` (onnxruntime ``ort.fbs``)."""

from reconciler.adapters.formats.flatbuffers import Table
from reconciler.adapters.formats.reader import Facts, HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport


def _claims(window: Window) -> bool:
    return window.peek(4, 4) == b"ORTM"


def _describe(window: Window) -> FormatReport:
    session = Table.root(window)
    facts: Facts = {"ortVersion": session.text(0)}
    model = session.table(1)
    if model is None:
        raise Lie("it has no model")
    facts |= {"irVersion": model.number(0, 8), "producer": model.text(2)}
    for opset in model.tables(1, 16):
        if opset.text(0) in {"", "ai.onnx"}:
            facts["opset"] = opset.number(1, 8)
    return report("ort", facts)


READER = HeaderReader("ort", _claims, _describe, marks=b"O", mark_at=4)
