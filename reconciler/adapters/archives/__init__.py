"""Archives: recognised by content and name, unpacked by our own member writer, wholly or not at all.

Many models *are* zips or tars (PyTorch, NumPy, Keras, NeMo), so content alone must not decide. Under ``extract: auto``:

================================================================  =========================================
the name                                                          what happens
================================================================  =========================================
``.zip``, ``.tar``, ``.tar.gz`` ``.tgz``, ``.tar.bz2`` ``.tbz2``, unpacked; the content decides as what (a tar
``.tar.xz`` ``.txz``, ``.tar.zst`` ``.tzst``                      that is called ``.zip`` is a tar)
``NAME.gz``, ``.bz2``, ``.xz``, ``.zst``                          a tar is unpacked, else the one file ``NAME``
a model's ending (:data:`MODEL_ENDINGS`: ``.pt``, ``.npz``, …)    never unpacked
any other (also ``.whl``, none)                                   a zip or tar by content is unpacked, unless the
                                                                  zip is a PyTorch, NumPy or Keras one; what starts as
                                                                  one and is broken is refused as such
================================================================  =========================================

``extract: true`` (``is_forced``) unpacks whatever the content says, whatever the name. What is refused and why stands
in ``limits``; the reasons are ``archive_unsafe``, ``archive_damaged``, ``archive_truncated``, ``archive_encrypted``,
``archive_too_large``, ``archive_unsupported`` and ``zstd_missing``, all permanent. After a failure the staging folder
is empty.
"""

import os
from collections.abc import Iterable

from reconciler.adapters.archives.directory import local_names, read_directory
from reconciler.adapters.archives.single import SingleExtractor
from reconciler.adapters.archives.tar import TarExtractor, compression
from reconciler.adapters.archives.zip import ZipExtractor
from reconciler.core.errors import Failure
from reconciler.core.ports import Extractor

__all__ = ["BUILTIN", "MODEL_ENDINGS", "is_archive_name", "recognise"]

BUILTIN: tuple[Extractor, ...] = (ZipExtractor(), TarExtractor(), SingleExtractor())
_OURS = frozenset(map(id, BUILTIN))

_ARCHIVE_ENDINGS = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".gz",
    ".bz2", ".xz", ".zst",
)  # fmt: skip
MODEL_ENDINGS = (
    ".pt", ".pth", ".pt2", ".ckpt", ".bin", ".pkl", ".pickle", ".joblib", ".npz", ".npy", ".keras", ".h5", ".nemo",
    ".mar", ".task", ".tflite", ".onnx", ".ort", ".gguf", ".ggml", ".safetensors", ".pte", ".mlmodel", ".mlpackage",
    ".mlmodelc", ".engine", ".weights", ".params", ".json", ".txt", ".model", ".rknn", ".caffemodel",
)  # fmt: skip


def is_archive_name(name: str) -> bool:
    """Whether the name alone says that ``extract: auto`` will unpack it."""
    return name.lower().endswith(_ARCHIVE_ENDINGS)


def recognise(
    path: str, name: str, *, is_forced: bool = False, extractors: Iterable[Extractor] = BUILTIN
) -> Extractor | None:
    """Who unpacks the file at ``path``, or None where it stays as it is.

    Args:
        path: absolute path of the content (in the store it may be called by its digest).
        name: the file's own name, as the manifest or its source gives it.
        is_forced: ``extract: true``: content alone decides.
        extractors: newest registration first; a registered one is asked before ours and is not bound by the table.
    """
    may_unpack = is_forced or _may_unpack(name)
    for extractor in extractors:
        if id(extractor) not in _OURS:
            if extractor.recognises(path, name):
                return extractor
            continue
        if not may_unpack:
            continue
        if is_forced:
            found = extractor.recognises(path, name) or (isinstance(extractor, SingleExtractor) and compression(path))
        else:
            found = _is_wanted(path, name, extractor)
        if found:
            return extractor.named(name) if isinstance(extractor, SingleExtractor) else extractor
    return None


def _may_unpack(name: str) -> bool:
    return is_archive_name(name) or not name.lower().endswith(MODEL_ENDINGS)


def _is_wanted(path: str, name: str, extractor: Extractor) -> bool:
    if is_archive_name(name):
        return extractor.recognises(path, name)
    if not extractor.recognises(path, name):
        return False
    return not (isinstance(extractor, ZipExtractor) and _is_model_zip(path))


def _is_model_zip(path: str) -> bool:
    """A zip that a framework writes as one model: PyTorch, NumPy, Keras 3.

    A broken one is told by its local headers and left to who judges models; any other broken zip is a broken archive.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        names = [entry.raw_name for entry in read_directory(descriptor, os.fstat(descriptor).st_size)]
    except Failure:
        names = local_names(descriptor)
    finally:
        os.close(descriptor)
    has_pickle = any(name == b"data.pkl" or name.endswith(b"/data.pkl") for name in names)
    is_npz = bool(names) and all(name.endswith(b".npy") for name in names)
    return has_pickle or is_npz or b"model.weights.h5" in names
