"""The resume record: what a later process may trust of a partial file, and nothing more.

``<target>.json`` holds one JSON value a line: a header, then a line per finished chunk, appended only after the chunk
itself is synced. A torn or foreign line ends the record there. Three kinds of line:

- ``["p", n, hex]``: the SHA-256 of the file's bytes from its start to the end of chunk ``n``. SHA-256 cannot be taken
  up again from a stored state, so a resume hashes the finished part anyway: comparing the running digest costs nothing.
- ``["c", n, hex]``: the SHA-256 of chunk ``n`` alone, for one that came before those in front of it.
- ``["t", bytes, hex]``: as "p", for a tail that ends inside a chunk; written when a download stops in good order.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, field
from typing import Any

from reconciler.adapters.fetch.disk import failure_of_disk
from reconciler.core.records import dataclass
from reconciler.core.units import is_byte_count

CHUNK_BYTES = 1 << 20
_FORMAT = 1
_MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """Which object the bytes belong to. ``url`` is a label without query; ``digest`` the declared one or empty."""

    url: str
    validator: str
    size_bytes: int | None
    digest: str = ""
    chunk_bytes: int = CHUNK_BYTES
    format: int = _FORMAT


@dataclass(slots=True)
class Kept:
    """What a record says is on the disk: running digests, lone chunk digests, the tail."""

    header: Header
    prefixes: list[str] = field(default_factory=list)  # of chunk 0, 1, 2, ...
    chunks: dict[int, str] = field(default_factory=dict)
    tail: tuple[int, str] | None = None  # bytes from the start, digest

    def forget_end(self, file_bytes: int) -> None:
        """Leave out the object's last chunk; ``file_bytes`` are on the disk, all of it where nobody told its size."""
        last = max(0, (self.header.size_bytes or file_bytes) - 1) // CHUNK_BYTES
        del self.prefixes[last:]
        self.chunks.pop(last, None)


class Record:
    """The open record of one target."""

    def __init__(self, target: str) -> None:
        self._path = f"{target}.json"
        self._fd: int | None = None
        self._is_absent = False  # seen so, and whoever holds the partial's lock alone writes it
        self._good_bytes = 0  # of what was loaded: a torn line and all after it are cut off before a new one
        self.is_poisoned = False  # a sync failed: nobody knows what is durable

    def load(self) -> Kept | None:
        """What was recorded; None where there is nothing usable."""
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123 -- for every small file; Path costs three times as much
                if os.fstat(file.fileno()).st_size > _MAX_RECORD_BYTES:
                    return None
                lines = file.read().split(b"\n")[:-1]  # the last is torn, or empty
        except FileNotFoundError:
            self._is_absent = True
            return None
        except OSError:
            return None
        header = _header(_value(lines[0])) if lines else None
        if header is None:
            return None
        kept = Kept(header)
        self._good_bytes = len(lines[0]) + 1
        for line in lines[1:]:
            if not _take(kept, _value(line)):
                break
            self._good_bytes += len(line) + 1
        return kept

    def begin(self, header: Header) -> None:
        """Forget what was recorded and start anew."""
        self._open(os.O_TRUNC)
        self._append([asdict(header)])

    def reopen(self) -> None:
        """Go on appending, after the last line that was loaded."""
        self._open(0)
        try:
            os.ftruncate(self._opened, self._good_bytes)
        except OSError as error:
            raise failure_of_disk(error, self._path) from error

    @property
    def is_open(self) -> bool:
        """Whether lines can be appended."""
        return self._fd is not None

    def add(self, lines: Iterable[tuple[str, int, str]]) -> None:
        """Append lines and make them durable; what they speak of is durable already."""
        self._append(list(lines))
        try:
            os.fdatasync(self._opened)
        except OSError as error:
            self.is_poisoned = True
            raise failure_of_disk(error, self._path) from error

    def drop(self) -> None:
        """Remove the record."""
        self.close()
        if self._is_absent:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 -- for every small file; Path costs three times as much

    def forget(self) -> None:
        """Remove one that nobody has looked at: the file that it spoke of is not there."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 -- for every small file; Path costs three times as much

    def close(self) -> None:
        """Close the file; what it says stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def _opened(self) -> int:
        assert self._fd is not None  # noqa: S101 -- begin or reopen came first
        return self._fd

    def _open(self, flag: int) -> None:
        self.close()
        self._is_absent = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._path, flags | flag, 0o600)
        except OSError as error:
            raise failure_of_disk(error, self._path) from error

    def _append(self, values: list[Any]) -> None:
        text = "".join(json.dumps(value, separators=(",", ":")) + "\n" for value in values)
        left = text.encode()
        try:
            while left:
                left = left[os.write(self._opened, left) :]
        except OSError as error:
            raise failure_of_disk(error, self._path) from error


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _header(value: Any) -> Header | None:
    try:
        header = Header(**value)
    except TypeError:
        return None
    is_ours = header.format == _FORMAT and header.chunk_bytes == CHUNK_BYTES
    texts: tuple[Any, ...] = (header.url, header.validator, header.digest)
    size: Any = header.size_bytes
    is_typed = all(isinstance(text, str) for text in texts) and (size is None or is_byte_count(size))
    return header if is_ours and is_typed else None


def _take(kept: Kept, value: Any) -> bool:
    match value:
        case ["p", int(index), str(digest)] if 0 <= index <= len(kept.prefixes):
            kept.prefixes[index:] = [digest]  # written again: what was recorded from there on was not borne out
            kept.tail = None
        case ["c", int(index), str(digest)] if is_byte_count(index * CHUNK_BYTES):
            kept.chunks[index] = digest
        case ["t", int(count), str(digest)] if is_byte_count(count):
            kept.tail = (count, digest)
        case _:
            return False
    return True
