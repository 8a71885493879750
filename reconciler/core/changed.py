"""The inputs of a plan with one change made: what a person's edit or verb would lead to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reconciler.core.change import Change
from reconciler.core.desired import DesiredModel, DesiredState, Selector
from reconciler.core.observed import HOLDS, ObservedState
from reconciler.core.policies import CachePolicy, Size
from reconciler.core.stored import StoredModel
from reconciler.core.words import DownloadPolicy, NetworkRequirement, Priority, WantedState


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
    if key == "pin":
        observed = _pinned(observed, name, is_pinned=change.to)
    edited = tuple(_edited(model, key, change.to) if model.name == name else model for model in desired.models)
    return replace(desired, models=edited), observed


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
            return replace(model, rollout_percent=float(to.removesuffix("%")))
        case _:
            return replace(model, download=DownloadPolicy(to))


def _pinned(observed: ObservedState, name: str, *, is_pinned: bool) -> ObservedState:
    others = tuple(each for each in observed.overrides if each.model != name)
    return replace(_stored(observed, name, lambda stored: replace(stored, pinned=is_pinned)), overrides=others)


def _stored(observed: ObservedState, name: str, edit: Callable[[StoredModel], StoredModel]) -> ObservedState:
    models = tuple(edit(stored) if stored.name == name else stored for stored in observed.store.models)
    return replace(observed, store=replace(observed.store, models=models))


def _by_hand(desired: DesiredState, observed: ObservedState, verb: str, name: str) -> ObservedState:
    match verb:
        case "resume":
            others = (each for each in observed.overrides if each.model != name or each.kind not in HOLDS)
            return replace(observed, suspended_until=None, overrides=tuple(others))
        case "pin" | "unpin":
            return _pinned(observed, name, is_pinned=verb == "pin")
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
