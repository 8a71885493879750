"""The manifest's bytes, read until they are quiet.

Truth is the digest over all inputs: names and bytes. A file that is still being written is read again until two reads
in a row agree; what does not even parse is given a little longer, since most broken manifests are half-written ones.
"""

import io
import os
from collections.abc import Mapping, Sequence

from reconciler.adapters import manifest
from reconciler.adapters.manifest import Document
from reconciler.core.digests import digest_bytes
from reconciler.core.errors import Failure, ManifestInvalid
from reconciler.core.ports import CancelToken
from reconciler.core.records import dataclass
from reconciler.watch.hops import folders_of, identities

QUIET_S = 0.1
MAX_READS = 12  # then what was read last is taken, quiet or not


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the inputs. ``problem`` says why there are no ``documents``; ``revision`` is the commit of Git.

    ``is_verified`` tells of the commit's signature, None where none was asked for; False: the commit is refused.
    """

    digest: str = ""
    documents: tuple[Document, ...] | None = None
    problem: str = ""
    revision: str = ""
    label: str = ""
    is_verified: bool | None = None


class FileInputs:
    """The files that ``-f`` named, or the default ones."""

    def __init__(self, files: Sequence[str], environ: Mapping[str, str], stdin: bytes | None = None) -> None:
        self._files, self._environ = tuple(files), environ
        self._cwd = os.getcwd()  # noqa: PTH109 -- the adapter speaks text
        self._stdin = stdin

    @property
    def label(self) -> str:
        """For people."""
        return ", ".join(self._files) or "the default manifest"

    def read(self) -> Reading:
        """One look, without waiting."""
        stdin = io.BytesIO(self._stdin) if self._stdin is not None else None
        try:
            documents = manifest.read_documents(self._files, self._environ, self._cwd, stdin)
        except ManifestInvalid as invalid:
            text = "; ".join(str(problem) for problem in invalid.problems[:3])
            return Reading(digest_bytes(text.encode()), None, text, label=self.label)
        except OSError as error:
            return Reading(digest_bytes(str(error).encode()), None, f"the manifest cannot be read: {error}")
        parts = (f"{len(doc.label)}:{doc.label}:{len(doc.data)}:".encode() + doc.data for doc in documents)
        return Reading(digest_bytes(b"".join(parts)), documents, label=self.label)

    def read_quiet(self, first: Reading, cancel: CancelToken) -> Reading:
        """Look again until two looks in a row agree."""
        seen = first
        for _ in range(MAX_READS):
            if cancel.wait(QUIET_S):
                return seen
            again = self.read()
            if again.digest == seen.digest:
                return again
            seen = again
        return seen

    def fetch_now(self) -> None:
        """Files are read each round as it is."""

    def folders(self) -> Mapping[str, tuple[int, int]]:
        """The folders whose events matter, with their identities."""
        paths = [os.path.join(self._cwd, path) for path in self._files if path != "-"]  # noqa: PTH118
        paths = [f"{path}/" if os.path.isdir(path) else path for path in paths]  # noqa: PTH112
        try:
            origins = manifest.find_origins(self._files, self._environ, self._cwd)
            paths += [origin.path for origin in origins if origin.path != "-"]
        except Failure:
            paths = paths or [f"{self._cwd}/models.yaml"]
        return identities(folders_of(paths))
