"""How a model's links outside the store stand: the declared ones, and those that the tool once made."""

from collections.abc import Sequence
from dataclasses import replace

from reconciler.adapters.ledger import LedgerFacts
from reconciler.core.desired import DesiredState
from reconciler.core.stored import StoredModel
from reconciler.publishing import fact_of
from reconciler.world import World


def link_target(root: str, model: str, paths: Sequence[str]) -> str:
    """What a declared link points at: the only file of a model, or the folder of one that has several."""
    folder = f"{root}/models/{model}"
    return f"{folder}/{paths[0]}" if len(paths) == 1 else folder


def with_links(
    models: tuple[StoredModel, ...], desired: DesiredState, facts: LedgerFacts, world: World
) -> tuple[StoredModel, ...]:
    """The same models, each with how its links stand: those that are declared, and those that the tool once made."""
    own: dict[str, set[str]] = {}
    for row in facts.links:
        own.setdefault(row.model, set()).add(row.path)
    declared = {model.name: model.links for model in desired.models if model.links}
    if not own and not declared:
        return models
    linked = []
    for model in models:
        paths = {*own.get(model.name, ()), *declared.get(model.name, ())} if model.is_current else set()
        target = link_target(world.store.root, model.name, [file.path for file in model.files])
        found = tuple(
            fact_of(world, model, path, target, is_own=path in own.get(model.name, ())) for path in sorted(paths)
        )
        linked.append(replace(model, links=found) if found else model)
    return tuple(linked)
