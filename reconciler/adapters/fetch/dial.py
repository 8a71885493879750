"""Sockets: the address that was judged is the address that is connected to.

Resolve, throw away the addresses that the request's floor forbids, connect to the rest in order, shake hands. Every
wait is cut into slices, so that a cancelled download stops within a fifth of a second, and is bounded by the deadline
of the request's budget: a server that sends one header byte a second cannot hold it.
"""

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler.adapters.fetch.budget import Budget
from reconciler.adapters.fetch.scope import Scope, scope_of_address
from reconciler.core.errors import Failure, permanent, refused, transient

if TYPE_CHECKING:
    import ssl

_T = TypeVar("_T")
_DNS_GONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def dial(host: str, port: int, budget: Budget, floor: Scope) -> socket.socket:
    """Connect to the first address of ``host`` that is not below ``floor`` and answers.

    Raises:
        Failure: refused ``unsafe_redirect`` where no address is allowed; transient for the network.
    """
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
        return sock
    raise last or transient("connect_failed", f"cannot connect to {where}")


def shake(
    sock: socket.socket, context: "ssl.SSLContext", host: str | None, budget: Budget, where: str
) -> "ssl.SSLSocket":
    """TLS over a connection; the certificate must fit ``host``. The socket is closed where it does not come about."""
    try:
        secure = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except OSError as error:
        sock.close()
        raise _broken(error, where) from error
    try:
        while True:
            secure.settimeout(budget.slice_s(where))
            try:
                secure.do_handshake()
            except TimeoutError:
                continue
            return secure
    except OSError as error:
        secure.close()
        raise _broken_handshake(error, where) from error
    except BaseException:
        secure.close()
        raise


def receive(sock: socket.socket, budget: Budget, where: str, take: Callable[[], _T]) -> _T:
    """What ``take`` receives from the socket, as soon as there is something."""
    while True:
        _wait_at_most(sock, budget.slice_s(where))
        try:
            return take()
        except TimeoutError:
            continue
        except OSError as error:
            raise _broken(error, where) from error


def send(sock: socket.socket, budget: Budget, where: str, data: bytes) -> None:
    """Send everything.

    Raises:
        OSError: the other side hung up; it may have said why before.
    """
    view = memoryview(data)
    # Not with TLS, which has its own way; nor of nothing, which would only meet a reset that the next read is to tell.
    if view and type(sock) is socket.socket and os.name == "posix":
        with suppress(BlockingIOError):
            view = view[os.write(sock.fileno(), view) :]  # a small request fits, and needs no look whether it does
    while view:
        _wait_at_most(sock, budget.slice_s(where))
        try:
            view = view[sock.send(view) :]
        except TimeoutError:
            continue


def _wait_at_most(sock: socket.socket, seconds: float) -> None:
    if sock.gettimeout() != seconds:  # setting it is a system call each time
        sock.settimeout(seconds)


def is_readable(sock: socket.socket, within_ms: int = 0) -> bool:
    """Whether something is there to read: an end, bytes, or bytes nobody asked for."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(within_ms))


def _resolve(host: str, port: int, budget: Budget, where: str) -> list[Any]:
    """The addresses of a name, asked for in a thread of its own: the resolver knows no deadline."""
    try:
        scope_of_address(host)
    except ValueError:
        pass
    else:
        # As bytes, or else a codec is loaded that knows no numbers.
        return socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
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
    try:
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise _broken(error, where) from error
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
    errno.EMFILE: "too_many_files",
    errno.ENFILE: "too_many_files",
    errno.EACCES: "no_access",
    errno.EPERM: "no_access",
}


def _broken(error: OSError, where: str) -> Failure:
    import ssl  # noqa: PLC0415 -- 8 ms that plain HTTP need not spend

    if isinstance(error, ssl.SSLError):
        return transient("tls_broken", f"the encrypted connection to {where} broke: {_ssl_word(error)}")
    reason = _CONNECT_REASONS.get(error.errno or 0, "connection_reset")
    return transient(reason, f"no connection to {where}: {os.strerror(error.errno or errno.ECONNRESET)}")


def _broken_handshake(error: OSError, where: str) -> Failure:
    import ssl  # noqa: PLC0415 -- as above

    if isinstance(error, ssl.SSLCertVerificationError):
        return permanent(
            "tls_certificate",
            f"the certificate of {where} is not trusted: {error.verify_message}",
            hint="set SSL_CERT_FILE to the authority that signed it, or mend the server's certificate",
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        return transient("tls_broken", f"{where} hung up during the TLS handshake")
    return permanent("tls_error", f"no TLS with {where}: {_ssl_word(error)}")


def _ssl_word(error: "ssl.SSLError") -> str:
    return (error.reason or "unknown").replace("_", " ").lower()
