"""What the ledger remembers, as values: one row class per noun, and all of them together as :class:`LedgerFacts`.

The rows are named tuples: they are made by the ten thousand on the way to every plan, and a frozen dataclass costs
five times as much to make. Sizes are bytes, times seconds since the epoch. Paths are relative: a file's to its model's
folder, a link's target to the store, so that the store can move. ``metadata`` and other open values are JSON text.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import NamedTuple

from reconciler.core.actions import ActionKind
from reconciler.core.lifecycle import Lifecycle, Presence, presence
from reconciler.core.observed import FailureFact, Override, Resolution
from reconciler.core.ports import Proof
from reconciler.core.records import dataclass
from reconciler.core.words import Digest, Priority, Role


class Origin(StrEnum):
    """Who a catalogue row's words come from, weakest first: built in, read from a source, written by the user."""

    DEFAULTS = "defaults"
    REMOTE = "remote"
    CONSUMER = "consumer"


class EventType(StrEnum):
    """As in Kubernetes: Normal is news, Warning wants a look."""

    NORMAL = "Normal"
    WARNING = "Warning"


class ModelRow(NamedTuple):
    """One catalogue row: what is known of a model, whether or not it is on disk.

    ``download_bytes``, ``size_bytes`` (on disk) and ``memory_bytes`` are never derived from one another.
    ``changed_at`` later than ``synced_at`` means that the row is pending sync.
    """

    name: str
    spec_digest: Digest = Digest("")
    category: str = ""
    format: str = ""
    metadata: str = "{}"
    source: str = ""  # a label without user information and query
    download_bytes: int | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None
    created_at: float = 0.0
    changed_at: float = 0.0
    synced_at: float | None = None
    last_used: float = 0.0
    use_count: int = 0
    lifecycle_since: float = 0.0
    origin: Origin = Origin.CONSUMER
    priority: Priority | None = None
    lifecycle: Lifecycle = Lifecycle.UNINITIALIZED
    pinned: bool = False

    @property
    def presence(self) -> Presence:
        """How much of it is on the machine, by its lifecycle."""
        return presence(self.lifecycle)


class FileRow(NamedTuple):
    """One file of a revision; ``path`` is relative to the model's folder."""

    path: str
    digest: Digest
    size_bytes: int
    role: Role = Role.PRIMARY


class RevisionRow(NamedTuple):
    """One revision of a model that is (or, superseded, still may be) in the store."""

    model: str
    spec_digest: Digest
    files: tuple[FileRow, ...]
    revision: str = ""
    source: str = ""
    format: str = ""
    archive_digest: Digest | None = None
    installed_at: float = 0.0
    superseded_at: float | None = None
    signed_by: str = ""
    signed_under: Digest = Digest("")

    @property
    def is_current(self) -> bool:
        """Whether this is the one under ``models/``."""
        return self.superseded_at is None


class FailureRow(NamedTuple):
    """A remembered failure; ``fingerprint`` tells what the source answered then."""

    fact: FailureFact
    fingerprint: str
    failed_at: float


class ResolutionRow(NamedTuple):
    """What a source said a model is made of, and when."""

    resolution: Resolution
    resolved_at: float


class BroughtRow(NamedTuple):
    """A file that nobody declared: a blob of a model that is not placed yet, where it has a ``digest``.

    Else it has ``size_bytes`` at least: it found no room, or was placed. ``source`` is a label; ``validator`` what the
    origin knew the object by, empty where it gave nothing.
    """

    model: str
    path: str
    spec_digest: Digest
    size_bytes: int
    digest: Digest | None = None
    source: str = ""
    validator: str = ""


class LoadRow(NamedTuple):
    """A model that this tool loaded into a runtime."""

    model: str
    runtime: str
    size_bytes: int
    loaded_at: float


class LinkRow(NamedTuple):
    """A link that this tool made: its absolute path, and what it points at, relative to the store."""

    path: str
    model: str
    target: str


class JournalRow(NamedTuple):
    """An action that was begun and not finished. ``paths`` as in the action."""

    id: str
    model: str
    kind: ActionKind
    started_at: float
    spec_digest: Digest = Digest("")
    subject: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened, ``count`` times between ``first_time`` and ``time``. A repetition gets a new ``seq``."""

    seq: int
    time: float
    first_time: float
    type: EventType
    reason: str
    model: str
    message: str
    count: int


class StepRow(NamedTuple):
    """One lifecycle transition of a model; the state that was left had lasted ``lasted_s`` seconds."""

    model: str
    source: Lifecycle
    target: Lifecycle
    at: float
    lasted_s: float


class PassRow(NamedTuple):
    """One pass of the loop: when it began, how long it took, for which generation, and its outcome as JSON text."""

    started_at: float
    seconds: float
    generation: str
    outcome: str


class LastGood(NamedTuple):
    """The manifest that was last valid: its bytes, where it came from, its generation."""

    content: bytes
    label: str
    generation: str
    saved_at: float


class Change(NamedTuple):
    """A row that changed: the table's noun, ``saved`` or ``deleted``, and its key (mostly the model's name).

    ``steps`` are those of a model's lifecycle (noun ``lifecycle``) in this transaction, (from, to), in order.
    """

    noun: str
    operation: str
    key: str
    steps: tuple[tuple[Lifecycle, Lifecycle], ...] = ()


@dataclass(frozen=True, slots=True)
class Meta:
    """Facts about the store as a whole; the last good manifest's bytes are read apart, they may be large."""

    generation: str = ""
    suspended_until: float | None = None  # inf: until resumed
    last_cleanup_at: float | None = None
    device_id: str = ""
    conditions: str = ""  # JSON text: as a watch told them last
    passes: tuple[PassRow, ...] = ()  # newest first
    throughput_bytes_per_s: float | None = None  # over the last passes that downloaded


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """All that observing needs, read at one moment.

    ``revisions`` holds the current one of a model first, then the superseded ones, newest first. ``resolutions`` is
    keyed by (model, spec digest), ``brought`` by (model, path).
    """

    models: Mapping[str, ModelRow] = field(default_factory=dict)
    revisions: Mapping[str, tuple[RevisionRow, ...]] = field(default_factory=dict)
    proofs: Mapping[Digest, Proof] = field(default_factory=dict)
    failures: tuple[FailureRow, ...] = ()
    resolutions: Mapping[tuple[str, Digest], ResolutionRow] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    loads: tuple[LoadRow, ...] = ()
    links: tuple[LinkRow, ...] = ()
    meta: Meta = Meta()
    brought: Mapping[tuple[str, str], BroughtRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that was just placed under ``models/``: everything that one transaction records.

    ``proofs`` are of the files' blobs. ``action_id`` clears that action from the journal, ``message`` (where not
    empty) becomes an event ``installed``. ``metadata`` is JSON text, empty to leave what is known.
    """

    model: str
    spec_digest: Digest
    files: tuple[FileRow, ...]
    proofs: tuple[Proof, ...] = ()
    revision: str = ""
    source: str = ""
    format: str = ""
    archive_digest: Digest | None = None
    category: str = ""
    metadata: str = ""
    signed_by: str = ""
    signed_under: Digest = Digest("")
    priority: Priority | None = None
    pinned: bool | None = None
    download_bytes: int | None = None
    memory_bytes: int | None = None
    action_id: str = ""
    message: str = ""
