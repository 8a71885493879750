"""One compressed file: ``model.onnx.gz`` becomes ``model.onnx``."""

import os
from collections.abc import Callable

from reconciler.adapters.archives.limits import clean_name, unsafe
from reconciler.adapters.archives.streams import pieces
from reconciler.adapters.archives.tar import compression
from reconciler.adapters.archives.tree import staging
from reconciler.core.ports import CancelToken, Member

_SUFFIXES = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst"}


class SingleExtractor:
    """The :class:`reconciler.core.ports.Extractor` of one file in gz, bz2, xz or zst.

    Args:
        file_name: the compressed file's own name, since it may lie in the store under its digest; the member is called
            so without its ending. Empty: the name it has on disk.
    """

    name = "single"

    def __init__(self, file_name: str = "") -> None:
        self._file_name = file_name

    def recognises(self, path: str, name: str) -> bool:
        """Whether the content is compressed and the name says so too."""
        return bool(compression(path)) and os.path.splitext(name.lower())[1] in _SUFFIXES  # noqa: PTH122 -- text

    def named(self, file_name: str) -> "SingleExtractor":
        """The same for a file of another name."""
        return SingleExtractor(file_name)

    def measure(self, path: str) -> int | None:  # noqa: ARG002 -- the protocol asks; no format tells reliably
        """None: only unpacking tells."""
        return None

    def extract(
        self, path: str, into: str, *, limit_bytes: int, progress: Callable[[int], None], cancel: CancelToken
    ) -> tuple[Member, ...]:
        """See the protocol; ``progress`` gets the sum of unpacked bytes so far."""
        with staging(into, limit_bytes, progress, cancel) as tree:
            stem, suffix = os.path.splitext(self._file_name or os.path.basename(path))  # noqa: PTH119, PTH122 -- text
            name = clean_name(stem if suffix.lower() in _SUFFIXES else f"{stem}{suffix}.unpacked")
            if name is None:
                raise unsafe("its file has no name")
            tree.add_file(name)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                with tree.outlet(name, None) as outlet:
                    for piece in pieces(descriptor, compression(path)):
                        tree.take_room(outlet.size + len(piece), outlet.size)
                        outlet.write(piece)
                        tree.tell(len(piece))
                    outlet.close_input()
            finally:
                os.close(descriptor)
            return tree.finish()
