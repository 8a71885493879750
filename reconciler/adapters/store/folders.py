"""Walking below the store without ever being led outside.

Every path that is written to or deleted is reached component by component from an open folder, each step with
``O_NOFOLLOW``: a symbolic link that someone planted inside the store is met as what it is, and refused. (The root
itself may be reached over links; where the store lies is the user's choice.)
"""

# ruff: noqa: PTH101, PTH102, PTH112, PTH120 -- paths are plain strings here, as the system calls want them

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from reconciler.core.errors import Failure, permanent, refused, transient
from reconciler.core.os_errors import map_os_error
from reconciler.core.stored import FileStat

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_MODE = 0o755
FILE_MODE = 0o444


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn what the operating system raises inside into our failure, saying ``what`` could not be done."""
    try:
        yield
    except OSError as error:
        raise map_os_error(error, what) from error


@contextmanager
def open_root(root: str, *, create: bool = False) -> Iterator[int]:
    """The store's own folder, open.

    Raises:
        Failure: ``store_missing``, ``store_not_a_folder``, or what the operating system says.
    """
    try:
        if create and not os.path.isdir(root):
            _make_root(root)
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (NotADirectoryError, FileExistsError) as error:
        raise permanent(
            "store_not_a_folder", f"the store {root} is not a folder", hint="name a folder with --store"
        ) from error
    except FileNotFoundError as error:
        raise permanent(
            "store_missing", f"there is no store at {root}", hint="`reconciler apply` makes it, or name another --store"
        ) from error
    except OSError as error:
        raise map_os_error(error, f"cannot open the store {root}") from error
    try:
        yield root_fd
    finally:
        os.close(root_fd)


def _make_root(root: str) -> None:
    missing = [root]
    while not os.path.lexists(parent := os.path.dirname(missing[-1])):
        missing.append(parent)
    for folder in reversed(missing):
        os.mkdir(folder, FOLDER_MODE)
        os.chmod(folder, FOLDER_MODE)  # whatever the umask
        with open_folder(os.path.dirname(folder)) as parent_fd:
            sync(parent_fd, os.path.dirname(folder))


@contextmanager
def open_folder(path: str) -> Iterator[int]:
    """Any folder by its path, open; its last component must be no link."""
    folder_fd = os.open(path, _FOLDER_FLAGS)
    try:
        yield folder_fd
    finally:
        os.close(folder_fd)


@contextmanager
def open_below(base_fd: int, parts: Sequence[str], *, create: bool = False, durable: bool = True) -> Iterator[int]:
    """The folder ``parts`` below ``base_fd``, open; made where missing and ``create``.

    Args:
        base_fd: an open folder.
        parts: single names, none of them ``..``.
        create: make what is missing, mode 0755.
        durable: sync the parent of every folder made (not for stages that are synced as a whole).

    Raises:
        Failure: refused ``path_escape`` where a link stands in the way.
        OSError: anything else, FileNotFoundError where missing.
    """
    folder_fd = -1
    try:
        for part in parts:
            above_fd = folder_fd
            folder_fd = open_child(base_fd if above_fd < 0 else above_fd, part, create=create, durable=durable)
            if above_fd >= 0:
                os.close(above_fd)
        yield folder_fd if folder_fd >= 0 else base_fd
    finally:
        if folder_fd >= 0:
            os.close(folder_fd)


def open_child(folder_fd: int, name: str, *, create: bool, durable: bool) -> int:
    """One folder in another, as :func:`open_below`; the caller closes it."""
    if name in {"", ".", ".."} or "/" in name:
        raise refused("path_escape", f"{name!r} is no name of a folder in the store")
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=folder_fd)
    except FileNotFoundError:
        if not create:
            raise
        make_folder(folder_fd, name)
        if durable:
            sync(folder_fd, name)
        return os.open(name, _FOLDER_FLAGS, dir_fd=folder_fd)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP} and is_link(name, folder_fd):
            raise link_in_the_way(name) from error
        raise


def make_folder(folder_fd: int, name: str) -> None:
    """A folder of mode 0755, whatever the umask; fine where it is there."""
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=folder_fd)
    except FileExistsError:
        return
    os.chmod(name, FOLDER_MODE, dir_fd=folder_fd)


def is_link(name: str, folder_fd: int) -> bool:
    """Whether ``name`` is a symbolic link."""
    return stat.S_ISLNK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode)


def link_in_the_way(name: str) -> Failure:
    """The refusal to follow a planted link."""
    return refused(
        "path_escape",
        f"a symbolic link stands at {name!r} inside the store, where a folder should be",
        hint="remove the link; the store is not followed outside its own folder",
    )


def sync(folder_fd: int, what: str) -> None:
    """Make a folder's entries durable.

    Raises:
        Failure: transient ``io_error``. After a failed sync the kernel may have dropped the dirty pages and a second
            sync would lie (Rebello et al., "Can Applications Recover from fsync Failures?"), so it is started over.
    """
    _sync_by(os.fsync, folder_fd, what)


def sync_data(fd: int, what: str) -> None:
    """Make a file's content durable; raises as :func:`sync`."""
    _sync_by(getattr(os, "fdatasync", os.fsync), fd, what)


def _sync_by(call: Callable[[int], None], fd: int, what: str) -> None:
    try:
        call(fd)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.EROFS}:  # a file system that cannot, or need not
            return
        failure = map_os_error(error, f"{what} could not be made durable and must be started over")
        if failure.reason == "no_space":
            raise failure from error
        raise transient("io_error", failure.message, hint=failure.hint) from error


def split(path: str) -> tuple[tuple[str, ...], str]:
    """``a/b/c`` as (``("a", "b")``, ``"c"``)."""
    *folders, name = path.split("/")
    return tuple(folders), name


def remove_tree(folder_fd: int, name: str) -> None:
    """Delete a folder of ours and all below it, following no link; fine where it is gone."""
    try:
        with open_below(folder_fd, (name,)) as tree_fd:
            for entry in list_folder(tree_fd):
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(tree_fd, entry.name)
                else:
                    os.unlink(entry.name, dir_fd=tree_fd)
    except FileNotFoundError:
        return
    os.rmdir(name, dir_fd=folder_fd)


def list_folder(folder_fd: int) -> list["os.DirEntry[str]"]:
    """The entries of an open folder, by name."""
    with os.scandir(folder_fd) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def walk_files(folder_fd: int, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """(relative path, lstat) of everything below that is no folder."""
    for entry in list_folder(folder_fd):
        if entry.is_dir(follow_symlinks=False):
            with open_below(folder_fd, (entry.name,)) as child_fd:
                yield from walk_files(child_fd, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, os.stat(entry.name, dir_fd=folder_fd, follow_symlinks=False)


def sync_tree(folder_fd: int, what: str) -> None:
    """Make all folders below durable, the deepest first."""
    for entry in list_folder(folder_fd):
        if entry.is_dir(follow_symlinks=False):
            with open_below(folder_fd, (entry.name,)) as child_fd:
                sync_tree(child_fd, what)
    sync(folder_fd, what)


def remove_empty(folder_fd: int) -> None:
    """Remove the empty folders below, the deepest first; leave everything else."""
    for entry in list_folder(folder_fd):
        if entry.is_dir(follow_symlinks=False):
            with open_below(folder_fd, (entry.name,)) as child_fd:
                remove_empty(child_fd)
            try:
                os.rmdir(entry.name, dir_fd=folder_fd)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise


def file_stat(found: os.stat_result) -> FileStat:
    """What identifies one version of a file."""
    return FileStat(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode & 0o7777)
