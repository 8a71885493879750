"""Formats: what a file is, by its content; and whether it may be trusted with its name.

One file per format, each a :class:`reconciler.core.ports.FormatReader` that recognises by content and reads a header
within strict bounds (``window.py``). Three questions are answered here:

- :func:`inspect` — what is this file or folder? Never fails for what it holds.
- :func:`read_folder` — what is this model of several files, and is it complete?
- :func:`check` — may it be placed? The table of declared words is :data:`DECLARED`:

====================================  ==================================================================
declared                              content must be
====================================  ==================================================================
auto, unknown, folder, bin, weights,  anything that is safe; where a format is recognised, it must be
checkpoint                            sound (a truncated GGUF is refused, a text file is not)
gguf, ggml, onnx, ort, tflite, …      that format, sound; in a folder at least one file is
coreml, mlmodel, mlpackage, mlmodelc  Core ML
mlx                                   safetensors or npz, with or without its config.json
executorch, pte                       ExecuTorch
pytorch                               PyTorch or another pickle, and ``allowUnsafe: true``
====================================  ==================================================================

A pickle anywhere in the content is refused under every word unless the model says ``allowUnsafe: true``.
"""

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from reconciler.adapters.formats import (
    coreml,
    ctranslate2,
    executorch,
    folder,
    ggml,
    gguf,
    hdf5,
    npy,
    onnx,
    openvino,
    ort,
    pytorch,
    safetensors,
    tflite,
    tokenizer,
    unsafe,
)
from reconciler.adapters.formats.reader import HeaderReader
from reconciler.adapters.formats.window import Window
from reconciler.core.errors import Failure, permanent, refused, transient
from reconciler.core.ports import FormatReader, FormatReport

__all__ = ["BUILTIN", "DECLARED", "check", "inspect", "read_folder"]

# Strong magics first, then what only a walk can tell.
BUILTIN: tuple[FormatReader, ...] = (
    gguf.READER,
    safetensors.READER,
    ggml.READER,
    tflite.READER,
    ort.READER,
    executorch.READER,
    hdf5.READER,
    npy.READER,
    npy.ARCHIVE_READER,
    pytorch.READER,
    pytorch.PICKLE_READER,
    openvino.READER,
    ctranslate2.READER,
    tokenizer.READER,
    coreml.READER,
    onnx.READER,
)

_ANYTHING: frozenset[str] = frozenset()
DECLARED: dict[str, frozenset[str]] = {
    **dict.fromkeys(("auto", "unknown", "folder", "bin", "weights", "checkpoint"), _ANYTHING),
    **dict.fromkeys(("coreml", "mlmodel", "mlpackage", "mlmodelc"), frozenset({"coreml"})),
    **dict.fromkeys(("executorch", "pte"), frozenset({"executorch"})),
    "safetensors": frozenset({"safetensors", "mlx"}),
    "mlx": frozenset({"mlx", "safetensors", "npz"}),
    "pytorch": frozenset({"pytorch", "pickle"}),
}

_CACHE_ENTRIES = 100
_CACHE_S = 3600.0
_cache: OrderedDict[tuple[object, ...], tuple[float, FormatReport]] = OrderedDict()
_Pairs = Sequence[tuple[str, str]]


