"""What a person records by hand: pins, uses, what is held back. The same whether a verb owns the store or a watch does.

A *paused* model is not downloaded until it is resumed, whatever the manifest says; a *cancelled* one until then, or
until its entry asks for something else. What a model needs from this machine alone goes on.
"""

from collections.abc import Collection, Iterable

from reconciler.adapters.ledger import Ledger, ModelRow
from reconciler.core.desired import DesiredState
from reconciler.core.errors import unknown_model
from reconciler.core.observed import HOLDS, Override
from reconciler.core.words import Digest
from reconciler.observe.partials import files_told, partial_facts
from reconciler.world import World


def known(ledger: Ledger, name: str) -> ModelRow:
    """The catalogue row of a model.

    Raises:
        Failure: permanent ``unknown_model``, with the nearest name.
    """
    row = ledger.models.get(name)
    if row is None:
        raise unknown_model(name, ledger.models.get_all())
    return row


def set_pin(ledger: Ledger, desired: DesiredState, name: str, now: float, *, pinned: bool) -> None:
    """Keep a model whatever the manifest and the policies say, or no more; also one that was never here yet.

    Raises:
        Failure: permanent ``unknown_model`` where neither the manifest nor the ledger knows it.
    """
    if name not in {model.name for model in desired.models}:
        known(ledger, name)
    with ledger.transaction():
        ledger.models.update(name, {"pinned": pinned})
        ledger.overrides.save(Override(name, "pin" if pinned else "unpin", now))


def touch(ledger: Ledger, name: str, at: float | None) -> None:
    """The model was used, now or ``at``."""
    known(ledger, name)
    ledger.usage.record(name, at=at)


def suspend(ledger: Ledger, until: float | None) -> None:
    """Nothing is done by itself until then, or until resumed."""
    ledger.meta.suspend(float("inf") if until is None else until)


def hold(ledger: Ledger, desired: DesiredState, names: Iterable[str], now: float, kind: str) -> None:
    """Hold back the downloads of these models: ``kind`` is pause or cancel.

    Raises:
        Failure: permanent ``unknown_model`` where neither the manifest nor the ledger knows one; then none is held.
    """
    declared = {model.name: model.spec_digest for model in desired.models}
    wanted = list(names)
    catalogue = ledger.models.get_all()
    for name in wanted:
        if name not in declared and name not in catalogue:
            raise unknown_model(name, {*declared, *catalogue})
    with ledger.transaction():
        for name in wanted:
            spec = declared.get(name, Digest("")) if kind == "cancel" else Digest("")
            ledger.overrides.save(Override(name, kind, now, spec))


def release(ledger: Ledger, names: Collection[str]) -> None:
    """Go on with these models; with none named, with everything, and the suspension ends."""
    with ledger.transaction():
        if not names:
            ledger.meta.resume()
        for override in ledger.overrides.get_all():
            if override.kind in HOLDS and (not names or override.model in names):
                ledger.overrides.clear(override.model, kind=override.kind)


def discard(world: World, ledger: Ledger, desired: DesiredState, names: Collection[str]) -> None:
    """Delete what downloads of these models left unfinished. Nobody may be working on them."""
    for partial in partial_facts(world.store.scan(), desired, files_told(ledger.snapshot())):
        if partial.model in names:
            world.store.remove_partial(partial.key)
