"""Why: the chain of facts behind what the plan says of one model, and the smallest change that would turn it."""

from collections.abc import Iterator

from reconciler.core.actions import Action, ActionKind, Plan
from reconciler.core.change import Change, candidates
from reconciler.core.changed import apply_change
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.errors import unknown_model
from reconciler.core.inventory import Inventory, stored_bytes
from reconciler.core.moments import moment_text
from reconciler.core.observed import ObservedState
from reconciler.core.plan import plan
from reconciler.core.records import dataclass
from reconciler.core.roster import is_pinned, unselected
from reconciler.core.selector import labelled
from reconciler.core.space import limit_bytes
from reconciler.core.stored import StoredModel
from reconciler.core.units import format_size
from reconciler.core.words import Condition


@dataclass(frozen=True, slots=True)
class Link:
    """One fact of the chain: a stable word and a sentence."""

    fact: str
    message: str


@dataclass(frozen=True, slots=True)
class Why:
    """What is decided on one model and why.

    ``decision`` is the kind of its first action, or ``deferred``, ``satisfied``, or ``guarded`` where a brake holds the
    whole plan.
    """

    model: str
    decision: str
    reason: str
    message: str
    chain: tuple[Link, ...]
    change: Change | None


def why(desired: DesiredState, observed: ObservedState, name: str) -> Why:
    """Explain the decision on ``name``.

    Raises:
        Failure: permanent ``unknown_model``; its hint names the nearest.
    """
    known = {model.name for model in desired.models} | {stored.name for stored in observed.store.models}
    if name not in known:
        raise unknown_model(name, known)
    made = plan(desired, observed)
    decision, reason, message = verdict(made, name)
    inventory = Inventory(observed)
    chain = (*_chain(desired, inventory, name), *_decided(made, name), Link(reason, message))
    return Why(name, decision, reason, message, chain, _change(desired, observed, made, name))


def verdict(made: Plan, name: str) -> tuple[str, str, str]:
    """(decision, reason, message) of one model in a plan."""
    own = [action for action in made.actions if action.model == name and not _is_leftover(action)]
    if own and made.guards:
        guard = made.guards[0]
        return "guarded", guard.reason, f"{own[0].message}; but {guard.message}"
    if own:
        return own[0].kind.value, own[0].reason, own[0].message
    for deferred in made.deferred:
        if deferred.model == name:
            return "deferred", deferred.reason, deferred.message
    for satisfied in made.satisfied:
        if satisfied.model == name:
            return "satisfied", satisfied.reason, satisfied.message
    return "satisfied", "leftovers", "only something left over of it is evicted"


def _is_leftover(action: Action) -> bool:
    return action.kind is ActionKind.EVICT and bool(action.subject)


def _change(desired: DesiredState, observed: ObservedState, made: Plan, name: str) -> Change | None:
    """The first change on the list for this reason that, made, turns the decision."""
    before = verdict(made, name)[:2]
    tried: dict[tuple[str, str], bool] = {}  # a plan is costly, and what a search found is asked about once more

    def turned(change: Change) -> bool:
        key = (change.field, repr(change.to))
        if key not in tried:
            decision, reason, _ = verdict(plan(*apply_change(desired, observed, change, name)), name)
            tried[key] = (decision, reason) != before and not decision == before[0] == "deferred"
        return tried[key]

    return next((each for each in candidates(desired, observed, made, name, before[1], turned) if turned(each)), None)


# --- the chain --------------------------------------------------------------------------------------------------------


def _chain(desired: DesiredState, inventory: Inventory, name: str) -> Iterator[Link]:
    model = next((model for model in desired.models if model.name == name), None)
    stored = inventory.current.get(name)
    yield _from_manifest(model, desired, inventory)
    yield from _from_store(name, stored, model, inventory)
    by_hand = inventory.load_overrides.get(name)
    if by_hand is not None:
        yield Link("by_hand", f"{'loaded' if by_hand else 'unloaded'} by hand; that wins over the manifest")
    for failure in inventory.failures.get(name, ()):
        next_try = f", next try {moment_text(failure.retry_at)}" if failure.retry_at else ""
        yield Link("failure", f"{failure.step} failed {failure.attempts}x: {failure.reason}{next_try}")
    used, limit = inventory.observed.store.used_bytes, limit_bytes(desired.cache, inventory.observed)
    yield Link("room", f"the store takes {format_size(used)} of {format_size(limit)}")


def _from_manifest(model: DesiredModel | None, desired: DesiredState, inventory: Inventory) -> Link:
    if model is None:
        return Link("manifest", "not in the manifest: unwanted, kept as cache while there is room")
    sentence = unselected(model, labelled(inventory.observed.device, desired.labels), inventory)
    if sentence:
        return Link("manifest", f"in the manifest, but not for this machine: {sentence}")
    pin = ", pinned" if model.pinned else ""
    return Link("manifest", f"wanted {model.state.value} with {model.priority.word} priority{pin}")


def _from_store(
    name: str, stored: StoredModel | None, model: DesiredModel | None, inventory: Inventory
) -> Iterator[Link]:
    if name in inventory.foreign:
        yield Link("store", f"models/{name} holds files that this tool did not place")
        return
    if stored is None:
        yield Link("store", "not in the store")
        return
    is_same = model is None or stored.spec_digest == model.spec_digest
    revision = "" if is_same else ", made from another spec than the manifest's"
    yield Link("store", f"in the store, {format_size(stored_bytes(stored))} on the disk{revision}")
    bad = [file for file in stored.files if file.condition is not Condition.INTACT]
    for file in bad[:5]:
        yield Link("file", f"{file.path} is {file.condition.value}{': ' + file.detail if file.detail else ''}")
    if is_pinned(name, stored, model, inventory):
        yield Link("pinned", "pinned: never evicted")
    if inventory.is_loaded(name):
        yield Link("loaded", "loaded in a runtime: never evicted while it is")
    if stored.in_use:
        yield Link("in_use", "in use: never evicted or unloaded while it is")


def _decided(made: Plan, name: str) -> Iterator[Link]:
    for action in made.actions:
        if action.model == name:
            yield Link("action", action.message)
    for deferred in made.deferred:
        if deferred.model == name and deferred.blocked_by:
            yield Link("blocked_by", ", ".join(deferred.blocked_by))
