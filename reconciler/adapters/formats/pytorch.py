"""PyTorch and other pickles: ``torch.save`` zips, the legacy stream, the tar before that, and plain pickles.

All of them run code when loaded, so ``is_unsafe`` is set; the name is told for people and for ``allowUnsafe``.
"""

from dataclasses import replace

from reconciler.adapters.formats import pickles, zips
from reconciler.adapters.formats.reader import Facts, HeaderReader, report
from reconciler.adapters.formats.window import Window
from reconciler.core.ports import FormatReport

# The legacy stream starts with the pickle of torch's magic number, 0x1950a86a20f9469cfc6c (torch/serialization.py).
_LEGACY = bytes.fromhex("6cfc9c46f9206aa85019")


def _claims(window: Window) -> bool:
    if window.peek(0, 4) == b"PK\3\4":
        names = zips.names(window)
        return any(name == b"data.pkl" or name.endswith((b"/data.pkl", b"/constants.pkl")) for name in names)
    return _LEGACY in window.peek(0, 16)


def _describe(window: Window) -> FormatReport:
    facts: Facts = {"container": "legacy"}
    if window.peek(0, 2) == b"PK":
        names = [member.name for member in zips.sound(window)]
        facts = {"container": "zip", "tensors": sum(b"/data/" in name for name in names)}
        if any(b"/code/" in name for name in names):
            facts["architecture"] = "torchscript"
    return replace(report("pytorch", facts), is_unsafe=True)


def _describe_pickle(_: Window) -> FormatReport:
    return FormatReport("pickle", is_unsafe=True)


READER = HeaderReader("pytorch", _claims, _describe)
PICKLE_READER = HeaderReader("pickle", pickles.holds_pickle, _describe_pickle)
