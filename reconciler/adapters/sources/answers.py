"""What an origin's answer means: statuses sorted into failures, bodies parsed within bounds.

Nothing an origin writes is quoted in a message except its short error codes: a page of text may echo a secret.
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.ports import HttpAnswer

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_RETRY_AFTER_S = 900.0

# status: (reason, what it is called, hint)
_PERMANENT: Mapping[int, tuple[str, str, str]] = {
    400: ("bad_request", "does not understand the request", "check the source"),
    401: ("unauthorized", "wants credentials", "give them under network.credentials or by the environment"),
    403: ("forbidden", "does not allow it", "check that the credentials may read this"),
    404: ("not_found", "has nothing there", "check the source"),
    410: ("gone", "says it is gone for good", "name another source"),
}
_TRANSIENT: Mapping[int, tuple[str, str]] = {
    408: ("request_timeout", "waited too long for the request"),
    425: ("too_early", "wants to be asked later"),
    429: ("rate_limited", "was asked too often"),
    511: ("captive_portal", "is behind a network that wants a log-in"),
}
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,60}")


def sort_status(answer: HttpAnswer, label: str) -> Failure:
    """The failure that a status which is no success stands for.

    Args:
        answer: what came.
        label: what was asked for, fit for people.
    """
    status = answer.status
    if status in _PERMANENT:
        reason, words, hint = _PERMANENT[status]
        return permanent(reason, f"{label}: the server {words} (HTTP {status})", hint=hint)
    floor = retry_after_s(answer.headers)
    if status in _TRANSIENT:
        reason, words = _TRANSIENT[status]
        return transient(reason, f"{label}: the server {words} (HTTP {status})", retry_after_s=floor)
    if status >= 500:
        return transient("server_error", f"{label}: the server has trouble (HTTP {status})", retry_after_s=floor)
    if status >= 400:
        return permanent("client_error", f"{label}: the server does not answer this request (HTTP {status})")
    return transient("unexpected_status", f"{label}: the server answers HTTP {status}, which makes no sense here")


def expect(answer: HttpAnswer, label: str, statuses: tuple[int, ...] = (200,)) -> HttpAnswer:
    """``answer`` where its status is one of ``statuses``.

    Raises:
        Failure: sorted, for any other.
    """
    if answer.status not in statuses:
        raise sort_status(answer, label)
    return answer


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The floor for the next try: ``Retry-After`` (seconds or a date) or ``RateLimit: …;t=``, capped at 15 minutes.

    A date counts from the answer's own ``Date``, so that a wrong clock here does no harm.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    if text:
        return _seconds_until(text, headers.get("date", ""))
    match = re.search(r"\bt=(\d{1,9})\b", headers.get("ratelimit", ""))
    return min(float(match[1]), MAX_RETRY_AFTER_S) if match else None


def _seconds_until(then: str, now: str) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 -- rarely needed, slow to import

    try:
        seconds = (parsedate_to_datetime(then) - parsedate_to_datetime(now)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def length_of(headers: Mapping[str, str]) -> int | None:
    """``Content-Length`` of an identity-coded answer; None where it does not tell the object's size."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    text = headers.get("content-length", "").strip()
    is_plain = coding in ("", "identity") and "transfer-encoding" not in headers
    return int(text) if is_plain and text.isascii() and text.isdigit() and len(text) < 19 else None


def etag_of(headers: Mapping[str, str]) -> str:
    """The ETag without quotes and weakness mark, where it is short and printable."""
    text = headers.get("etag", "").strip().removeprefix("W/").strip('"')
    return text if text.isascii() and text.isprintable() and len(text) <= 200 else ""


def code_of(text: str | None) -> str:
    """A short error code, safe to quote; empty where ``text`` is anything else."""
    return text if text and _CODE.fullmatch(text) else ""


def json_of(answer: HttpAnswer, label: str) -> Any:
    """The JSON value of a body.

    Raises:
        Failure: transient ``malformed_answer`` where it is none: a proxy's page or a cut-off answer may pass.
    """
    try:
        value = json.loads(answer.body)
        if b"\\ud" in answer.body.lower():  # half a character cannot be sent, stored or printed
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise transient("malformed_answer", f"{label}: the server's answer is no JSON") from None
    return value


def xml_of(answer: HttpAnswer, label: str) -> "Element":
    """The root of an XML body, names without their namespace.

    Raises:
        Failure: transient ``malformed_answer`` where it is none, or where it declares entities.
    """
    from xml.etree import ElementTree as ET  # noqa: PLC0415 -- only buckets speak XML

    if b"<!" in answer.body.replace(b"<![CDATA[", b""):
        raise transient("malformed_answer", f"{label}: the server's XML declares a document type")
    try:
        root = ET.fromstring(answer.body)  # noqa: S314 -- no document type, so no entities
    except (ET.ParseError, ValueError, RecursionError):
        raise transient("malformed_answer", f"{label}: the server's answer is no XML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def bad_answer(label: str, trouble: str) -> Failure:
    """A malformed answer: never used, and tried again."""
    return transient("malformed_answer", f"{label}: {trouble}")
