"""``dependsOn``: a model comes only with what it depends on, and after it; what is depended on is kept as long.

Three rules, all applied around the planner proper. A dependency is at least as important as what depends on it, so that
it is neither passed over nor evicted for want of room while that stays. A model whose dependency is not in the store
and does not come by this plan waits. And each of its actions waits for those that bring its dependencies; its load
also for theirs. Nothing here applies to a model that is in the store already: it is mended, and it is not taken away.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.core.actions import Action, ActionKind, Deferred
from reconciler.core.admission import Seat
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.inventory import Inventory
from reconciler.core.roster import Roster
from reconciler.core.words import WantedState

_BRINGING = frozenset({ActionKind.DOWNLOAD, ActionKind.EXTRACT, ActionKind.LINK, ActionKind.VERIFY, ActionKind.ADOPT})


def has_dependencies(desired: DesiredState) -> bool:
    """Whether any of this matters."""
    return any(model.depends_on for model in desired.models)


def with_raised_priorities(desired: DesiredState) -> DesiredState:
    """Each dependency as important as the most important model that needs it, however indirectly."""
    models = {model.name: model for model in desired.models}
    waiting = [model.name for model in sorted(desired.models, key=lambda model: -model.priority)]
    for name in waiting:  # grows: what was raised raises its own dependencies
        model = models[name]
        if model.state is WantedState.ABSENT:
            continue
        for needed in model.depends_on:
            if needed in models and models[needed].priority < model.priority:
                models[needed] = replace(models[needed], priority=model.priority)
                waiting.append(needed)
    return replace(desired, models=tuple(models[model.name] for model in desired.models))


def hold(roster: Roster, gates: Mapping[str, Deferred]) -> None:
    """Keep the models back that a plan before found to lack a dependency."""
    for seat in roster.seats:
        gate = gates.get(seat.model.name)
        if gate is not None and seat.gate is None and is_new(seat):
            seat.gate = gate


def is_new(seat: Seat) -> bool:
    """Whether the model is to come, not only to be mended."""
    return seat.need is not None and seat.need.is_new


def unmet(roster: Roster, actions: Iterable[Action], inventory: Inventory) -> dict[str, Deferred]:
    """The models that would come without something they depend on."""
    leaving = {action.model for action in actions if action.kind is ActionKind.EVICT and not action.subject}
    there = inventory.current.keys() - leaving
    coming = {seat.model.name for seat in roster.seats if seat.is_arriving}
    found = {}
    for seat in roster.seats:
        missing = [name for name in seat.model.depends_on if name not in there and name not in coming]
        if missing and is_new(seat) and seat.is_arriving:
            found[seat.model.name] = _waits(seat.model, missing)
    return found


def _waits(model: DesiredModel, missing: list[str]) -> Deferred:
    names = ", ".join(missing)
    message = (
        f"it depends on {names}, which {'is' if len(missing) == 1 else 'are'} not in the store and cannot come now"
    )
    return Deferred(model.name, "dependency_missing", message, blocked_by=tuple(missing))


def chained(roster: Roster, actions: Iterable[Action]) -> tuple[list[Action], dict[str, Deferred]]:
    """The actions with their dependencies, in an order that keeps them; and the models for which there is none.

    Where making room ties a dependency to the model that waits for it, the dependency comes first and the model by the
    next plan.
    """
    actions = list(actions)
    bringing, loads = _ids(actions, _BRINGING), _ids(actions, {ActionKind.LOAD})
    seats = {seat.model.name: seat for seat in roster.seats if seat.model.depends_on}
    linked = [_linked(action, seats.get(action.model), bringing, loads) for action in actions]
    ordered = _sorted(linked)
    if len(ordered) == len(linked):
        return ordered, {}
    done = {action.id for action in ordered}
    stuck = [action for action in linked if action.id not in done and action.model in seats]
    return actions, {action.model: _waits(seats[action.model].model, ["a model that makes room"]) for action in stuck}


def _ids(actions: list[Action], kinds: Iterable[ActionKind]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for action in actions:
        if action.kind in kinds:
            found.setdefault(action.model, []).append(action.id)
    return found


def _linked(
    action: Action, seat: Seat | None, bringing: Mapping[str, list[str]], loads: Mapping[str, list[str]]
) -> Action:
    if seat is None:
        return action
    after: list[str] = []
    for name in seat.model.depends_on:
        if action.kind is ActionKind.LOAD:
            after += [*bringing.get(name, ()), *loads.get(name, ())]
        elif action.kind in _BRINGING and is_new(seat):
            after += bringing.get(name, ())
    return replace(action, depends_on=tuple(dict.fromkeys((*action.depends_on, *after)))) if after else action


def _sorted(actions: list[Action]) -> list[Action]:
    """As near to the given order as dependencies allow; what waits for itself is left out."""
    place = {action.id: index for index, action in enumerate(actions)}
    waits = [len({each for each in action.depends_on if each in place}) for action in actions]
    followers: dict[str, list[int]] = {}
    for index, action in enumerate(actions):
        for each in set(action.depends_on) & place.keys():
            followers.setdefault(each, []).append(index)
    ready = [index for index, count in enumerate(waits) if count == 0]
    ordered = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(actions[index])
        for follower in followers.get(actions[index].id, ()):
            waits[follower] -= 1
            if waits[follower] == 0:
                heapq.heappush(ready, follower)
    return ordered
