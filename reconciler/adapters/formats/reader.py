"""What all built-in format readers are: a claim on the content, then a strict look at the header.

``claims`` says whether the content is of this format at all; a lie there means "no". ``describe`` reads the header; a
lie there means "yes, and it is broken", which becomes an error in the report; what is too long to be checked is no
proven lie and becomes a warning. Nothing that a file holds raises.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.adapters.formats.window import Lie, TooLong, Window
from reconciler.core.ports import FormatReport

Fact = str | int | float | bool
Facts = dict[str, Fact]

HEAD_BYTES = 16

_BROKEN = (Lie, ValueError, ArithmeticError, RecursionError, LookupError, struct.error)


def report(name: str, facts: Facts, *, warnings: tuple[tuple[str, str], ...] = ()) -> FormatReport:
    """A sound file's report; empty facts are left out, texts are cut at 200 characters."""
    kept = tuple((key, value[:200] if isinstance(value, str) else value) for key, value in facts.items() if value != "")
    return FormatReport(name, metadata=kept, warnings=warnings)


@dataclass(slots=True)
class HeaderReader:
    """A :class:`reconciler.core.ports.FormatReader` made of two functions over a window.

    ``marks`` are the bytes that may stand at ``mark_at`` (below :data:`HEAD_BYTES`) where the content is of this
    format, any where there are none: most readers are not asked about most files.
    """

    name: str
    claims: Callable[[Window], bool]
    describe: Callable[[Window], FormatReport]
    marks: bytes = b""
    mark_at: int = 0

    def look(self, window: Window) -> FormatReport | None:
        """The report, or None where the content is something else."""
        try:
            if not self.claims(window):
                return None
        except _BROKEN:
            return None
        try:
            return self.describe(window)
        except TooLong as limit:
            return FormatReport(self.name, warnings=(("warning", str(limit)),))
        except _BROKEN as lie:
            text = str(lie) if isinstance(lie, Lie) else f"its header cannot be read ({type(lie).__name__})"
            return FormatReport(self.name, errors=(text,))

    def read(self, path: str, size_bytes: int) -> FormatReport | None:
        """See :class:`reconciler.core.ports.FormatReader`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self.look(Window.of_file(descriptor, size_bytes))
        finally:
            os.close(descriptor)
