"""The decision: what to do, given what is wanted and what was found. Pure; equal inputs give equal plans.

:func:`plan` reads as its table of contents: who is who (:mod:`~reconciler.core.roster`), the disk
(:mod:`~reconciler.core.disk`: admission, eviction, order), the memory (:mod:`~reconciler.core.loading`), the actions
written out (:mod:`~reconciler.core.steps`), and the rule that no model vanishes (:mod:`~reconciler.core.draft`).
One-shot verbs (:mod:`~reconciler.core.verbs`) end in the same draft.

Order of execution: unloads, what leaves at once, small mending, then model after model what makes room for it and what
brings it, adoptions, and last the loads.
"""

from dataclasses import replace

from reconciler.core.actions import Action, ActionKind, Deferred, Plan, Request
from reconciler.core.admission import Seat
from reconciler.core.dependencies import chained, has_dependencies, hold, unmet, with_raised_priorities
from reconciler.core.desired import DesiredState, Diagnostic
from reconciler.core.disk import Departures, settle
from reconciler.core.draft import Draft, no_room
from reconciler.core.inventory import Inventory
from reconciler.core.loading import plan_loading, unloading
from reconciler.core.observed import ObservedState
from reconciler.core.roster import OTHERS_ONLY, Roster, enrol
from reconciler.core.schedule import Eviction, Schedule
from reconciler.core.steps import eviction_action, need_actions, policy_precondition, waiting_for
from reconciler.core.verbs import WHOLE, narrow, one_shot, verify_all
from reconciler.core.words import Condition

_NOTHING = Request()


def plan(desired: DesiredState, observed: ObservedState, request: Request = _NOTHING) -> Plan:
    """What to do so that ``observed`` becomes ``desired``; ``request`` is what a person asked of this one run."""
    narrowed, scope = narrow(observed, request)
    inventory = Inventory(narrowed)
    if scope.verb not in WHOLE:
        draft = one_shot(desired, inventory, enrol(desired, inventory, scope), scope)
    elif has_dependencies(desired):
        draft = _draft_with_dependencies(desired, inventory, scope)
    else:
        draft = _draft(desired, inventory, enrol(desired, inventory, scope), scope)
    if request.verb == "load":
        _answer(draft, request.models)
    return draft.finish(observed, request)


def _answer(draft: Draft, asked: tuple[str, ...]) -> None:
    """Whoever asks for a model is told of it, also where there is none."""
    told = {action.model for action in draft.actions} | draft.satisfied.keys() | draft.deferred.keys()
    for name in asked:
        if name in draft.inventory.foreign:
            draft.satisfied.pop(name, None)
            message = f"models/{name} was not placed by this tool; `adopt {name}` takes it over"
            draft.defer(Deferred(name, "foreign_files", message))
        elif name not in told:
            draft.defer(Deferred(name, "unknown_model", "neither in the manifest nor in the store"))


def _draft_with_dependencies(desired: DesiredState, inventory: Inventory, request: Request) -> Draft:
    """Plan; hold back what would come without something it depends on; plan again, until nothing is to be held back."""
    raised = with_raised_priorities(desired)
    gates: dict[str, Deferred] = {}
    while True:
        roster = enrol(raised, inventory, request)
        hold(roster, gates)
        draft = _draft(raised, inventory, roster, request)
        fresh = unmet(roster, draft.actions, inventory)
        if not fresh:
            draft.actions, fresh = chained(roster, draft.actions)
        if not fresh.keys() - gates.keys():
            return draft
        gates |= fresh


