"""The embedded runtime: a model is loaded when its files are in the page cache.

Whatever opens or maps the files then, llama.cpp, onnxruntime or ``cat``, finds them in RAM. The page cache is the
kernel's and is shared by all processes, so "loaded" can be observed and outlives the process that loaded it, and so
the kernel may take pages back under pressure: that is drift, and the next pass sees it.

*Load* reads the files, *unload* lets their pages go (``POSIX_FADV_DONTNEED``; a blob is on disk before it is a blob,
so its pages are clean), *observe* asks ``cachestat(2)`` (Linux 6.5) in some 10 µs a file, or ``mincore(2)`` where
that is missing. Pages that another process has mapped cannot be let go; unload says so. On a file system that *is*
memory (tmpfs) files are always in RAM and unload has nothing to do.
"""

# ruff: noqa: PTH116 -- paths are plain strings here, as the system calls want them

import ctypes
import errno
import functools
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from reconciler.core.errors import Failure, transient
from reconciler.core.os_errors import map_os_error
from reconciler.core.policies import RuntimeSpec
from reconciler.core.ports import CancelToken, RuntimeModel

_CHUNK_BYTES = 8 << 20
_RESIDENT_SHARE = 0.99  # the kernel may take a page back between reading and looking
_CACHESTAT = 451  # the same number on every architecture
_MEMORY_FILE_SYSTEMS = frozenset({0x01021994, 0x858458F6})  # statfs(2): tmpfs, ramfs
_PAGE_BYTES = mmap.PAGESIZE


class PageCache:
    """A :class:`reconciler.core.ports.Runtime` over the kernel's page cache."""

    type = "page-cache"

    def __init__(self, spec: RuntimeSpec | None = None) -> None:
        self.spec = spec

    def observe(self, models: Sequence[RuntimeModel]) -> Mapping[str, int]:
        """Of ``models``, those whose every file is in RAM, with their resident bytes."""
        loaded = {}
        for model in models:
            resident_bytes = _resident_bytes(model)
            if resident_bytes is not None:
                loaded[model.name] = resident_bytes
        return loaded

    def load(self, model: RuntimeModel, cancel: CancelToken) -> int:
        """Read the files in and wait until they are resident; the bytes of RAM they hold.

        Raises:
            Failure: transient ``cancelled``; ``not_resident`` where the kernel took pages back at once (too little
            RAM);
                ``file_vanished``, ``io_error`` and their kin for a file that cannot be read.
        """
        for path, _ in model.files:
            with _opened(model, path) as fd:
                if not _is_resident(*_pages(fd)):
                    _read_in(fd, model, cancel)
        resident_bytes = _resident_bytes(model)
        if resident_bytes is None:
            raise transient(
                "not_resident",
                f"{model.name} was read, but the kernel did not keep it in memory",
                hint="free some memory, or unload another model",
            )
        return resident_bytes

    def unload(self, model: RuntimeModel, cancel: CancelToken) -> None:
        """Let the pages go. A file that is gone holds none.

        Raises:
            Failure: transient ``cancelled``; ``in_use`` where another process has a file mapped.
        """
        for path, _ in model.files:
            _stop_if(cancel, model)
            try:
                with _opened(model, path) as fd:
                    _advise(fd, 0, 0, "POSIX_FADV_DONTNEED")
            except Failure as failure:
                if failure.reason != "file_vanished":
                    raise
        if _resident_bytes(model) is not None and not _is_in_memory_file_system(model):
            raise transient(
                "in_use",
                f"{model.name} stays in memory: another process has its files mapped",
                hint="stop that process, then unload again",
            )

    def estimate(self, model: RuntimeModel) -> int:
        """The files' sizes: a page in the cache is as large as on disk."""
        total_bytes = 0
        for path, _ in model.files:
            try:
                total_bytes += os.stat(path).st_size
            except OSError:
                return model.size_bytes
        return total_bytes or model.size_bytes


