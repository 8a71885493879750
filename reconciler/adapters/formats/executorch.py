"""ExecuTorch ``.pte``: a FlatBuffer ``Program`` whose identifier is ``ET`` and two digits (``schema/program.fbs``).

An extended header (``eh00`` at byte 8) tells the program's size and where the segments begin; both must lie in the
file.
"""

from reconciler.adapters.formats.flatbuffers import Table
from reconciler.adapters.formats.reader import HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport


def _claims(window: Window) -> bool:
    head = window.peek(4, 4)
    return head[:2] == b"ET" and head[2:].isdigit() and len(head) == 4


def _describe(window: Window) -> FormatReport:
    program = Table.root(window)
    if window.peek(8, 4) == b"eh00":
        header = window.at(12, 20)
        size, segments = int.from_bytes(header[4:12], "little"), int.from_bytes(header[12:20], "little")
        if size > window.size or segments > window.size:
            raise Lie(f"it ends at {window.size} bytes, its header says {max(size, segments)}")
    methods = program.tables(1, 8)
    return report(
        "executorch",
        {"version": program.number(0), "name": methods[0].text(0) if methods else "", "methods": len(methods)},
    )


READER = HeaderReader("executorch", _claims, _describe, marks=b"E", mark_at=4)
