"""A raw-socket HTTP server that misbehaves exactly as told.

``Faulty(script)`` calls ``script(talk)`` for every request, in a thread per connection; ``talk`` knows the request and its
number (from 0, over all connections) and writes whatever it likes onto the wire. What the script does not write is not
sent. Nothing here follows the grammar of HTTP unless the script does.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Talk:
    """One request and the socket to answer on."""

    sock: socket.socket
    number: int
    method: str
    path: str
    headers: dict[str, str]
    is_over: threading.Event
    keep_alive: bool = False

    def send(self, data: bytes | str) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def head(self, status: str, *lines: str) -> None:
        self.send("\r\n".join([f"HTTP/1.1 {status}", *lines]) + "\r\n\r\n")

    def reset(self) -> None:
        """Hang up with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def hang(self, seconds: float = 30.0) -> None:
        """Say nothing until the test ends."""
        self.is_over.wait(seconds)

    @property
    def range(self) -> tuple[int, int | None] | None:
        text = self.headers.get("range", "")
        if not text.startswith("bytes="):
            return None
        first, _, last = text[6:].partition("-")
        return int(first), int(last) + 1 if last else None

    def serve(self, body: bytes, *lines: str, etag: str = '"one"') -> None:
        """What a good server would do with this request."""
        span = self.range
        if span and self.headers.get("if-range") == etag:
            start, end = span[0], min(span[1] or len(body), len(body))
            if start >= len(body):
                self.head("416 Range Not Satisfiable", f"Content-Range: bytes */{len(body)}", "Content-Length: 0")
                return
            rangeline = f"Content-Range: bytes {start}-{end - 1}/{len(body)}"
            self.head("206 Partial Content", f"ETag: {etag}", rangeline, f"Content-Length: {end - start}", *lines)
            self.send(body[start:end] if self.method != "HEAD" else b"")
        else:
            self.head("200 OK", f"ETag: {etag}", "Accept-Ranges: bytes", f"Content-Length: {len(body)}", *lines)
            self.send(body if self.method != "HEAD" else b"")


@dataclass
class Faulty:
    """A context manager; ``url`` is its address, ``seen`` the requests so far."""

    script: Callable[[Talk], None]
    tls: ssl.SSLContext | None = None
    address: str = "127.0.0.1"
    seen: list[Talk] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.address, 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://{self.address}:{self.port}"
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._socks: list[socket.socket] = []
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        for sock in [self._listener, *self._socks]:  # wakes accept and recv at once
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)
        for thread in self._threads[1:]:
            thread.join(5)
        for sock in [*self._socks, self._listener]:
            sock.close()

    @property
    def ranges(self) -> list[str]:
        return [talk.headers.get("range", "") for talk in self.seen]

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(10)
            self._socks.append(sock)
            thread = threading.Thread(target=self._converse, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _converse(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._socks.append(sock)
            while not self._is_over.is_set():
                talk = self._read(sock)
                if talk is None:
                    break
                self.script(talk)
                if not talk.keep_alive:
                    break
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            sock.close()

    def _read(self, sock: socket.socket) -> Talk | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return None
            data += more
        first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        with self._lock:
            talk = Talk(sock, len(self.seen), method, path, headers, self._is_over)
            self.seen.append(talk)
        return talk
