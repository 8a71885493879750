"""``load`` and ``unload``: into and out of a runtime. Success is what the runtime was observed to hold afterwards."""

from reconciler.core.actions import Action
from reconciler.core.errors import permanent, transient
from reconciler.core.observed import FailureFact
from reconciler.core.policies import RuntimeSpec
from reconciler.execute.work import Done, Work
from reconciler.observe.residents import runtime_model

PRESSURE_PAUSE_S = 60.0


def load(action: Action, work: Work) -> Done:
    """Load the model as it is placed now into its runtime."""
    desired = work.models.get(action.model)
    spec = _runtime(work, desired.runtime if desired else "default")
    stored = work.placed_now(action.model)
    if stored is None:
        raise transient("not_placed", f"{action.model} is not placed, so it cannot be loaded", hint="run apply again")
    model = runtime_model(work.world, stored, desired.memory_bytes if desired else None)
    held = work.world.runtime(spec).load(model, work.cancel_of(action.model))
    work.ledger.record_load(action.model, spec.name, held, message=action.message)
    return Done(held)


def unload(action: Action, work: Work) -> Done:
    """Let the model go from the runtime that holds it."""
    loads = [load for load in work.ledger.loads.get_all() if load.model == action.model]
    stored = work.placed_now(action.model)
    if not loads or stored is None:
        work.ledger.record_unload(action.model)
        return Done(is_skipped=True, message="it is not loaded")
    for load in loads:
        work.world.runtime(_runtime(work, load.runtime)).unload(
            runtime_model(work.world, stored), work.cancel_of(action.model)
        )
    work.ledger.record_unload(action.model, message=action.message)
    if action.reason == "memory_pressure":
        _hold_back(action.model, work)
    return Done(sum(load.size_bytes for load in loads))


def _hold_back(name: str, work: Work) -> None:
    """Memory was short: the model is not loaded again at the next glimpse of free memory, but after a while."""
    desired = work.models.get(name)
    if desired is not None:
        message = f"{name} was unloaded because memory was short"
        retry_at = work.world.now() + PRESSURE_PAUSE_S
        work.ledger.failures.save(
            FailureFact(name, desired.spec_digest, "transient", "memory_pressure", message, 1, retry_at, step="load")
        )


def _runtime(work: Work, name: str) -> RuntimeSpec:
    spec = next((spec for spec in work.desired.runtimes if spec.name == name), None)
    if spec is None:
        raise permanent("unknown_runtime", f"there is no runtime {name}", hint="declare it under runtimes")
    return spec