def _resident_bytes(model: RuntimeModel) -> int | None:
    """The bytes in RAM where every file of the model is resident; None where one is not, or is gone."""
    total_pages = 0
    for path, _ in model.files:
        try:
            with _opened(model, path) as fd:
                resident, pages = _pages(fd)
        except Failure as failure:
            if failure.reason == "file_vanished":
                return None
            raise
        if not _is_resident(resident, pages):
            return None
        total_pages += resident
    return total_pages * _PAGE_BYTES if model.files else None


def _is_resident(resident: int, pages: int) -> bool:
    return resident >= pages * _RESIDENT_SHARE


def _pages(fd: int) -> tuple[int, int]:
    """(pages in RAM, pages) of an open file."""
    size_bytes = os.fstat(fd).st_size
    pages = -(-size_bytes // _PAGE_BYTES)
    if pages == 0:
        return 0, 0
    resident = _ask_cachestat(fd)
    if resident is None:
        resident = _ask_mincore(fd, size_bytes, pages)
    return min(resident, pages), pages


def _read_in(fd: int, model: RuntimeModel, cancel: CancelToken) -> None:
    """Read to the end, the next piece on its way while this one is copied; a piece is what a cancel waits for."""
    buffer = bytearray(_CHUNK_BYTES)
    offset = 0
    while True:
        _stop_if(cancel, model)
        _advise(fd, offset + _CHUNK_BYTES, _CHUNK_BYTES, "POSIX_FADV_WILLNEED")
        count = os.preadv(fd, [buffer], offset)
        if count == 0:
            return
        offset += count


def _advise(fd: int, offset: int, length: int, advice: str) -> None:
    """Tell the kernel, where it takes advice (not on macOS)."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, offset, length, getattr(os, advice))


def _stop_if(cancel: CancelToken, model: RuntimeModel) -> None:
    if cancel.is_set():
        raise transient("cancelled", f"stopped at {model.name}")


@contextmanager
def _opened(model: RuntimeModel, path: str) -> Iterator[int]:
    """One file of the model, open for reading.

    Raises:
        Failure: what the operating system says, also of what is done inside.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise map_os_error(error, f"cannot reach {path} of {model.name}") from error


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _CacheStat(ctypes.Structure):
    _fields_ = (
        ("cached", ctypes.c_uint64),
        ("dirty", ctypes.c_uint64),
        ("writeback", ctypes.c_uint64),
        ("evicted", ctypes.c_uint64),
        ("recently_evicted", ctypes.c_uint64),
    )


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    libc.mmap.argtypes = (pointer, size, number, number, number, ctypes.c_int64)
    libc.mmap.restype = pointer
    libc.munmap.argtypes = (pointer, size)
    libc.mincore.argtypes = (pointer, size, pointer)
    return libc


def _ask_cachestat(fd: int) -> int | None:
    """Pages in RAM, or on their way into it; None where the kernel has no such call."""
    whole, answer = _Range(0, 0), _CacheStat()  # length 0: to the end
    arguments = (ctypes.c_uint(fd), ctypes.byref(whole), ctypes.byref(answer), ctypes.c_uint(0))
    if _libc().syscall(ctypes.c_long(_CACHESTAT), *arguments) == 0:
        return int(answer.cached)
    number = ctypes.get_errno()
    if number in {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}:
        return None
    raise OSError(number, os.strerror(number))


def _ask_mincore(fd: int, size_bytes: int, pages: int) -> int:
    """Pages in RAM, by mapping the file and asking page for page."""
    libc = _libc()
    address = libc.mmap(None, size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address in {None, ctypes.c_void_p(-1).value}:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        vector = ctypes.create_string_buffer(pages)
        if libc.mincore(address, size_bytes, vector) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        libc.munmap(address, size_bytes)
    return sum(byte & 1 for byte in vector.raw)


def _is_in_memory_file_system(model: RuntimeModel) -> bool:
    """Whether the first file lies on tmpfs or ramfs, where there is nothing to let go."""
    answer = ctypes.create_string_buffer(512)  # struct statfs begins with its type, a long
    path = os.fsencode(model.files[0][0])
    if _libc().statfs(path, answer) != 0:
        return False
    return ctypes.c_long.from_buffer(answer).value in _MEMORY_FILE_SYSTEMS
