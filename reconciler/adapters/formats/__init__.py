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

A pickle anywhere in the content is refused under every word unless the model says ``allowUnsafe: true``; so is content
that cannot be searched for one within bounds (lz4). Of a compressed tar that is not extracted 32 MiB are searched.
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
from reconciler.adapters.formats.reader import HEAD_BYTES, HeaderReader
from reconciler.adapters.formats.window import Budget, Window
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

_CACHE_ENTRIES = 1000
_WHOLE_BYTES = 1 << 20  # a smaller file is read at once: its readers take dozens of looks
_CACHE_S = 3600.0
_cache: OrderedDict[tuple[object, ...], tuple[float, FormatReport]] = OrderedDict()
_Pairs = Sequence[tuple[str, str]]


def inspect(path: str, readers: Sequence[FormatReader] = BUILTIN, content: memoryview | None = None) -> FormatReport:
    """What a file or folder is.

    Args:
        path: absolute path of a regular file, or of a folder, whose files are then read as one model.
        readers: tried in order, the first that knows the content wins; so the newest registration stands first.
        content: the file's bytes, where they are in memory anyway; ours then read it from there.

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
        if content is not None and len(content) == status.st_size:
            report = _look(path, Window.of_memory(content), readers)
        else:
            report = _look_into(path, status.st_size, readers)
    except OSError as error:
        raise _unreadable(path, error) from error
    _cache[key] = (time.monotonic(), report)
    while len(_cache) > _CACHE_ENTRIES:
        _cache.popitem(last=False)
    return report


def read_folder(files: _Pairs, readers: Sequence[FormatReader] = BUILTIN) -> FormatReport:
    """What a model of several files is: (relative path, absolute path) of each, the primary first where known."""
    reports = {path: inspect(place, readers) for path, place in files}
    return folder.combine(files, reports, folder.references(files, reports))


def check(
    files: str | _Pairs,
    declared: str = "auto",
    *,
    allow_unsafe: bool = False,
    is_whole: bool | None = None,
    readers: Sequence[FormatReader] = BUILTIN,
    content: memoryview | None = None,
) -> FormatReport:
    """The report of a model that may be placed.

    Args:
        files: the absolute path of one file or folder, or the pairs of :func:`read_folder`.
        declared: the manifest's ``format``; see the table above.
        allow_unsafe: the manifest's ``allowUnsafe``.
        is_whole: whether these are all files of the model, so that one that another names (a shard, external data) is
            missing where it is not among them. None: yes, unless it is a single file, which may be looked at alone.
        readers: as for :func:`inspect`.
        content: as for :func:`inspect`, of a single file.

    Raises:
        Failure: permanent ``wrong_format`` or ``model_incomplete``; refused ``unsafe_pickle``.
    """
    pairs = _pairs(files)
    content = content if len(pairs) == 1 else None
    reports = {path: inspect(place, readers, content) for path, place in pairs}
    must_be_whole = len(pairs) > 1 if is_whole is None else is_whole
    if len(pairs) == 1 and declared == "auto" and folder.stands_alone(pairs[0][0], reports[pairs[0][0]]):
        return reports[pairs[0][0]]
    asked = folder.references(pairs, reports)
    whole = folder.combine(pairs, reports, asked, is_whole=must_be_whole)
    if len(pairs) == 1:  # a lone tokenizer is a tokenizer, not a folder
        whole = replace(whole, format=reports[pairs[0][0]].format)
    _match(declared, whole, reports, pairs)
    if not allow_unsafe:
        _refuse_pickles(reports)
    absent = folder.missing(pairs, asked) if must_be_whole else []
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


def _refuse_pickles(reports: dict[str, FormatReport]) -> None:
    """Raises refused ``unsafe_pickle`` for the first that holds one, or may hold one that cannot be seen."""
    bad = next((path for path, one in reports.items() if one.is_unsafe), "")
    if bad:
        unseen = (text for _, text in reports[bad].warnings if text.startswith(unsafe.UNSEEN))
        raise refused(
            "unsafe_pickle",
            f"{bad} {next(unseen, 'holds a pickle, which runs code when it is loaded')}",
            hint="use a safetensors version of the model, or set allowUnsafe: true where you trust its origin",
        )


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


def _look_into(path: str, size: int, readers: Sequence[FormatReader]) -> FormatReport:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if size > _WHOLE_BYTES:
            window = Window.of_file(descriptor, size)
        else:
            window = replace(Window.of_bytes(os.pread(descriptor, size, 0)), size=size)
        return _look(path, window, readers)
    finally:
        os.close(descriptor)


def _look(path: str, window: Window, readers: Sequence[FormatReader]) -> FormatReport:
    """What the first reader says; they share one budget, so that a file cannot spend it once for each."""
    report: FormatReport | None = None
    head = window.peek(0, HEAD_BYTES)
    for reader in readers:
        if not isinstance(reader, HeaderReader):
            report = reader.read(path, window.size)
        elif not reader.marks or head[reader.mark_at : reader.mark_at + 1] in reader.marks:
            report = reader.look(window)
        if report is not None:
            break
    report = report or FormatReport("unknown")
    if not report.is_unsafe and (danger := unsafe.danger(window.part(0, window.size, Budget()))):
        unseen = (("warning", danger),) if danger.startswith(unsafe.UNSEEN) else ()
        report = replace(report, is_unsafe=True, warnings=(*report.warnings, *unseen))
    return report


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
