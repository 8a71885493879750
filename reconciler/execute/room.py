"""Room for files whose size nobody knows: what no plan could reserve is reckoned here, while they come.

They come one after the other: each may take all the room that the plan leaves over, and what it took is no longer there
for the next. So bytes never pass the limit, and where two do not fit together the later one gives way.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken

_POLL_S = 0.2


class Room:
    """What one pass has left over for files of unknown size, in bytes on disk."""

    def __init__(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._turn = threading.Lock()

    @contextmanager
    def hold(self, target: str, planned_bytes: int, cancel: CancelToken) -> Iterator[int]:
        """Wait for a turn; how large the file at ``target`` may become. The plan has ``planned_bytes`` for it.

        What an interrupted download has on disk already is not missing from the room: it is part of the file.

        Raises:
            Failure: transient ``cancelled``.
        """
        while not self._turn.acquire(timeout=_POLL_S):
            if cancel.is_set():
                raise transient("cancelled", "stopped while waiting for room")
        try:
            own_bytes = max(planned_bytes, _allocated_bytes(target))
            try:
                yield max(0, self._free_bytes + own_bytes)
            finally:
                self._free_bytes += own_bytes - _allocated_bytes(target)
        finally:
            self._turn.release()


def _allocated_bytes(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0
