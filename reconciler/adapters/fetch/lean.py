"""HTTP/1.1 for small files and for HEAD: one request, one plain answer, the same connection again.

The HTTP library costs two milliseconds of Python a request, and a tenth of a second to import: most of the time that a
model of many small files takes. So a small GET or a HEAD without a proxy is sent from here, and an answer is read here
where it is as plain as nearly all are: HTTP/1.1, a final status, well-formed header lines, one length, no transfer
coding.
**Every other answer is handed on unread**: what came in so far and the connection go to the library
(:meth:`.transport.Transport.take_over`), which judges it as it judges everything. What a status or a header means,
redirects, secrets, lengths and ranges are the callers' business, the same for both ways.

A connection belongs to an origin and a floor (:mod:`.scope`): one to a private address never serves a redirect that
may only reach public ones. It is used again only where its last answer came to its last byte, with nothing after it.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple

from reconciler.adapters.fetch.budget import Budget
from reconciler.adapters.fetch.dial import dial, is_readable, receive, send, shake
from reconciler.adapters.fetch.redirects import Origin, label_of, origin_of
from reconciler.adapters.fetch.scope import Scope
from reconciler.adapters.fetch.tls import Trust
from reconciler.core.errors import Failure, transient
from reconciler.core.records import dataclass

MAX_HEAD_BYTES = 64 << 10
_MAX_IDLE = 32
_IDLE_S = 15.0
_FIRST_BYTES = 72 << 10  # a head and a file of 64 KiB at once
_MORE_BYTES = 256 << 10
_RIGHT_BEHIND_MS, _LOOKS = 1, 8

_HOST = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_CHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_URL = re.compile(rf"https?://({_HOST}(?::\d{{1,5}})?)((?:/{_CHAR}*)+(?:\?(?:{_CHAR}|[/?])*)?)")
_DOTS = re.compile(r"/\.\.?(?:/|$|\?)")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?|")
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+)\r\n"
)
_LINE = re.compile(rb"([^:]+):[\t ]*([^\r]*?)[\t ]*\r\n")
_NOTHING = memoryview(b"")
_BODILESS = frozenset({204, 304})

Headers = list[tuple[str, str]]


class Line:
    """One connection; ``budget`` is that of the request it works for."""

    def __init__(self, sock: socket.socket, where: str, key: tuple[Origin, Scope], budget: Budget) -> None:
        self.sock = sock
        self.where = where
        self.key = key
        self.budget = budget
        self.idle_since = 0.0

    def read(self, max_bytes: int) -> bytes:
        """Up to ``max_bytes``; empty at the end."""
        return receive(self.sock, self.budget, self.where, lambda: self.sock.recv(max_bytes))

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` as far as one system call does; 0 at the end."""
        return receive(self.sock, self.budget, self.where, lambda: self.sock.recv_into(view))

    def get_extra_info(self, info: str) -> Any:
        """As the library's streams tell it: ``server_addr``."""
        return self.sock.getpeername() if info == "server_addr" else None

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


class Head(NamedTuple):
    """What stands before a body, and what of the body came with it."""

    status: int
    headers: dict[str, str]
    rest: memoryview


class Unusual(Exception):  # noqa: N818 -- no error: an answer that the library has to judge
    """What came in so far, unread, and the connection it came over."""

    def __init__(self, line: Line, seen: bytes) -> None:
        super().__init__()
        self.line = line
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD as it goes over the wire; ``label`` is what people may see of its URL."""

    data: bytes
    origin: Origin
    label: str
    is_head: bool = False


class Reply:
    """A plain answer, in the shape of the library's. ``stream`` gives the body, once."""

    def __init__(self, lean: "Lean", line: Line, head: "Head", request: Request) -> None:
        self.status_code = head.status
        self.headers = head.headers
        self.extensions = {"network_stream": line}
        self.stream = self._chunks(request.label)
        self._lean = lean
        self._line = line
        self._rest = head.rest
        self._left_bytes = 0 if request.is_head else int(self.headers["content-length"])
        self._failure: Failure | None = None
        self._is_closed = False

    def look_at_whole(self) -> memoryview | None:
        """All of the body, where it came together with its head or right behind; None where it takes its time."""
        for _ in range(_LOOKS):
            if len(self._rest) >= self._left_bytes or not is_readable(self._line.sock, _RIGHT_BEHIND_MS):
                break
            try:
                more = self._line.read(self._left_bytes - len(self._rest))
            except Failure as failure:
                self._failure = failure  # for whoever reads on: the system tells it once
                break
            if not more:
                break
            self._rest = memoryview(bytes(self._rest) + more)
        return self._rest if self._left_bytes and len(self._rest) == self._left_bytes else None

    def take_whole(self) -> None:
        """Take it: nothing more is to be read."""
        self._rest, self._left_bytes = _NOTHING, 0

    def _chunks(self, label: str) -> Iterator[bytes | memoryview]:
        while self._left_bytes > 0:
            if self._failure is not None and not self._rest:
                raise self._failure
            chunk, self._rest = self._rest or self._line.read(min(self._left_bytes, _MORE_BYTES)), _NOTHING
            if not chunk:
                raise transient("truncated", f"{label} ended before its announced length")
            self._left_bytes -= len(chunk)
            # More than was announced: the connection has lost its place, and is not used again.
            yield chunk if self._left_bytes >= 0 else chunk[: self._left_bytes]

    def spend(self, budget: Budget) -> nullcontext[None]:  # noqa: ARG002 -- the line has it since the request
        """For :class:`.body.Body`: the connection is bound to the request's budget already."""
        return nullcontext()

    def close(self) -> None:
        """Give the connection back where all of the body has come, else close it; once."""
        if self._is_closed:
            return
        self._is_closed = True
        is_whole = self._left_bytes == len(self._rest)
        if is_whole and self.headers.get("connection", "keep-alive").lower() == "keep-alive":
            self._lean.keep(self._line)
        else:
            self._line.close()


