"""Tar: own reader of ustar, GNU and pax headers, over a plain or compressed stream.

Never :mod:`tarfile`'s extraction: its filters can be escaped (CVE-2025-4517). Regular files and folders only; a link,
device or FIFO refuses the whole archive, sparse members too. Layout: POSIX.1-2017 ``pax``, GNU tar manual "Tar
Internals".
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.adapters.archives.limits import (
    MAX_EXTENDED_BYTES,
    clean_name,
    damaged,
    on_disk,
    truncated,
    unsafe,
    unsupported,
)
from reconciler.adapters.archives.streams import Feed, compressed_as, pieces
from reconciler.adapters.archives.tree import Tree, staging
from reconciler.core.errors import Failure
from reconciler.core.names import quote
from reconciler.core.ports import CancelToken, Member

BLOCK = 512
_FILES, _FOLDER = {"0", "\0", "7"}, "5"
_KINDS = {
    "1": "a hard link", "2": "a symbolic link", "3": "a character device", "4": "a block device", "6": "a FIFO",
}  # fmt: skip
_SUFFIXES = {
    "gz": (".tar.gz", ".tgz"), "bz2": (".tar.bz2", ".tbz2", ".tbz"), "xz": (".tar.xz", ".txz"),
    "zst": (".tar.zst", ".tzst"), "": (".tar",),
}  # fmt: skip


@dataclass(slots=True)
class _Header:
    """One member's header, extended headers merged in."""

    name: str
    size: int
    kind: str


@dataclass(slots=True)
class _Pending:
    """What extended headers say of the member that follows."""

    name: str | None = None
    size: int | None = None
    has_any: bool = field(default=False)


def is_tar_block(block: bytes) -> bool:
    """Whether 512 bytes are a tar header: its own checksum says so."""
    return len(block) == BLOCK and block != bytes(BLOCK) and _checksum_fits(block)


def compression(path: str) -> str:
    """gz, bz2, xz, zst by magic; empty for none of them."""
    with open(path, "rb") as file:  # noqa: PTH123 -- paths are text throughout the adapters
        return compressed_as(file.read(10))


