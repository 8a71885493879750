"""Interrupts: the first one stops gracefully, partials kept; the second one stops at once.

While work runs, SIGINT and SIGTERM set the cancel token that everything below asks; outside of it SIGINT is Python's
own KeyboardInterrupt and SIGTERM ends the process with 143.

The token is no ``threading.Event``: a handler runs in the main thread, perhaps in the middle of ``Event.wait`` with its
lock held, and ``set`` would wait for itself. Here the flag is a plain attribute, the lock may be entered again, and a
wait looks at the flag twice a second whatever it missed.
"""

import contextlib
import gc
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from reconciler.core.exits import Exit
from reconciler.core.report import Stop

_EXITS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
_LOOK_AGAIN_S = 0.5


def _write_directly(text: str) -> None:
    """Past Python's buffers: they must not be entered twice from a handler."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def write_entry(text: str) -> None:
    """The same as a line of a log in JSON."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = {"timestamp": moment, "level": "warning", "event": "interrupted", "message": text}
    with contextlib.suppress(OSError):
        os.write(2, f"{json.dumps(entry)}\n".encode())


class Cancel:
    """A cancel token that remembers which signal set it."""

    def __init__(self, write: Callable[[str], None] = _write_directly) -> None:
        self.signal: int | None = None
        self.announce = self._write = write
        self._is_set = False
        self._changed = threading.Condition(threading.RLock())

    @property
    def stop(self) -> Stop | None:
        """Why, in the words of the result; None where no signal came."""
        if self.signal is None:
            return None
        return Stop.TERMINATED if self.signal == signal.SIGTERM else Stop.INTERRUPTED

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._is_set

    def set(self) -> None:
        """Stop everything that asks."""
        self._is_set = True
        with self._changed:
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds; True where it was set."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._is_set:
            left = _LOOK_AGAIN_S if end is None else min(_LOOK_AGAIN_S, end - time.monotonic())
            if left <= 0:
                break
            with self._changed:
                self._changed.wait(left)
        return self._is_set

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The first time: set. The second time: leave at once; every step of the store survives that."""
        if self.signal is not None:
            self._write("stopped at once; what is unfinished is kept")
            os._exit(_EXITS[signal.Signals(number)])
        self.signal = number
        self.set()
        if number == signal.SIGINT:
            self.announce("stopping; what is unfinished is kept (once more: stop at once)")


@contextmanager
def cancel_on_signals(cancel: Cancel) -> Iterator[Cancel]:
    """Signals go to ``cancel`` inside; afterwards they are as they were.

    What can be cancelled may live long: the garbage collector that start-up switched off is switched on again. It
    leaves alone what was imported, which never becomes garbage.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    before: dict[int, Any] = {number: signal.signal(number, cancel.on_signal) for number in _EXITS}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """While a person is asked, SIGINT is a KeyboardInterrupt again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
