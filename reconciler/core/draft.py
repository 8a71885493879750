"""A plan in the making, and the rule that nothing vanishes: every model ends in exactly one list.

A model with an action of its own is in ``actions``, and what kept the rest of its work back becomes a diagnostic.
Evicting a leftover (an older revision, an unfinished download, a loose blob) does not speak for its model.
"""

from collections.abc import Iterable

from reconciler.core.actions import Action, ActionKind, Deferred, Plan, Request, Satisfied
from reconciler.core.admission import Seat
from reconciler.core.desired import DesiredState, Diagnostic
from reconciler.core.guard import guards
from reconciler.core.inventory import Inventory
from reconciler.core.observed import ObservedState
from reconciler.core.roster import OTHERS_ONLY, Roster, wants_loaded
from reconciler.core.space import limit_bytes
from reconciler.core.steps import waiting_only_for
from reconciler.core.summary import summarize
from reconciler.core.units import format_size


class Draft:
    """Actions in order of execution, and what is said of each model that has none."""

    def __init__(self, desired: DesiredState, inventory: Inventory, roster: Roster) -> None:
        self.desired = desired
        self.inventory = inventory
        self.actions: list[Action] = []
        self.deferred: dict[str, Deferred] = dict(roster.deferred)
        self.satisfied: dict[str, Satisfied] = dict(roster.kept)
        self.diagnostics: list[Diagnostic] = []
        used = inventory.observed.store.used_bytes
        self.disk = (used, used)

    def satisfy(self, seat: Seat) -> None:
        """The model is as the manifest asks."""
        name = seat.model.name
        is_loaded = self.inventory.is_loaded(name) and wants_loaded(name, seat.model, self.inventory)
        reason = "loaded" if is_loaded else "present"
        self.satisfied[name] = Satisfied(
            name, reason, "loaded as it should be" if is_loaded else "in the store, verified"
        )

    def leave_out(self, seat: Seat) -> None:
        """The model was not asked for this time."""
        name = seat.model.name
        if seat.need is None:
            self.satisfy(seat)
        else:
            self.deferred[name] = Deferred(name, OTHERS_ONLY, "it has work to do, but it was not asked for")

    def defer(self, deferred: Deferred) -> None:
        """Not now; the first reason given stays."""
        self.deferred.setdefault(deferred.model, deferred)

    def finish(self, observed: ObservedState, request: Request) -> Plan:
        """The whole plan."""
        ids = {action.id for action in self.actions}
        actions = tuple(waiting_only_for(action, ids) for action in self.actions)
        acting = {action.model for action in actions}
        owning = {action.model for action in actions if not (action.kind is ActionKind.EVICT and action.subject)}
        deferred = tuple(self.deferred[name] for name in sorted(self.deferred.keys() - owning))
        done = self.satisfied.keys() - acting - self.deferred.keys()
        satisfied = tuple(self.satisfied[name] for name in sorted(done))
        held_back = [self.deferred[name] for name in sorted(self.deferred.keys() & owning)]
        hidden = [each for each in held_back if each.reason != OTHERS_ONLY]
        diagnostics = [*self.desired.diagnostics, *self.diagnostics, *map(_diagnosed, hidden)]
        brakes = guards(actions, self.desired.cache, self.inventory, request)
        limit = limit_bytes(self.desired.cache, observed)
        summary = summarize(
            (actions, deferred, satisfied, brakes), (*self.disk, limit), observed.throughput_bytes_per_s, hidden
        )
        return Plan(
            self.desired.digest,
            observed.digest,
            observed.taken_at,
            actions,
            deferred,
            satisfied,
            summary,
            brakes,
            tuple(dict.fromkeys(diagnostics)),
            request,
        )


def _diagnosed(deferred: Deferred) -> Diagnostic:
    is_load = deferred.reason in {"no_memory", "memory_pressure", "runtime_unreachable"}
    reason = "load_deferred" if is_load else deferred.reason
    return Diagnostic(reason, f"{deferred.model}: {deferred.message}")


def no_room(seat: Seat) -> Deferred:
    """Why a wanted model cannot be brought: what it needs, what could be had, what is in the way."""
    need = seat.need
    size = need.size_bytes if need is not None else None
    if need is not None and need.temporary_bytes:
        size = need.room_bytes + need.temporary_bytes
    message = f"no room: needs {format_size(size or 0)} and {format_size(seat.available_bytes)} can be had"
    if seat.blocked_by:
        message = f"{message}; before it: {_listed(seat.blocked_by)}"
    return Deferred(seat.model.name, "no_room", message, size, seat.available_bytes, seat.blocked_by)


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
