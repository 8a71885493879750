"""The staging folder that an archive is unpacked into: own member writer, limits, durability, collapse.

Only regular files are ever created (folders as they are needed; an archive's empty folders are left out). Paths were
cleaned before they come here, nothing here is a link, and every file is created with ``O_EXCL``: so nothing outside
the folder can be reached and nothing inside it can be overwritten. Two members may not collide on any file system.

Large members are durable when they are finished. Small ones are synced together at the end: a few by fdatasync, many by
one ``syncfs``, which costs one journal commit instead of thousands.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from reconciler.adapters.archives.limits import MAX_ENTRIES, cancelled, damaged, on_disk, too_large, unsafe
from reconciler.adapters.archives.outlet import Outlet
from reconciler.core import names
from reconciler.core.errors import Failure
from reconciler.core.os_errors import map_os_error
from reconciler.core.ports import CancelToken, Member

_FEW = 16
_TELL_EVERY_BYTES = 1 << 20
# A folder that is itself the model: its name must stay.
_BUNDLES = (".mlpackage", ".mlmodelc", ".mlmodel", ".mlx", ".model")


class Tree:
    """Members below ``into``, an empty folder. ``told`` gets the sum of unpacked bytes, from one thread at a time."""

    def __init__(self, into: str, limit_bytes: int, told: Callable[[int], None], cancel: CancelToken) -> None:
        self.into = into
        self._limit = limit_bytes
        self._told = told
        self._cancel = cancel
        self._lock = threading.Lock()
        self._entries = self._room_used = self._done = self._last_told = 0
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._members: list[Member] = []
        self._unsynced: list[str] = []

    def check_cancel(self) -> None:
        """Raise where the caller asked to stop."""
        if self._cancel.is_set():
            raise cancelled()

    def count_entry(self) -> None:
        """One more entry, of whatever kind."""
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise too_large(f"it has more than {MAX_ENTRIES} entries")

    def take_room(self, size: int, before: int = 0) -> None:
        """Reserve room for a member that grows from ``before`` to ``size`` bytes; raises where there is none."""
        with self._lock:
            self._room_used += on_disk(size) - on_disk(before)
            if self._room_used > self._limit:
                raise too_large(f"its members take more than the {self._limit} bytes there is room for")

    def add_folder(self, path: str) -> None:
        """An entry that is a folder: only its name matters."""
        self._claim_folders(path.split("/"), len(path.split("/")))

    def add_file(self, path: str) -> None:
        """Claim the name of a file, in the order of the archive."""
        parts = path.split("/")
        self._claim_folders(parts, len(parts) - 1)
        if path in self._files or path in self._folders:
            raise unsafe(f"member {names.quote(path)} stands twice")
        self._files.add(path)

    def _claim_folders(self, parts: list[str], depth: int) -> None:
        for count in range(1, depth + 1):
            folder = "/".join(parts[:count])
            if folder in self._files:
                raise unsafe(f"member {names.quote(folder)} is both file and folder")
            self._folders.add(folder)

    def check_collisions(self) -> None:
        """No two names that a file system could take for one another."""
        try:
            names.check_collisions(sorted(self._files), "member")
        except Failure as failure:
            raise unsafe(failure.message) from failure

    @contextlib.contextmanager
    def outlet(self, path: str, size: int | None) -> Iterator[Outlet]:
        """Write one claimed member; it is kept where the block ends without an exception."""
        place = f"{self.into}/{path}"
        os.makedirs(place.rpartition("/")[0], exist_ok=True)  # noqa: PTH103 -- text
        outlet = Outlet(place, path, size)
        try:
            yield outlet
            member = outlet.finish()
        except BaseException:
            outlet.abandon()
            raise
        with self._lock:
            self._members.append(member)
            if not outlet.is_durable:
                self._unsynced.append(place)

    def tell(self, count: int) -> None:
        """``count`` more bytes were unpacked."""
        self.check_cancel()
        with self._lock:
            self._done += count
            if self._done - self._last_told >= _TELL_EVERY_BYTES:
                self._last_told = self._done
                self._told(self._done)

    def finish(self) -> tuple[Member, ...]:
        """Make everything durable, collapse a single root folder, and tell the members, sorted by path."""
        if not self._files:
            raise damaged("it holds no file")
        self.check_cancel()
        self._sync()
        self._collapse()
        self._told(self._done)
        return tuple(sorted(self._members, key=lambda member: member.path))

    def _sync(self) -> None:
        if len(self._unsynced) > _FEW and _sync_file_system(self.into):
            return
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_sync_file, self._unsynced))

    def _collapse(self) -> None:
        """``root/a``, ``root/b`` become ``a``, ``b`` where everything lies in one root folder (one level only)."""
        roots = {path.split("/", 1)[0] for path in self._files}
        root = next(iter(roots))
        if len(roots) != 1 or root in self._files or root.lower().endswith(_BUNDLES):
            return
        children = {path.split("/")[1] for path in self._files}
        aside = root
        while aside in children:
            aside = f"{root[:200]}.{len(aside)}"
        os.rename(f"{self.into}/{root}", f"{self.into}/{aside}")  # noqa: PTH104 -- text
        for child in children:
            os.rename(f"{self.into}/{aside}/{child}", f"{self.into}/{child}")  # noqa: PTH104 -- text
        os.rmdir(f"{self.into}/{aside}")  # noqa: PTH106 -- text
        cut = len(root) + 1
        self._members = [Member(one.path[cut:], one.size_bytes, one.digest) for one in self._members]


@contextlib.contextmanager
def staging(into: str, limit_bytes: int, told: Callable[[int], None], cancel: CancelToken) -> Iterator[Tree]:
    """A tree that leaves ``into`` empty where anything goes wrong, and sorts what the disk says."""
    try:
        yield Tree(into, limit_bytes, told, cancel)
    except BaseException as error:
        _empty(into)
        if isinstance(error, OSError):
            raise map_os_error(error, "cannot extract the archive") from error
        raise


def _empty(into: str) -> None:
    import shutil  # noqa: PLC0415 -- late: it brings bz2 and lzma along

    with contextlib.suppress(OSError), os.scandir(into) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)  # noqa: PTH108 -- text


def _sync_file(place: str) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(place: str) -> bool:
    """``syncfs(2)``; False where there is none."""
    import ctypes  # noqa: PLC0415 -- late: only an archive of many files needs it

    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if call(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
    return True
