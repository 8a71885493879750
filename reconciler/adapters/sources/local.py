"""``file``: a file of this machine, by its absolute path. It is only read."""

import os
import stat
from dataclasses import replace
from pathlib import Path, PurePath
from urllib.parse import unquote_to_bytes, urlsplit

from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.names import check_segment
from reconciler.core.observed import Resolution
from reconciler.core.os_errors import map_os_error
from reconciler.core.ports import Location, SourceContext


class LocalSource:
    """A file on this machine, or on a share that is mounted here."""

    name = "local"
    schemes: tuple[str, ...] = ("file",)

    def needs_resolving(self, artifact: Artifact) -> bool:
        """Only where nobody declared the size: looking costs nothing, but a share may be away."""
        return artifact.size_bytes is None or not artifact.path

    def resolve(self, model: DesiredModel, artifact: Artifact, url: str, context: SourceContext) -> Resolution:
        """The size by stat. See :meth:`reconciler.core.ports.Source.resolve`."""
        del context
        path = path_of(url)
        facts = _stat(path)
        name = artifact.path or check_segment(PurePath(path).name)
        size = facts.st_size if artifact.size_bytes is None else artifact.size_bytes
        file = replace(artifact, path=name, size_bytes=size)
        return Resolution(model.name, model.spec_digest, (file,))

    def locate(self, artifact: Artifact, url: str, context: SourceContext) -> Location:
        """The URL as it stands."""
        del artifact, context
        return Location(url, path_of(url))

    def fingerprint(self, url: str, context: SourceContext) -> str:
        """A word that changes whenever the file does. Never raises."""
        del context
        try:
            facts = Path(path_of(url)).stat()
        except (OSError, ValueError, Failure) as error:
            return f"failure:{type(error).__name__}"
        return f"{facts.st_dev}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}"


def path_of(url: str) -> str:
    """The absolute path that a ``file`` URL stands for.

    Raises:
        Failure: permanent ``bad_source`` where it names another machine or no absolute path.
    """
    parts = urlsplit(url)
    raw = unquote_to_bytes(url.removeprefix("file:").removeprefix(f"//{parts.netloc}"))
    path = os.fsdecode(raw)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise permanent("bad_source", "a file source needs an absolute path on this machine", hint="file:///PATH")
    return path


def _stat(path: str) -> os.stat_result:
    try:
        facts = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise permanent("not_found", f"there is no file {path}", hint="check the source") from None
    except PermissionError:
        raise transient("permission_denied", f"{path} may not be looked at", hint="give read access") from None
    except OSError as error:
        raise map_os_error(error, f"cannot look at {path}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise permanent("not_a_file", f"{path} is no regular file", hint="name the file itself")
    return facts
