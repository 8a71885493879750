"""What an answer's status and header say, judged before a byte of its body is used. Pure.

Every client we measured takes a truncated body, a coded body or the wrong range in silence; here each of these has a
reason of its own. A malformed answer is transient and never used (RFC 9110 is the measure).
"""

import re
from collections.abc import Mapping
from datetime import datetime

from reconciler.adapters.fetch.redirects import REDIRECTS, label_of
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.records import dataclass

MAX_RETRY_AFTER_S = 900.0
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,19})", re.IGNORECASE)
_STRONG_AGE_S = 60.0  # RFC 9110 8.8.2.2: a date is a strong validator once it is this much older than the answer
HEAD_BYTES = 4000  # of a file, that show whether it is a page; less than direct I/O would want aligned memory for
_PROLOG = re.compile(r"[\ufeff\xef\xbb\xbf\s]*(?:<!--.*?-->|<\?xml[^>]{0,200}\?>)", re.IGNORECASE | re.DOTALL)
_PAGE = re.compile(r"[\ufeff\xef\xbb\xbf\s]*<(?:!doctype\s+html|html|head|title|meta|script|body)\b", re.IGNORECASE)
_CODINGS = frozenset({"gzip", "x-gzip", "br", "zstd", "deflate", "compress", "aws-chunked", "dcb", "dcz"})

_PERMANENT = {
    400: ("bad_request", "says the request is malformed"),
    401: ("unauthorized", "wants credentials"),
    402: ("payment_required", "wants a payment"),
    403: ("forbidden", "forbids it"),
    404: ("not_found", "does not have it"),
    405: ("method_not_allowed", "does not allow reading it"),
    406: ("not_acceptable", "has it in no form that we take"),
    407: ("proxy_unauthorized", "cannot be reached: the proxy wants credentials"),
    410: ("gone", "says it is gone for good"),
    414: ("bad_request", "says the URL is too long"),
    431: ("bad_request", "says the request's header is too large"),
    451: ("unavailable_for_legal_reasons", "may not give it out, for legal reasons"),
}
_TRANSIENT = {
    408: ("request_timeout", "gave up waiting"),
    421: ("misdirected", "is the wrong server"),
    423: ("locked", "has it locked"),
    425: ("too_early", "says it is too early"),
    429: ("rate_limited", "says we ask too often"),
    511: ("captive_portal", "is behind a network that wants a log-in"),
}
_HINTS = {
    "unauthorized": "give credentials for this host under network.credentials",
    "forbidden": "check that the credentials for this host may read it",
    "gated": "accept its terms at the hub, and set HF_TOKEN",
    "not_found": "check the source's path and revision",
    "captive_portal": "log in to this network",
}
# What a status stands for, however it is sorted.
STATUS_REASONS = frozenset(reason for reason, _ in (*_PERMANENT.values(), *_TRANSIENT.values())) | {
    "server_error",
    "client_error",
    "gated",
    "unexpected_status",
}


def is_success(status: int) -> bool:
    """Whether the status means that a body with the file follows."""
    return status in {200, 206}


def failure_of_status(
    status: int, headers: Mapping[str, str], url: str, *, now: float = 0.0, quote: str = ""
) -> Failure:
    """The failure a status stands for; ``quote`` is what the server said, already clean."""
    reason, text, is_transient = _word_of_status(status)
    if headers.get("x-error-code") == "GatedRepo":  # a hub may list openly what it gives only to some
        reason, text, is_transient = "gated", "is gated", False
    said = f': "{quote}"' if quote else ""
    message = f"{label_of(url)} {text} (HTTP {status}){said}"
    hint = _HINTS.get(reason, "")
    if is_transient:
        return transient(reason, message, hint=hint, retry_after_s=retry_after_s(headers.get("retry-after"), now))
    return permanent(reason, message, hint=hint)


def _word_of_status(status: int) -> tuple[str, str, bool]:
    if status in _PERMANENT:
        return *_PERMANENT[status], False
    if status in _TRANSIENT:
        return *_TRANSIENT[status], True
    if status in REDIRECTS:  # one that could be followed never comes here
        return "malformed_answer", "redirects nowhere", True
    if status >= 500:
        return "server_error", "has a fault of its own", True
    if status >= 400:
        return "client_error", "does not answer this request", False
    return "unexpected_status", "answers with a status that makes no sense here", True


