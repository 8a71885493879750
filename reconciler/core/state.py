"""Desired and observed state: the two frozen values that a plan is a function of.

Everything here was parsed at the border: sizes are bytes, times are seconds since the epoch, durations are seconds,
collections are tuples in a stable order. Nothing here is checked again and nothing here touches the world.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NewType

Digest = NewType("Digest", str)  # "sha256:" and 64 lower-case hex digits

DEFAULT_MAX_SIZE_BYTES = 1 << 30
DEFAULT_MIN_FREE_BYTES = 500_000_000


class Priority(IntEnum):
    """How much a model matters; higher wins."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """As the manifest spells it."""
        return self.name.lower()


class WantedState(StrEnum):
    """What the manifest asks of a model."""

    PRESENT = "present"
    LOADED = "loaded"
    ABSENT = "absent"


class EvictionPolicy(StrEnum):
    """Who goes first among unwanted models."""

    LRU = "lru"
    LFU = "lfu"
    FIFO = "fifo"
    LARGEST_FIRST = "largest-first"


class EvictionMode(StrEnum):
    """Whether a critical model may be evicted at all."""

    CONSERVATIVE = "conservative"
    AGGRESSIVE = "aggressive"


class ExtractMode(StrEnum):
    """Whether an artifact is unpacked."""

    AUTO = "auto"
    ALWAYS = "true"
    NEVER = "false"


class DownloadPolicy(StrEnum):
    """When a model may be downloaded (row 15)."""

    AUTOMATIC = "automatic"
    UNMETERED = "unmetered"
    MANUAL = "manual"
    NEVER = "never"


class Compression(StrEnum):
    """How blobs lie at rest."""

    NONE = "none"
    ZSTD = "zstd"


class NetworkRequirement(StrEnum):
    """What kind of network downloads need."""

    ANY = "any"
    UNMETERED = "unmetered"
    WIFI = "wifi"
    ETHERNET = "ethernet"


class Role(StrEnum):
    """What a file is for within its model."""

    PRIMARY = "primary"
    COMPANION = "companion"
    VISION_PROJECTOR = "vision-projector"
    TOKENIZER = "tokenizer"
    CONFIG = "config"
    VOCABULARY = "vocabulary"
    MERGES = "merges"
    LABELS = "labels"
    ADAPTER = "adapter"


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


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One ``matchExpressions`` entry; ``operator`` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bound such as ``>=8GiB``: operator is one of ``>= > <= < ==``."""

    operator: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Selector:
    """``when:`` — which machines a model is for. Empty selects every machine."""

    match_labels: tuple[tuple[str, str], ...] = ()
    match_expressions: tuple[LabelRequirement, ...] = ()
    os: tuple[str, ...] = ()
    arch: tuple[str, ...] = ()
    hostname: tuple[str, ...] = ()
    accelerator: tuple[str, ...] = ()
    memory: Comparison | None = None
    disk: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a model.

    ``path`` is relative POSIX, below ``models/<name>/``; it is empty for a reference that stands for a whole tree (a
    repository, a prefix, an image) until a source has resolved it. ``sources`` are absolute URLs in the order they are
    tried; they may hold a query, so they are never printed as they stand.
    """

    path: str
    sources: tuple[str, ...]
    digest: Digest | None = None
    size_bytes: int | None = None
    role: Role = Role.PRIMARY
    optional: bool = False


@dataclass(frozen=True, slots=True)
class DesiredModel:
    """One entry of ``models``, defaults merged in.

    ``spec_digest`` changes exactly where other bytes are asked for: see :func:`reconciler.core.digests.spec_digest`.
    """

    name: str
    state: WantedState = WantedState.PRESENT
    priority: Priority = Priority.NORMAL
    artifacts: tuple[Artifact, ...] = ()
    runtime: str = "default"
    memory_bytes: int | None = None
    pinned: bool = False
    allow_unsafe: bool = False
    extract: ExtractMode = ExtractMode.AUTO
    format: str = "auto"
    links: tuple[str, ...] = ()  # absolute paths
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    when: Selector = Selector()
    rollout_percent: float | None = None
    download: DownloadPolicy = DownloadPolicy.AUTOMATIC
    metadata: tuple[tuple[str, str], ...] = ()  # values as JSON text, so that they stay frozen
    depends_on: tuple[str, ...] = ()  # names of models that must be present before this one
    publish: tuple[str, ...] = ()  # caches of other tools it is placed into as well
    spec_digest: Digest = Digest("")
    revision: str = ""  # of a locked model: the commit or tag its files are from
    is_locked: bool = False  # its artifacts are those of the lock file


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something the plan must say aloud, e.g. a key whose effect is not supported yet. Never silent."""

    reason: str
    message: str
    place: str = ""  # file:line:column where there is one


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What the manifest in force asks for. ``models`` is sorted by name."""

    models: tuple[DesiredModel, ...]
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    cache: CachePolicy = CachePolicy()
    memory: MemoryPolicy = MemoryPolicy()
    network: NetworkPolicy = NetworkPolicy()
    runtimes: tuple[RuntimeSpec, ...] = (RuntimeSpec("default"),)
    diagnostics: tuple[Diagnostic, ...] = ()
    digest: Digest = Digest("")  # the generation: over the merged content, not over its formatting
    files: tuple[str, ...] = ()  # where it was read from, absolute; for a saved plan to find it again


# --- what is observed -------------------------------------------------------------------------------------------


class Condition(StrEnum):
    """How one file of the store stands against what the ledger remembers of it."""

    INTACT = "intact"  # its stat is the one it was verified with
    UNVERIFIED = "unverified"  # no proof, or the stat changed: it must be hashed before it is believed
    MISSING = "missing"  # neither the blob nor the placed file is there
    DAMAGED = "damaged"  # known bad: wrong size, or hashed and found wrong
    UNPLACED = "unplaced"  # the blob is there and good; the file under models/ is missing, replaced or writable


@dataclass(frozen=True, slots=True)
class FileStat:
    """What identifies one version of one file without reading it."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    mode: int = 0o444

    @property
    def word(self) -> str:
        """For a precondition: changes whenever the file does."""
        return f"{self.device}:{self.inode}:{self.size_bytes}:{self.mtime_ns}:{self.mode:o}"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a model in the store.

    ``allocated_bytes`` is what the blob takes on disk (blocks), 0 where it is missing.
    """

    path: str
    digest: Digest | None
    size_bytes: int
    allocated_bytes: int
    condition: Condition = Condition.INTACT
    role: Role = Role.PRIMARY
    stat: FileStat | None = None
    detail: str = ""  # why it is not intact, for the message


@dataclass(frozen=True, slots=True)
class LinkFact:
    """A declared link that the tool made: absolute path, and whether it still points at the placed file."""

    path: str
    is_right: bool
    is_foreign: bool = False  # something else stands there; it is never replaced


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One revision of a model as it lies in the store.

    ``is_current`` is False for a superseded revision that is kept for rollback. ``is_foreign`` marks files that the
    tool did not place (``models/<name>`` without a ledger row and without a blob behind it).
    """

    name: str
    spec_digest: Digest
    files: tuple[StoredFile, ...]
    is_current: bool = True
    is_foreign: bool = False
    revision: str = ""  # the commit or tag a mutable reference was resolved to
    pinned: bool = False
    loaded: bool = False  # observed in a runtime, and loaded by this tool
    runtime: str = ""
    in_use: bool = False
    links: tuple[LinkFact, ...] = ()
    installed_at: float = 0.0
    last_used: float = 0.0
    use_count: int = 0
    verified_at: float | None = None
    format: str = ""
    memory_bytes: int | None = None  # RAM measured or estimated, where known
    priority: Priority | None = None  # the last priority a manifest gave it


