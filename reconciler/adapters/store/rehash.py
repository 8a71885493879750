"""Hashing one file a piece at a time, slowly and in the background, without keeping it open in between.

Whoever wants to evict the file meanwhile never finds it in use by us. As everywhere in :mod:`hashing`, the page cache
is left as it is. Should the file change between two pieces, the answer is worth nothing and says so.
"""

import hashlib
import os

from reconciler.adapters.store.folders import failing, file_stat
from reconciler.adapters.store.hashing import aligned_memory, direct_reader, open_quietly
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest

PIECE_BYTES = 4 << 20


class Rehash:
    """One file's hash in the making."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.stat: FileStat | None = None  # of the first piece
        self.has_changed = False
        self._state = hashlib.sha256()
        self._offset = 0
        self._memory = memoryview(aligned_memory(PIECE_BYTES))

    @property
    def digest(self) -> Digest:
        """Of what was read so far."""
        return Digest(f"sha256:{self._state.hexdigest()}")

    def step(self) -> int:
        """Read and hash the next piece; its bytes, 0 at the end or where the file has changed.

        Raises:
            Failure: what keeps the file from being read.
        """
        with failing(f"cannot read {self.path}"), open_quietly(self.path) as fd:
            found = file_stat(os.fstat(fd))
            self.stat = self.stat or found
            if found != self.stat:
                self.has_changed = True
                return 0
            count = direct_reader(fd)(self._memory, self._offset)
        self._state.update(self._memory[:count])
        self._offset += count
        return count
