"""Talking to systemd: the few lines of sd_notify(3), by a datagram to ``$NOTIFY_SOCKET``.

The watchdog is fed by progress and by nothing else: by the loop's own rounds, and only while every pass that is under
way gets anywhere (:mod:`reconciler.watch.pulse`). A loop or a pass that hangs is restarted. So ``WatchdogSec`` has to
be longer than the longest silence that is in order: the slowest load into a runtime, the slowest answer of an origin.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Silent where nobody listens."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_s = _watchdog_s(environ)
        self._fed_at = 0.0
        self._status = ""

    def ready(self) -> None:
        """The first observation is made, or a reload is over."""
        self._send("READY=1")

    def reloading(self) -> None:
        """SIGHUP came."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """SIGTERM came."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; sent where it is another one."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def feed(self, silent_s: float = 0.0) -> None:
        """The loop went round once more, and for so long a pass has told nothing new."""
        now = time.monotonic()
        if self._watchdog_s > silent_s and now - self._fed_at >= self._watchdog_s / 4:
            self._fed_at = now
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end,
        ):
            end.settimeout(1.0)
            end.sendto(text.encode(), self._address)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Seconds between feeds that systemd expects of this process; 0 for none."""
    value, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not value.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(value) / 1e6
