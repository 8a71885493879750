"""What wakes the loop. Ringing says why, never what: whoever wakes looks again at everything.

``queue.SimpleQueue`` because its ``put`` may be called from a signal handler, in the middle of anything.
"""

import queue

MANIFEST = "manifest"  # a folder that holds the manifest, or a link to it, changed
GIT = "git"  # a fetch ended
DRIFT = "drift"  # a placed file changed
STORE = "store"  # something below models/ was heard
SCRUB = "scrub"  # a blob is not what it should be
RETRY = "retry"  # a failure's back-off is over
INTERVAL = "interval"  # the full pass
SIGNAL = "signal"  # SIGHUP
POKE = "poke"  # somebody asked
MEMORY = "memory"  # available memory crossed a threshold
ROOM = "room"  # there is as much more room as a model lacked
NETWORK = "network"  # the default route changed
ANSWER = "answer"  # a source that was slow answered
ENDED = "ended"  # a pass ended
RELEASED = "released"  # a pass is done with a model
STOP = "stop"

_MAX_DRAINED = 10_000


class Bell:
    """Rung from any thread or signal handler; the loop waits for it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ring(self, trigger: str) -> None:
        """Wake the loop."""
        self._queue.put(trigger)

    def wait(self, timeout_s: float) -> frozenset[str]:
        """Everything that was rung; empty where nobody rang within ``timeout_s``."""
        try:
            rung = {self._queue.get(timeout=max(0.0, timeout_s))}
        except queue.Empty:
            return frozenset()
        for _ in range(_MAX_DRAINED):
            try:
                rung.add(self._queue.get_nowait())
            except queue.Empty:
                break
        return frozenset(rung)
