"""A circuit breaker per origin: a host that fails again and again is left alone for a while, by every download.

Closed → (``failures`` transient failures in a row) → open for ``pause_s`` → one trial → closed, or open for twice as
long, at most a minute. Longer waiting is back-off, which is the ledger's.
"""

import threading
import time
from dataclasses import dataclass

from reconciler.adapters.fetch.redirects import Origin
from reconciler.core.errors import Failure, transient

_MAX_PAUSE_S = 60.0
# What speaks against the host; anything else is about one object, this machine, or our own wish.
_COUNTED = frozenset(
    {
        "connection_refused",
        "connection_reset",
        "connect_failed",
        "disconnected",
        "dns",
        "malformed_answer",
        "server_error",
        "timeout",
        "tls_broken",
        "unreachable",
    }
)


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    pause_s: float = 0.0
    open_until: float = 0.0
    is_on_trial: bool = False


class Breaker:
    """See the module."""

    def __init__(self, failures: int, pause_s: float) -> None:
        self._failures = failures
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._circuits: dict[Origin, _Circuit] = {}

    def enter(self, origin: Origin) -> None:
        """Ask before a request.

        Raises:
            Failure: transient ``host_failing``.
        """
        with self._lock:
            circuit = self._circuits.get(origin)
            if circuit is None or circuit.failures < self._failures:
                return
            left_s = circuit.open_until - time.monotonic()
            if left_s <= 0 and not circuit.is_on_trial:
                circuit.is_on_trial = True
                return
        text = f"{origin[1]} failed {circuit.failures} times in a row and is left alone for a moment"
        raise transient("host_failing", text, retry_after_s=max(left_s, 1.0))

    def succeeded(self, origin: Origin) -> None:
        """The host answered."""
        with self._lock:
            self._circuits.pop(origin, None)

    def told_nothing(self, origin: Origin) -> None:
        """What came speaks neither for the host nor against it."""
        with self._lock:
            circuit = self._circuits.get(origin)
            if circuit is not None:
                circuit.is_on_trial = False

    def failed(self, origin: Origin, failure: Failure) -> None:
        """The host did not answer, or not properly."""
        if failure.reason not in _COUNTED:
            self.told_nothing(origin)
            return
        with self._lock:
            circuit = self._circuits.setdefault(origin, _Circuit())
            circuit.failures += 1
            circuit.is_on_trial = False
            if circuit.failures >= self._failures:
                circuit.pause_s = min(max(circuit.pause_s * 2, self._pause_s), _MAX_PAUSE_S)
                circuit.open_until = time.monotonic() + circuit.pause_s
