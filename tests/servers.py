"""Real servers for tests, on loopback and an ephemeral port, gone at the end of the block."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_CONFIG = """
daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log {home}/access.log combined buffer=1k flush=50ms; sendfile on; tcp_nopush on; keepalive_requests 100000;
  types {{ }} default_type application/octet-stream;
  client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u;
  scgi_temp_path {home}/s;
  server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; {limit} {extra} }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    url: str
    home: Path

    def requests(self) -> list[str]:
        """The access log's lines; nginx writes them a moment after the answer."""
        return (self.home / "access.log").read_text().splitlines()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def nginx(root: Path, home: Path, *, limit_rate: str | None = None, extra: str = "") -> Iterator[Nginx]:
    """nginx serving ``root``; its own files lie in ``home``. ``limit_rate`` is bytes a second per connection."""
    program = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)
    if program is None:
        pytest.skip("nginx is not installed")
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    limit = f"limit_rate {limit_rate};" if limit_rate else ""
    config = home / "nginx.conf"
    text = _CONFIG.format(home=home, port=port, root=root, limit=limit, extra=extra)
    config.write_text(text if _is_root() is False else f"user root;{text}")
    process = subprocess.Popen([program, "-e", f"{home}/error.log", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process, "nginx")
        yield Nginx(f"http://127.0.0.1:{port}", home)
    finally:
        process.terminate()
        process.wait(10)


def _is_root() -> bool:
    return os.geteuid() == 0


def wait_for(port: int, process: "subprocess.Popen[bytes]", name: str) -> None:
    """Return once something listens on ``port``."""
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"{name} did not start")
