"""Every model of the manifest and of the store, sorted once by what the manifest means for it.

A model is *wanted* (it has a :class:`Seat`), *leaving* (absent by the manifest, or unwanted cache), or it stays as it
is for a reason (pinned, in use, foreign). Nothing about room or memory is decided here, only who is who.
"""

from dataclasses import dataclass, field

from reconciler.core.actions import Deferred, Request, Satisfied
from reconciler.core.admission import Seat
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.digests import links_digest
from reconciler.core.gates import failure_gate, network_gate, steps_of
from reconciler.core.inventory import Inventory
from reconciler.core.observed import DeviceFacts
from reconciler.core.selector import labelled, why_not_here
from reconciler.core.stored import StoredModel
from reconciler.core.targets import assess
from reconciler.core.words import EvictionMode, Priority, WantedState

OTHERS_ONLY = "not_selected_by_only"  # a model with work to do that --only or a verb left out; not counted as deferred


@dataclass(slots=True)
class Roster:
    """Who is who. ``kept`` and ``deferred`` are final; seats and departures go on to be settled."""

    seats: list[Seat] = field(default_factory=list)
    absent: list[StoredModel] = field(default_factory=list)
    absent_names: set[str] = field(default_factory=set)
    unwanted: list[StoredModel] = field(default_factory=list)
    kept: dict[str, Satisfied] = field(default_factory=dict)
    deferred: dict[str, Deferred] = field(default_factory=dict)

    def keep(self, name: str, reason: str, message: str) -> None:
        """The model is as it should be, or left alone."""
        self.kept[name] = Satisfied(name, reason, message)

    def defer(self, name: str, reason: str, message: str) -> None:
        """Not now."""
        self.deferred[name] = Deferred(name, reason, message)


def enrol(desired: DesiredState, inventory: Inventory, request: Request) -> Roster:
    """Sort every model of the manifest and of the store."""
    roster = Roster()
    wanted_names = set()
    device = labelled(inventory.observed.device, desired.labels)
    for model in sorted(desired.models, key=lambda model: model.name):
        wanted_names.add(model.name)
        if model.name in inventory.foreign:
            hint = f"files that were not placed here stand at models/{model.name}; `adopt {model.name}` takes them over"
            roster.defer(model.name, "foreign_files", hint)
        elif sentence := unselected(model, device, inventory):
            _enrol_unwanted(model.name, "not_selected", sentence, roster, inventory, request)
        elif model.state is WantedState.ABSENT:
            _enrol_absent(model, roster, inventory, request)
        else:
            roster.seats.append(seat_of(model, desired, inventory, request))
    for name in sorted({*inventory.current, *inventory.superseded} - wanted_names):
        _enrol_unwanted(name, "unwanted", "not in the manifest; kept as cache", roster, inventory, request)
    for name in sorted(inventory.foreign.keys() - wanted_names):
        roster.keep(name, "foreign", f"not placed by this tool and not wanted; `adopt {name}` takes it over")
    return roster


def unselected(model: DesiredModel, device: DeviceFacts, inventory: Inventory) -> str:
    """Why the model is not for this machine, ``device`` with all its labels; empty where it is."""
    observed = inventory.observed
    return why_not_here(model, device, observed.memory, observed.disk)


def is_pinned(name: str, stored: StoredModel, model: DesiredModel | None, inventory: Inventory) -> bool:
    """Whether the model is never evicted: pinned by hand, in the ledger, or by the manifest."""
    by_hand = inventory.pin_overrides.get(name)
    if by_hand is not None:
        return by_hand
    return stored.pinned or (model is not None and model.pinned)


def wants_loaded(name: str, model: DesiredModel | None, inventory: Inventory) -> bool:
    """Whether the model should be in a runtime; what was done by hand wins over the manifest."""
    by_hand = inventory.load_overrides.get(name)
    if by_hand is not None:
        return by_hand
    return model is not None and model.state is WantedState.LOADED


def seat_of(model: DesiredModel, desired: DesiredState, inventory: Inventory, request: Request) -> Seat:
    """A wanted model with what it lacks and what keeps it from being brought now."""
    stored = inventory.current.get(model.name)
    need = assess(model, inventory, stored)
    seat = Seat(model, stored, need)
    if stored is not None:
        is_untouchable = model.priority is Priority.CRITICAL and desired.cache.mode is EvictionMode.CONSERVATIVE
        is_left_out = bool(request.only) and model.name not in request.only
        seat.is_forced = (
            is_untouchable or is_left_out or stored.in_use or is_pinned(model.name, stored, model, inventory)
        )
    if need is not None:
        seat.gate = failure_gate(model.name, model.spec_digest, inventory, steps_of(need))
        if seat.gate is None and need.links:
            seat.gate = failure_gate(model.name, links_digest(model), inventory, ("link",))
        if seat.gate is None and request.only and model.name not in request.only:
            seat.gate = Deferred(model.name, OTHERS_ONLY, "it has work to do, but it was not asked for")
        if (
            seat.gate is None
            and need.is_new
            and stored is not None
            and stored.in_use
            and inventory.is_loaded(model.name)
        ):
            message = "the loaded revision is in use; the new one comes when it is free"
            seat.gate = Deferred(model.name, "in_use", message)
        seat.gate = seat.gate or network_gate(need, desired.network, inventory, request)
        is_given_up = seat.gate is not None and (
            (seat.gate.is_failed and seat.gate.retry_at is None)
            or seat.gate.reason in {"download_never", "download_manual", "paused", "cancelled"}
        )
        seat.is_reserving = seat.gate is not None and not is_given_up
    return seat


def _enrol_absent(model: DesiredModel, roster: Roster, inventory: Inventory, request: Request) -> None:
    name, stored = model.name, inventory.current.get(model.name)
    if stored is None:
        roster.absent_names.add(name)
        roster.keep(name, "absent", "not in the store, as the manifest says")
    elif request.only and name not in request.only:
        roster.defer(name, OTHERS_ONLY, "the manifest says absent, but it was not asked for")
    elif is_pinned(name, stored, model, inventory):
        roster.defer(name, "pinned", f"the manifest says absent, but it is pinned; `unpin {name}` lets it go")
    elif stored.in_use:
        roster.defer(name, "in_use", "the manifest says absent, but it is in use; it goes when it is free")
    elif gate := failure_gate(name, stored.spec_digest, inventory, ("evict", "unload")):
        roster.deferred[name] = gate
    else:
        roster.absent.append(stored)
        roster.absent_names.add(name)


def _enrol_unwanted(
    name: str, reason: str, message: str, roster: Roster, inventory: Inventory, request: Request
) -> None:
    stored = inventory.current.get(name)
    if stored is None:
        roster.keep(name, reason, message)
    elif is_pinned(name, stored, None, inventory):
        roster.keep(name, "pinned", f"{message}; pinned")
    elif stored.in_use and request.prune:
        roster.defer(name, "in_use", f"{message}; it goes when nothing uses it any more")
    elif stored.in_use:
        roster.keep(name, "in_use", f"{message}; in use")
    elif wants_loaded(name, None, inventory):
        roster.keep(name, "loaded_by_hand", f"{message}; loaded by hand")
    else:
        roster.keep(name, reason, message)
        is_left_out = inventory.is_loaded(name) and bool(request.only) and name not in request.only
        if not is_left_out and failure_gate(name, stored.spec_digest, inventory, ("evict", "unload")) is None:
            roster.unwanted.append(stored)
