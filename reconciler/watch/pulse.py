"""Whether a pass still gets anywhere: systemd's watchdog is fed by this and not by the loop alone.

A sign of life is a plan, an outcome, or a progress report that says something new. A thread that hangs in a disk, or
reports the same bytes again and again, gives none.
"""

import time

from reconciler.core.ports import Progress


class Pulse:
    """One pass's signs of life; given from many threads, and a lost one does no harm."""

    def __init__(self) -> None:
        self._beat_at = time.monotonic()
        self._seen: dict[tuple[str, str], tuple[object, ...]] = {}

    def beat(self) -> None:
        """Something happened."""
        self._beat_at = time.monotonic()

    def see(self, frame: Progress) -> None:
        """A report; it counts where it is news."""
        key, state = (frame.model, frame.path), (frame.stage, frame.done_bytes, frame.attempt)
        if self._seen.get(key) != state:
            self._seen[key] = state
            self.beat()

    def silent_s(self) -> float:
        """Seconds since the last sign."""
        return time.monotonic() - self._beat_at
