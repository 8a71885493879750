"""The door to httpx: a transport over our own sockets, one connection pool per floor and proxy.

httpx does URLs, header encoding and the HTTP grammar. Its client is left out: redirects, cookies, proxies from the
environment, content decoding and retries are each decided elsewhere in this package, and it would cost as much for a
small file as everything else. A pool never mixes
floors: a kept connection to a private address cannot serve a redirect that may only reach public ones. Imported late,
because httpx takes a tenth of a second.
"""

import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpcore
import httpx

from reconciler.adapters.fetch.budget import Budget
from reconciler.adapters.fetch.proxies import proxy_for
from reconciler.adapters.fetch.redirects import label_of, origin_of
from reconciler.adapters.fetch.scope import Scope
from reconciler.adapters.fetch.settings import Settings
from reconciler.adapters.fetch.wire import Wire
from reconciler.core.errors import Failure, permanent, transient

_MAX_IDLE = 32
_IDLE_S = 15.0


class Transport(httpx.BaseTransport):
    """Sends requests over pools whose sockets are :class:`Wire`'s."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wire = Wire()
        self._proxy_wire = Wire(is_proxy=True)
        self._pools: dict[tuple[Scope, str | None], httpcore.ConnectionPool] = {}
        self._tls: ssl.SSLContext | None = None
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
            response = pool.handle_request(sent)
        assert not isinstance(response.stream, bytes)  # noqa: S101 -- tells the type checker
        stream = _Stream(response)
        return httpx.Response(response.status, headers=response.headers, stream=stream, extensions=response.extensions)

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
            if scheme == "https" and self._tls is None:
                self._tls = tls_context(self._settings.environment)
                for each in self._pools.values():
                    each._ssl_context = self._tls  # noqa: SLF001 -- reading the authorities costs 20 ms; http never needs it
            return pool

    def _make_pool(self, proxy: str | None) -> httpcore.ConnectionPool:
        limits = {"max_connections": None, "max_keepalive_connections": _MAX_IDLE, "keepalive_expiry": _IDLE_S}
        if proxy is None:
            return httpcore.ConnectionPool(ssl_context=self._tls, network_backend=self._wire, **limits)  # type: ignore[arg-type]
        parts = httpx.URL(proxy)
        if parts.scheme not in {"http", "https"}:
            raise permanent("proxy_unsupported", f"a {parts.scheme} proxy is not supported: {label_of(proxy)}")
        auth = (parts.username.encode(), parts.password.encode()) if parts.username else None
        return httpcore.HTTPProxy(
            proxy_url=str(parts.copy_with(username=None, password=None)),
            proxy_auth=auth,
            ssl_context=self._tls,
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


class _Stream(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        stream = self._response.stream
        assert not isinstance(stream, bytes)  # noqa: S101 -- tells the type checker
        yield from stream  # type: ignore[misc]

    def close(self) -> None:
        self._response.close()


def tls_context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Who is trusted: SSL_CERT_FILE and SSL_CERT_DIR where set, else the system, else the bundled list.

    Raises:
        Failure: permanent; a named file or folder cannot be read.
    """
    file, folder = environment.get("SSL_CERT_FILE") or None, environment.get("SSL_CERT_DIR") or None
    if file or folder:
        try:
            return ssl.create_default_context(cafile=file, capath=folder)
        except OSError as error:
            place = file or folder
            raise permanent("tls_authorities", f"cannot read the authorities in {place}: {error.strerror}") from error
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not context.cert_store_stats()["x509_ca"] and not (paths.capath and any(Path(paths.capath).iterdir())):
        context.load_verify_locations(cafile=httpx.create_ssl_context.__globals__["certifi"].where())
    return context


def failure_of(error: Exception, where: str) -> Failure:
    """What an exception of the libraries means; ``where`` is a label."""
    if isinstance(error, httpcore.RemoteProtocolError):
        return _broken_grammar(str(error), where)
    if isinstance(error, httpcore.ProxyError):
        if str(error).startswith("407"):
            return permanent("proxy_unauthorized", f"the proxy on the way to {where} wants credentials")
        return transient("proxy_error", f"the proxy does not lead to {where}: {str(error)[:100]}")
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
