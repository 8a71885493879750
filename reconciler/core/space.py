"""Bytes on disk: the limit, and who holds which blob.

The limit is the stricter of ``cache.maxSize`` and of what keeps ``cache.minFreeSpace`` free. The second is counted from
what the store uses and what is free, so it does not move while a plan is carried out: bytes only change sides.

A blob may be held by several revisions; it is freed when the last of them goes. :class:`Holdings` counts holders.
"""

from collections.abc import Iterable

from reconciler.core.inventory import Inventory, held
from reconciler.core.observed import ObservedState
from reconciler.core.policies import CachePolicy
from reconciler.core.words import Digest


def limit_bytes(cache: CachePolicy, observed: ObservedState) -> int:
    """What all of the store may take on disk, never below 0."""
    disk = observed.disk
    by_free_space = observed.store.used_bytes + disk.free_bytes - cache.min_free.of(disk.total_bytes)
    return max(0, min(cache.max_size.of(disk.total_bytes), by_free_space))


class Holdings:
    """How many revisions hold each blob; what is freed when some let go."""

    def __init__(self, inventory: Inventory) -> None:
        self._allocated = inventory.allocated
        self._holders: dict[Digest, int] = dict.fromkeys(inventory.allocated, 0)
        for stored in inventory.revisions():
            self.hold(held(stored))

    def hold(self, digests: Iterable[Digest]) -> None:
        """One more holder of each of these."""
        for digest in digests:
            self._holders[digest] = self._holders.get(digest, 0) + 1

    def orphans(self) -> list[Digest]:
        """Blobs that nobody holds, sorted."""
        return sorted(digest for digest, holders in self._holders.items() if not holders)

    def release(self, digests: Iterable[Digest]) -> int:
        """Let go of these; the bytes of those that nobody holds any more."""
        freed = 0
        for digest in digests:
            self._holders[digest] -= 1
            if self._holders[digest] == 0:
                freed += self._allocated.get(digest, 0)
        return freed

    def freed_by_all(self, groups: Iterable[Iterable[Digest]]) -> frozenset[Digest]:
        """The blobs that would be freed if all these holders let go; nothing is changed."""
        releases: dict[Digest, int] = {}
        for digests in groups:
            for digest in digests:
                releases[digest] = releases.get(digest, 0) + 1
        return frozenset(digest for digest, count in releases.items() if self._holders[digest] == count)

    def bytes_of(self, digests: Iterable[Digest]) -> int:
        """What these blobs take on disk."""
        return sum(self._allocated.get(digest, 0) for digest in digests)
