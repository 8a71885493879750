"""Work that keeps the processor busy goes one at a time; work that waits goes side by side.

Threads share one interpreter. With many small files at hand from a fast place, threads that all want to run take the
interpreter from each other at every system call, and are half as fast together as one of them alone. With a slow place
they do nothing but wait, and the more of them there are the better. Which of both it is shows only while it runs: the
gate lets one in at a time, until those inside mostly wait; then it stands open until all have gone.
Nobody waits behind one that is stuck: after :data:`PATIENCE_S` without a finished job the next one goes in all the
same.
So the gate bounds nothing, protects nothing and cannot lock anybody out; it only saves time.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 0.02  # for one job of those inside
SLACK_S = 0.001
STRIKES = 3  # so many jobs that mostly waited, one after the other, open the gate


class Gate:
    """See the module. A thread that is inside may go in again: that is no other entry."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._mine = threading.local()
        self._present = 0  # who came to work, inside or waiting
        self._inside = 0  # less those who are stuck
        self._era = 0  # a new one begins where those inside are given up as stuck
        self._strikes = 0
        self._progress_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether all go in at once."""
        return self._strikes >= STRIKES

    @property
    def is_slow(self) -> bool:
        """Whether the last job mostly waited, or does so now."""
        return self._strikes > 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Go in for the block."""
        if getattr(self._mine, "is_inside", False):
            yield
            return
        with self._changed:
            self._present += 1
        self._enter()
        try:
            yield
        finally:
            self._leave()
            with self._changed:
                self._present -= 1
                if not self._present:
                    self._strikes = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Step out for the block, which waits for the disk or for others; nothing, for one who is not inside."""
        if not getattr(self._mine, "is_inside", False):
            yield
            return
        self._leave()
        try:
            yield
        finally:
            self._enter()

    def tell(self) -> None:
        """One who is inside finished a job."""
        now, busy_s = time.monotonic(), time.thread_time()
        (began, before_s), self._mine.since = self._mine.since, (now, busy_s)
        with self._changed:
            if self.is_open:
                return
            self._progress_at = now
            if now - began > 2 * (busy_s - before_s) + SLACK_S:
                self._strike()
            else:
                self._strikes = 0

    def _enter(self) -> None:
        with self._changed:
            while self._inside and not self.is_open:
                left_s = self._progress_at + PATIENCE_S - time.monotonic()
                if left_s <= 0:
                    self._strike()
                    self._inside, self._era = 0, self._era + 1
                    break
                self._changed.wait(left_s)
            self._inside += 1
            self._progress_at = time.monotonic()
            self._mine.since = self._progress_at, time.thread_time()
            self._mine.era = self._era
        self._mine.is_inside = True

    def _leave(self) -> None:
        self._mine.is_inside = False
        with self._changed:
            if self._mine.era == self._era:
                self._inside -= 1
                self._changed.notify()

    def _strike(self) -> None:
        self._strikes += 1
        if self.is_open:
            self._changed.notify_all()
