"""OpenVINO IR: an XML ``<net name=… version=…>`` beside a ``.bin`` of weights. No XML parser: the first tag tells."""

import re

from reconciler.adapters.formats.reader import HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport

_NET = re.compile(rb"\s*(?:<\?xml[^>]{0,200}\?>)?\s*<net(\s[^<>]{0,1000})>")
_ATTRIBUTE = re.compile(rb"""\s([a-z_]{1,30})\s{0,3}=\s{0,3}["']([^"']{0,200})["']""")


def _claims(window: Window) -> bool:
    return _NET.match(window.peek(0, 4096)) is not None


def _describe(window: Window) -> FormatReport:
    match = _NET.match(window.at(0, min(4096, window.size)))
    found = {key.decode(): value.decode() for key, value in _ATTRIBUTE.findall(match[1] if match else b"")}
    if not found.get("version", "").isdigit():
        raise Lie("its net has no version")
    if b"</net>" not in window.peek(max(0, window.size - 1024), 1024):
        raise Lie("it ends before its net does")
    return report("openvino", {"name": found.get("name", ""), "version": int(found["version"])})


READER = HeaderReader("openvino", _claims, _describe, marks=b"< \t\n\r\f\v")