def _draft(desired: DesiredState, inventory: Inventory, roster: Roster, request: Request) -> Draft:
    """The whole plan, in order of execution."""
    draft = Draft(desired, inventory, roster)
    going = unloading(desired, roster.seats, inventory, request.only)
    for seat in roster.seats:
        name = seat.model.name
        seat.is_forced = seat.is_forced or (seat.stored is not None and inventory.is_loaded(name) and name not in going)
    departures = Departures(
        tuple(roster.absent),
        frozenset(roster.absent_names),
        tuple(stored for stored in roster.unwanted if not inventory.is_loaded(stored.name) or stored.name in going),
        going,
        is_pruning=request.prune,
        is_cleaning=not request.only,
        keeps_partials=request.keeps_partials,
    )
    schedule = settle(roster.seats, departures, desired.cache, inventory)
    draft.disk = (schedule.peak_bytes, schedule.final_bytes)
    loading = plan_loading(desired, roster.seats, inventory, request, schedule.evicted)
    draft.actions += loading.first
    _write_disk(draft, schedule, roster)
    if request.verb == "repair":
        _write_repair(draft, request)
    _write_loads(draft, loading.after, [action.id for action in loading.first])
    for seat in roster.seats:
        _place(seat, draft)
    for deferred in loading.deferred.values():
        draft.defer(deferred)
    return draft


def _write_disk(draft: Draft, schedule: Schedule, roster: Roster) -> None:
    """Evictions, small mending of what cannot be brought now, arrivals."""
    policy = policy_precondition("cache", draft.desired.cache)
    mending = [seat for seat in roster.seats if seat.need is not None and not seat.is_arriving]
    mended = False
    for step in schedule.steps:
        if isinstance(step, Eviction):
            draft.actions.append(eviction_action(step, policy))
            continue
        if not mended:
            _write_mending(draft, mending, schedule.evicted)
            mended = True
        draft.actions += need_actions(step.need, step.after)
    if not mended:
        _write_mending(draft, mending, schedule.evicted)


def _write_mending(draft: Draft, seats: list[Seat], evicted: frozenset[str]) -> None:
    """What can be done for a model whose bytes cannot come now: verify and place what is there."""
    for seat in seats:
        is_held_back = seat.gate is not None and (seat.gate.is_failed or seat.gate.reason == OTHERS_ONLY)
        if seat.need is None or is_held_back or seat.model.name in evicted or seat.need.is_new:
            continue
        rest = replace(seat.need, fetch=(), copy=(), relink=(), links=(), is_extracted=False)
        draft.actions += need_actions(rest, ())


def _write_repair(draft: Draft, request: Request) -> None:
    """``verify --repair``: every file is hashed, but for those that are gone and come again; what is bad comes too."""
    kept = [action for action in draft.actions if action.kind is not ActionKind.VERIFY]
    coming = {action.model for action in kept}
    models = [stored for name in request.only if (stored := draft.inventory.current.get(name)) is not None]
    checks = [
        verify_all(
            stored,
            [file for file in stored.files if file.condition is not Condition.MISSING or stored.name not in coming],
        )
        for stored in models
    ]
    draft.actions = [*(check for check in checks if check is not None), *kept]


def _write_loads(draft: Draft, actions: list[Action], unloads: list[str]) -> None:
    """Loads come last; each after all that brings its model, and after the unloads that make room for it."""
    own: dict[str, list[str]] = {}
    for action in draft.actions:
        if action.kind not in {ActionKind.EVICT, ActionKind.UNLOAD}:
            own.setdefault(action.model, []).append(action.id)
    for action in actions:
        after = list(own.get(action.model, ()))
        if action.kind is ActionKind.LOAD:
            after += [f"unload:{action.model}"] if action.reason == "reload" else unloads
        draft.actions.append(waiting_for(action, after))


def _place(seat: Seat, draft: Draft) -> None:
    """Say of one wanted model that it is satisfied or deferred, where it has no action."""
    need = seat.need
    if need is None:
        draft.satisfy(seat)
        return
    if seat.gate is not None:
        draft.defer(seat.gate)
    elif not seat.is_arriving:
        draft.defer(no_room(seat))
    if need.blocked_links:
        paths = ", ".join(need.blocked_links)
        message = f"something that was not made by this tool stands at {paths}; it is never replaced"
        draft.diagnostics.append(Diagnostic("link_blocked", f"{seat.model.name}: {message}"))
        draft.defer(Deferred(seat.model.name, "link_blocked", message))
