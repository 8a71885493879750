"""When a fault of the network is met again at once: after progress, a few times, with full jitter.

The same bytes once more are no progress. Much progress makes the tries count from one again. All other faults are the
ledger's back-off.
"""

from reconciler.adapters.fetch.disk import DISK_REASONS
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.settings import Settings
from reconciler.core.errors import Failure, FailureKind, transient
from reconciler.core.ports import CancelToken

# Transient, but trying again at once would not help.
_NOT_AT_ONCE = DISK_REASONS | {"cancelled", "rate_limited", "host_failing", "captive_portal"}
_GOOD_PROGRESS_BYTES = 8 << 20


class Patience:
    """For one file from one place. ``furthest_bytes`` is how much of it was here at best."""

    def __init__(self, settings: Settings, meter: Meter, cancel: CancelToken, furthest_bytes: int) -> None:
        self._settings = settings
        self._meter = meter
        self._cancel = cancel
        self._tries = 0
        self._before_bytes = 0
        self.furthest_bytes = furthest_bytes

    def begin(self) -> None:
        """An attempt begins."""
        self._before_bytes = self._meter.received_bytes

    def bear(self, failure: Failure, stand: Stand) -> None:
        """Wait until the next attempt.

        Raises:
            Failure: ``failure``, where there is to be none; transient ``cancelled``.
        """
        advanced = stand.done_bytes - self.furthest_bytes
        self.furthest_bytes += max(0, advanced)
        self._tries = 1 if advanced >= _good_progress_bytes(stand) else self._tries + 1
        settings, gained = self._settings, self._meter.received_bytes - self._before_bytes
        is_retried = failure.kind is FailureKind.TRANSIENT and failure.reason not in _NOT_AT_ONCE
        if not is_retried or not gained or self._tries > settings.retries or failure.retry_after_s:
            raise failure
        self._meter.change("waiting", attempt=self._tries + 1, message=failure.message)
        pause_s = settings.random() * min(settings.retry_first_s * 2.0**self._tries, settings.retry_cap_s)
        if self._cancel.wait(pause_s):
            raise transient("cancelled", f"stopped while waiting to try {stand.url} again") from failure


def _good_progress_bytes(stand: Stand) -> int:
    """A server may cut a small file into twenty pieces."""
    size = stand.size_bytes
    return _GOOD_PROGRESS_BYTES if size is None else max(1, min(_GOOD_PROGRESS_BYTES, size // 20))
