"""What a person records by hand: pins, uses, a pause. The same whether a verb owns the store or a watch does."""

from reconciler.adapters.ledger import Ledger, ModelRow
from reconciler.core.errors import permanent
from reconciler.core.state import Override


def known(ledger: Ledger, name: str) -> ModelRow:
    """The catalogue row of a model.

    Raises:
        Failure: permanent ``unknown_model``, with the nearest name.
    """
    row = ledger.models.get(name)
    if row is None:
        from difflib import get_close_matches  # noqa: PLC0415 -- only for a slip of the pen

        near = get_close_matches(name, ledger.models.get_all(), 1)
        hint = f"did you mean {near[0]}?" if near else "reconciler status lists all"
        raise permanent("unknown_model", f"there is no model {name}", hint=hint)
    return row


def set_pin(ledger: Ledger, name: str, now: float, *, pinned: bool) -> None:
    """Keep a model whatever the manifest and the policies say, or no more."""
    known(ledger, name)
    with ledger.transaction():
        ledger.models.update(name, {"pinned": pinned})
        ledger.overrides.save(Override(name, "pin" if pinned else "unpin", now))


def touch(ledger: Ledger, name: str, at: float | None) -> None:
    """The model was used, now or ``at``."""
    known(ledger, name)
    ledger.record_use(name)
    if at is not None:
        ledger.models.update(name, {"last_used": at})


def suspend(ledger: Ledger, until: float | None) -> None:
    """Nothing is done by itself until then, or until resumed."""
    ledger.meta.suspend(float("inf") if until is None else until)
