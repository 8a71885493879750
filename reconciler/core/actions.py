"""The closed vocabulary of what a plan can say. Every kind of action there is stands here, and only here."""

from dataclasses import field
from enum import StrEnum

from reconciler.core.desired import Diagnostic
from reconciler.core.records import dataclass
from reconciler.core.words import Digest


class ActionKind(StrEnum):
    """What the executor can do. One handler each; a missing one does not type-check."""

    DOWNLOAD = "download"  # fetch what is missing, verify, commit, place under models/ (unless an extract follows)
    VERIFY = "verify"  # re-hash files that have no proof
    EXTRACT = "extract"  # unpack an archive and place its members
    LOAD = "load"  # bring into a runtime
    UNLOAD = "unload"  # let go from a runtime
    EVICT = "evict"  # delete from the store
    LINK = "link"  # place bytes that are already on this machine, or make declared links
    ADOPT = "adopt"  # take over foreign files


class Cause(StrEnum):
    """Why at all: what the plan answers to."""

    INTENT = "intent"  # the manifest asks for something new
    DRIFT = "drift"  # the world changed under the manifest
    PRESSURE = "pressure"  # room or memory is needed
    RETENTION = "retention"  # unused for too long
    REQUEST = "request"  # a person typed it


@dataclass(frozen=True, slots=True)
class Precondition:
    """A fact an action leans on; checked again right before the action.

    Kinds: ``spec`` (subject: model, value: spec digest the manifest asks for) · ``stored`` (model, its spec digest in
    the store or ``absent``) · ``file`` (path relative to the store, FileStat.word or ``absent``) · ``pinned`` /
    ``loaded`` (model, ``true`` or ``false``) · ``policy`` (``cache`` or ``memory``, digest of that section).
    """

    kind: str
    subject: str
    value: str


@dataclass(frozen=True, slots=True)
class Action:
    """One step. ``bytes`` is what it downloads, frees, reads or holds; None where nobody knows yet.

    ``spec_digest`` names the revision that is acted on; ``paths`` narrows a download, verify or link to some files of
    the model (empty: all of it); ``subject`` names what is evicted where it is not a model's current revision:
    ``revision``, ``partial``, ``blob`` or ``quarantine`` (a bad copy: its name there, or the digest it should have
    where it lies in its place still), with its key in ``paths``.
    """

    id: str
    kind: ActionKind
    model: str
    reason: str
    message: str
    cause: Cause
    bytes: int | None = None
    depends_on: tuple[str, ...] = ()
    preconditions: tuple[Precondition, ...] = ()
    spec_digest: Digest = Digest("")
    paths: tuple[str, ...] = ()
    subject: str = ""
    score: float | None = None  # of an eviction: lower goes first


@dataclass(frozen=True, slots=True)
class Deferred:
    """A model that is not acted on now, and why."""

    model: str
    reason: str
    message: str
    needs_bytes: int | None = None
    available_bytes: int | None = None
    blocked_by: tuple[str, ...] = ()
    retry_at: float | None = None
    is_failed: bool = False  # backing off, or failed for good: `apply` exits 4


@dataclass(frozen=True, slots=True)
class Satisfied:
    """A model that is as it should be."""

    model: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Guard:
    """A brake that stops the whole plan before its first effect (exit 3)."""

    reason: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and bytes of a plan. The exit code is a function of this."""

    counts: tuple[tuple[str, int], ...]  # every ActionKind, in its order, also where 0
    causes: tuple[tuple[str, int], ...]  # every Cause
    changes: int
    deferred: int
    failed: int  # deferred ones that are backing off or failed for good
    satisfied: int
    guards: int
    bytes_download: int
    bytes_freed: int
    disk_peak_bytes: int
    disk_final_bytes: int
    disk_limit_bytes: int
    unknown_sizes: int
    estimated_seconds: float | None


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked of this one run, beyond the manifest.

    A non-empty ``verb`` narrows the plan to that one thing for ``models`` (empty: all): ``evict``, ``prune``,
    ``verify``, ``repair``, ``load``, ``unload``, ``adopt``, ``rollback``.
    """

    verb: str = ""
    models: tuple[str, ...] = ()
    only: tuple[str, ...] = ()  # --only: plan these models, leave all others as they are
    prune: bool = False
    allow_evict: int | None = None
    keeps_partials: bool = (
        False  # what a watch gave up keeps its unfinished download for a while: it may be wanted again
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done and why: complete before anything happens.

    ``actions`` are in order of execution. Every model of the manifest and of the store is in exactly one of
    ``actions``, ``deferred`` and ``satisfied`` (a model may have several actions).
    """

    desired_digest: Digest
    observed_digest: Digest
    taken_at: float
    actions: tuple[Action, ...]
    deferred: tuple[Deferred, ...]
    satisfied: tuple[Satisfied, ...]
    summary: Summary
    guards: tuple[Guard, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    request: Request = field(default=Request())


class OutcomeStatus(StrEnum):
    """How an action ended."""

    DONE = "done"
    SKIPPED = "skipped"  # already true
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one action ended. ``kind_of_failure`` is transient, permanent or refused where it failed."""

    id: str
    kind: ActionKind
    model: str
    status: OutcomeStatus
    reason: str = ""
    message: str = ""
    bytes: int = 0
    seconds: float = 0.0
    kind_of_failure: str = ""
    retry_at: float | None = None
