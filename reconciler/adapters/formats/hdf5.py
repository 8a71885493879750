"""HDF5 (Keras ``.h5``): the signature, and a superblock version that exists. Not a pickle."""

from reconciler.adapters.formats.reader import HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport


def _claims(window: Window) -> bool:
    return window.peek(0, 8) == b"\x89HDF\r\n\x1a\n"


def _describe(window: Window) -> FormatReport:
    version = window.at(8, 1)[0]
    if version > 3:
        raise Lie(f"superblock version {version} is not known")
    return report("h5", {"version": version})


READER = HeaderReader("h5", _claims, _describe, marks=b"\x89")
