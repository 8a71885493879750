"""Fetching while the download window is open: where it closes meanwhile the download stops, and keeps what it has."""

from collections.abc import Callable

from reconciler.core.desired import Artifact
from reconciler.core.errors import Failure, transient
from reconciler.core.gates import OUTSIDE_WINDOW, window_end
from reconciler.core.ports import CancelToken, Fetched, FetchRequest
from reconciler.core.targets import is_local
from reconciler.execute.work import Work


class _Until:
    """A cancel token that is also set from a moment on (seconds since the epoch)."""

    def __init__(self, token: CancelToken, now: Callable[[], float], ends_at: float) -> None:
        self._token, self._now, self._ends_at = token, now, ends_at

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._token.is_set() or self._now() >= self._ends_at

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds, but not past the moment; True where it was set."""
        left = max(0.0, self._ends_at - self._now())
        self._token.wait(left if timeout is None else min(timeout, left))
        return self.is_set()


def fetch_in_window(work: Work, request: FetchRequest, file: Artifact) -> Fetched:
    """Fetch a file; one of this machine at any time.

    Raises:
        Failure: as the engine's; transient ``outside_window`` where the window closed.
    """
    observed, whole = work.sight.observed, work.cancel_of(request.model)
    ends_at = window_end(work.desired.network.windows, observed.device.local_minute, observed.taken_at)
    if ends_at is None or is_local(file):
        return work.fetcher.fetch(request, work.progress, whole)
    token = _Until(whole, work.world.now, ends_at)
    try:
        if token.is_set():
            raise transient("cancelled", "stopped before it began")
        return work.fetcher.fetch(request, work.progress, token)
    except Failure as failure:
        if failure.reason != "cancelled" or whole.is_set():
            raise
        raise transient(OUTSIDE_WINDOW, "the download window closed; what is here is kept") from failure
