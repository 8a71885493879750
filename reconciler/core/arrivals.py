"""How many bytes files take and cost: on the disk in whole blocks, over the network without what is here already."""

from collections.abc import Iterable, Iterator

from reconciler.core.inventory import Inventory
from reconciler.core.state import Artifact, Digest, StoredFile


def arrivals_of(name: str, files: Iterable[Artifact], inventory: Inventory) -> Iterator[tuple[str, int]]:
    """Room that each file takes once it is here, by a key that names its bytes."""
    for file in files:
        size = file.size_bytes
        if size is None and file.digest in inventory.copies:
            size = inventory.copies[file.digest].size_bytes
        yield _arrival_key(name, file.path, file.digest), blocks_of(size or 0, inventory)


def repairs_of(name: str, bad: list[StoredFile], inventory: Inventory) -> Iterator[tuple[str, int]]:
    """Room for good copies. A bad one is set aside and goes on taking room, so nothing is gained by it."""
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
