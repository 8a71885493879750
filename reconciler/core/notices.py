"""Single facts that are told one by one: an event that happened, a thing that ``doctor`` looked at."""

from collections.abc import Iterable

from reconciler.core.heading import Document, heading
from reconciler.core.moments import moment_text, parse_moment
from reconciler.core.records import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``type`` is Normal or Warning; ``count`` tells how often in a row."""

    seq: int
    time: float
    type: str
    reason: str
    model: str
    message: str
    count: int = 1


def event_document(event: Event) -> Document:
    """The ``Event`` document: one JSON line each."""
    return heading("Event") | {
        "seq": event.seq,
        "time": moment_text(event.time),
        "type": event.type,
        "reason": event.reason,
        "model": event.model,
        "message": event.message,
        "count": event.count,
    }


def event_from(document: Document) -> Event:
    """The value that an event's line was made of.

    Raises:
        KeyError: a key is missing.
        ValueError: the time is none.
    """
    return Event(
        int(document["seq"]),
        parse_moment(document["time"]),
        document["type"],
        document["reason"],
        document["model"],
        document["message"],
        int(document["count"]),
    )


@dataclass(frozen=True, slots=True)
class Check:
    """One thing ``doctor`` looked at: ``status`` is ok, warn or fail."""

    name: str
    status: str
    message: str
    hint: str = ""


def checks_document(checks: Iterable[Check]) -> Document:
    """The ``Doctor`` document."""
    listed = [
        {"name": check.name, "status": check.status, "message": check.message, "hint": check.hint} for check in checks
    ]
    summary = {status: sum(check["status"] == status for check in listed) for status in ("ok", "warn", "fail")}
    return heading("Doctor") | {"checks": listed, "summary": summary}
