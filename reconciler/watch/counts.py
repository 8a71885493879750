"""Counting what the watch does, for its metrics."""

import threading
from collections import Counter

from reconciler.core.actions import ActionKind, Outcome, OutcomeStatus


class Counts:
    """Since the watch began."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.plans = 0
        self.actions: Counter[tuple[str, str]] = Counter()  # (kind, status)
        self.bytes_downloaded = 0

    def count(self, outcome: Outcome) -> None:
        """An action ended."""
        with self._guard:
            self.actions[outcome.kind.value, outcome.status.value] += 1
            if outcome.kind is ActionKind.DOWNLOAD and outcome.status is OutcomeStatus.DONE:
                self.bytes_downloaded += outcome.bytes
