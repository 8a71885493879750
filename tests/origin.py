"""An honest HTTP origin on loopback that can be told to misbehave by path; it notes what it was asked."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Origin:
    """``files`` by path; ``answers`` (status, headers) by path win over them; ``rate`` is bytes a second, of all connections together: how
    long a download takes does not depend on how many the engine opens."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    rate: int | None = None
    sent: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    free_at: float = 0.0  # when the next byte may go out
    guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, content: bytes) -> str:
        """Serve ``content``; its sha256."""
        self.files[path] = content
        return hashlib.sha256(content).hexdigest()

    def asked(self, method: str | None = None) -> list[str]:
        """The paths that were asked for."""
        return [path for verb, path, _ in self.requests if method in (None, verb)]

    def pace(self, count: int) -> bool:
        """After so many bytes: wait as the rate says; whether to stop."""
        with self.guard:
            now = time.monotonic()
            if not self.rate:
                self.free_at = now
                return False
            self.free_at = max(now, self.free_at) + count / self.rate
            wait_s = self.free_at - now
        return self.stop.wait(wait_s)

    def forget(self) -> None:
        self.requests.clear()
        self.sent = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    origin: Origin

    def do_GET(self) -> None:
        self._answer(is_head=False)

    def do_HEAD(self) -> None:
        self._answer(is_head=True)

    def _answer(self, *, is_head: bool) -> None:
        path = self.path.split("?")[0]
        origin = self.origin
        origin.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        if path in origin.answers:
            status, headers = origin.answers[path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = origin.files.get(path)
        if content is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._serve(content, is_head=is_head)

    def _serve(self, content: bytes, *, is_head: bool) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        start, status = 0, 200
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and self.headers.get("If-Range", etag) == etag:
            first, _, last = wanted[6:].partition("-")
            start, status = int(first), 206
            end = min(int(last), len(content) - 1) if last else len(content) - 1
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        else:
            end = len(content) - 1
        self.send_response(status)
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("ETag", etag)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
        self.end_headers()
        if not is_head:
            self._send(content[start : end + 1])

    def _send(self, body: bytes) -> None:
        step = 64 << 10
        for offset in range(0, len(body), step):
            piece = body[offset : offset + step]
            try:
                self.wfile.write(piece)
            except OSError:
                return  # the client hung up
            self.origin.sent += len(piece)
            if self.origin.pace(len(piece)):
                return

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@contextlib.contextmanager
def serving() -> Iterator[Origin]:
    """An origin for the length of a block."""
    origin = Origin()
    handler = type("Handler", (_Handler,), {"origin": origin})
    server = _Server(("127.0.0.1", 0), handler)
    origin.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield origin
    finally:
        origin.stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
