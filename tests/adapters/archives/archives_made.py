"""Archives for tests, made by the standard library, and the one way to unpack them."""

import io
import random
import tarfile
import threading
import zipfile

from reconciler.adapters.archives import recognise

BIG = random.Random(7).randbytes(5 << 20)
TREE = {"config.json": b"{}", "weights/a.bin": BIG, "weights/b.bin": b"b" * 5000, "weights/empty": b""}
SKIPPED = b"\x5a\x2a\x4d\x18\x08\0\0\0sign\0\0\0\0"  # a frame that zstd's readers step over


def make_zip(path, tree, method=zipfile.ZIP_DEFLATED, root=""):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in tree.items():
            archive.writestr(root + name, data)


def make_tar(path, tree, mode="w", root="", tar_format=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=tar_format) as archive:
        for name, data in tree.items():
            info = tarfile.TarInfo(root + name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def unpack(path, into, name=None, limit=1 << 30, progress=None, cancel=None, is_forced=False):
    into.mkdir(exist_ok=True)
    extractor = recognise(str(path), name or path.name, is_forced=is_forced)
    assert extractor is not None
    return extractor.extract(
        str(path),
        str(into),
        limit_bytes=limit,
        progress=progress or (lambda _: None),
        cancel=cancel or threading.Event(),
    )
