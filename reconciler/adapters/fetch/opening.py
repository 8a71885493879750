"""Ask for (the rest of) a file and judge the answer before a byte of it is used.

Every resuming request names its strong validator in ``If-Range``. What comes back is one of: the whole object, from its
start (also as the answer to a resume: the object changed, or the server knows no ranges); exactly the range asked for,
of the same object; or a failure. A wrong partial answer is never used, and the next request has no ``Range``.
"""

from dataclasses import replace

from reconciler.adapters.fetch import answers
from reconciler.adapters.fetch.client import Answer, Client, Headers, Question
from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.adapters.fetch.redirects import label_of, origin_of
from reconciler.adapters.fetch.scope import Scope
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.ports import CancelToken, FetchRequest, Location
from reconciler.core.records import dataclass

# What a signed URL that has expired is answered with, here and there.
EXPIRED = frozenset({"bad_request", "unauthorized", "forbidden", "not_found", "gone"})


class RedirectedFailure(Failure):
    """What a place that a redirect led to said: another redirect of the same origin may lead to a better one."""


class ObjectChangedError(Exception):
    """The object behind the URL is not the one whose first part is here: start over."""


class RangeRefusedError(Exception):
    """Ranges do not work here: start over without. ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Want:
    """Bytes ``start`` to ``end - 1`` of an object (end None: all that follow), known by ``validator``."""

    start: int = 0
    end: int | None = None
    validator: str = ""
    size_bytes: int | None = None

    @property
    def is_partial(self) -> bool:
        """Whether a range is asked for."""
        return self.start > 0 or self.end is not None


@dataclass(frozen=True, slots=True)
class Opened:
    """A body that starts at byte ``start`` and holds ``length`` bytes (None: until it ends)."""

    answer: Answer
    start: int
    length: int | None
    size_bytes: int | None  # of the whole object
    validator: str
    coding: str
    has_ranges: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where to ask: a URL, the secrets bound to its origin, and what redirects may not go below.

    ``is_watched``: whether the answer tells how the host does; one more beside others may be turned away.
    """

    url: str
    headers: Headers
    floor: Scope = Scope.LOCAL
    is_watched: bool = True

    @classmethod
    def of(cls, location: Location) -> "Place":
        """The place a source names."""
        return cls(location.url, location.headers)


def open_range(  # noqa: PLR0913, PLR0917 -- who asks whom for what, and what has come of it already
    client: Client,
    place: Place,
    want: Want,
    request: FetchRequest,
    cancel: CancelToken,
    now: float,
    begun: Answer | Failure | None = None,
) -> Opened:
    """Send the request, unless it was sent already, and judge its answer.

    Raises:
        Failure: sorted.
        ObjectChangedError: a 206 or 416 speaks of another object.
        RangeRefusedError: a 206 that is no proper answer, or a 416.
    """
    plain: Headers = ()
    if want.is_partial:
        last = "" if want.end is None else str(want.end - 1)
        guard = (("if-range", want.validator),) if want.validator else ()
        plain = (("range", f"bytes={want.start}-{last}"), *guard)
    timeout_s, is_small = request.timeout_s, is_known_small(request)
    question = Question(
        "GET", place.url, place.headers, plain, None, timeout_s, place.floor, place.is_watched, is_small
    )
    if isinstance(begun, Failure):
        raise begun
    answer = begun or client.open(question, cancel)
    try:
        return _judge(answer, want, request, now)
    except Failure as failure:
        answer.close()
        if place.is_watched:
            client.breaker.failed(origin_of(answer.url), failure)
        raise (failure if answer.url == place.url else _redirected(failure)) from failure.__cause__
    except BaseException:
        answer.close()
        raise


def _redirected(failure: Failure) -> RedirectedFailure:
    words = (failure.kind, failure.reason, failure.message)
    return RedirectedFailure(*words, hint=failure.hint, retry_after_s=failure.retry_after_s)


def is_known_small(request: FetchRequest) -> bool:
    """Whether the file is one that is better asked for without the library's cost; see :mod:`.lean`."""
    return request.likely_bytes is not None and request.likely_bytes <= CHUNK_BYTES


def _judge(answer: Answer, want: Want, request: FetchRequest, now: float) -> Opened:
    headers, url = answer.headers, answer.url
    if answer.status == 416 and want.is_partial:
        total = answers.unsatisfied_total(headers)
        if total is not None and want.size_bytes is not None and total != want.size_bytes:
            raise ObjectChangedError
        raise RangeRefusedError(answers.failure_of_status(416, headers, url))
    if not answers.is_success(answer.status):
        raise _failure_of_answer(answer, now)
    validator = answers.validator_of(headers)
    coding = answers.coding_of(headers)
    if answer.status == 206:
        span = _judge_span(answer, want, coding, is_proven=request.declared is not None)
        opened = Opened(answer, span.start, span.end - span.start, span.total, want.validator, coding, True)
    else:
        answers.check_whole(headers, url)
        length = answers.length_of(headers, url)
        has_ranges = "bytes" in headers.get("accept-ranges", "").lower() and bool(validator) and not coding
        opened = Opened(answer, 0, length, None if coding else length, validator, coding, has_ranges)
    _judge_content(opened, want, request)
    return opened


