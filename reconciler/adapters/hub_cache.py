"""The cache of the Hugging Face Hub's own client: publishing the one copy there, so that its users find it too.

``models--ORG--NAME/`` holds ``blobs/<etag>``, ``snapshots/<commit>/<path>`` (a relative link to the blob) and
``refs/<branch>`` (the commit as text); see "Understand caching" in the documentation of huggingface_hub. Our blob is
given a second name under ``blobs/``: a hard link, so that the client's own deletion takes only its name away; where the
cache lies on another file system, a symbolic link. A file of a repository that is there already, by whoever, is left as
it is and counts as published. ``refs`` are written so that the client's ``prune`` keeps what they name.
"""

import errno
import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from reconciler.core.os_errors import map_os_error
from reconciler.core.stored import LinkFact

_SNAPSHOT = re.compile(r"(/.*/models--[^/]+)/snapshots/([0-9a-f]{40})/(.+)", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def snapshot_path(cache: str, repo: str, commit: str, path: str) -> str:
    """Where the client looks for one file of one commit, absolute."""
    return f"{cache}/models--{repo.replace('/', '--')}/snapshots/{commit}/{path}"


def is_snapshot_path(path: str) -> bool:
    """Whether a link was published here, and is no link that the manifest declares."""
    return _SNAPSHOT.fullmatch(path) is not None


def etag_of(blob: str, size_bytes: int, digest: str | None) -> str:
    """How the client names a blob: an LFS file by its SHA-256, any other by Git's hash of it."""
    if digest is not None:
        return digest.removeprefix("sha256:")
    hasher = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    with Path(blob).open("rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


def published_fact(link: str, inodes: Collection[int], *, is_own: bool) -> LinkFact:
    """How a published file stands; ``inodes`` are those of the model's blobs. What is not ours is right as it is."""
    try:
        inode = Path(link).stat().st_ino
    except OSError:
        return LinkFact(link, is_right=not is_own and os.path.lexists(link))
    return LinkFact(link, is_right=not is_own or inode in inodes)


def publish(link: str, blob: str, etag: str, ref: str, *, is_own: bool) -> bool:
    """Publish ``blob`` as ``link``; False where somebody else's file stands there.

    Raises:
        Failure: sorted, where the cache cannot be written.
    """
    folder, commit, path = _parts(link)
    name = f"{folder}/blobs/{etag}"
    try:
        for made in (f"{folder}/blobs", f"{folder}/refs", posixpath.dirname(link)):
            Path(made).mkdir(mode=0o755, parents=True, exist_ok=True)
        if not is_own and (os.path.lexists(link) or (os.path.lexists(name) and not _is_same(name, blob))):
            if _is_same(link, blob):  # another model published it, perhaps of another branch
                _write_ref(folder, ref, commit)
            return False
        if not _is_same(name, blob):
            _replace(name, lambda fresh: _link(blob, fresh))
        target = posixpath.relpath(name, posixpath.dirname(link))
        if not Path(link).is_symlink() or os.readlink(link) != target:  # noqa: PTH115 -- text
            _replace(link, lambda fresh: os.symlink(target, fresh))  # noqa: PTH211
        _write_ref(folder, ref, commit)
    except OSError as error:
        raise map_os_error(error, f"cannot publish {path} in {folder}") from error
    return True


def unpublish(link: str) -> None:
    """Take away one file that was published: its link, its blob's name where nothing else needs it, empty folders.

    Raises:
        Failure: sorted, where the cache cannot be written.
    """
    folder, commit, _ = _parts(link)
    try:
        if not Path(link).is_symlink():
            return
        name = posixpath.normpath(posixpath.join(posixpath.dirname(link), os.readlink(link)))  # noqa: PTH115 -- text
        Path(link).unlink()
        if _is_ours(name, folder) and name not in set(_targets(f"{folder}/snapshots")):
            Path(name).unlink()
        _remove_empty(posixpath.dirname(link), folder)
        if not Path(f"{folder}/snapshots/{commit}").exists():
            _forget_refs(folder, commit)
        if not any(_is_ours(name, folder) for name in _targets(f"{folder}/snapshots/{commit}")):
            Path(_own_ref(folder, commit)).unlink(missing_ok=True)
        for left in (f"{folder}/blobs", f"{folder}/refs", f"{folder}/snapshots"):
            _remove_empty(left, posixpath.dirname(folder))
    except OSError as error:
        raise map_os_error(error, f"cannot take {link} away") from error


def _parts(link: str) -> tuple[str, str, str]:
    match = _SNAPSHOT.fullmatch(link)
    if match is None:
        raise ValueError(f"{link} is no published file")
    return match[1], match[2], match[3]


def _is_same(name: str, blob: str) -> bool:
    try:
        return Path(name).samefile(blob)
    except OSError:
        return False


def _link(blob: str, name: str) -> None:
    try:
        os.link(blob, name)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        os.symlink(blob, name)  # noqa: PTH211


def _replace(path: str, make: Callable[[str], None]) -> None:
    fresh = f"{path}.{os.urandom(4).hex()}.incomplete"
    make(fresh)
    try:
        Path(fresh).replace(path)
    finally:
        Path(fresh).unlink(missing_ok=True)  # also where both were one file: then renaming does nothing


def _is_ours(name: str, folder: str) -> bool:
    """Whether a blob of the cache is a second name of one of ours: the client's own have one name."""
    try:
        has_more_names = os.lstat(name).st_nlink > 1
    except OSError:
        return False
    return posixpath.dirname(name) == f"{folder}/blobs" and (has_more_names or Path(name).is_symlink())


def _own_ref(folder: str, commit: str) -> str:
    """Keeps a commit from being pruned where its branch names another one."""
    return f"{folder}/refs/reconciler-{commit[:12]}"


def _targets(folder: str) -> Iterator[str]:
    """What the links below a folder of snapshots point at, absolute."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = f"{root}/{name}"
            if Path(path).is_symlink():
                yield posixpath.normpath(posixpath.join(root, os.readlink(path)))  # noqa: PTH115 -- text


def _write_ref(folder: str, ref: str, commit: str) -> None:
    """Name the commit, unless the branch names another one whose files are there: then under a name of our own."""
    place = Path(f"{folder}/refs/{ref}")
    present = _read(place)
    if present == commit:
        return
    if _COMMIT.fullmatch(present) and Path(f"{folder}/snapshots/{present}").exists():
        place = Path(_own_ref(folder, commit))
        if _read(place) == commit:
            return
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    place.write_text(commit)


def _forget_refs(folder: str, commit: str) -> None:
    for root, _, names in os.walk(f"{folder}/refs"):
        for name in names:
            if _read(Path(root) / name) == commit:
                (Path(root) / name).unlink()
        _remove_empty(root, folder)


def _read(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            return file.read(100).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _remove_empty(folder: str, stop: str) -> None:
    """Remove a folder and those above it, below ``stop``, as far as they are empty."""
    while folder.startswith(f"{stop}/"):
        try:
            Path(folder).rmdir()
        except OSError:
            return
        folder = posixpath.dirname(folder)
