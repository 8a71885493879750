"""The kernel's own news, as wake-ups: memory stalls and network changes make the loop look at once.

Where one of them cannot be had, :class:`~reconciler.watch.surroundings.Surroundings` sees it some seconds later by
itself; ``trouble`` says so.
"""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable

from reconciler.adapters.kernel_events import drain, open_memory_trigger, open_network_events
from reconciler.watch.bell import MEMORY, NETWORK

CALM_S = 0.25  # news that come in a burst are told once


class Wakes:
    """``heard`` is called with the trigger, in a thread of its own."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._stop = threading.Event()
        self._out, self._in = os.pipe()
        self._memory, memory_trouble = open_memory_trigger()
        self._network, network_trouble = open_network_events()
        self.trouble = "; ".join(word for word in (memory_trouble, network_trouble) if word)

    def start(self) -> None:
        """Until closed."""
        threading.Thread(target=self._run, name="wakes", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        with contextlib.suppress(OSError):
            os.write(self._in, b"x")

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if self._memory >= 0:
            poll.register(self._memory, select.POLLPRI)
        if self._network is not None:
            poll.register(self._network, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._stop.is_set():
                break
            if self._memory in ready:
                self._heard(MEMORY)
                if ready[self._memory] & select.POLLERR:  # the control group is gone
                    poll.unregister(self._memory)
            if self._network is not None and self._network.fileno() in ready:
                drain(self._network)
                self._heard(NETWORK)
            self._stop.wait(CALM_S)
        self._close_all(self._network)

    def _close_all(self, network: socket.socket | None) -> None:
        for fd in (self._out, self._in, self._memory):
            with contextlib.suppress(OSError):
                os.close(fd)
        if network is not None:
            network.close()
