"""The sections of a manifest that hold for all models: limits of disk and memory, the network, runtimes.

Parsed at the border: sizes are bytes, durations seconds, clock times minutes since midnight.
"""

from reconciler.core.records import dataclass
from reconciler.core.words import Compression, EvictionMode, EvictionPolicy, NetworkRequirement

DEFAULT_MAX_SIZE_BYTES = 1 << 30


DEFAULT_MIN_FREE_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """A limit: so many bytes, or a share of a total (disk or memory) that only the machine knows."""

    size_bytes: int | None = None
    percent: float | None = None

    def of(self, total_bytes: int) -> int:
        """The limit in bytes on a machine whose total is ``total_bytes``."""
        if self.size_bytes is not None:
            return self.size_bytes
        return int(total_bytes * (self.percent or 0.0) / 100)


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """The ``cache`` section: limits of the disk."""

    max_size: Size = Size(size_bytes=DEFAULT_MAX_SIZE_BYTES)
    min_free: Size = Size(size_bytes=DEFAULT_MIN_FREE_BYTES)
    policy: EvictionPolicy = EvictionPolicy.LRU
    mode: EvictionMode = EvictionMode.CONSERVATIVE
    retention_s: float | None = 30 * 86400.0  # None: never
    cleanup_interval_s: float = 86400.0  # 0: automatic clean-up is off
    scrub_bytes_per_s: int | None = 20_000_000  # None: as fast as it goes
    scrub_max_age_s: float | None = 30 * 86400.0  # None: a watch hashes nothing again by itself
    compression: Compression = Compression.NONE
    max_evictions_percent: float | None = 50.0  # of the models in the store, rounded down, at least 1
    max_evictions_count: int | None = None  # set where the manifest gives a bare number


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """The ``memory`` section: limits of the RAM."""

    budget: Size | None = None
    warning_bytes: int = 500_000_000
    critical_bytes: int = 200_000_000


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is read from at the moment of use. The secret itself is never held by the core."""

    env: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What to send to one host, and to no other.

    ``host`` is lower case; ``port`` is None for the scheme's own. Exactly one of bearer, basic, headers is set.
    """

    host: str
    port: int | None = None
    bearer: SecretReference | None = None
    basic: tuple[str | SecretReference, SecretReference] | None = None  # user, password
    headers: tuple[tuple[str, SecretReference], ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """A daily span of local time in minutes since midnight; ``end`` may lie before ``start`` (over midnight)."""

    start_minute: int
    end_minute: int


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """The ``network`` section: how downloads behave."""

    require: NetworkRequirement = NetworkRequirement.ANY
    bandwidth_bytes_per_s: int | None = None
    windows: tuple[Window, ...] = ()
    models: int = 3
    connections: int = 8
    timeout_s: float = 30.0
    mirrors: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """A place that models are loaded into."""

    name: str
    type: str = "page-cache"
    url: str | None = None
    options: tuple[tuple[str, str], ...] = ()
