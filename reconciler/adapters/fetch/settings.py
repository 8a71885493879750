"""What the engine may use and how long it waits: one frozen value, so that tests make time small."""

from collections.abc import Callable, Mapping
from dataclasses import field

from reconciler.core.records import dataclass

MIB = 1 << 20


def _no_clock() -> float:
    return 0.0


def _middle() -> float:
    return 0.5


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of one engine; they hold for the whole process.

    ``now`` is the wall clock in seconds since the epoch (it reads ``Retry-After`` dates), ``random`` gives [0, 1) for
    jitter. ``environment`` holds HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.
    """

    bandwidth_bytes: int | None = None  # per second, over all downloads
    files: int = 8  # files fetched at once; more wait in order of priority
    host_connections: int = 16  # connections to one origin at once
    environment: Mapping[str, str] = field(default_factory=dict)
    now: Callable[[], float] = _no_clock
    random: Callable[[], float] = _middle
    user_agent: str = "reconciler"
    ask_timeout_s: float = 30.0  # for each question of a source, at most
    min_rate_bytes: int = 1000  # per second, over a request's timeout_s; slower is given up
    retries: int = 5  # in a row within one fetch, each after some progress
    retry_first_s: float = 1.0  # full jitter below retry_first_s * 2**n ...
    retry_cap_s: float = 8.0  # ... and below this; longer back-off is the ledger's
    ring_bytes: int = 48 * MIB  # memory for one large file
    space_check_bytes: int = 32 * MIB
    risk_bytes: int = 15 * MIB  # how much of a large file an interruption may cost, at most
    breaker_failures: int = 5
    breaker_pause_s: float = 5.0
