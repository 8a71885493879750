"""What the runtimes hold of what this tool loaded into them, and a stored model as a runtime sees it."""

from reconciler.adapters.ledger import LedgerFacts
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure
from reconciler.core.observed import RuntimeFact
from reconciler.core.ports import RuntimeModel
from reconciler.core.stored import StoredModel
from reconciler.core.words import Role
from reconciler.world import World


def observe_runtimes(
    world: World, desired: DesiredState, models: tuple[StoredModel, ...], facts: LedgerFacts
) -> tuple[RuntimeFact, ...]:
    """Ask each runtime about the models that this tool loaded into it. One that does not answer holds what it held."""
    loads: dict[str, list[str]] = {}
    for load in facts.loads:
        loads.setdefault(load.runtime, []).append(load.model)
    stored = {model.name: model for model in models if model.is_current and not model.is_foreign}
    found = []
    for spec in desired.runtimes:
        names = [name for name in loads.get(spec.name, ()) if name in stored]
        asked = tuple(runtime_model(world, stored[name]) for name in names)
        try:
            held = world.runtime(spec).observe(asked) if asked else {}
            found.append(RuntimeFact(spec.name, spec.type, loaded=tuple(sorted(held.items()))))
        except Failure as failure:
            remembered = tuple(sorted((load.model, load.size_bytes) for load in facts.loads if load.model in names))
            found.append(RuntimeFact(spec.name, spec.type, False, remembered, failure.message))
    return tuple(found)


def runtime_model(world: World, stored: StoredModel, declared_bytes: int | None = None) -> RuntimeModel:
    """A stored model as a runtime sees it: absolute paths, the primary file first."""
    folder = world.store.placed_path(stored.name)
    files = sorted(stored.files, key=lambda file: (file.role is not Role.PRIMARY, file.path))
    return RuntimeModel(
        name=stored.name,
        files=tuple((f"{folder}/{file.path}", file.role) for file in files),
        format=stored.format,
        size_bytes=sum(file.size_bytes for file in stored.files),
        memory_bytes=declared_bytes,
        folder=folder,
    )
