"""Sockets under the HTTP client: the address that was judged is the address that is connected to.

The HTTP library asks this backend for connections. It resolves, throws away the addresses that the request's floor
forbids and connects to the rest, in order. Every wait is cut into slices, so that a cancelled download stops within a
fifth of a second, and is bounded by the deadline of the request that the current thread is working for: a server that
sends one header byte a second cannot hold it. Reading a body past the library goes through :meth:`Stream.read_into`.
"""

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import httpcore

from reconciler.adapters.fetch.budget import Budget
from reconciler.adapters.fetch.scope import Scope, scope_of_address
from reconciler.core.errors import Failure, permanent, refused, transient

_T = TypeVar("_T")
_DNS_GONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


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
        budget = self.budget
        floor = Scope.LOCAL if self._is_proxy else budget.floor
        where = f"{host}:{port}"
        found = _resolve(host, port, budget, where)
        allowed = [entry for entry in found if scope_of_address(str(entry[4][0])) >= floor]
        if not allowed:
            raise refused(
                "unsafe_redirect",
                f"a redirect leads to {host}, whose address reaches less far than the source's",
                hint="name that address as a source in the manifest where it is meant",
            )
        last: Failure | None = None
        for left, entry in zip(range(len(allowed), 0, -1), allowed, strict=True):
            share_s = max(1.0, (budget.deadline - time.monotonic()) / left)
            try:
                sock = _connect(entry, time.monotonic() + share_s, budget, where)
            except Failure as failure:
                if failure.reason == "cancelled":
                    raise
                last = failure
                continue
            budget.is_fresh = True
            return Stream(sock, self, where)
        raise last or transient("connect_failed", f"cannot connect to {where}")


class Stream(httpcore.NetworkStream):
    """One connection."""

    def __init__(self, sock: socket.socket, wire: Wire, where: str) -> None:
        self.sock = sock
        self._wire = wire
        self.where = where

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 -- the budget bounds it
        """Up to ``max_bytes``; empty at the end."""
        return self._wait(lambda: self.sock.recv(max_bytes))

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` as far as one system call does; 0 at the end."""
        return self._wait(lambda: self.sock.recv_into(view))

    def _wait(self, receive: Callable[[], _T]) -> _T:
        budget = self._wire.budget
        while True:
            self.sock.settimeout(budget.slice_s(self.where))
            try:
                return receive()
            except TimeoutError:
                continue
            except OSError as error:
                raise _broken(error, self.where) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 -- the budget bounds it
        """Send everything."""
        budget = self._wire.budget
        view = memoryview(buffer)
        while view:
            self.sock.settimeout(budget.slice_s(self.where))
            try:
                view = view[self.sock.send(view) :]
            except TimeoutError:
                continue
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
        budget = self._wire.budget
        try:
            secure = ssl_context.wrap_socket(self.sock, server_hostname=server_hostname, do_handshake_on_connect=False)
        except OSError as error:
            self.sock.close()
            raise _broken(error, self.where) from error
        try:
            while True:
                secure.settimeout(budget.slice_s(self.where))
                try:
                    secure.do_handshake()
                except TimeoutError:
                    continue
                return Stream(secure, self._wire, self.where)
        except OSError as error:
            secure.close()
            raise _broken_handshake(error, self.where) from error
        except BaseException:
            secure.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        """What the library and the engine ask of a connection."""
        if info == "is_readable":
            poll = select.poll()
            poll.register(self.sock, select.POLLIN)
            return bool(poll.poll(0))
        if info == "ssl_object":
            return self.sock if isinstance(self.sock, ssl.SSLSocket) else None
        if info == "server_addr":
            return self.sock.getpeername()
        return self.sock if info == "socket" else None


def _resolve(host: str, port: int, budget: Budget, where: str) -> list[Any]:
    """The addresses of a name, asked for in a thread of its own: the resolver knows no deadline."""
    try:
        scope_of_address(host)
    except ValueError:
        pass
    else:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    answer: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error)
        done.set()

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    while not done.wait(budget.slice_s(where)):
        pass
    if isinstance(answer[0], list):
        return answer[0]
    is_gone = isinstance(answer[0], socket.gaierror) and answer[0].errno in _DNS_GONE
    text = "no such host" if is_gone else "the name service does not answer"
    raise transient("dns", f"cannot find {host}: {text}", hint="check the host's name and this machine's network")


def _connect(entry: Any, until: float, budget: Budget, where: str) -> socket.socket:
    family, kind, protocol, _, address = entry
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    try:
        code = _knock(sock, address, until, budget, where)
    except BaseException:
        sock.close()
        raise
    if code:
        sock.close()
        raise _broken(OSError(code, os.strerror(code)), where)
    return sock


def _knock(sock: socket.socket, address: Any, until: float, budget: Budget, where: str) -> int:
    """Connect; an error number, 0 for success."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    code = sock.connect_ex(address)
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while code in {errno.EINPROGRESS, errno.EAGAIN}:
        if poll.poll(budget.slice_s(where) * 1000):
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        elif time.monotonic() >= until:
            code = errno.ETIMEDOUT
    return code


_CONNECT_REASONS = {
    errno.ECONNREFUSED: "connection_refused",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ETIMEDOUT: "timeout",
}


def _broken(error: OSError, where: str) -> Failure:
    if isinstance(error, ssl.SSLError):
        return transient("tls_broken", f"the encrypted connection to {where} broke: {_ssl_word(error)}")
    reason = _CONNECT_REASONS.get(error.errno or 0, "connection_reset")
    return transient(reason, f"no connection to {where}: {os.strerror(error.errno or errno.ECONNRESET)}")


def _broken_handshake(error: OSError, where: str) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return permanent(
            "tls_certificate",
            f"the certificate of {where} is not trusted: {error.verify_message}",
            hint="set SSL_CERT_FILE to the authority that signed it, or mend the server's certificate",
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        return transient("tls_broken", f"{where} hung up during the TLS handshake")
    return permanent("tls_error", f"no TLS with {where}: {_ssl_word(error)}")


def _ssl_word(error: ssl.SSLError) -> str:
    return (error.reason or "unknown").replace("_", " ").lower()
