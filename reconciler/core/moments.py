"""Moments as documents spell them: RFC 3339 in UTC, to the millisecond.

Inside, a moment is seconds since the epoch; outside it is text, so that JSON and YAML readers agree on it.
"""

import math
from datetime import UTC, datetime


def moment_text(seconds: float | None) -> str | None:
    """``2026-11-23T19:37:32.123Z``; None for no moment, for "for ever" and for one outside the calendar."""
    if seconds is None or not math.isfinite(seconds):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return None


def parse_moment(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 moment; one without an offset is UTC.

    Raises:
        ValueError: the text is no moment.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
