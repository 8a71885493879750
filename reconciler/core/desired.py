"""Desired state: what the manifest in force asks for, one of the two frozen values that a plan is a function of.

Everything here was parsed at the border: sizes are bytes, durations are seconds, collections are tuples in a stable
order. Nothing here is checked again and nothing here touches the world.
"""

from reconciler.core.policies import CachePolicy, MemoryPolicy, NetworkPolicy, RuntimeSpec
from reconciler.core.records import dataclass
from reconciler.core.words import Digest, DownloadPolicy, ExtractMode, Priority, Role, SignatureKind, WantedState


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
class SignatureRule:
    """Who must have signed a model before it is placed.

    ``keys`` are absolute paths of public keys, or their text (PEM, or minisign's ``RW…``); any one of them will do.
    ``sources`` are where the signature is; empty: beside what it signs.
    """

    kind: SignatureKind
    keys: tuple[str, ...]
    sources: tuple[str, ...] = ()


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
    signature: SignatureRule | None = None  # its own, or that of a host it comes from


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
