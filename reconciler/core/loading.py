"""Which models are loaded and unloaded by a plan: the models' wishes, brought before :mod:`reconciler.core.memory`.

A model can be loaded where its files are right, or come by this plan. A loaded model whose files are replaced is
unloaded once the new ones are placed, then loaded again.
"""

from dataclasses import dataclass, field

from reconciler.core.actions import Action, Cause, Deferred, Request
from reconciler.core.admission import Seat
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.gates import failure_gate
from reconciler.core.inventory import Inventory, stored_bytes
from reconciler.core.memory import Load, Verdict, decide, estimate_bytes
from reconciler.core.roster import wants_loaded
from reconciler.core.steps import load_action, policy_precondition, unload_action
from reconciler.core.stored import StoredModel
from reconciler.core.targets import target_files
from reconciler.core.units import format_size
from reconciler.core.words import Digest, Priority


@dataclass(slots=True)
class Loading:
    """What the memory section of a plan comes to.

    ``first`` are unloads done before all else; ``after`` are unloads and loads of a model, done after its files came.
    """

    first: list[Action] = field(default_factory=list)
    after: list[Action] = field(default_factory=list)
    deferred: dict[str, Deferred] = field(default_factory=dict)


def memory_bytes(name: str, model: DesiredModel | None, stored: StoredModel | None, inventory: Inventory) -> int:
    """RAM of a model: what it holds, else as declared, measured, or estimated by its format and size."""
    if name in inventory.memory:
        return inventory.memory[name]
    if model is not None and model.memory_bytes is not None:
        return model.memory_bytes
    if stored is not None and stored.memory_bytes is not None:
        return stored.memory_bytes
    if stored is not None:
        return estimate_bytes(stored.format, stored_bytes(stored))
    files = target_files(model, inventory) if model is not None else ()
    known = (
        model.format
        if model is not None and model.format != "auto"
        else _format_by_name(files[0].path if files else "")
    )
    return estimate_bytes(known, sum(file.size_bytes or 0 for file in files))


def _format_by_name(path: str) -> str:
    return path.rpartition(".")[2].lower()


def wishes(
    desired: DesiredState,
    seats: list[Seat],
    inventory: Inventory,
    only: tuple[str, ...],
    evicted: frozenset[str] | None = None,
) -> tuple[list[Load], dict[str, Deferred]]:
    """Everything that is loaded or wants to be, and the loads that cannot be tried now.

    ``evicted`` are the models that leave the store; None while that is not settled: then nothing that is still to come
    counts.
    """
    by_name = {seat.model.name: seat for seat in seats}
    models = {model.name: model for model in desired.models}
    loaded = {name for name in {*inventory.current, *inventory.memory} if inventory.is_loaded(name)}
    wanted = {name for name in {*by_name, *inventory.current} if wants_loaded(name, _wanted(name, by_name), inventory)}
    loads, deferred = [], {}
    for name in sorted(loaded | wanted):
        stored, model = inventory.current.get(name), models.get(name)
        is_left_out = bool(only) and name not in only
        is_loaded = name in loaded
        gate = _gate(name, model, stored, inventory) if name in wanted else None
        if not is_loaded and (is_left_out or not _is_coming(name, by_name, stored, evicted)):
            continue
        if not is_loaded and gate is not None:
            deferred[name] = gate
            continue
        priority = (
            model.priority
            if model
            else (stored.priority if stored and stored.priority is not None else Priority.NORMAL)
        )
        is_in_use = stored is not None and stored.in_use
        is_held = is_loaded and (is_left_out or is_in_use or _is_unload_failing(stored, inventory))
        is_leaving = is_loaded and (name not in wanted or name in (evicted or ()))
        size = memory_bytes(name, model, stored, inventory)
        loads.append(Load(name, priority, size, is_loaded, is_held, is_leaving))
    return loads, deferred


def _wanted(name: str, by_name: dict[str, Seat]) -> DesiredModel | None:
    return by_name[name].model if name in by_name else None


def _is_coming(name: str, by_name: dict[str, Seat], stored: StoredModel | None, evicted: frozenset[str] | None) -> bool:
    """Whether the right files are there once the plan is done."""
    seat = by_name.get(name)
    if seat is None:
        return stored is not None and name not in (evicted or ())
    if evicted is None or seat.need is None:
        return seat.need is None and name not in (evicted or ())
    return seat.is_arriving


