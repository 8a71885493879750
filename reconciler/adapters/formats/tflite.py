"""TensorFlow Lite: a FlatBuffer ``Model`` with the identifier ``TFL3`` (tensorflow ``schema.fbs``)."""

from reconciler.adapters.formats.flatbuffers import Table
from reconciler.adapters.formats.reader import HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport


def _claims(window: Window) -> bool:
    return window.peek(4, 4) == b"TFL3"


def _describe(window: Window) -> FormatReport:
    model = Table.root(window)
    version, (_, operators), (_, graphs) = model.number(0), model.vector(1), model.vector(2)
    if not graphs:
        raise Lie("it has no subgraph")
    name = next((graph.text(4) for graph in model.tables(2, 1)), "")
    return report("tflite", {"version": version, "operators": operators, "name": name, "description": model.text(3)})


READER = HeaderReader("tflite", _claims, _describe, marks=b"T", mark_at=4)