class Lean:
    """Sends small requests over connections of its own; for several threads."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._lock = threading.Lock()
        self._idle: dict[tuple[Origin, Scope], list[Line]] = {}
        self._is_closed = False

    def send(self, request: Request, budget: Budget) -> Reply:
        """Send ``request`` (see :func:`request_of`) and read the head of its answer.

        Raises:
            Failure: sorted; from the network.
            Unusual: the answer is for the library to judge.
        """
        while True:
            line = self._take(request.origin, budget)
            try:
                return self._exchange(line, request)
            except (Failure, Unusual) as end:
                # What is no answer at all belongs to the one before, as a body that was sent after a HEAD.
                is_silent = isinstance(end, Unusual) and not end.seen.startswith(b"HTTP/")
                if isinstance(end, Failure):
                    line.close()
                    is_silent = end.reason == "connection_reset"
                # A kept connection that the server has closed meanwhile tells nothing about the server.
                if budget.is_fresh or not is_silent:
                    raise
                line.close()

    def keep(self, line: Line) -> None:
        """Keep a connection for the next request of its origin."""
        line.idle_since = time.monotonic()
        with self._lock:
            idle = self._idle.setdefault(line.key, [])
            if len(idle) < _MAX_IDLE and not self._is_closed:
                idle.append(line)
                return
        line.close()

    def close(self) -> None:
        """Close idle connections; those that are at work close when they are done."""
        with self._lock:
            self._is_closed = True
            lines = [line for idle in self._idle.values() for line in idle]
            self._idle.clear()
        for line in lines:
            line.close()

    def _take(self, origin: Origin, budget: Budget) -> Line:
        key = (origin, budget.floor)
        budget.is_fresh = False
        while True:
            with self._lock:
                idle = self._idle.get(key)
                line = idle.pop() if idle else None
            if line is None:
                return self._dial(key, budget)
            if time.monotonic() - line.idle_since < _IDLE_S and not is_readable(line.sock):
                line.budget = budget
                return line
            line.close()

    def _dial(self, key: tuple[Origin, Scope], budget: Budget) -> Line:
        (scheme, host, port), floor = key
        where = f"{host}:{port}"
        sock = dial(host, port, budget, floor)
        if scheme == "https":
            try:
                context = self._trust.context()
            except BaseException:
                sock.close()
                raise
            sock = shake(sock, context, host, budget, where)
        return Line(sock, where, key, budget)

    def _exchange(self, line: Line, request: Request) -> Reply:
        with suppress(OSError):  # what it said before it hung up is read all the same
            send(line.sock, line.budget, line.where, request.data)
        seen = b""
        while (end := seen.find(b"\r\n\r\n")) < 0:
            more = line.read(_FIRST_BYTES)
            seen += more
            if not more or len(seen) > MAX_HEAD_BYTES + _FIRST_BYTES:
                raise Unusual(line, seen)
        match = _HEAD.fullmatch(seen, 0, end + 4)
        if match is None:
            raise Unusual(line, seen)
        head = Head(int(match[1]), joined(_LINE.findall(match[2])), memoryview(seen)[end + 4 :])
        if head.status in _BODILESS or not _is_plain(head.headers):
            raise Unusual(line, seen)
        return Reply(self, line, head, request)


def _is_plain(headers: dict[str, str]) -> bool:
    """Whether the body is exactly as many bytes as one header says; two of that name are joined by a comma."""
    length = headers.get("content-length", "")
    return "transfer-encoding" not in headers and length.isascii() and length.isdigit() and len(length) < 19


def joined(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header fields by lower-case name; several of one name are joined by a comma."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("ascii", "replace").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def request_of(method: str, url: str, headers: Headers) -> Request | None:
    """A GET or HEAD of ``url``; None where the URL or a header is for the library to put right."""
    match = _URL.fullmatch(url)
    if match is None or _DOTS.search(match[2]):
        return None
    if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers):
        return None
    origin = origin_of(url)
    scheme, host, port = origin
    is_usual = port == {"http": 80, "https": 443}[scheme]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    text = f"{method} {match[2]} HTTP/1.1\r\nHost: {host if is_usual else f'{host}:{port}'}\r\n{lines}\r\n"
    return Request(text.encode("ascii"), origin, label_of(url), method == "HEAD")
