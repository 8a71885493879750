"""The door to httpx: a transport over our own sockets, one connection pool per floor and proxy.

httpx does URLs, header encoding and the HTTP grammar. Its client is left out: redirects, cookies, proxies from the
environment, content decoding and retries are each decided elsewhere in this package, and it would cost as much for a
small file as everything else. A pool never mixes
floors: a kept connection to a private address cannot serve a redirect that may only reach public ones. Imported late,
because httpx takes a tenth of a second.
"""

import threading
from collections.abc import Callable, Iterator

import httpcore
import httpx

from reconciler.adapters.fetch.budget import Budget
from reconciler.adapters.fetch.lean import Unusual
from reconciler.adapters.fetch.proxies import proxy_for
from reconciler.adapters.fetch.redirects import label_of, origin_of
from reconciler.adapters.fetch.scope import Scope
from reconciler.adapters.fetch.settings import Settings
from reconciler.adapters.fetch.tls import Trust
from reconciler.adapters.fetch.wire import Replay, Stream, Wire
from reconciler.core.errors import Failure, permanent, transient

_MAX_IDLE = 32
_IDLE_S = 15.0


class Transport(httpx.BaseTransport):
    """Sends requests over pools whose sockets are :class:`Wire`'s."""

    def __init__(self, settings: Settings, trust: Trust) -> None:
        self._settings = settings
        self._trust = trust
        self._wire = Wire()
        self._proxy_wire = Wire(is_proxy=True)
        self._pools: dict[tuple[Scope, str | None], httpcore.ConnectionPool] = {}
        self._has_tls = False
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; ``request.extensions["budget"]`` bounds it.

        Raises:
            Failure, httpcore's exceptions: see :func:`failure_of`.
        """
        budget: Budget = request.extensions["budget"]
        scheme, host, port = origin_of(str(request.url))
        proxy = proxy_for(scheme, host, port, self._settings.environment)
        pool = self._pool(budget.floor, proxy, scheme)
        url = httpcore.URL(
            scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
        )
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 -- tells the type checker
        sent = httpcore.Request(request.method, url, headers=request.headers.raw, content=request.stream)
        with self.spend(budget):
            return _response(pool.handle_request(sent))

    def take_over(self, request: httpx.Request, unusual: Unusual) -> httpx.Response:
        """Judge an answer to ``request`` that began elsewhere; see :mod:`.lean`. Its connection is not used again.

        Raises:
            Failure, httpcore's exceptions: see :func:`failure_of`.
        """
        line = unusual.line
        scheme, host, port = line.key[0]
        url = httpcore.URL(scheme=scheme, host=host, port=port, target=request.url.raw_path)
        stream = Replay(Stream(line.sock, self._wire, line.where), unusual.seen)
        connection = httpcore.HTTP11Connection(url.origin, stream)
        try:
            with self.spend(request.extensions["budget"]):
                response = connection.handle_request(httpcore.Request(request.method, url, headers=request.headers.raw))
        except BaseException:
            line.close()
            raise
        return _response(response, line.close)

    def spend(self, budget: Budget) -> "_Both":
        """Let the calling thread's waits, on every kind of socket, be bounded by ``budget``."""
        return _Both(self._wire, self._proxy_wire, budget)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.close()

    def _pool(self, floor: Scope, proxy: str | None, scheme: str) -> httpcore.ConnectionPool:
        with self._lock:
            pool = self._pools.get((floor, proxy))
            if pool is None:
                pool = self._pools[floor, proxy] = self._make_pool(proxy)
            if scheme == "https" and not self._has_tls:
                context, self._has_tls = self._trust.context(), True
                for each in self._pools.values():
                    each._ssl_context = context  # noqa: SLF001 -- reading the authorities costs 20 ms; http never needs it
            return pool

    def _make_pool(self, proxy: str | None) -> httpcore.ConnectionPool:
        tls = self._trust.context() if self._has_tls else None
        limits = {"max_connections": None, "max_keepalive_connections": _MAX_IDLE, "keepalive_expiry": _IDLE_S}
        if proxy is None:
            return httpcore.ConnectionPool(ssl_context=tls, network_backend=self._wire, **limits)  # type: ignore[arg-type]
        parts = httpx.URL(proxy)
        if parts.scheme not in {"http", "https"}:
            raise permanent("proxy_unsupported", f"a {parts.scheme} proxy is not supported: {label_of(proxy)}")
        auth = (parts.username.encode(), parts.password.encode()) if parts.username else None
        return httpcore.HTTPProxy(
            proxy_url=str(parts.copy_with(username=None, password=None)),
            proxy_auth=auth,
            ssl_context=tls,
            network_backend=self._proxy_wire,
            **limits,  # type: ignore[arg-type]
        )


class _Both:
    def __init__(self, wire: Wire, proxy_wire: Wire, budget: Budget) -> None:
        self._parts = (wire.spend(budget), proxy_wire.spend(budget))

    def __enter__(self) -> None:
        for part in self._parts:
            part.__enter__()

    def __exit__(self, *error: object) -> None:
        for part in self._parts:
            part.__exit__(None, None, None)


def _response(found: httpcore.Response, after: Callable[[], None] = lambda: None) -> httpx.Response:
    stream = _Stream(found, after)
    return httpx.Response(found.status, headers=found.headers, stream=stream, extensions=found.extensions)


class _Stream(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response, after: Callable[[], None]) -> None:
        self._response = response
        self._after = after

    def __iter__(self) -> Iterator[bytes]:
        stream = self._response.stream
        assert not isinstance(stream, bytes)  # noqa: S101 -- tells the type checker
        yield from stream  # type: ignore[misc]

    def close(self) -> None:
        self._response.close()
        self._after()


def failure_of(error: Exception, where: str) -> Failure:
    """What an exception of the libraries means; ``where`` is a label."""
    if isinstance(error, httpcore.RemoteProtocolError):
        return _broken_grammar(str(error), where)
    if isinstance(error, httpcore.ProxyError):
        if str(error).startswith("407"):
            return permanent("proxy_unauthorized", f"the proxy on the way to {where} wants credentials")
        status = str(error)[:3]  # what follows is the proxy's own text, and may hold what it was sent
        said = f" (HTTP {status})" if status.isdigit() else ""
        return transient("proxy_error", f"the proxy does not lead to {where}{said}")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpcore.LocalProtocolError | UnicodeError):
        return permanent("bad_url", f"{where} cannot be asked for: the URL or a header is not valid")
    return transient("connection_reset", f"the connection to {where} broke")


def _broken_grammar(text: str, where: str) -> Failure:
    if "without sending complete" in text or "incomplete chunked" in text:
        return transient("truncated", f"{where} ended before its announced length")
    if "without sending a response" in text:
        return transient("disconnected", f"{where} hung up without an answer")
    what = text.partition(":")[0][:80]  # after the colon the parser quotes the server, secrets and all
    return transient("malformed_answer", f"{where} does not speak proper HTTP: {what}")
