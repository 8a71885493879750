"""One token bucket for the whole process: how many bytes a second all downloads may take together."""

import threading
import time

from reconciler.core.ports import CancelToken

_BURST_S = 0.25


class Limiter:
    """Hands out the bandwidth; without a limit it costs nothing."""

    def __init__(self, rate_bytes: int | None) -> None:
        self._rate_bytes = rate_bytes
        self._lock = threading.Lock()
        self._free_at = time.monotonic()  # when what was handed out so far is paid for

    @property
    def piece_bytes(self) -> int | None:
        """The most that should be received at once, so that a slow limit stays smooth."""
        rate_bytes = self._rate_bytes
        return None if rate_bytes is None else max(1024, min(64 << 10, rate_bytes // 10))

    def set_rate(self, rate_bytes: int | None) -> None:
        """From now on, also for what is under way."""
        self._rate_bytes = rate_bytes

    def take(self, count: int, cancel: CancelToken) -> None:
        """Account for ``count`` received bytes and wait until they are paid for."""
        rate_bytes = self._rate_bytes
        if rate_bytes is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _BURST_S) + count / rate_bytes
            wait_s = self._free_at - now
        while wait_s > 0 and not cancel.wait(min(wait_s, 0.2)):
            wait_s -= 0.2
