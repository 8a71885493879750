"""The status of each model: what is there, what is wanted, and why it is as it is.

A model's reason and message are those the plan gives it. Everything is looked up by name in one index, so that the
status of many models stays linear.
"""

import json
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from reconciler.core.actions import Action, ActionKind, Deferred, Plan
from reconciler.core.comparing import Warnings, compare, compare_adapters, effective
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.observed import FailureFact, ObservedState, Resolution
from reconciler.core.records import dataclass
from reconciler.core.remembered import Remembered, RememberedModel
from reconciler.core.retry import refusals
from reconciler.core.stored import StoredModel
from reconciler.core.transfer import Transfer
from reconciler.core.words import Condition, Priority, Role, WantedState


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
    transfer: Transfer | None = None  # while a running watch brings it
    signed_by: str = ""
    warnings: Warnings = ()  # (severity, text): where the file and the manifest differ


@dataclass(frozen=True, slots=True)
class _Index:
    """Everything by model name, so that a status of many models stays linear."""

    desired: dict[str, DesiredModel]
    current: dict[str, StoredModel]
    remembered: dict[str, RememberedModel]
    actions: dict[str, list[Action]]
    refused: dict[str, FailureFact]
    deferred: dict[str, Deferred]
    satisfied: dict[str, tuple[str, str]]
    partial: dict[str, int]
    resolutions: dict[str, Resolution]
    running: frozenset[str]
    pins: dict[str, bool]  # by hand
    store: str
    metadata: Mapping[str, Mapping[str, Any]]  # as read from the files
    adapters: Mapping[str, Warnings]


def _index(desired: DesiredState | None, observed: ObservedState, plan: Plan | None, remembered: Remembered) -> _Index:
    actions: dict[str, list[Action]] = {}
    for action in plan.actions if plan else ():
        actions.setdefault(action.model, []).append(action)
    partial: dict[str, int] = {}
    for fact in observed.store.partials:
        partial[fact.model] = partial.get(fact.model, 0) + fact.done_bytes
    metadata = {model.name: json.loads(model.metadata) for model in remembered.models if model.metadata}
    return _Index(
        desired={model.name: model for model in (desired.models if desired else ())},
        current={model.name: model for model in observed.store.models if model.is_current},
        remembered={model.name: model for model in remembered.models},
        actions=actions,
        refused=refusals(plan.actions if plan else (), observed.failures),
        deferred={deferred.model: deferred for deferred in (plan.deferred if plan else ())},
        satisfied={done.model: (done.reason, done.message) for done in (plan.satisfied if plan else ())},
        partial=partial,
        resolutions={resolution.model: resolution for resolution in observed.resolutions},
        running=frozenset(remembered.running),
        pins={each.model: each.kind == "pin" for each in observed.overrides if each.kind in {"pin", "unpin"}},
        store=observed.store.path,
        metadata=metadata,
        adapters=compare_adapters(desired.models if desired else (), metadata),
    )


def model_statuses(
    desired: DesiredState | None, observed: ObservedState, plan: Plan | None, remembered: Remembered
) -> tuple[ModelStatus, ...]:
    """One for every model that is wanted, stored, half downloaded or remembered; by name."""
    index = _index(desired, observed, plan, remembered)
    names = {*index.desired, *index.current, *index.remembered, *index.partial} - {""}
    return tuple(_model(name, index) for name in sorted(names))


def _model(name: str, index: _Index) -> ModelStatus:
    desired, stored = index.desired.get(name), index.current.get(name)
    known = index.remembered.get(name, RememberedModel(name))
    state = _state(stored, is_begun=name in index.partial)
    reason, message, retry_at = _reason(name, index)
    actions = index.actions.get(name, [])
    seen = _stored(stored, index.store) if stored else ModelStatus(name, state, "", "", "", bytes=known.bytes)
    return replace(
        seen,
        state=state,
        lifecycle=known.lifecycle or ("discovered" if state in {"absent", "partial"} else "validated"),
        wanted=desired.state.value if desired else "unwanted",
        priority=_priority(desired, stored, known).word,
        pinned=index.pins.get(name, seen.pinned or bool(desired and desired.pinned)),
        progress=_progress(name, index),
        last_used=max(filter(None, (known.last_used, seen.last_used)), default=None),
        use_count=max(known.use_count, seen.use_count),
        reason=reason,
        message=message,
        retry_at=retry_at,
        is_settled=not actions and name not in index.deferred,
        is_deferred=name in index.deferred,
        format=seen.format or known.format,
        metadata=effective(desired, index.metadata.get(name, {})),
        revision=seen.revision or getattr(index.resolutions.get(name), "revision", ""),
        memory_bytes=seen.memory_bytes or (desired.memory_bytes if desired else None),
        warnings=(*compare(desired, index.metadata.get(name, {})), *index.adapters.get(name, ())),
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
        signed_by=stored.signed_by,
    )


def _state(stored: StoredModel | None, *, is_begun: bool) -> str:
    if stored is None:
        return "partial" if is_begun else "absent"
    if any(file.condition in _BAD or file.condition is Condition.UNPLACED for file in stored.files):
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
    told = index.deferred.get(name) or index.refused.get(name)
    if told:
        return told.reason, told.message, told.retry_at
    actions = index.actions.get(name)
    if actions:
        first = next((each for each in actions if not (each.kind is ActionKind.EVICT and each.subject)), actions[0])
        return first.reason, first.message, None
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