def _failure_of_answer(answer: Answer, now: float) -> Failure:
    """The failure that an answer's status stands for, with what of the server's words may be repeated."""
    from reconciler.adapters.fetch import quoting  # noqa: PLC0415 -- only where something failed

    try:
        said = answer.body.peek(quoting.MAX_BYTES)
    except Failure:
        said = b""
    secrets = answer.known_secrets()
    quote = "" if answers.is_html(answer.headers, "") else quoting.quote_of(said, secrets)
    label = label_of(answer.url)
    if answer.is_redirected and quoting.has_secret(label, secrets):  # a server may send a secret back as a path
        label = "{}://{}".format(*origin_of(answer.url))
    return answers.failure_of_status(answer.status, answer.headers, label, now=now, quote=quote)


def _judge_span(answer: Answer, want: Want, coding: str, *, is_proven: bool) -> answers.Span:
    """Without ``is_proven``, a declared digest that shows a mix, a part must name its object (RFC 9110, 15.3.7)."""
    headers, url = answer.headers, answer.url
    try:
        if not want.is_partial:
            raise answers.bad_range(url, "sends a part where the whole was asked for")
        span = answers.span_of(headers, url)
        if span.start != want.start or (want.end is not None and span.end > want.end):
            raise answers.bad_range(url, "sends another part than was asked for")
        if coding:
            raise answers.bad_range(url, f"sends a part of a {coding} coded object")
        _check_end(span, want, answer)
    except Failure as failure:
        raise RangeRefusedError(failure) from None
    told = headers.get("etag" if want.validator.startswith('"') else "last-modified", "").strip()
    if want.validator and not told and not is_proven:
        raise RangeRefusedError(answers.bad_range(url, "does not say of which version it sends a part"))
    is_other = want.validator and told not in {"", want.validator}
    if is_other or (span.total is not None and want.size_bytes is not None and span.total != want.size_bytes):
        raise ObjectChangedError
    return replace(span, total=span.total if span.total is not None else want.size_bytes)


def _check_end(span: answers.Span, want: Want, answer: Answer) -> None:
    """A part of the server's own choosing must say how many bytes its body has: nothing else tells what belongs to it.

    Raises:
        Failure: transient ``bad_range``; also where nobody knows whether the part reaches the object's end.
    """
    end = want.end or span.total or want.size_bytes
    if end is None:
        raise answers.bad_range(answer.url, "does not tell how long the whole is")
    if span.end < end and answers.length_of(answer.headers, answer.url) is None:
        raise answers.bad_range(answer.url, "sends less than was asked for, and not as long as it says")


def _judge_content(opened: Opened, want: Want, request: FetchRequest) -> None:
    """Raises what the header alone shows: a page, a coding, a wrong size, too much."""
    answer = opened.answer
    url, size = answer.url, opened.size_bytes
    is_known = request.declared is not None or request.is_listed
    is_other = _differs(size, request.likely_bytes) or _differs(size, want.size_bytes)
    if answers.is_html(answer.headers, request.path) and (is_other or not is_known):
        raise page_failure(url, has_left_host=answer.has_left_host)
    if opened.coding and (request.declared is None or _differs(opened.length, request.size_bytes)):
        raise coded_failure(url, opened.coding)
    if size is not None and _differs(size, request.size_bytes):
        raise size_failure(label_of(url), size, request)
    if size is not None and request.limit_bytes is not None and size > request.limit_bytes:
        raise too_large(url, request)
    is_endless = size is None and not answer.body.is_framed
    if is_endless and request.declared is None and request.likely_bytes is None:
        raise permanent(
            "length_unknown",
            f"{label_of(url)} does not say how long the file is, so that a cut-off one would not show",
            hint="declare the model's sha256 or size",
        )


def _differs(found: int | None, told: int | None) -> bool:
    return found is not None and told is not None and found != told


def page_failure(url: str, *, has_left_host: bool) -> Failure:
    """A page for people came in place of the file."""
    if has_left_host:
        return transient(
            "captive_portal", f"a page at {label_of(url)} came in place of the file", hint="log in to this network"
        )
    return permanent(
        "html_instead_of_model",
        f"{label_of(url)} is a page, not a file",
        hint="use the link of the file itself, not of its page",
    )


def coded_failure(url: str, coding: str) -> Failure:
    """The server coded the content although it was asked not to."""
    return permanent("content_coded", f"{label_of(url)} sends the file {coding} coded, which was not asked for")


def size_failure(label: str, size_bytes: int, request: FetchRequest) -> Failure:
    """The object is not as large as was declared."""
    text = f"{label} holds {size_bytes} bytes, and {request.size_bytes} were declared"
    return permanent("size_mismatch", text, hint="correct the model's size, or its source")


def too_large(url: str, request: FetchRequest) -> Failure:
    """The object is over the request's limit: for good where nobody can tell its size, else it is planned for anew."""
    text = f"{label_of(url)} is larger than the {request.limit_bytes} bytes there is room for"
    hint = "declare the model's size, or raise cache.maxSize"
    return (permanent if request.expected_bytes is None else transient)("too_large", text, hint=hint)


def unsteady(label: str, again: ObjectChangedError | RangeRefusedError) -> Failure:
    """The failure where starting over has not helped."""
    if isinstance(again, RangeRefusedError):
        return again.failure
    return transient("object_changed", f"{label} keeps changing while it is fetched")
