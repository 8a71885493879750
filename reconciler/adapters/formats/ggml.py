"""What came before GGUF: ``ggml``, ``ggmf``, ``ggjt``, ``ggla`` (read as little-endian u32, so reversed on disk).

whisper.cpp still writes ``ggml`` files (``models/convert-pt-to-ggml.py``): eleven i32 of hyper-parameters, then the mel
filters. Those are told apart by plausible numbers and described; the others are named only.
"""

import struct

from reconciler.adapters.formats.gguf import FILE_TYPES
from reconciler.adapters.formats.reader import HeaderReader, report
from reconciler.adapters.formats.window import Lie, Window
from reconciler.core.ports import FormatReport

_MAGICS = {b"lmgg": "ggml", b"fmgg": "ggmf", b"tjgg": "ggjt", b"algg": "ggla"}
_WHISPER_SIZES = {4: "tiny", 6: "base", 12: "small", 24: "medium", 32: "large"}  # by audio layers


def _claims(window: Window) -> bool:
    return window.peek(0, 4) in _MAGICS


def _describe(window: Window) -> FormatReport:
    container = _MAGICS[window.at(0, 4)]
    raw = window.peek(4, 52)
    if container == "ggml" and len(raw) == 52:
        head = struct.unpack("<13i", raw)
        vocabulary, audio_context, layers, text_context, mels, file_type, filters, width = (
            head[0], head[1], head[4], head[5], head[9], head[10], head[11], head[12],
        )  # fmt: skip
        if 50_000 < vocabulary < 60_000 and mels in {80, 128} and audio_context == 1500:
            if filters <= 0 or width <= 0 or filters * width * 4 > window.size:
                raise Lie(f"mel filters of {filters} by {width} do not fit into {window.size} bytes")
            return report(
                "ggml",
                {
                    "architecture": "whisper",
                    "contextLength": text_context,
                    "quantization": FILE_TYPES.get(file_type % 1000, ""),
                    "name": f"whisper-{_WHISPER_SIZES.get(layers, 'custom')}",
                },
            )
    return report("ggml", {"container": container})


READER = HeaderReader("ggml", _claims, _describe, marks=b"lfta")
