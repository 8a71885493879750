"""Progress of one file: counted in every receiving thread, told at most five times a second, the last frame always."""

import threading
import time
from collections import deque
from collections.abc import Iterable
from itertools import pairwise

from reconciler.core.ports import Progress, ProgressSink

_EVERY_S = 0.2
_SAMPLES = 20


class Meter:
    """The rate is a mean over the last 20 samples, the newest weighing most."""

    def __init__(self, sink: ProgressSink, model: str, path: str, total_bytes: int | None) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._model, self._path = model, path
        self._stage, self._message, self._source, self._attempt = "connecting", "", "", 1
        self._total_bytes = total_bytes
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._told_at = 0.0
        self._done_bytes = 0
        self.received_bytes = 0  # over the wire, all attempts

    def count(self, received_bytes: int) -> None:
        """Bytes came in; cheap, for every thread."""
        with self._lock:
            self.received_bytes += received_bytes
            self._done_bytes += received_bytes

    def set_done(self, done_bytes: int) -> None:
        """So much of the file is here; told where a frame is due."""
        with self._lock:
            self._done_bytes = done_bytes
        self.tell()

    @property
    def done_bytes(self) -> int:
        """Bytes of the file that are here."""
        with self._lock:
            return self._done_bytes

    def change(  # noqa: PLR0913 -- what a frame has
        self,
        stage: str,
        *,
        done_bytes: int | None = None,
        total_bytes: int | None = None,
        source: str | None = None,
        attempt: int | None = None,
        message: str = "",
        is_urgent: bool = True,
    ) -> None:
        """A new stage; told at once, or where a frame is due."""
        with self._lock:
            if done_bytes is not None:
                self._done_bytes = done_bytes
                self._samples.clear()
            self._stage, self._message = stage, message
            self._total_bytes = self._total_bytes if total_bytes is None else total_bytes
            self._source = self._source if source is None else source
            self._attempt = self._attempt if attempt is None else attempt
        self.tell(is_forced=is_urgent)

    def tell(self, *, is_forced: bool = False) -> None:
        """Send a frame where one is due."""
        now = time.monotonic()
        with self._lock:
            if not is_forced and now - self._told_at < _EVERY_S:
                return
            self._told_at = now
            self._samples.append((now, self._done_bytes))
            frame = self._frame()
        self._sink(frame)

    def _frame(self) -> Progress:
        total, done = self._total_bytes, self._done_bytes
        rate = _weighted_rate(self._samples)
        left_s = (total - done) / rate if rate and total is not None else None
        told = (self._model, self._path, self._stage, done, total)
        return Progress(*told, rate, left_s, self._attempt, self._source, self._message)


def _weighted_rate(samples: Iterable[tuple[float, int]]) -> float | None:
    """Bytes per second; sample ``n`` weighs ``n``."""
    weight_sum = rate_sum = 0.0
    for weight, (before, after) in enumerate(pairwise(samples), start=1):
        span_s = after[0] - before[0]
        if span_s > 0.01:
            rate_sum += weight * (after[1] - before[1]) / span_s
            weight_sum += weight
    return max(rate_sum / weight_sum, 0.0) if weight_sum else None