@dataclass(frozen=True, slots=True)
class PartialFact:
    """An unfinished download: which bytes, for whom, how many are done, and what they take on disk."""

    key: str
    model: str
    done_bytes: int
    allocated_bytes: int
    modified_at: float
    digest: Digest | None = None
    size_bytes: int | None = None
    path: str = ""  # the artifact's path within its model


@dataclass(frozen=True, slots=True)
class BlobFact:
    """A blob in the store, whoever uses it."""

    digest: Digest
    size_bytes: int
    allocated_bytes: int
    is_verified: bool
    stat: FileStat | None = None
    modified_at: float = 0.0


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A file outside the store (a hub cache, an Ollama folder) whose name promises a digest that is wanted."""

    digest: Digest
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store on disk. Everything counted is in allocated bytes, each inode once."""

    models: tuple[StoredModel, ...] = ()  # sorted by (name, not is_current, spec_digest)
    blobs: tuple[BlobFact, ...] = ()  # sorted by digest
    partials: tuple[PartialFact, ...] = ()
    quarantine_bytes: int = 0
    foreign_bytes: int = 0
    used_bytes: int = 0  # all of blobs, models, partial, quarantine and foreign files
    path: str = ""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system that holds the store."""

    total_bytes: int
    free_bytes: int
    block_bytes: int = 4096


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """The RAM, as the operating system tells it."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What ``when:`` and ``rollout`` select by, and what the network is like."""

    hostname: str = ""
    os: str = ""
    arch: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    accelerators: tuple[str, ...] = ()
    device_id: str = ""
    network: str = "unknown"  # ethernet | wifi | other | none | unknown
    is_metered: bool | None = None
    local_minute: int = 0  # minutes since local midnight


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a source says a model is made of, where the manifest alone does not tell.

    ``files`` are concrete (every path set); sizes and digests as far as the source knows them. Where the source could
    not say, ``reason`` and ``message`` tell why and ``files`` is what the manifest declared.
    """

    model: str
    spec_digest: Digest
    files: tuple[Artifact, ...]
    revision: str = ""
    reason: str = ""
    message: str = ""
    is_permanent: bool = False
    hint: str = ""
    retry_after_s: float | None = None  # a floor for the next try, where the source named one


@dataclass(frozen=True, slots=True)
class FailureFact:
    """A past failure of one model, as the ledger remembers it. It counts only for the same ``spec_digest``.

    ``retry_at`` is None for a permanent failure; ``source_changed`` is True where the source answers otherwise than it
    did when it failed, which un-sticks a permanent one.
    """

    model: str
    spec_digest: Digest
    kind: str  # transient | permanent | refused
    reason: str
    message: str
    attempts: int
    retry_at: float | None
    source_changed: bool = False
    step: str = "download"  # the action kind that failed


@dataclass(frozen=True, slots=True)
class RuntimeFact:
    """One runtime: whether it answers, and what it holds."""

    name: str
    type: str
    is_reachable: bool = True
    loaded: tuple[tuple[str, int], ...] = ()  # (model, bytes of RAM) of what this tool loaded and is still resident
    message: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """A manual decision that outlives the command that made it: pin, load, unload; shown by ``status``."""

    model: str
    kind: str  # pin | unpin | load | unload
    made_at: float
    spec_digest: Digest = Digest("")


@dataclass(frozen=True, slots=True)
class ObservedState:
    """What was found, at ``taken_at``. The clock, free space and past failures are facts like any other."""

    taken_at: float
    store: StoreFacts
    disk: DiskFacts
    memory: MemoryFacts
    device: DeviceFacts = DeviceFacts()
    runtimes: tuple[RuntimeFact, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    local_copies: tuple[LocalCopy, ...] = ()
    failures: tuple[FailureFact, ...] = ()
    overrides: tuple[Override, ...] = ()
    suspended_until: float | None = None  # inf: until resumed
    is_offline: bool = False
    throughput_bytes_per_s: float | None = None  # of recent downloads here, where there were any
    digest: Digest = field(default=Digest(""), compare=False)