def inspect(path: str, readers: Sequence[FormatReader] = BUILTIN) -> FormatReport:
    """What a file or folder is.

    Args:
        path: absolute path of a regular file, or of a folder, whose files are then read as one model.
        readers: tried in order, the first that knows the content wins; so the newest registration stands first.

    Raises:
        Failure: transient ``unreadable``, for the file system only; never for what the file holds.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 -- paths are text throughout the adapters
        if stat.S_ISDIR(status.st_mode):
            return read_folder(_walk(path), readers)
        if not stat.S_ISREG(status.st_mode):
            return FormatReport("unknown", errors=("it is no regular file",))
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, tuple(map(id, readers)))
        known = _cache.get(key)
        if known and time.monotonic() - known[0] < _CACHE_S:
            return known[1]
        report = _look(path, status.st_size, readers)
    except OSError as error:
        raise _unreadable(path, error) from error
    _cache[key] = (time.monotonic(), report)
    while len(_cache) > _CACHE_ENTRIES:
        _cache.popitem(last=False)
    return report


def read_folder(files: _Pairs, readers: Sequence[FormatReader] = BUILTIN) -> FormatReport:
    """What a model of several files is: (relative path, absolute path) of each, the primary first where known."""
    return folder.combine(files, {path: inspect(place, readers) for path, place in files})


def check(
    files: str | _Pairs,
    declared: str = "auto",
    *,
    allow_unsafe: bool = False,
    is_whole: bool | None = None,
    readers: Sequence[FormatReader] = BUILTIN,
) -> FormatReport:
    """The report of a model that may be placed.

    Args:
        files: the absolute path of one file or folder, or the pairs of :func:`read_folder`.
        declared: the manifest's ``format``; see the table above.
        allow_unsafe: the manifest's ``allowUnsafe``.
        is_whole: whether these are all files of the model, so that one that another names (a shard, external data) is
            missing where it is not among them. None: yes, unless it is a single file, which may be looked at alone.
        readers: as for :func:`inspect`.

    Raises:
        Failure: permanent ``wrong_format`` or ``model_incomplete``; refused ``unsafe_pickle``.
    """
    pairs = _pairs(files)
    reports = {path: inspect(place, readers) for path, place in pairs}
    must_be_whole = len(pairs) > 1 if is_whole is None else is_whole
    whole = folder.combine(pairs, reports, is_whole=must_be_whole)
    if len(pairs) == 1:  # a lone tokenizer is a tokenizer, not a folder
        whole = replace(whole, format=reports[pairs[0][0]].format)
    _match(declared, whole, reports, pairs)
    bad = next((path for path, one in reports.items() if one.is_unsafe), "")
    if bad and not allow_unsafe:
        raise refused(
            "unsafe_pickle",
            f"{bad} holds a pickle, which runs code when it is loaded",
            hint="use a safetensors version of the model, or set allowUnsafe: true where you trust its origin",
        )
    absent = folder.missing(pairs, reports) if must_be_whole else []
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise permanent(
            "model_incomplete",
            f"the model names files that are not part of it: {', '.join(absent[:3])}{more}",
            hint="add them under files, or widen include",
        )
    if whole.errors:
        raise permanent("wrong_format", f"content is a broken {whole.format}: {whole.errors[0]}", hint=_HINT)
    return whole


_HINT = "check that the source serves the model itself, or correct the format"


def _match(declared: str, whole: FormatReport, reports: dict[str, FormatReport], pairs: _Pairs) -> None:
    """The content is of the declared format; a word that nobody knows must be what a reader answers."""
    word = declared.lower()
    accepted = DECLARED.get(word, frozenset({word}))
    found = {whole.format, *(one.format for one in reports.values())}
    if accepted and not accepted & found:
        name = pairs[0][0] if len(pairs) == 1 else f"{len(pairs)} files"
        content = whole.format if whole.format not in {"unknown", "folder"} else _appearance(pairs)
        raise permanent("wrong_format", f"{name}: declared {declared}, content is {content}", hint=_HINT)


def _pairs(files: str | _Pairs) -> _Pairs:
    if not isinstance(files, str):
        return files
    return _walk(files) if os.path.isdir(files) else [(os.path.basename(files), files)]  # noqa: PTH112, PTH119 -- text


def _walk(path: str) -> list[tuple[str, str]]:
    found = []
    for place, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            full = os.path.join(place, name)  # noqa: PTH118 -- text
            found.append((os.path.relpath(full, path), full))
    return found


def _look(path: str, size: int, readers: Sequence[FormatReader]) -> FormatReport:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        report: FormatReport | None = None
        window = Window.of_file(descriptor, size)  # one budget for all readers: a file cannot spend it once for each
        for reader in readers:
            report = reader.look(window) if isinstance(reader, HeaderReader) else reader.read(path, size)
            if report is not None:
                break
        report = report or FormatReport("unknown")
        if not report.is_unsafe and unsafe.holds_pickle(Window.of_file(descriptor, size)):
            report = replace(report, is_unsafe=True)
        return report
    finally:
        os.close(descriptor)


def _appearance(pairs: _Pairs) -> str:
    """What an unknown content looks like to a person; for messages only."""
    if len(pairs) != 1:
        return "something else"
    try:
        with open(pairs[0][1], "rb") as file:  # noqa: PTH123 -- paths are text throughout the adapters
            head = file.read(512)
    except OSError:
        return "unreadable"
    looks = (
        (b"version https://git-lfs", "a Git LFS pointer"),
        (b"<!doctype html", "an HTML page"),
        (b"<html", "an HTML page"),
        (b"pk\3\4", "a zip archive"),
        (b"\x1f\x8b", "gzip"),
        (b"{", "JSON or text"),
    )
    start = head.lstrip().lower()
    if not start:
        return "empty" if not head else "blank"
    return next((word for magic, word in looks if start.startswith(magic)), "something else")


def _unreadable(path: str, error: OSError) -> Failure:
    return transient("unreadable", f"{os.path.basename(path)} cannot be read: {error.strerror}")  # noqa: PTH119 -- text