def retry_after_s(value: str | None, now: float) -> float | None:
    """Seconds to wait, from seconds or a date; never negative, never over 15 minutes; None where unreadable.

    Of several header lines, which come joined by a comma, the largest number of seconds counts.
    """
    if value is None:
        return None
    text = value.strip()
    several = [part.strip() for part in text.split(",")]
    if all(part.isascii() and part.isdigit() for part in several):
        text = max(several, key=lambda part: float(part[:12]))
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), MAX_RETRY_AFTER_S)
    try:
        wait_s = _moment(text).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def validator_of(headers: Mapping[str, str]) -> str:
    """A strong validator fit for ``If-Range``: a strong ETag, else a Last-Modified old enough; else empty.

    A weak ETag says nothing against the date beside it: that is strong or not by its age alone (RFC 9110, 8.8.2.2).
    """
    etag = headers.get("etag", "").strip()
    if len(etag) > 2 and etag[0] == etag[-1] == '"' and '"' not in etag[1:-1]:
        return etag
    modified, date = headers.get("last-modified", ""), headers.get("date", "")
    if not modified or not date:
        return ""
    try:
        age_s = (_moment(date) - _moment(modified)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return ""
    return modified if age_s >= _STRONG_AGE_S else ""


def _moment(text: str) -> datetime:
    """An HTTP date."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 -- 5 ms, and most answers bring a strong ETag

    return parsedate_to_datetime(text)


def length_of(headers: Mapping[str, str], url: str) -> int | None:
    """The body's length; None where it is chunked or ends with the connection.

    Raises:
        Failure: transient; the header contradicts itself.
    """
    text = headers.get("content-length")
    if text is None:
        return None
    if "transfer-encoding" in headers or not (text.isascii() and text.isdigit() and len(text) < 20):
        raise transient("malformed_answer", f"{label_of(url)} gives a length that makes no sense")
    return int(text)


def coding_of(headers: Mapping[str, str]) -> str:
    """The content coding a server put on although none was asked for; empty for the bytes as they are."""
    coding = headers.get("content-encoding", "").strip().lower()
    if coding in {"", "identity"}:
        return ""
    return coding if coding in _CODINGS else "strangely"  # told to people: not a word that a server made up


def is_html(headers: Mapping[str, str], path: str) -> bool:
    """Whether the answer is a page for people where a file was asked for."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"} and not path.lower().endswith((".html", ".htm", ".xhtml"))


def looks_like_html(head: bytes) -> bool:
    """Whether the first bytes open a page, after comments and an XML prolog."""
    wide = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(head[:2])
    text = head.decode(wide or "latin-1", "replace") if wide or b"<" in head[:64] else ""
    at = 0
    while (skipped := _PROLOG.match(text, at)) is not None:
        at = skipped.end()
    return _PAGE.match(text, at) is not None


@dataclass(frozen=True, slots=True)
class Span:
    """A run of bytes of the object, end exclusive; ``total`` is the object's size where told."""

    start: int
    end: int
    total: int | None


def span_of(headers: Mapping[str, str], url: str) -> Span:
    """What a 206 says it holds.

    Raises:
        Failure: transient ``bad_range``.
    """
    match = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if match is None:
        raise bad_range(url, "names no single range")
    start, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < start or (total is not None and last >= total):
        raise bad_range(url, "names a range that cannot be")
    length = length_of(headers, url)
    if length is not None and length != last - start + 1:
        raise bad_range(url, "names a range that is not as long as its body")
    return Span(start, last + 1, total)


def check_whole(headers: Mapping[str, str], url: str) -> None:
    """Whether what is said to be the whole is not said to be a part as well.

    Raises:
        Failure: transient ``bad_range``.
    """
    match = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if match is not None and not (int(match[1]) == 0 and match[3] in {"*", str(int(match[2]) + 1)}):
        raise bad_range(url, "calls a part of the file the whole")


def bad_range(url: str, text: str) -> Failure:
    """A partial answer that must not be used."""
    return transient("bad_range", f"{label_of(url)} answers a range request wrongly: it {text}")


def unsatisfied_total(headers: Mapping[str, str]) -> int | None:
    """The object's size as a 416 tells it."""
    match = _UNSATISFIED.fullmatch(headers.get("content-range", "").strip())
    return int(match[1]) if match else None