def _is_unload_failing(stored: StoredModel | None, inventory: Inventory) -> bool:
    return stored is not None and failure_gate(stored.name, stored.spec_digest, inventory, ("unload",)) is not None


def _gate(name: str, model: DesiredModel | None, stored: StoredModel | None, inventory: Inventory) -> Deferred | None:
    """What keeps a model from being loaded now: its runtime, or a past failure."""
    spec = model.spec_digest if model else stored.spec_digest if stored else Digest("")
    runtime = inventory.runtimes.get(model.runtime if model else "default")
    if runtime is not None and not runtime.is_reachable:
        message = f"runtime {runtime.name} does not answer{': ' + runtime.message if runtime.message else ''}"
        return Deferred(name, "runtime_unreachable", message)
    return failure_gate(name, spec, inventory, ("load",))


def unloading(desired: DesiredState, seats: list[Seat], inventory: Inventory, only: tuple[str, ...]) -> frozenset[str]:
    """Loaded models that are unloaded whatever comes."""
    loads, _ = wishes(desired, seats, inventory, only)
    if not any(load.is_loaded for load in loads):
        return frozenset()
    return frozenset(name for name, _ in decide(loads, inventory.observed.memory, desired.memory).unload)


def plan_loading(
    desired: DesiredState, seats: list[Seat], inventory: Inventory, request: Request, evicted: frozenset[str]
) -> Loading:
    """The loads and unloads of a plan."""
    requested = frozenset(request.models)
    loads, deferred = wishes(desired, seats, inventory, request.only, evicted)
    verdict = decide(loads, inventory.observed.memory, desired.memory)
    loading = Loading(deferred=deferred)
    if not (verdict.unload or verdict.load or verdict.refused or verdict.stay):
        return loading
    by_name = {load.name: load for load in loads}
    specs = {seat.model.name: seat.model.spec_digest for seat in seats}
    for name, reason in verdict.unload:
        spec = inventory.current[name].spec_digest if name in inventory.current else Digest("")
        cause = Cause.PRESSURE if reason != "not_wanted_loaded" else Cause.INTENT
        cause = Cause.REQUEST if name in requested and cause is Cause.INTENT else cause
        loading.first.append(unload_action(name, by_name[name].bytes, reason, cause, spec))
    policy = policy_precondition("memory", desired.memory)
    for name in verdict.load:
        spec = specs.get(name) or inventory.current[name].spec_digest
        cause = Cause.REQUEST if name in requested else Cause.INTENT
        reason = "requested" if name in requested else _wish(name, inventory)
        loading.after.append(load_action(name, by_name[name].bytes, reason, cause, spec, policy))
    for seat in seats:
        is_wanted = wants_loaded(seat.model.name, seat.model, inventory)
        if is_wanted and seat.model.name in verdict.stay and is_reloaded(seat):
            name, size = seat.model.name, by_name[seat.model.name].bytes
            cause = Cause.INTENT if seat.need and seat.need.is_new else Cause.DRIFT
            old = seat.stored.spec_digest if seat.stored else Digest("")
            loading.after.append(unload_action(name, size, "reload", cause, old))
            loading.after.append(load_action(name, size, "reload", cause, seat.model.spec_digest, policy))
    for name, reason, available in verdict.refused:
        loading.deferred[name] = _refusal(by_name[name], reason, available, verdict)
    return loading


def _wish(name: str, inventory: Inventory) -> str:
    """Who wants the model loaded: a person, or the manifest."""
    return "loaded_by_hand" if inventory.load_overrides.get(name) else "wanted_loaded"


def is_reloaded(seat: Seat) -> bool:
    """Whether the files of a loaded model are replaced by this plan."""
    need = seat.need
    return need is not None and seat.is_arriving and bool(need.fetch or need.copy or need.relink)


def _refusal(load: Load, reason: str, available: int, verdict: Verdict) -> Deferred:
    message = f"loading needs {format_size(load.bytes)} of memory and {format_size(available)} can be had"
    if reason == "memory_pressure":
        message = f"memory is short; {message}"
    return Deferred(load.name, reason, message, load.bytes, available, tuple(sorted(verdict.stay)))