def first_block(path: str, kind: str) -> bytes:
    """The first 512 bytes that the file unpacks to; fewer where it ends before.

    Raises:
        Failure: as :func:`reconciler.adapters.archives.streams.pieces`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Feed(pieces(descriptor, kind)).exactly(BLOCK)
    finally:
        os.close(descriptor)


class TarExtractor:
    """The :class:`reconciler.core.ports.Extractor` of tar archives, plain or in gz, bz2, xz, zst."""

    name = "tar"

    def recognises(self, path: str, name: str) -> bool:
        """Whether content, or failing that the name, says tar."""
        kind = compression(path)
        lower = name.lower()
        is_named = any(lower.endswith(suffix) for suffixes in _SUFFIXES.values() for suffix in suffixes)
        try:
            return is_tar_block(first_block(path, kind)) or (is_named and not _is_zip(path))
        except Failure:
            return True  # what it holds cannot be told: the unpacking says why

    def measure(self, path: str) -> int | None:
        """Bytes the members of a plain tar will take on disk; None for a compressed or broken one."""
        if compression(path):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _measure(descriptor)
        except Failure:
            return None
        finally:
            os.close(descriptor)

    def extract(
        self, path: str, into: str, *, limit_bytes: int, progress: Callable[[int], None], cancel: CancelToken
    ) -> tuple[Member, ...]:
        """See the protocol; ``progress`` gets the sum of unpacked bytes so far."""
        with staging(into, limit_bytes, progress, cancel) as tree:
            kind = compression(path)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _unpack(Feed(pieces(descriptor, kind)), tree)
            finally:
                os.close(descriptor)
            tree.check_collisions()
            return tree.finish()


def _is_zip(path: str) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123 -- text
        return file.read(4) == b"PK\3\4"


def _unpack(feed: Feed, tree: Tree) -> None:
    pending, is_first = _Pending(), True
    while True:
        block = feed.exactly(BLOCK)
        if block == bytes(BLOCK):
            if is_first:
                raise damaged("it is no tar")
            break
        header = _parse(block, is_first=is_first)
        is_first = False
        if header.kind in "xgLK":
            _extend(pending, header, _body(feed, header.size))
            continue
        _member(feed, _merge(header, pending), tree)
        pending = _Pending()
    if pending.has_any:
        raise damaged("an extended header belongs to no member")
    while (block := feed.exactly(BLOCK)) == bytes(BLOCK):
        tree.check_cancel()
    if is_tar_block(block):
        raise damaged("a second archive stands behind its end")
    while feed.some(1 << 20):  # the rest is padding, but the stream's own checksum stands at its end
        tree.check_cancel()


def _member(feed: Feed, header: _Header, tree: Tree) -> None:
    tree.count_entry()
    if header.kind not in _FILES and header.kind != _FOLDER:
        if header.kind == "S":
            raise unsupported(f"member {quote(header.name)} is sparse")
        raise unsafe(f"member {quote(header.name)} is {_KINDS.get(header.kind, 'of an unknown kind')}")
    path = clean_name(header.name)
    if header.kind == _FOLDER or header.name.endswith("/"):
        if header.size:
            raise unsafe(f"member {quote(header.name)} is a folder with content")
        if path is not None:
            tree.add_folder(path)
        return
    tree.take_room(header.size)
    if path is None:
        _copy(feed, header, lambda _: None)
        return
    tree.add_file(path)
    with tree.outlet(path, header.size) as outlet:

        def take(piece: memoryview) -> None:
            outlet.write(piece)
            tree.tell(len(piece))

        _copy(feed, header, take)
        outlet.close_input()


def _copy(feed: Feed, header: _Header, take: Callable[[memoryview], None]) -> None:
    left = header.size
    while left:
        piece = feed.some(left)
        if not piece:
            raise truncated(f"member {quote(header.name)} ends early")
        take(piece)
        left -= len(piece)
    padding = -header.size % BLOCK
    if len(feed.exactly(padding)) != padding:
        raise truncated(f"member {quote(header.name)} ends early")


def _body(feed: Feed, size: int) -> bytes:
    if size > MAX_EXTENDED_BYTES:
        raise unsafe(f"an extended header takes {size} bytes")
    padded = -(-size // BLOCK) * BLOCK
    data = feed.exactly(padded)
    if len(data) != padded:
        raise truncated("an extended header ends early")
    return data[:size]


def _checksum_fits(block: bytes) -> bool:
    told = _octal(block[148:156])
    blank = block[:148] + b" " * 8 + block[156:]
    return told is not None and told in {sum(blank), sum(byte - 256 if byte > 127 else byte for byte in blank)}


def _octal(raw: bytes) -> int | None:
    """A number in octal, or base 256 where its first bit is set; None where it is neither."""
    if raw[:1] == b"\x80":
        return int.from_bytes(raw[1:], "big")
    text = raw.strip(b" \0")
    if not text:
        return 0
    return int(text, 8) if text.isdigit() and not set(text) & set(b"89") else None


def _parse(block: bytes, *, is_first: bool) -> _Header:
    if len(block) != BLOCK:
        if is_first:
            raise damaged("it is no tar")
        raise truncated("it ends without its closing block")
    size = _octal(block[124:136])
    if not _checksum_fits(block) or size is None:
        raise damaged("it is no tar" if is_first else "a header does not match its checksum")
    name, prefix = _cut(block[:100]), b""
    if block[257:263] == b"ustar\0":
        prefix = _cut(block[345:500])
    full = prefix + b"/" + name if prefix else name
    return _Header(_text(full), size, chr(block[156]))


def _cut(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise unsafe(f"member {quote(repr(raw))} has a name that is no UTF-8") from None


def _extend(pending: _Pending, header: _Header, body: bytes) -> None:
    """GNU long name (L), long link (K, of no interest), pax records of the next member (x) or of all (g)."""
    pending.has_any = header.kind != "g" or pending.has_any
    if header.kind == "L":
        pending.name = _text(_cut(body))
    elif header.kind in "xg":
        for key, value in _records(body):
            if key.startswith("GNU.sparse"):
                raise unsupported("a member is sparse")
            if header.kind == "g" and key in {"path", "size"}:
                raise unsafe("a global header names a member")
            if key == "path":
                pending.name = _text(value)
            elif key == "size":
                if not value.isdigit() or len(value) > 19:
                    raise damaged("an extended header has a size that is none")
                pending.size = int(value)


def _records(body: bytes) -> list[tuple[str, bytes]]:
    """Records of ``length key=value newline``."""
    found, at = [], 0
    while at < len(body):
        space = body.find(b" ", at, at + 10)
        digits = body[at:space] if space > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        record = body[space + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not length or at + length > len(body) or not record.endswith(b"\n") or not equals:
            raise damaged("an extended header is broken")
        found.append((key.decode("utf-8", "replace"), value[:-1]))
        at += length
    return found


def _merge(header: _Header, pending: _Pending) -> _Header:
    name = header.name if pending.name is None else pending.name
    return _Header(name, header.size if pending.size is None else pending.size, header.kind)


def _measure(descriptor: int) -> int:
    """Step from header to header; raises Failure where they are broken."""
    total, at, pending, is_first = 0, 0, _Pending(), True
    while (block := os.pread(descriptor, BLOCK, at)) != bytes(BLOCK):
        header = _parse(block, is_first=is_first)
        is_first = False
        if header.kind in "xgLK":
            _extend(pending, header, os.pread(descriptor, min(header.size, MAX_EXTENDED_BYTES), at + BLOCK))
        else:
            header, pending = _merge(header, pending), _Pending()
            total += on_disk(header.size) if header.kind in _FILES else 0
        at += BLOCK + -(-header.size // BLOCK) * BLOCK
    return total
