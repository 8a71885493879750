"""What lies at a path of a commit: read from the object database, never from a work tree.

Only regular files are read. A symbolic link, a submodule or anything else where a manifest should be is refused: its
content would be decided by somebody else than the commit. Filters of ``.gitattributes`` do not run.
"""

import posixpath
import re

from reconciler.adapters.git.faults import DAMAGED, sort_failure
from reconciler.adapters.git.program import Program
from reconciler.core.errors import permanent, transient
from reconciler.core.locked import LOCK_NAME
from reconciler.core.names import check_path
from reconciler.core.records import dataclass

MAX_FILES = 1000
MAX_LISTING_BYTES = 4 << 20
_SUFFIXES = (".yaml", ".yml")
_REGULAR = {"100644", "100755", "100664"}
_KINDS = {"120000": "a symbolic link", "160000": "a submodule", "040000": "a folder"}
_LINE = re.compile(rb"([0-7]{6}) [a-z]+ ([0-9a-f]{40,64}) +([0-9]{1,15}|-)\t(.+)", re.DOTALL)  # of ``git ls-tree -l``
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
Document = tuple[str, bytes, str | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree; ``size_bytes`` is 0 for what is no file."""

    mode: str
    id: str
    size_bytes: int
    path: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files are the manifest: a file or folder, and this device's overlay beside it."""

    path: str
    hostname: str
    max_bytes: int


def read_documents(program: Program, commit: str, wanted: Wanted) -> tuple[Document, ...]:
    """The manifest's files in the order they are merged: (``COMMIT:PATH`` as ``git show`` takes it, bytes, None).

    The lock file beside the manifest comes last, where there is one.

    There is no folder that relative ``file:`` sources could be relative to.

    Raises:
        Failure: permanent ``git_path_missing``, ``git_not_a_file``, ``git_too_large``, ``hostile_name``.
    """
    entries = [*_base(program, commit, wanted.path), *_overlay(program, commit, wanted)]
    entries += _list(program, commit, posixpath.normpath(posixpath.join(_beside(wanted), LOCK_NAME)))
    if len(entries) > MAX_FILES:
        raise permanent("git_too_large", f"{wanted.path} holds {len(entries)} manifests; at most {MAX_FILES} are read")
    for entry in entries:
        _check_regular(entry, commit)
    total = sum(entry.size_bytes for entry in entries)
    if total > wanted.max_bytes:
        message = f"the manifests at {wanted.path} have {total} bytes; at most {wanted.max_bytes} are read"
        raise permanent("git_too_large", message, hint="split the manifest, or raise the limit")
    contents = _contents(program, entries, total)
    return tuple((f"{commit[:12]}:{entry.path}", data, None) for entry, data in zip(entries, contents, strict=True))


def _base(program: Program, commit: str, path: str) -> list[Entry]:
    if path != ".":
        found = _list(program, commit, path)
        if not found:
            hint = "--git-path names a file or folder of the repository"
            raise permanent("git_path_missing", f"commit {commit[:12]} has no {path}", hint=hint)
        if found[0].mode != "040000":
            return found
    inside = [entry for entry in _list(program, commit, "" if path == "." else f"{path}/") if _is_manifest(entry)]
    if not inside:
        raise permanent("git_path_missing", f"{path} of commit {commit[:12]} holds no *.yaml and no *.yml")
    return sorted(inside, key=lambda entry: entry.path)


def _is_manifest(entry: Entry) -> bool:
    name = posixpath.basename(entry.path)
    return name.endswith(_SUFFIXES) and not name.startswith(".") and entry.mode != "040000"


def _overlay(program: Program, commit: str, wanted: Wanted) -> list[Entry]:
    """``devices/HOSTNAME.yaml`` beside the manifest; none for a host whose name is no plain file name."""
    if not _HOST_NAME.fullmatch(wanted.hostname):
        return []
    for suffix in _SUFFIXES:
        path = posixpath.normpath(posixpath.join(_beside(wanted), "devices", wanted.hostname + suffix))
        found = _list(program, commit, path)
        if found:
            return found
    return []


def _beside(wanted: Wanted) -> str:
    """The folder that overlays and the lock file lie in: the manifest's."""
    return posixpath.dirname(wanted.path) if wanted.path.endswith(_SUFFIXES) else wanted.path


def _list(program: Program, commit: str, path: str) -> list[Entry]:
    """The entry at ``path``, or what is in it where ``path`` ends with a slash; empty where there is nothing."""
    arguments = ["ls-tree", "-z", "-l", "--full-tree", commit, *(["--", path] if path else [])]
    ran = program.run(arguments, max_bytes=MAX_LISTING_BYTES)
    if ran.code:
        raise _damaged(ran.errors, commit)
    return [_entry(line) for line in ran.output.split(b"\0") if line]


def _entry(line: bytes) -> Entry:
    match = _LINE.fullmatch(line)
    if match is None:
        raise transient(DAMAGED, "the repository here lists what is no file", hint="it is made anew")
    mode, object_id, size, path = match.groups()
    return Entry(mode.decode(), object_id.decode(), int(size) if size != b"-" else 0, path.decode(errors="replace"))


def _check_regular(entry: Entry, commit: str) -> None:
    check_path(entry.path, "file of the repository")  # it is named in messages and logs
    if entry.mode not in _REGULAR:
        what = _KINDS.get(entry.mode, "no file")
        message = f"{entry.path} of commit {commit[:12]} is {what}; a manifest must be a regular file"
        raise permanent("git_not_a_file", message, hint="commit the manifest itself")


def _contents(program: Program, entries: list[Entry], total: int) -> list[bytes]:
    given = "".join(f"{entry.id}\n" for entry in entries).encode()
    ran = program.run(["cat-file", "--batch"], given=given, max_bytes=total + 256 * len(entries))
    if ran.code:
        raise _damaged(ran.errors, entries[0].id)
    contents, rest = [], ran.output
    for entry in entries:
        head, _, rest = rest.partition(b"\n")
        is_whole = rest[entry.size_bytes : entry.size_bytes + 1] == b"\n"
        if head != f"{entry.id} blob {entry.size_bytes}".encode() or not is_whole:
            raise transient(DAMAGED, f"the repository here cannot give {entry.path}", hint="it is made anew")
        contents.append(rest[: entry.size_bytes])
        rest = rest[entry.size_bytes + 1 :]
    return contents


def _damaged(errors: str, what: str) -> Exception:
    failure = sort_failure(errors, f"cannot read {what[:12]} from the repository here")
    return transient(DAMAGED, failure.message, hint="it is made anew")
