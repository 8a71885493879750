"""One-shot verbs: what a person types is planned like everything else, only narrowed to that one thing.

``load`` is the whole plan for these models with the wish to load them; the other verbs are drafted here. Models that
were not asked for are said to be satisfied, or left out where they have work to do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from reconciler.core.actions import Action, ActionKind, Cause, Deferred, Precondition, Request, Satisfied
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.disk import Departures, settle
from reconciler.core.draft import Draft
from reconciler.core.eviction import Candidate, of_model, of_partial, of_revision
from reconciler.core.inventory import Inventory
from reconciler.core.loading import memory_bytes
from reconciler.core.observed import ObservedState, Override
from reconciler.core.roster import OTHERS_ONLY, Roster, is_pinned
from reconciler.core.schedule import Eviction, Schedule, Scheduler
from reconciler.core.space import Holdings, limit_bytes
from reconciler.core.steps import (
    eviction_action,
    load_action,
    policy_precondition,
    unload_action,
    verify_action,
    waiting_for,
)
from reconciler.core.stored import StoredFile, StoredModel
from reconciler.core.units import format_size
from reconciler.core.words import Digest

WHOLE = frozenset({"", "load", "repair"})  # verbs that go through the whole planner


def narrow(observed: ObservedState, request: Request) -> tuple[ObservedState, Request]:
    """What the whole planner is to be given for ``load`` and ``repair``: the same facts with the wish among them."""
    match request.verb:
        case "load":
            wishes = tuple(Override(name, "load", observed.taken_at) for name in request.models)
            return replace(observed, overrides=(*observed.overrides, *wishes)), replace(request, only=request.models)
        case "repair":
            names = request.models or tuple(sorted({stored.name for stored in observed.store.models}))
            return observed, replace(request, only=names or ("",))
        case _:
            return observed, request


def one_shot(desired: DesiredState, inventory: Inventory, roster: Roster, request: Request) -> Draft:
    """The draft of a verb that does one thing."""
    draft = Draft(desired, inventory, roster)
    for seat in roster.seats:
        draft.leave_out(seat)
    for stored in roster.absent:
        draft.defer(Deferred(stored.name, OTHERS_ONLY, "the manifest says absent, but it was not asked for"))
    match request.verb:
        case "evict":
            _evict(draft, request)
        case "prune":
            _prune(draft, roster)
        case "verify":
            _verify(draft, request)
        case "unload":
            _unload(draft, request)
        case "adopt":
            _adopt(draft, request)
        case "rollback":
            _rollback(draft, request)
        case _:
            raise ValueError(f"unknown verb {request.verb}")
    return draft


def _models(draft: Draft) -> dict[str, DesiredModel]:
    return {model.name: model for model in draft.desired.models}


def _replace_word(draft: Draft, deferred: Deferred) -> None:
    """What is said of a model that was asked for wins over what is said of one left out."""
    draft.deferred[deferred.model] = deferred


def _lacking(draft: Draft, name: str) -> None:
    """A model that was asked for and is not in the store."""
    if name in draft.deferred:
        return
    is_known = name in _models(draft) or name in draft.satisfied
    if is_known:
        draft.satisfied.setdefault(name, Satisfied(name, "not_in_store", "not in the store"))
    else:
        draft.deferred[name] = Deferred(name, "unknown_model", "neither in the manifest nor in the store")


def _evict(draft: Draft, request: Request) -> None:
    inventory, models = draft.inventory, _models(draft)
    candidates: list[Candidate] = []
    for name in request.models or tuple(sorted(inventory.current)):
        stored = inventory.current.get(name)
        if name in inventory.foreign:
            _replace_word(
                draft,
                Deferred(name, "foreign_files", f"models/{name} was not placed by this tool; it is never deleted"),
            )
        elif stored is not None and is_pinned(name, stored, models.get(name), inventory):
            _replace_word(draft, Deferred(name, "pinned", f"it is pinned; `unpin {name}` first"))
        elif stored is not None and stored.in_use:
            _replace_word(draft, Deferred(name, "in_use", "it is in use; try again when it is free"))
        else:
            found = _all_of(name, stored, inventory)
            candidates.extend(found)
            if not found:
                _lacking(draft, name)
    for name in sorted({each.name for each in candidates if each.stored and not each.subject}):
        if inventory.is_loaded(name):
            draft.actions.append(_unload_action(name, inventory, Cause.REQUEST, models.get(name)))
    scheduler = _scheduler(draft)
    scheduler.evict_now(candidates, "requested", Cause.REQUEST)
    _write_out(draft, scheduler.bring(()))


def _all_of(name: str, stored: StoredModel | None, inventory: Inventory) -> list[Candidate]:
    """A model's revision, its older ones and its unfinished downloads."""
    after = (f"unload:{name}",) if inventory.is_loaded(name) else ()
    found = [of_model(stored, "", after=after)] if stored is not None else []
    found += [of_revision(each) for each in inventory.superseded.get(name, ()) if not each.in_use]
    return found + [of_partial(partial) for partial in inventory.observed.store.partials if partial.model == name]


