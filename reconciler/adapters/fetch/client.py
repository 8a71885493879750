"""The HTTP client: opens answers, walks redirects, keeps secrets with their origin.

One :class:`Client` serves the download engine (:meth:`Client.open`, a body to be pulled) and the sources
(:meth:`Client.ask`, a small answer read whole). Header names of answers are lower case; several of one name are joined
by a comma, which makes a doubled ``ETag`` or ``Content-Range`` fail its check instead of hiding.
"""

import threading
import time
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reconciler.adapters.fetch import answers
from reconciler.adapters.fetch.body import Body
from reconciler.adapters.fetch.budget import Budget
from reconciler.adapters.fetch.redirects import MAX_REDIRECTS, REDIRECTS, keep_headers, label_of, next_url, origin_of
from reconciler.adapters.fetch.scope import Scope, scope_of_address, scope_of_host
from reconciler.adapters.fetch.settings import Settings
from reconciler.core.errors import Failure, refused, transient
from reconciler.core.ports import CancelToken, HttpAnswer

if TYPE_CHECKING:
    import httpx

    from reconciler.adapters.fetch.transport import Transport

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a URL.

    ``secrets`` are headers bound to the URL's origin; ``plain`` go along on every redirect (``Range``, ``If-Range``).
    ``timeout_s`` bounds connecting, TLS, the answer's header and its first byte, over all redirects.
    """

    method: str
    url: str
    secrets: Headers = ()
    plain: Headers = ()
    body: bytes | None = None
    timeout_s: float = 30.0
    floor: Scope = Scope.LOCAL


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

    def close(self) -> None:
        """Give the connection back where the body was read to its end, else close it."""
        self.body.close()


class Client:
    """See the module."""

    def __init__(self, settings: Settings, cancel: CancelToken | None = None) -> None:
        self._settings = settings
        self._cancel = cancel or threading.Event()
        self._lock = threading.Lock()
        self._made: Transport | None = None

    def open(self, question: Question, cancel: CancelToken) -> Answer:
        """Send the request and walk its redirects.

        Raises:
            Failure: transient for network faults, refused for an unsafe redirect. Any status is an answer.
        """
        deadline = time.monotonic() + question.timeout_s
        scope: Scope | None = None
        first = question
        for _ in range(MAX_REDIRECTS + 1):
            budget = Budget(deadline, cancel, question.floor)
            response = self._send(question, budget)
            scope = max(question.floor, self._scope_of(question.url, response)) if scope is None else scope
            headers = _plain_headers(response.headers.raw)
            if response.status_code not in REDIRECTS:
                body = Body(response, self._transport(), budget, label_of(question.url), question.timeout_s)
                has_left = origin_of(first.url)[1] != origin_of(question.url)[1]
                return Answer(response.status_code, headers, question.url, question.secrets, scope, has_left, body)
            response.close()
            question = _follow(question, response.status_code, headers.get("location"), scope)
        raise transient("too_many_redirects", f"{label_of(first.url)} redirects more than {MAX_REDIRECTS} times")

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
        """Send one request and read the answer whole, whatever its status.

        Raises:
            Failure: transient for network faults, refused for an unsafe redirect, permanent ``too_large``.
        """
        question = Question(method.upper(), url, tuple(headers), (), body, timeout_s)
        answer = self.open(question, self._cancel)
        try:
            content = b"" if method.upper() == "HEAD" else answer.body.read_all(max_bytes)
        finally:
            answer.close()
        return HttpAnswer(answer.status, answer.headers, content, answer.url)

    def close(self) -> None:
        """Close idle connections; the client can still be used."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _transport(self) -> "Transport":
        with self._lock:
            if self._made is None:
                from reconciler.adapters.fetch.transport import Transport  # noqa: PLC0415 -- httpx is slow to import

                self._made = Transport(self._settings)
            return self._made

    def _send(self, question: Question, budget: Budget) -> "httpx.Response":
        import httpcore  # noqa: PLC0415 -- slow to import
        import httpx  # noqa: PLC0415 -- slow to import

        from reconciler.adapters.fetch.transport import failure_of  # noqa: PLC0415 -- slow to import

        transport = self._transport()
        origin_of(question.url)
        given = (*question.plain, *question.secrets)
        names = {name.lower() for name, _ in given}
        ours = (("user-agent", self._settings.user_agent), ("accept-encoding", "identity"))
        headers = [*(header for header in ours if header[0] not in names), *given]
        for is_last in (False, True):
            budget.is_fresh = False
            try:
                request = httpx.Request(
                    question.method,
                    question.url,
                    headers=headers,
                    content=question.body,
                    extensions={"budget": budget},
                )
                return transport.handle_request(request)
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

    def _scope_of(self, url: str, response: "httpx.Response") -> Scope:
        host = origin_of(url)[1]
        literal = scope_of_host(host)
        if literal is not None:
            return literal
        stream: Any = response.extensions.get("network_stream")
        is_direct = getattr(stream, "where", "").startswith(f"{host}:")
        return scope_of_address(str(stream.get_extra_info("server_addr")[0])) if is_direct else Scope.PUBLIC


def _is_stale(error: Exception) -> bool:
    return "without sending a response" in str(error) or type(error).__name__ in {"ReadError", "WriteError"}


def _plain_headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("ascii", "replace").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _follow(question: Question, status: int, location: str | None, floor: Scope) -> Question:
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


def secrets_of(headers: Headers, urls: Sequence[str]) -> tuple[str, ...]:
    """Every text that must not be printed: header values, what they are made of, query strings."""
    found: list[str] = []
    for _, value in headers:
        found += [value, *value.split()]
        found += _decoded(value)
    for url in urls:
        query = url.partition("?")[2]
        found += [query, *(part.partition("=")[2] for part in query.split("&"))]
    return tuple(text for text in found if len(text) > 5)


def _decoded(value: str) -> list[str]:
    scheme, _, code = value.partition(" ")
    if scheme.lower() != "basic":
        return []
    try:
        text = b64decode(code).decode()
    except ValueError:
        return []
    return [text, text.partition(":")[2]]


def failure_of_answer(answer: Answer, secrets: tuple[str, ...], now: float) -> Failure:
    """The failure that an answer's status stands for, with what the server said, cleaned."""
    said: Any = b""
    try:
        said = answer.body.peek(2048)
    except Failure:
        said = b""
    quote = "" if answers.is_html(answer.headers, "") else answers.clean_quote(said, secrets)
    return answers.failure_of_status(answer.status, answer.headers, answer.url, now=now, quote=quote)
