"""The time and the reach of one request; every wait on the network asks it first."""

import time

from reconciler.adapters.fetch.scope import Scope
from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken

SLICE_S = 0.2


class Budget:
    """What the thread's present request may still use; ``deadline`` is in monotonic seconds."""

    __slots__ = ("cancel", "deadline", "floor", "is_fresh", "reason")

    def __init__(self, deadline: float, cancel: CancelToken, floor: Scope = Scope.LOCAL) -> None:
        self.deadline = deadline
        self.cancel = cancel
        self.floor = floor
        self.is_fresh = False  # whether a connection was made for this request
        self.reason = "timeout"

    def slice_s(self, where: str) -> float:
        """How long to wait at most before looking again.

        Raises:
            Failure: cancelled, or the time is up.
        """
        if self.cancel.is_set():
            raise transient("cancelled", f"stopped while talking to {where}")
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise transient(self.reason, f"{where} did not answer in time")
        return min(left_s, SLICE_S)
