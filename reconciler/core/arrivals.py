"""How many bytes files take and cost: on the disk in whole blocks, over the network without what is here already."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from reconciler.core.desired import Artifact
from reconciler.core.inventory import Inventory
from reconciler.core.observed import BroughtFact
from reconciler.core.stored import StoredFile
from reconciler.core.words import Digest


def arrivals_of(name: str, files: Iterable[Artifact], inventory: Inventory) -> Iterator[tuple[str, int]]:
    """Room that each file takes once it is here, by a key that names its bytes."""
    for file in files:
        size = size_of(name, file, inventory)
        if size is None and file.digest in inventory.copies:
            size = inventory.copies[file.digest].size_bytes
        yield _arrival_key(name, file.path, file.digest), blocks_of(size or 0, inventory)


def size_of(name: str, file: Artifact, inventory: Inventory) -> int | None:
    """A file's size; where nobody told it, what it was found to have at least; None where nothing is known."""
    if file.size_bytes is not None:
        return file.size_bytes
    fact = inventory.brought.get((name, file.path))
    return None if fact is None else fact.size_bytes


def as_brought(name: str, files: tuple[Artifact, ...], inventory: Inventory) -> tuple[Artifact, ...]:
    """Of files that nobody declared, those that are blobs already: an interruption does not cost them."""
    return tuple(_found(file, inventory.brought.get((name, file.path)), inventory) for file in files)


def _found(file: Artifact, fact: BroughtFact | None, inventory: Inventory) -> Artifact:
    if fact is None or file.digest is not None or not inventory.is_usable(fact.digest):
        return file
    is_same = file.size_bytes in {None, fact.size_bytes}
    return replace(file, digest=fact.digest, size_bytes=fact.size_bytes) if is_same else file


def repairs_of(name: str, bad: list[StoredFile], inventory: Inventory) -> Iterator[tuple[str, int]]:
    """Room for good copies. A bad one is set aside and goes on taking room, unless that is needed."""
    for file in bad:
        yield _arrival_key(name, file.path, file.digest), blocks_of(file.size_bytes, inventory)


def on_disk_of(name: str, fetch: Iterable[Artifact], inventory: Inventory) -> Iterator[tuple[str, int]]:
    """Room that unfinished downloads of these files take already."""
    for file in fetch:
        partial = inventory.partial_of(name, file)
        if partial is not None:
            yield _arrival_key(name, file.path, file.digest), partial.allocated_bytes


def _arrival_key(name: str, path: str, digest: Digest | None) -> str:
    """Names bytes that come, so that they are counted once however many models wait for them."""
    return f"bring:{digest or f'{name}/{path}'}"


def blocks_of(size_bytes: int, inventory: Inventory) -> int:
    """A size rounded up to whole blocks."""
    block = inventory.observed.disk.block_bytes
    return -(-size_bytes // block) * block


def network_bytes_of(name: str, fetch: Iterable[Artifact], inventory: Inventory) -> int | None:
    """What is left to download; None where a size is unknown."""
    total = 0
    for file in fetch:
        if file.size_bytes is None:
            return None
        partial = inventory.partial_of(name, file)
        total += max(0, file.size_bytes - (partial.done_bytes if partial else 0))
    return total


def total_of(sizes: Iterable[int | None]) -> int | None:
    """The sum; None where one is unknown."""
    total = 0
    for size in sizes:
        if size is None:
            return None
        total += size
    return total
