"""The ``Status`` of a machine: conditions, models and figures, from facts alone.

``status(desired, observed, plan, remembered)`` is pure. What was seen is in ``observed``, what would be done about it
in ``plan`` (the plan of an ordinary pass, nothing requested), and what only the ledger knows in ``remembered``. A
model's reason and message are those the plan gives it, so that ``status``, ``plan`` and ``why`` never disagree.

The words and the shape of the conditions are those of controller-runtime and Flux: Ready is True where nothing is left
to do, Reconciling while a pass works on it, Stalled where nothing happens without a person or a change outside.
``last_transition_time`` moves only when a condition's status does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.core.actions import Action, Deferred, Plan
from reconciler.core.conditions import conditions
from reconciler.core.remembered import ConditionStatus, Remembered, RememberedModel
from reconciler.core.state import (
    Condition,
    DesiredModel,
    DesiredState,
    ObservedState,
    Override,
    Priority,
    Resolution,
    Role,
    StoredModel,
    WantedState,
)
from reconciler.core.usage import room_bytes

__all__ = [
    "CacheStatus",
    "ConditionStatus",
    "MemoryStatus",
    "ModelStatus",
    "Remembered",
    "RememberedModel",
    "Status",
    "status",
]


NOTHING_REMEMBERED = Remembered()


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model: what is there, what is wanted, and why it is as it is."""

    name: str
    state: str  # absent | partial | present | loaded
    lifecycle: str
    wanted: str  # present | loaded | absent; "unwanted" where the manifest does not name it
    priority: str
    pinned: bool = False
    loaded: bool = False
    bytes: int | None = None
    digest: str | None = None  # of the primary file
    path: str | None = None  # absolute, the primary file
    progress: float | None = None  # 0..1 of what has to be downloaded
    last_used: float | None = None
    use_count: int = 0
    verified_at: float | None = None
    reason: str = ""
    message: str = ""
    retry_at: float | None = None
    is_settled: bool = False  # as it should be
    is_deferred: bool = False  # not acted on now
    format: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""
    memory_bytes: int | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The disk. ``room_bytes`` is what may still be stored under both limits."""

    limit_bytes: int
    used_bytes: int
    room_bytes: int
    partial_bytes: int
    quarantine_bytes: int
    foreign_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    min_free_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """The RAM. ``loaded_bytes`` is what the models of all runtimes hold."""

    total_bytes: int
    available_bytes: int
    budget_bytes: int | None
    loaded_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """The whole machine at ``taken_at``."""

    taken_at: float
    store: str
    generation: str
    observed_generation: str
    conditions: tuple[ConditionStatus, ...]
    models: tuple[ModelStatus, ...]
    cache: CacheStatus
    memory: MemoryStatus
    next_run_at: float | None = None
    revision: str = ""
    suspended_until: float | None = None
    overrides: tuple[Override, ...] = ()

    def condition(self, kind: str) -> ConditionStatus:
        """The condition of that type, whatever the case it is written in.

        Raises:
            KeyError: there is no such condition.
        """
        for condition in self.conditions:
            if condition.type.lower() == kind.lower():
                return condition
        raise KeyError(kind)


def status(
    desired: DesiredState | None,
    observed: ObservedState,
    plan: Plan | None,
    remembered: Remembered = NOTHING_REMEMBERED,
) -> Status:
    """The status of a machine.

    Args:
        desired: the manifest in force; None where none was ever given.
        observed: what was found.
        plan: of an ordinary pass over these two (no request); None where there is no manifest.
        remembered: what only the ledger knows.
    """
    models = _models(desired, observed, plan, remembered)
    settings = desired or DesiredState(models=())
    return Status(
        taken_at=observed.taken_at,
        store=observed.store.path,
        generation=desired.digest if desired else "",
        observed_generation=remembered.observed_generation,
        conditions=conditions(desired, observed, plan, remembered),
        models=models,
        cache=_cache(settings, observed),
        memory=_memory(settings, observed),
        next_run_at=remembered.next_run_at,
        revision=remembered.source.revision,
        suspended_until=observed.suspended_until,
        overrides=observed.overrides,
    )


# --- models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Index:
    """Everything by model name, so that a status of many models stays linear."""

    desired: dict[str, DesiredModel]
    current: dict[str, StoredModel]
    remembered: dict[str, RememberedModel]
    actions: dict[str, list[Action]]
    deferred: dict[str, Deferred]
    satisfied: dict[str, tuple[str, str]]
    partial: dict[str, int]
    resolutions: dict[str, Resolution]
    running: frozenset[str]
    store: str


def _index(desired: DesiredState | None, observed: ObservedState, plan: Plan | None, remembered: Remembered) -> _Index:
    actions: dict[str, list[Action]] = {}
    for action in plan.actions if plan else ():
        actions.setdefault(action.model, []).append(action)
    partial: dict[str, int] = {}
    for fact in observed.store.partials:
        partial[fact.model] = partial.get(fact.model, 0) + fact.done_bytes
    return _Index(
        desired={model.name: model for model in (desired.models if desired else ())},
        current={model.name: model for model in observed.store.models if model.is_current},
        remembered={model.name: model for model in remembered.models},
        actions=actions,
        deferred={deferred.model: deferred for deferred in (plan.deferred if plan else ())},
        satisfied={done.model: (done.reason, done.message) for done in (plan.satisfied if plan else ())},
        partial=partial,
        resolutions={resolution.model: resolution for resolution in observed.resolutions},
        running=frozenset(remembered.running),
        store=observed.store.path,
    )


def _models(
    desired: DesiredState | None, observed: ObservedState, plan: Plan | None, remembered: Remembered
) -> tuple[ModelStatus, ...]:
    index = _index(desired, observed, plan, remembered)
    names = {*index.desired, *index.current, *index.remembered, *index.partial} - {""}
    return tuple(_model(name, index) for name in sorted(names))


def _model(name: str, index: _Index) -> ModelStatus:
    desired, stored = index.desired.get(name), index.current.get(name)
    known = index.remembered.get(name, RememberedModel(name))
    state = _state(stored, index.partial.get(name, 0))
    reason, message, retry_at = _reason(name, index)
    actions = index.actions.get(name, [])
    seen = _stored(stored, index.store) if stored else ModelStatus(name, state, "", "", "", bytes=known.bytes)
    return replace(
        seen,
        state=state,
        lifecycle=known.lifecycle or ("discovered" if state in {"absent", "partial"} else "validated"),
        wanted=desired.state.value if desired else "unwanted",
        priority=_priority(desired, stored, known).word,
        pinned=seen.pinned or bool(desired and desired.pinned),
        progress=_progress(name, index),
        last_used=max(filter(None, (known.last_used, seen.last_used)), default=None),
        use_count=max(known.use_count, seen.use_count),
        reason=reason,
        message=message,
        retry_at=retry_at,
        is_settled=not actions and name not in index.deferred,
        is_deferred=name in index.deferred,
        format=seen.format or known.format,
        metadata=json.loads(known.metadata) if known.metadata else {},
        revision=seen.revision or getattr(index.resolutions.get(name), "revision", ""),
        memory_bytes=seen.memory_bytes or (desired.memory_bytes if desired else None),
    )


def _stored(stored: StoredModel, store: str) -> ModelStatus:
    primary = next(
        (file for file in stored.files if file.role is Role.PRIMARY), stored.files[0] if stored.files else None
    )
    return ModelStatus(
        name=stored.name,
        state="present",
        lifecycle="",
        wanted="",
        priority="",
        pinned=stored.pinned,
        loaded=stored.loaded,
        bytes=sum(file.size_bytes for file in stored.files),
        digest=primary.digest if primary else None,
        path=f"{store}/models/{stored.name}/{primary.path}" if primary else None,
        last_used=stored.last_used or None,
        use_count=stored.use_count,
        verified_at=stored.verified_at,
        format=stored.format,
        revision=stored.revision,
        memory_bytes=stored.memory_bytes,
        foreign=stored.is_foreign,
    )


def _state(stored: StoredModel | None, partial_bytes: int) -> str:
    if stored is None:
        return "partial" if partial_bytes else "absent"
    if any(file.condition in {Condition.MISSING, Condition.DAMAGED} for file in stored.files):
        return "partial"
    return "loaded" if stored.loaded else "present"


def _priority(desired: DesiredModel | None, stored: StoredModel | None, known: RememberedModel) -> Priority:
    if desired is not None:
        return desired.priority
    if stored is not None and stored.priority is not None:
        return stored.priority
    return Priority.NORMAL if known.priority is None else known.priority


def _reason(name: str, index: _Index) -> tuple[str, str, float | None]:
    """(reason, message, retry_at): what the plan says of the model, the most telling first."""
    deferred = index.deferred.get(name)
    if deferred:
        return deferred.reason, deferred.message, deferred.retry_at
    actions = index.actions.get(name)
    if actions:
        return actions[0].reason, actions[0].message, None
    if name in index.satisfied:
        return *index.satisfied[name], None
    desired = index.desired.get(name)
    if desired is None and name not in index.current:
        return "not_in_store", "known from earlier; neither wanted nor in the store", None
    if desired is not None and desired.state is WantedState.ABSENT:
        return "absent", "not wanted here, and not here", None
    return "unplanned", "there is no manifest in force", None


def _progress(name: str, index: _Index) -> float | None:
    """Share of the wanted bytes that are here; None where nobody knows how many there are."""
    stored, desired = index.current.get(name), index.desired.get(name)
    done = index.partial.get(name, 0)
    if not done and name not in index.actions and name not in index.deferred and stored:
        return 1.0
    resolution = index.resolutions.get(name)
    files = resolution.files if resolution else (desired.artifacts if desired else ())
    sizes = [artifact.size_bytes for artifact in files]
    good = sum(file.size_bytes for file in stored.files if file.condition not in _BAD) if stored else 0
    missing = sum(action.bytes or 0 for action in index.actions.get(name, ()) if action.kind.value == "download")
    total = sum(size for size in sizes if size is not None) if sizes and None not in sizes else done + missing + good
    return min(1.0, round((done + good) / total, 4)) if total else None


_BAD = frozenset({Condition.MISSING, Condition.DAMAGED})


# --- figures --------------------------------------------------------------------------------------------------------


def _cache(desired: DesiredState, observed: ObservedState) -> CacheStatus:
    store, disk = observed.store, observed.disk
    return CacheStatus(
        limit_bytes=desired.cache.max_size.of(disk.total_bytes),
        used_bytes=store.used_bytes,
        room_bytes=room_bytes(desired.cache, observed),
        partial_bytes=sum(fact.allocated_bytes for fact in store.partials),
        quarantine_bytes=store.quarantine_bytes,
        foreign_bytes=store.foreign_bytes,
        disk_total_bytes=disk.total_bytes,
        disk_free_bytes=disk.free_bytes,
        min_free_bytes=desired.cache.min_free.of(disk.total_bytes),
    )


def _memory(desired: DesiredState, observed: ObservedState) -> MemoryStatus:
    budget = desired.memory.budget
    return MemoryStatus(
        total_bytes=observed.memory.total_bytes,
        available_bytes=observed.memory.available_bytes,
        budget_bytes=budget.of(observed.memory.total_bytes) if budget else None,
        loaded_bytes=sum(held for runtime in observed.runtimes for _, held in runtime.loaded),
    )
