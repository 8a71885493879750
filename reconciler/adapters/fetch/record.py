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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reconciler.adapters.fetch.disk import failure_of_disk

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


class Record:
    """The open record of one target."""

    def __init__(self, target: str) -> None:
        self._path = f"{target}.json"
        self._fd: int | None = None
        self.is_poisoned = False  # a sync failed: nobody knows what is durable

    def load(self) -> Kept | None:
        """What was recorded; None where there is nothing usable."""
        try:
            if Path(self._path).stat().st_size > _MAX_RECORD_BYTES:
                return None
            lines = Path(self._path).read_bytes().split(b"\n")[:-1]  # the last is torn, or empty
        except OSError:
            return None
        values = list(_values(lines))
        header = _header(values[0]) if values else None
        if header is None:
            return None
        kept = Kept(header)
        for value in values[1:]:
            if not _take(kept, value):
                break
        return kept

    def begin(self, header: Header) -> None:
        """Forget what was recorded and start anew."""
        self._open(os.O_TRUNC)
        self._append([asdict(header)])

    def reopen(self) -> None:
        """Go on appending."""
        self._open(0)

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
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._path, flags | flag, 0o600)
        except OSError as error:
            raise failure_of_disk(error, self._path) from error

    def _append(self, values: list[Any]) -> None:
        text = "".join(json.dumps(value, separators=(",", ":")) + "\n" for value in values)
        try:
            os.write(self._opened, text.encode())
        except OSError as error:
            raise failure_of_disk(error, self._path) from error


def _values(lines: list[bytes]) -> Iterable[Any]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            return


def _header(value: Any) -> Header | None:
    try:
        header = Header(**value)
    except TypeError:
        return None
    is_ours = header.format == _FORMAT and header.chunk_bytes == CHUNK_BYTES
    texts: tuple[Any, ...] = (header.url, header.validator, header.digest)
    size: Any = header.size_bytes
    is_typed = all(isinstance(text, str) for text in texts) and (size is None or isinstance(size, int))
    return header if is_ours and is_typed else None


def _take(kept: Kept, value: Any) -> bool:
    match value:
        case ["p", int(index), str(digest)] if index == len(kept.prefixes):
            kept.prefixes.append(digest)
            kept.tail = None
        case ["p", int(index), str()] if 0 <= index < len(kept.prefixes):
            pass
        case ["c", int(index), str(digest)] if index >= 0:
            kept.chunks[index] = digest
        case ["t", int(count), str(digest)] if count >= 0:
            kept.tail = (count, digest)
        case _:
            return False
    return True
