"""Which files a manifest is read from, and their bytes.

``-f`` may be repeated and names a file, a folder (all ``*.yaml`` and ``*.yml`` in it, sorted, hidden ones left out) or
``-``. Without ``-f``: ``./models.yaml``, then ``$XDG_CONFIG_HOME/reconciler/models.yaml``, then
``/etc/reconciler/models.yaml`` with ``/etc/reconciler/models.d/*.yaml``; the first that exists counts, even where it is
broken, so that a damaged manifest is never passed over for another one.

Nothing here waits: a named pipe, a device or a socket is refused, not opened.
"""

import os
import posixpath
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.reader import DEFAULT_LIMITS
from reconciler.core.locked import LOCK_NAME
from reconciler.core.records import dataclass

STDIN_LABEL = "<stdin>"
MAX_FILES = 1000
_SUFFIXES = (".yaml", ".yml")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def lock_beside(documents: Sequence["Document"], cwd: str, findings: Findings) -> "Document | None":
    """The lock file beside the first manifest; None where there is none."""
    first = next((document for document in documents if document.path not in ("", "-")), None)
    path = posixpath.join(posixpath.dirname(first.path), LOCK_NAME) if first is not None else ""
    if first is None or not posixpath.lexists(path):
        return None
    return read_bytes(Origin(posixpath.join(posixpath.dirname(first.label), LOCK_NAME), path), cwd, findings)


@dataclass(frozen=True, slots=True)
class Origin:
    """One file to read: its name in messages, and its absolute path (``-`` for standard input)."""

    label: str
    path: str


class Document(NamedTuple):
    """The bytes of one file. ``folder`` is what relative paths in it are relative to; None where there is none."""

    label: str
    data: bytes
    folder: str | None
    path: str = ""


def find(
    paths: Sequence[str], environ: Mapping[str, str], cwd: str, findings: Findings, *, system: str = "/etc/reconciler"
) -> tuple[Origin, ...]:
    """The files behind ``-f PATH…``, or the default ones where there is none. What is missing is a problem."""
    if not paths:
        return _default(environ, cwd, findings, system)
    found: list[Origin] = []
    for path in paths:
        if not path:  # joined to the working directory it would be all of that
            findings.add(("models.yaml", 1, 1), "an empty name", "a file, a folder or -")
        elif path == "-":
            if any(origin.path == "-" for origin in found):
                findings.add((STDIN_LABEL, 1, 1), "standard input a second time", "-f - once")
                continue
            found.append(Origin(STDIN_LABEL, "-"))
        else:
            found.extend(_expand(path, posixpath.join(cwd, path), findings))
    if len(found) > MAX_FILES:
        findings.add((found[MAX_FILES].label, 1, 1), f"{len(found)} files", f"at most {MAX_FILES} files")
        return ()
    return tuple(found)


def read_bytes(origin: Origin, cwd: str, findings: Findings, stdin: BinaryIO | None = None) -> Document | None:
    """The bytes of one file; None, and a problem, where it cannot be read.

    At most one byte above the limit is read. Relative paths on standard input are relative to ``cwd``.
    """
    limit = DEFAULT_LIMITS.size_bytes + 1
    if origin.path == "-":
        data = stdin.read(limit) if stdin is not None else b""
        return Document(origin.label, data, cwd, "-")
    try:
        data = _read_regular(origin.path, limit)
    except _NotRegular as error:
        hint = "pipe it into -f - instead" if error.args[0] == "a named pipe" else ""
        findings.add((origin.label, 1, 1), str(error), "a regular file", hint=hint)
    except OSError as error:
        findings.add((origin.label, 1, 1), f"a file that cannot be read ({error.strerror})", "a manifest")
    else:
        return Document(origin.label, data, posixpath.dirname(origin.path), origin.path)
    return None


class _NotRegular(Exception):  # noqa: N818 -- caught a few lines up; says what it is instead
    """What stands at the path is no regular file."""


def _read_regular(path: str, limit: int) -> bytes:
    # O_NONBLOCK: opening a pipe must not wait for a writer; O_NOCTTY: a terminal must not become ours.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise _NotRegular(_KINDS.get(kind, "no file"))
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit)


def _expand(label: str, path: str, findings: Findings) -> list[Origin]:
    """A folder is what is in it; anything else stands for itself."""
    path = posixpath.normpath(path)
    if not posixpath.isdir(path):
        return [Origin(label, path)]
    try:
        names = sorted(entry.name for entry in os.scandir(path) if _is_manifest(entry.name))
    except OSError as error:
        findings.add((label, 1, 1), f"a folder that cannot be read ({error.strerror})", "manifests")
        return []
    if not names:
        findings.add((label, 1, 1), "a folder without manifests", "*.yaml or *.yml files in it")
    return [Origin(posixpath.join(label, name), posixpath.join(path, name)) for name in names]


def _is_manifest(name: str) -> bool:
    return name.endswith(_SUFFIXES) and not name.startswith(".")


def _default(environ: Mapping[str, str], cwd: str, findings: Findings, system: str) -> tuple[Origin, ...]:
    user = environ.get("XDG_CONFIG_HOME", "")
    if not posixpath.isabs(user):  # the XDG specification: a relative one is ignored
        user = posixpath.join(environ.get("HOME") or str(Path.home()), ".config")
    here = Origin("models.yaml", posixpath.join(cwd, "models.yaml"))
    theirs = posixpath.join(user, "reconciler", "models.yaml")
    for origin in (here, Origin(theirs, theirs)):
        if posixpath.lexists(origin.path):
            return (origin,)
    machine = posixpath.join(system, "models.yaml")
    more = posixpath.join(system, "models.d")
    found = [Origin(machine, machine)] if posixpath.lexists(machine) else []
    if posixpath.isdir(more):
        found += [origin for origin in _expand(more, more, Findings()) if origin.path.endswith(".yaml")]
    if not found:
        findings.add(
            ("models.yaml", 1, 1),
            "no manifest",
            f"./models.yaml, {theirs} or {machine}",
            hint="reconciler init writes one",
        )
    return tuple(found)
