"""Ask for (the rest of) a file and judge the answer before a byte of it is used.

Every resuming request names its strong validator in ``If-Range``. What comes back is one of: the whole object, from its
start (also as the answer to a resume: the object changed, or the server knows no ranges); exactly the range asked for,
of the same object; or a failure. A wrong partial answer is never used, and the next request has no ``Range``.
"""

from dataclasses import dataclass, replace

from reconciler.adapters.fetch import answers
from reconciler.adapters.fetch.client import Answer, Client, Headers, Question, failure_of_answer, secrets_of
from reconciler.adapters.fetch.redirects import label_of
from reconciler.adapters.fetch.scope import Scope
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.ports import CancelToken, FetchRequest, Location


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
    """Where to ask: a URL, the secrets bound to its origin, and what redirects may not go below."""

    url: str
    headers: Headers
    floor: Scope = Scope.LOCAL

    @classmethod
    def of(cls, location: Location) -> "Place":
        """The place a source names."""
        return cls(location.url, location.headers)


def open_range(
    client: Client, place: Place, want: Want, request: FetchRequest, cancel: CancelToken, now: float
) -> Opened:
    """Send the request and judge its answer.

    Raises:
        Failure: sorted.
        ObjectChangedError: a 206 or 416 speaks of another object.
        RangeRefusedError: a 206 that is no proper answer, or a 416.
    """
    plain: Headers = ()
    if want.is_partial:
        last = "" if want.end is None else str(want.end - 1)
        plain = (("range", f"bytes={want.start}-{last}"), ("if-range", want.validator))
    question = Question("GET", place.url, place.headers, plain, timeout_s=request.timeout_s, floor=place.floor)
    answer = client.open(question, cancel)
    try:
        return _judge(answer, want, request, secrets_of(place.headers, (place.url, answer.url)), now)
    except BaseException:
        answer.close()
        raise


def _judge(answer: Answer, want: Want, request: FetchRequest, secrets: tuple[str, ...], now: float) -> Opened:
    headers, url = answer.headers, answer.url
    if answer.status == 416 and want.is_partial:
        total = answers.unsatisfied_total(headers)
        if total is not None and want.size_bytes is not None and total != want.size_bytes:
            raise ObjectChangedError
        raise RangeRefusedError(answers.failure_of_status(416, headers, url))
    if not answers.is_success(answer.status):
        raise failure_of_answer(answer, secrets, now)
    validator = answers.validator_of(headers)
    coding = answers.coding_of(headers)
    if answer.status == 206:
        span = _judge_span(answer, want, coding)
        opened = Opened(answer, span.start, span.end - span.start, span.total, want.validator, coding, True)
    else:
        length = answers.length_of(headers, url)
        has_ranges = "bytes" in headers.get("accept-ranges", "").lower() and bool(validator) and not coding
        opened = Opened(answer, 0, length, None if coding else length, validator, coding, has_ranges)
    _judge_content(opened, request)
    return opened


def _judge_span(answer: Answer, want: Want, coding: str) -> answers.Span:
    headers, url = answer.headers, answer.url
    try:
        if not want.is_partial:
            raise answers.bad_range(url, "sends a part where the whole was asked for")
        span = answers.span_of(headers, url)
        if span.start != want.start or (want.end is not None and span.end > want.end):
            raise answers.bad_range(url, "sends another part than was asked for")
        if coding:
            raise answers.bad_range(url, f"sends a part of a {coding} coded object")
    except Failure as failure:
        raise RangeRefusedError(failure) from None
    told = headers.get("etag" if want.validator.startswith('"') else "last-modified", "").strip()
    is_other = bool(told) and bool(want.validator) and told != want.validator
    if is_other or (span.total is not None and want.size_bytes is not None and span.total != want.size_bytes):
        raise ObjectChangedError
    return replace(span, total=span.total if span.total is not None else want.size_bytes)


def _judge_content(opened: Opened, request: FetchRequest) -> None:
    """Raises what the header alone shows: a page, a coding, a wrong size, too much."""
    answer = opened.answer
    url, size = answer.url, opened.size_bytes
    differs = size is not None and request.size_bytes is not None and size != request.size_bytes
    if answers.is_html(answer.headers, request.path) and (differs or request.digest is None):
        raise page_failure(url, has_left_host=answer.has_left_host)
    if opened.coding and (request.digest is None or _coded_size_differs(opened, request)):
        raise coded_failure(url, opened.coding)
    if differs:
        raise permanent(
            "size_mismatch",
            f"{label_of(url)} holds {size} bytes, the manifest says {request.size_bytes}",
            hint="correct the model's size, or its source",
        )
    if size is not None and request.limit_bytes is not None and size > request.limit_bytes:
        raise too_large(url, request.limit_bytes)
    if not answer.body.is_framed and request.digest is None and request.size_bytes is None:
        raise permanent(
            "length_unknown",
            f"{label_of(url)} does not say how long the file is, so that a cut-off one would not show",
            hint="declare the model's sha256 or size",
        )


def _coded_size_differs(opened: Opened, request: FetchRequest) -> bool:
    return opened.length is not None and request.size_bytes is not None and opened.length != request.size_bytes


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


def too_large(url: str, limit_bytes: int) -> Failure:
    """The object is over the request's limit."""
    return permanent(
        "too_large",
        f"{label_of(url)} is larger than the {limit_bytes} bytes there is room for",
        hint="declare the model's size, or raise cache.maxSize",
    )


def unsteady(label: str, again: ObjectChangedError | RangeRefusedError) -> Failure:
    """The failure where starting over has not helped."""
    if isinstance(again, RangeRefusedError):
        return again.failure
    return transient("object_changed", f"{label} keeps changing while it is fetched")
