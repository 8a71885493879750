"""Sockets under the HTTP library: it asks this backend for connections, :mod:`.dial` makes them.

Every wait is bounded by the budget of the request that the current thread is working for. Reading a body past the
library goes through :meth:`Stream.read_into`.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore

from reconciler.adapters.fetch.budget import Budget
from reconciler.adapters.fetch.dial import dial, is_readable, receive, send, shake
from reconciler.adapters.fetch.scope import Scope
from reconciler.core.errors import permanent


class Wire(httpcore.NetworkBackend):
    """Makes connections for the budget of the calling thread."""

    def __init__(self, *, is_proxy: bool = False) -> None:
        self._local = threading.local()
        self._is_proxy = is_proxy  # the other end is a proxy the user named: floors do not apply to it

    @property
    def budget(self) -> Budget:
        """The calling thread's budget."""
        found: Budget = self._local.budget
        return found

    @contextlib.contextmanager
    def spend(self, budget: Budget) -> Iterator[None]:
        """Work for ``budget`` within the block."""
        before = getattr(self._local, "budget", None)
        self._local.budget = budget
        try:
            yield
        finally:
            self._local.budget = before

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 -- the budget's deadline bounds everything
        local_address: str | None = None,  # noqa: ARG002 -- never used
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 -- never used
    ) -> "Stream":
        """Connect to the first address of ``host`` that is allowed and answers."""
        floor = Scope.LOCAL if self._is_proxy else self.budget.floor
        return Stream(dial(host, port, self.budget, floor), self, f"{host}:{port}")


class Stream(httpcore.NetworkStream):
    """One connection."""

    def __init__(self, sock: socket.socket, wire: Wire, where: str) -> None:
        self.sock = sock
        self._wire = wire
        self.where = where

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 -- the budget bounds it
        """Up to ``max_bytes``; empty at the end."""
        return receive(self.sock, self._wire.budget, self.where, lambda: self.sock.recv(max_bytes))

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` as far as one system call does; 0 at the end."""
        return receive(self.sock, self._wire.budget, self.where, lambda: self.sock.recv_into(view))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 -- the budget bounds it
        """Send everything."""
        try:
            send(self.sock, self._wire.budget, self.where, buffer)
        except OSError as error:  # the library then reads what the other side said before it hung up
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 -- the budget bounds it
    ) -> "Stream":
        """Shake hands; the certificate must fit ``server_hostname``."""
        if isinstance(self.sock, ssl.SSLSocket):
            raise permanent("proxy_unsupported", "an https proxy cannot carry https here", hint="use an http:// proxy")
        return Stream(
            shake(self.sock, ssl_context, server_hostname, self._wire.budget, self.where), self._wire, self.where
        )

    def get_extra_info(self, info: str) -> Any:
        """What the library and the engine ask of a connection."""
        if info == "is_readable":
            return is_readable(self.sock)
        if info == "ssl_object":
            return self.sock if isinstance(self.sock, ssl.SSLSocket) else None
        if info == "server_addr":
            return self.sock.getpeername()
        return self.sock if info == "socket" else None


class Replay(httpcore.NetworkStream):
    """A connection over which a request has been sent already, and ``seen`` of its answer has come."""

    def __init__(self, stream: Stream, seen: bytes) -> None:
        self._stream = stream
        self._seen = seen
        self.where = stream.where

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """First what has come, then what comes."""
        found, self._seen = self._seen[:max_bytes], self._seen[max_bytes:]
        return found or self._stream.read(max_bytes, timeout)

    def read_into(self, view: memoryview) -> int:
        """As :meth:`read`, for a body read past the library."""
        if not self._seen:
            return self._stream.read_into(view)
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Nothing: it is sent."""

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """As the connection tells it."""
        return self._stream.get_extra_info(info)
