"""Observed state: what was found on the machine, the other frozen value that a plan is a function of.

The clock, free space and past failures are facts like any other. Sizes are bytes, times seconds since the epoch,
collections tuples in a stable order.
"""

from dataclasses import field

from reconciler.core.desired import Artifact
from reconciler.core.records import dataclass
from reconciler.core.stored import LocalCopy, StoreFacts
from reconciler.core.words import Digest


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
    labels: tuple[tuple[str, str], ...] = ()  # its own; the manifest's are added where a plan is made
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

    ``retry_at`` is None for a permanent failure; ``source_changed`` is True where the manifest names other sources by
    now, or (of a permanent one) the source answers otherwise than it did when it failed: then it is tried again.
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


HOLDS = frozenset({"pause", "cancel"})  # kinds of override that hold a download back


@dataclass(frozen=True, slots=True)
class Override:
    """A manual decision that outlives the command that made it; shown by ``status``."""

    model: str
    kind: str  # pin | unpin | load | unload | rollback | pause | cancel
    made_at: float
    spec_digest: Digest = Digest("")


@dataclass(frozen=True, slots=True)
class BroughtFact:
    """What is known of a file that nobody declared, of a wanted model in its present spec.

    With a ``digest`` it is a blob already, though the model is not placed yet; without, it has ``size_bytes`` at
    least: it found no room, or was here once.
    """

    model: str
    path: str
    size_bytes: int
    digest: Digest | None = None


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
    unanswered: tuple[str, ...] = ()  # models whose sources were asked what they are made of, and are silent yet
    local_copies: tuple[LocalCopy, ...] = ()
    failures: tuple[FailureFact, ...] = ()
    overrides: tuple[Override, ...] = ()
    suspended_until: float | None = None  # inf: until resumed
    is_offline: bool = False
    hub_cache: str = ""  # the folder that `publish: [huggingface]` places files in, absolute
    keys: tuple[tuple[str, Digest], ...] = ()  # public keys that signatures are checked with: as named, their content
    brought: tuple[BroughtFact, ...] = ()
    throughput_bytes_per_s: float | None = None  # of recent downloads here, where there were any
    digest: Digest = field(default=Digest(""), compare=False)