def _scheduler(draft: Draft) -> Scheduler:
    used = draft.inventory.observed.store.used_bytes
    return Scheduler(
        Holdings(draft.inventory), (), limit=limit_bytes(draft.desired.cache, draft.inventory.observed), used=used
    )


def _write_out(draft: Draft, schedule: Schedule) -> None:
    policy = policy_precondition("cache", draft.desired.cache)
    draft.actions += [eviction_action(step, policy) for step in schedule.steps if isinstance(step, Eviction)]
    draft.disk = (schedule.peak_bytes, schedule.final_bytes)


def _prune(draft: Draft, roster: Roster) -> None:
    inventory = draft.inventory
    for seat in roster.seats:
        seat.gate = seat.gate or Deferred(seat.model.name, "left_out", "")
        seat.is_reserving, seat.is_forced = True, True
    leaving = [*roster.absent, *roster.unwanted]
    loaded = frozenset(stored.name for stored in leaving if inventory.is_loaded(stored.name))
    departures = Departures(
        tuple(roster.absent),
        frozenset(roster.absent_names),
        tuple(roster.unwanted),
        loaded,
        is_pruning=True,
        is_cleaning=False,
    )
    models = _models(draft)
    draft.actions += [_unload_action(name, inventory, Cause.REQUEST, models.get(name)) for name in sorted(loaded)]
    _write_out(draft, settle(roster.seats, departures, draft.desired.cache, inventory))


def _verify(draft: Draft, request: Request) -> None:
    for name in request.models or tuple(sorted(draft.inventory.current)):
        stored = draft.inventory.current.get(name)
        action = verify_all(stored, stored.files) if stored is not None else None
        if action is None:
            _lacking(draft, name)
        else:
            draft.actions.append(action)


def verify_all(stored: StoredModel, files: Sequence[StoredFile]) -> Action | None:
    """Hash these files of a model again, and say which are gone or out of place; None where there are none."""
    return verify_action(stored.name, files, stored.spec_digest, stored, Cause.REQUEST) if files else None


def _unload_action(name: str, inventory: Inventory, cause: Cause, model: DesiredModel | None) -> Action:
    stored = inventory.current.get(name)
    spec = stored.spec_digest if stored is not None else Digest("")
    return unload_action(name, memory_bytes(name, model, stored, inventory), "requested", cause, spec)


def _unload(draft: Draft, request: Request) -> None:
    inventory, models = draft.inventory, _models(draft)
    loaded = [name for name in sorted({*inventory.current, *inventory.memory}) if inventory.is_loaded(name)]
    for name in request.models or tuple(loaded):
        stored = inventory.current.get(name)
        if not inventory.is_loaded(name):
            if stored is None:
                _lacking(draft, name)
        elif stored is not None and stored.in_use:
            _replace_word(draft, Deferred(name, "in_use", "it is in use; try again when it is free"))
        else:
            draft.actions.append(_unload_action(name, inventory, Cause.REQUEST, models.get(name)))


def _adopt(draft: Draft, request: Request) -> None:
    inventory, models = draft.inventory, _models(draft)
    for name in request.models or tuple(sorted(inventory.foreign)):
        stored = inventory.foreign.get(name)
        if stored is None:
            if name not in inventory.current:
                _lacking(draft, name)
            continue
        size = sum(file.size_bytes for file in stored.files)
        spec = models[name].spec_digest if name in models else Digest("")
        draft.actions.append(
            Action(
                f"adopt:{name}",
                ActionKind.ADOPT,
                name,
                "requested",
                f"adopt {name} ({format_size(size)}): take over the files at models/{name}",
                Cause.REQUEST,
                size,
                spec_digest=spec,
            )
        )


def _rollback(draft: Draft, request: Request) -> None:
    for name in request.models:
        older = draft.inventory.superseded.get(name)
        if not older:
            if name not in draft.inventory.current:
                _lacking(draft, name)
            message = "there is no older revision in the store to go back to"
            draft.deferred.setdefault(name, Deferred(name, "no_previous_revision", message))
            if draft.deferred[name].reason != "unknown_model":
                draft.deferred[name] = Deferred(name, "no_previous_revision", message)
            continue
        draft.actions += _rollback_actions(name, older[0], draft)


def _rollback_actions(name: str, older: StoredModel, draft: Draft) -> Iterable[Action]:
    inventory = draft.inventory
    stored = inventory.current.get(name)
    size = sum(file.size_bytes for file in older.files)
    word = stored.spec_digest if stored is not None else "absent"
    yield Action(
        f"link:{name}",
        ActionKind.LINK,
        name,
        "rollback",
        f"place the older revision of {name} ({format_size(size)})",
        Cause.REQUEST,
        size,
        preconditions=(Precondition("stored", name, word),),
        spec_digest=older.spec_digest,
    )
    if inventory.is_loaded(name):
        model = _models(draft).get(name)
        unload = _unload_action(name, inventory, Cause.REQUEST, model)
        yield waiting_for(replace(unload, reason="reload"), (f"link:{name}",))
        policy = policy_precondition("memory", draft.desired.memory)
        size = memory_bytes(name, model, stored, inventory)
        load = load_action(name, size, "reload", Cause.REQUEST, older.spec_digest, policy)
        yield waiting_for(load, (f"unload:{name}",))
