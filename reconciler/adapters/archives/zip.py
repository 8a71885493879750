"""Zip: members side by side, each inflated, checked, hashed and written at once."""

import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from reconciler.adapters.archives.directory import Entry, read_directory
from reconciler.adapters.archives.limits import clean_name, damaged, on_disk, truncated
from reconciler.adapters.archives.outlet import BUFFER_BYTES, Outlet
from reconciler.adapters.archives.tar import compression, first_block, is_tar_block
from reconciler.adapters.archives.tree import Tree, staging
from reconciler.core.errors import Failure
from reconciler.core.names import quote
from reconciler.core.ports import CancelToken, Member

_READ_BYTES = 256 << 10
_PIECE_BYTES = 1 << 20
_WORKERS = 4


class ZipExtractor:
    """The :class:`reconciler.core.ports.Extractor` of zip archives (stored, deflated, bzip2; zip64)."""

    name = "zip"

    def recognises(self, path: str, name: str) -> bool:
        """Whether content, or failing that the name, says zip."""
        with open(path, "rb") as file:  # noqa: PTH123 -- paths are text throughout the adapters
            head = file.read(4)
        if head in {b"PK\3\4", b"PK\5\6"}:
            return True
        return name.lower().endswith(".zip") and not compression(path) and not is_tar_block(first_block(path, ""))

    def measure(self, path: str) -> int | None:
        """Bytes the members will take on disk; None where the archive is not sound."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            entries = read_directory(descriptor, os.fstat(descriptor).st_size)
        except Failure:
            return None
        finally:
            os.close(descriptor)
        return sum(on_disk(entry.size_bytes) for entry in entries)

    def extract(
        self, path: str, into: str, *, limit_bytes: int, progress: Callable[[int], None], cancel: CancelToken
    ) -> tuple[Member, ...]:
        """See the protocol; ``progress`` gets the sum of unpacked bytes so far."""
        with staging(into, limit_bytes, progress, cancel) as tree:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                entries = read_directory(descriptor, os.fstat(descriptor).st_size)
                _unpack_all(descriptor, _claim(entries, tree), tree)
            finally:
                os.close(descriptor)
            return tree.finish()


def _claim(entries: list[Entry], tree: Tree) -> list[tuple[str, Entry]]:
    """Every name and all the room, before the first byte is written."""
    wanted = []
    for entry in entries:
        tree.count_entry()
        path = clean_name(entry.name)
        if path is None:
            continue
        if entry.is_folder:
            tree.add_folder(path)
            continue
        tree.add_file(path)
        tree.take_room(entry.size_bytes)
        wanted.append((path, entry))
    tree.check_collisions()
    return wanted


def _unpack_all(descriptor: int, wanted: list[tuple[str, Entry]], tree: Tree) -> None:
    workers = max(1, min(_WORKERS, os.cpu_count() or 1, len(wanted)))
    with ThreadPoolExecutor(workers) as pool:
        jobs: list[Future[None]] = [pool.submit(_unpack, descriptor, path, entry, tree) for path, entry in wanted]
        wait(jobs, return_when=FIRST_EXCEPTION)
        for job in jobs:
            job.cancel()
        for job in jobs:
            if not job.cancelled():
                job.result()


def _unpack(descriptor: int, path: str, entry: Entry, tree: Tree) -> None:
    tree.check_cancel()
    with tree.outlet(path, entry.size_bytes) as outlet:
        if entry.method == 0:
            _copy(descriptor, entry, outlet, tree)
        else:
            for piece in _inflate(descriptor, entry):
                if outlet.size + len(piece) > entry.size_bytes:
                    raise damaged(f"member {quote(path)} is longer than it says")
                outlet.write(piece)
                tree.tell(len(piece))
        outlet.close_input()
        if outlet.size != entry.size_bytes:
            raise damaged(f"member {quote(path)} has {outlet.size} bytes, not {entry.size_bytes}")
        if outlet.crc != entry.crc:
            raise damaged(f"member {quote(path)} does not match its checksum")


def _copy(descriptor: int, entry: Entry, outlet: Outlet, tree: Tree) -> None:
    """A stored member: straight from the archive into the buffer that is hashed and written."""
    if entry.size_bytes <= _READ_BYTES:
        outlet.write(_read(descriptor, entry, 0, entry.size_bytes))
        tree.tell(entry.size_bytes)
        return
    done = 0
    while done < entry.size_bytes:
        room = outlet.room()[: min(BUFFER_BYTES, entry.size_bytes - done)]
        count = os.preadv(descriptor, [room], entry.start + done)
        if not count:
            raise truncated(f"member {quote(entry.name)} ends early")
        outlet.advance(count)
        tree.tell(count)
        done += count


def _read(descriptor: int, entry: Entry, offset: int, count: int) -> bytes:
    wanted = min(count, entry.packed_bytes - offset)
    data = os.pread(descriptor, wanted, entry.start + offset)
    if wanted and not data:
        raise truncated(f"member {quote(entry.name)} ends early")
    return data


def _inflate(descriptor: int, entry: Entry) -> Iterator[bytes]:
    if entry.method == 12:
        yield from _bunzip(descriptor, entry)
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    offset = 0
    while not inflater.eof:
        data = inflater.unconsumed_tail or _read(descriptor, entry, offset, _READ_BYTES)
        offset += 0 if inflater.unconsumed_tail else len(data)
        try:
            piece = inflater.decompress(data, _PIECE_BYTES)
        except zlib.error:
            raise damaged(f"member {quote(entry.name)} cannot be inflated") from None
        if piece:
            yield piece
        elif not data and not inflater.eof:  # it may still owe bytes after the last input, as a long match does
            raise damaged(f"member {quote(entry.name)} ends early")
    if inflater.unused_data or offset != entry.packed_bytes:
        raise damaged(f"member {quote(entry.name)} is followed by bytes of nobody")


def _bunzip(descriptor: int, entry: Entry) -> Iterator[bytes]:
    import bz2  # noqa: PLC0415 -- rare

    unpacker = bz2.BZ2Decompressor()
    offset = 0
    while not unpacker.eof:
        data = b""
        if unpacker.needs_input:
            if offset >= entry.packed_bytes:
                raise damaged(f"member {quote(entry.name)} ends early")
            data = _read(descriptor, entry, offset, _READ_BYTES)
            offset += len(data)
        try:
            yield unpacker.decompress(data, _PIECE_BYTES)
        except (OSError, ValueError):
            raise damaged(f"member {quote(entry.name)} cannot be unpacked") from None
