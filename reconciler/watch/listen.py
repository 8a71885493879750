"""Health and metrics over HTTP, for ``--listen``: ``/healthz``, ``/readyz``, ``/metrics`` (Prometheus text format).

The standard library's server in a thread; on loopback where the address names no host. Only reading, no secret, no
body is ever read.
"""

import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from reconciler.core.errors import permanent
from reconciler.log import get_log
from reconciler.watch.daemon import Daemon

LOOPBACK = "127.0.0.1"
ALIVE_S = 30.0  # the loop goes round once a second; a slow disk may hold it up for a while
REQUEST_S = 10.0
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[HOST]:PORT``, ``:PORT`` or ``PORT``.

    Raises:
        Failure: permanent ``usage``.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise permanent("usage", f"--listen takes HOST:PORT, not {text}", hint="such as 127.0.0.1:9464")
    return host.strip("[]") or LOOPBACK, int(port)


class Listener:
    """Serves until closed."""

    def __init__(self, daemon: Daemon, address: str) -> None:
        host, port = parse_address(address)
        handler = type("Handler", (_Handler,), {"daemon": daemon})
        kind = type("Server", (_Server,), {"address_family": _family(host)})
        try:
            self._server = kind((host, port), handler)
        except OSError as error:
            raise permanent("cannot_listen", f"cannot listen on {address}: {error.strerror or error}") from error
        bound = self._server.server_address
        self.address = f"{bound[0]}:{bound[1]}"
        threading.Thread(target=self._server.serve_forever, args=(1.0,), name="listen", daemon=True).start()
        get_log().info("server_started", address=self.address)

    def close(self) -> None:
        """No more requests."""
        self._server.shutdown()
        self._server.server_close()


def _family(host: str) -> int:
    import socket  # noqa: PLC0415

    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    daemon: ClassVar[Daemon]
    timeout = REQUEST_S
    server_version = "reconciler"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one of three paths."""
        match self.path.partition("?")[0]:
            case "/healthz":
                is_alive = time.monotonic() - self.daemon.beat_at < ALIVE_S
                self._answer(200 if is_alive else 503, "ok\n" if is_alive else "the loop does not go round\n")
            case "/readyz":
                seen = self.daemon.seen
                ready = seen.condition("Ready") if seen else None
                is_ready = ready is not None and ready.status == "True"
                self._answer(200 if is_ready else 503, f"{ready.message if ready else 'nothing seen yet'}\n")
            case "/metrics":
                self._answer(200, metrics(self.daemon))
            case _:
                self._answer(404, "/healthz, /readyz or /metrics\n")

    do_HEAD = do_GET  # noqa: N815 -- the library's name

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", _TEXT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Whoever scrapes every few seconds is not news."""


def metrics(daemon: Daemon) -> str:
    """Everything worth a graph."""
    counts, seen = daemon.counts, daemon.seen
    lines = [
        *_metric("passes_total", "counter", "Passes that made a plan", [("", counts.plans)]),
        *_metric(
            "actions_total",
            "counter",
            "Actions that ended",
            [(f'kind="{kind}",status="{status}"', count) for (kind, status), count in sorted(counts.actions.items())],
        ),
        *_metric("downloaded_bytes_total", "counter", "Bytes downloaded", [("", counts.bytes_downloaded)]),
    ]
    if seen is not None:
        states = [model.state for model in seen.models]
        lines += _metric(
            "models", "gauge", "Models by state", [(f'state="{s}"', states.count(s)) for s in sorted({*states})]
        )
        flags = [(f'type="{c.type}"', int(c.status == "True")) for c in seen.conditions]
        lines += _metric("condition", "gauge", "1 where the condition is True", flags)
        lines += _metric("store_used_bytes", "gauge", "Bytes the store takes", [("", seen.cache.used_bytes)])
        lines += _metric("store_limit_bytes", "gauge", "cache.maxSize", [("", seen.cache.limit_bytes)])
        lines += _metric(
            "disk_free_bytes", "gauge", "Free on the store's file system", [("", seen.cache.disk_free_bytes)]
        )
        lines += _metric("loaded_bytes", "gauge", "RAM that loaded models hold", [("", seen.memory.loaded_bytes)])
        lines += _metric("memory_available_bytes", "gauge", "Available RAM", [("", seen.memory.available_bytes)])
        lines += _metric("observed_at_seconds", "gauge", "When this was seen", [("", seen.taken_at)])
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, rows: Sequence[tuple[str, float]]) -> list[str]:
    head = [f"# HELP reconciler_{name} {text}.", f"# TYPE reconciler_{name} {kind}"]
    return head + [
        f"reconciler_{name}{{{labels}}} {value}" if labels else f"reconciler_{name} {value}" for labels, value in rows
    ]
