"""The HTTP client: opens answers, walks redirects, keeps secrets with their origin.

One :class:`Client` serves the download engine (:meth:`Client.open`, a body to be pulled) and the sources
(:meth:`Client.ask`, a small answer read whole). Header names of answers are lower case; several of one name are joined
by a comma, which makes a doubled ``ETag`` or ``Content-Range`` fail its check instead of hiding.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from reconciler.adapters.fetch.body import Body
from reconciler.adapters.fetch.breaker import Breaker
from reconciler.adapters.fetch.budget import Budget
from reconciler.adapters.fetch.lean import Lean, Reply, Request, Unusual, joined, request_of
from reconciler.adapters.fetch.proxies import proxy_for
from reconciler.adapters.fetch.redirects import MAX_REDIRECTS, REDIRECTS, keep_headers, label_of, next_url, origin_of
from reconciler.adapters.fetch.scope import Scope, scope_of_address, scope_of_host
from reconciler.adapters.fetch.settings import Settings
from reconciler.adapters.fetch.tls import Trust
from reconciler.core.errors import Failure, refused, transient
from reconciler.core.ports import CancelToken, HttpAnswer
from reconciler.core.records import dataclass

if TYPE_CHECKING:
    import httpx

    from reconciler.adapters.fetch.transport import Transport

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a URL.

    ``secrets`` are headers bound to the URL's origin; ``plain`` go along on every redirect (``Range``, ``If-Range``).
    ``timeout_s`` bounds connecting, TLS, the answer's header and its first byte, over all redirects. Where
    ``is_watched``, the breaker of each hop's origin is asked before, and hears how it went.
    """

    method: str
    url: str
    secrets: Headers = ()
    plain: Headers = ()
    body: bytes | None = None
    timeout_s: float = 30.0
    floor: Scope = Scope.LOCAL
    is_watched: bool = True
    is_small: bool = (
        False  # a small file is expected: as for a HEAD, the library is asked only where its answer is unusual
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body is still on the wire; close it."""

    status: int
    headers: dict[str, str]
    url: str  # after redirects
    secrets: Headers  # those that still belong to ``url``
    scope: Scope  # of the first hop: what later redirects may not go below
    has_left_host: bool
    body: Body
    is_redirected: bool
    known_secrets: Callable[[], frozenset[str]]  # of all hops, and the proxy's: not to be printed

    def close(self) -> None:
        """Give the connection back where the body was read to its end, else close it."""
        self.body.close()


class Client:
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.ask_timeout_s = settings.ask_timeout_s  # for each question of a source, at most
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_pause_s)
        self._lock = threading.Lock()
        self._trust = Trust(settings.environment)
        self._lean = Lean(self._trust)
        self._made: Transport | None = None

    def open(self, question: Question, cancel: CancelToken) -> Answer:
        """Send the request and walk its redirects.

        Raises:
            Failure: transient for network faults, refused for an unsafe redirect. Any status is an answer.
        """
        deadline = time.monotonic() + question.timeout_s
        scope: Scope | None = None
        first, hops = question, [question.url]
        for _ in range(MAX_REDIRECTS + 1):
            budget = Budget(deadline, cancel, question.floor)
            budget.slice_s(label_of(question.url))  # nothing is asked any more where the time is up
            response = self._hop(question, budget)
            scope = max(question.floor, self._scope_of(question.url, response)) if scope is None else scope
            headers = response.headers if isinstance(response, Reply) else joined(response.headers.raw)
            if response.status_code not in REDIRECTS or "location" not in headers:
                body = self._body(response, budget, question)
                has_left = origin_of(first.url)[1] != origin_of(question.url)[1]
                known = partial(self._known_secrets, first, hops)
                left = question.secrets
                how = (scope, has_left, body, len(hops) > 1, known)
                return Answer(response.status_code, headers, question.url, left, *how)
            response.close()
            question = _follow(question, response.status_code, headers["location"], scope)
            hops.append(question.url)
        raise transient("too_many_redirects", f"{label_of(first.url)} redirects more than {MAX_REDIRECTS} times")

    def ask(  # noqa: PLR0913 -- what the port has, and the token
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        max_bytes: int = 16 << 20,
        timeout_s: float = 30.0,
        cancel: CancelToken | None = None,
    ) -> HttpAnswer:
        """Send one request and read the answer whole, whatever its status.

        Raises:
            Failure: transient for network faults or where ``cancel`` is set, refused for an unsafe redirect, permanent
                ``too_large``.
        """
        bound_s = min(timeout_s, self.ask_timeout_s)
        question = Question(method.upper(), url, tuple(headers), (), body, bound_s)
        answer = self.open(question, cancel or threading.Event())
        try:
            content = answer.body.read_all(max_bytes)  # of a HEAD too: only a read answer gives its connection back
        finally:
            answer.close()
        return HttpAnswer(answer.status, answer.headers, content, answer.url)

    def close(self) -> None:
        """Close idle connections; the client can still be used."""
        self._lean.close()
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _transport(self) -> "Transport":
        with self._lock:
            if self._made is None:
                from reconciler.adapters.fetch.transport import Transport  # noqa: PLC0415 -- httpx is slow to import

                self._made = Transport(self._settings, self._trust)
            return self._made

    def _hop(self, question: Question, budget: Budget) -> "httpx.Response | Reply":
        if not question.is_watched:
            return self._send(question, budget)
        origin = origin_of(question.url)
        self.breaker.enter(origin)
        try:
            response = self._send(question, budget)
        except Failure as failure:
            self.breaker.failed(origin, failure)
            raise
        if response.status_code < 500:
            self.breaker.succeeded(origin)
        else:  # many a server knows no HEAD: whoever asked judges
            self.breaker.told_nothing(origin)
        return response

    def _send(self, question: Question, budget: Budget) -> "httpx.Response | Reply":
        origin_of(question.url)
        given = (*question.plain, *question.secrets)
        names = {name.lower() for name, _ in given}
        ours = (("user-agent", self._settings.user_agent), ("accept-encoding", "identity"))
        headers = [*(header for header in ours if header[0] not in names), *given]
        small = self._small_request(question, headers)
        if small is None:
            return self._send_by_library(question, headers, budget)
        try:
            return self._lean.send(small, budget)
        except Unusual as unusual:
            return self._send_by_library(question, headers, budget, unusual)

    def _small_request(self, question: Question, headers: list[tuple[str, str]]) -> Request | None:
        is_lean = question.method == "HEAD" or (question.is_small and question.method == "GET")
        if not is_lean or question.body is not None:
            return None
        if proxy_for(*origin_of(question.url), self._settings.environment) is not None:
            return None
        return request_of(question.method, question.url, headers)

    def _send_by_library(
        self, question: Question, headers: list[tuple[str, str]], budget: Budget, unusual: Unusual | None = None
    ) -> "httpx.Response":
        import httpcore  # noqa: PLC0415 -- slow to import
        import httpx  # noqa: PLC0415 -- slow to import

        from reconciler.adapters.fetch.transport import failure_of  # noqa: PLC0415 -- slow to import

        transport = self._transport()
        for is_last in (False, True):
            budget.is_fresh = unusual is not None
            try:
                request = httpx.Request(
                    question.method,
                    question.url,
                    headers=headers,
                    content=question.body,
                    extensions={"budget": budget},
                )
                return transport.take_over(request, unusual) if unusual else transport.handle_request(request)
            except Failure as failure:
                if is_last or budget.is_fresh or failure.reason != "connection_reset":
                    raise
            except (httpx.InvalidURL, httpx.HTTPError, UnicodeError) as error:
                raise failure_of(error, label_of(question.url)) from error
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
                # A kept connection that the server has closed meanwhile tells nothing about the server: once more.
                if is_last or budget.is_fresh or not _is_stale(error):
                    raise failure_of(error, label_of(question.url)) from error
        raise AssertionError("unreachable")

    def _body(self, response: "httpx.Response | Reply", budget: Budget, question: Question) -> Body:
        carrier: Any = response if isinstance(response, Reply) else self._transport()
        return Body(cast("httpx.Response", response), carrier, budget, label_of(question.url), question.timeout_s)

    def _known_secrets(self, first: Question, hops: Sequence[str]) -> frozenset[str]:
        from reconciler.adapters.fetch import quoting  # noqa: PLC0415 -- only where a server's words are told

        environment = self._settings.environment
        proxies = (proxy_for(*origin_of(url), environment) for url in hops)
        return quoting.secrets_of(first.secrets, (*hops, *filter(None, proxies)))

    def _scope_of(self, url: str, response: "httpx.Response | Reply") -> Scope:
        host = origin_of(url)[1]
        literal = scope_of_host(host)
        if literal is not None:
            return literal
        stream: Any = response.extensions.get("network_stream")
        is_direct = getattr(stream, "where", "").startswith(f"{host}:")
        return scope_of_address(str(stream.get_extra_info("server_addr")[0])) if is_direct else Scope.PUBLIC


@dataclass(frozen=True, slots=True)
class Asking:
    """The client for sources, whose questions end with the pass that they are asked for."""

    client: Client
    cancel: CancelToken

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        max_bytes: int = 16 << 20,
        timeout_s: float = 30.0,
    ) -> HttpAnswer:
        """See :meth:`Client.ask`."""
        return self.client.ask(
            method, url, headers=headers, body=body, max_bytes=max_bytes, timeout_s=timeout_s, cancel=self.cancel
        )


def _is_stale(error: Exception) -> bool:
    return "without sending a response" in str(error) or type(error).__name__ in {"ReadError", "WriteError"}


def _follow(question: Question, status: int, location: str, floor: Scope) -> Question:
    target = next_url(question.url, location)
    literal = scope_of_host(origin_of(target)[1])
    if literal is not None and literal < floor:
        raise refused(
            "unsafe_redirect",
            f"{label_of(question.url)} redirects to {label_of(target)}, which reaches less far than the source",
            hint="name that address as a source in the manifest where it is meant",
        )
    secrets = keep_headers(question.secrets, question.url, target)
    becomes_get = status == 303 and question.method != "HEAD"
    if question.body is not None and not becomes_get and origin_of(question.url) != origin_of(target):
        raise refused("unsafe_redirect", f"{label_of(question.url)} redirects a request with content elsewhere")
    method, body = ("GET", None) if becomes_get else (question.method, question.body)
    return replace(question, method=method, body=body, url=target, secrets=secrets, floor=floor)
