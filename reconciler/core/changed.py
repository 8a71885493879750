"""The inputs of a plan with one change made: what a person's edit or verb would lead to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reconciler.core.change import Change
from reconciler.core.state import (
    Artifact,
    CachePolicy,
    DesiredModel,
    DesiredState,
    DownloadPolicy,
    NetworkRequirement,
    ObservedState,
    Priority,
    Selector,
    Size,
    StoredModel,
    WantedState,
)


def apply_change(
    desired: DesiredState, observed: ObservedState, change: Change, name: str
) -> tuple[DesiredState, ObservedState]:
    """Desired and observed state once ``change``, found for the model ``name``, is made."""
    section, _, key = change.field.partition(".")
    match section:
        case "cache":
            return replace(desired, cache=_cache(desired.cache, key, change.to)), observed
        case "memory":
            return replace(desired, memory=replace(desired.memory, budget=Size(size_bytes=change.to))), observed
        case "network" if key == "windows":
            return replace(desired, network=replace(desired.network, windows=())), observed
        case "network":
            network = replace(desired.network, require=NetworkRequirement(change.to))
            return replace(desired, network=network), observed
        case "models":
            return _models(desired, observed, change, name)
        case _:
            return desired, _by_hand(desired, observed, section, name)


def _cache(cache: CachePolicy, key: str, to: Any) -> CachePolicy:
    match key:
        case "maxSize":
            return replace(cache, max_size=Size(size_bytes=to))
        case "minFreeSpace":
            return replace(cache, min_free=Size(size_bytes=to))
        case _:
            return replace(cache, max_evictions_count=to)


def _models(
    desired: DesiredState, observed: ObservedState, change: Change, name: str
) -> tuple[DesiredState, ObservedState]:
    key = change.field.removeprefix(f"models.{name}").removeprefix(".")
    if not key:
        models = (*desired.models, _entry_of(observed, name))
        return replace(desired, models=tuple(sorted(models, key=lambda model: model.name))), observed
    if key == "pin":
        observed = _stored(observed, name, lambda stored: replace(stored, pinned=change.to))
        observed = replace(observed, overrides=tuple(each for each in observed.overrides if each.model != name))
    edited = tuple(_edited(model, key, change.to) if model.name == name else model for model in desired.models)
    return replace(desired, models=edited), observed


def _entry_of(observed: ObservedState, name: str) -> DesiredModel:
    """The entry that asks for exactly what is in the store under this name."""
    found = [stored for stored in observed.store.models if stored.name == name]
    artifacts = tuple(Artifact(file.path, (), file.digest, file.size_bytes, file.role) for file in found[0].files)
    return DesiredModel(name, artifacts=artifacts, spec_digest=found[0].spec_digest)


def _edited(model: DesiredModel, key: str, to: Any) -> DesiredModel:
    match key:
        case "state":
            return replace(model, state=WantedState(to))
        case "priority":
            return replace(model, priority=Priority[to.upper()])
        case "pin":
            return replace(model, pinned=to)
        case "when":
            return replace(model, when=Selector())
        case "rollout":
            return replace(model, rollout_percent=float(to))
        case _:
            return replace(model, download=DownloadPolicy(to))


def _stored(observed: ObservedState, name: str, edit: Callable[[StoredModel], StoredModel]) -> ObservedState:
    models = tuple(edit(stored) if stored.name == name else stored for stored in observed.store.models)
    return replace(observed, store=replace(observed.store, models=models))


def _by_hand(desired: DesiredState, observed: ObservedState, verb: str, name: str) -> ObservedState:
    match verb:
        case "resume":
            return replace(observed, suspended_until=None)
        case "poke":
            return replace(observed, failures=tuple(each for each in observed.failures if each.model != name))
        case "in_use":
            return _stored(observed, name, lambda stored: replace(stored, in_use=False))
        case "adopt":
            spec = next((model.spec_digest for model in desired.models if model.name == name), None)
            return _stored(
                observed,
                name,
                lambda stored: replace(stored, is_foreign=False, spec_digest=spec or stored.spec_digest),
            )
        case _:
            return _stored(observed, name, lambda stored: replace(stored, links=()))
