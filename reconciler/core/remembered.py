"""The ledger's part in a status, as plain values: what cannot be seen on the disk."""

from reconciler.core.records import dataclass
from reconciler.core.words import Priority


@dataclass(frozen=True, slots=True)
class ConditionStatus:
    """One condition: ``status`` is True, False or Unknown; the time is when that last changed."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: float


@dataclass(frozen=True, slots=True)
class WatchFact:
    """How a running watch looks at the manifest: ``mode`` is events or heartbeat."""

    is_healthy: bool
    mode: str = "events"
    message: str = ""


@dataclass(frozen=True, slots=True)
class SourceFact:
    """Where the manifest came from, for one out of Git: the commit, and how its signature stands."""

    revision: str = ""
    url: str = ""
    is_verified: bool | None = None  # None: no signature was asked for
    message: str = ""


@dataclass(frozen=True, slots=True)
class RememberedModel:
    """What the ledger alone knows of a model. ``metadata`` is JSON text of an object, as read from the file."""

    name: str
    lifecycle: str = ""  # one of the 20 words; empty: follows from what is observed
    format: str = ""
    metadata: str = ""
    last_used: float | None = None
    use_count: int = 0
    bytes: int | None = None  # of the catalogue row, for a model that is not in the store
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the ledger knows.

    ``models`` may name models that are neither wanted nor stored (the catalogue). ``conditions`` are those of the last
    status that was recorded: they carry the transition times. ``is_running`` tells that somebody works on the store
    right now, ``running`` on which models. ``manifest_problem`` is why the newest manifest is not in force; empty where
    it is. ``changed_at`` is when something was done here last: what differs from the recorded status, while nobody
    watched, is dated so; None dates it now.
    """

    observed_generation: str = ""
    models: tuple[RememberedModel, ...] = ()
    conditions: tuple[ConditionStatus, ...] = ()
    next_run_at: float | None = None
    source: SourceFact = SourceFact()
    running: tuple[str, ...] = ()
    is_running: bool = False
    watch: WatchFact | None = None
    manifest_problem: str = ""
    changed_at: float | None = None
