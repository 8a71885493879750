"""What only the running watch knows, as one value: it goes over the control socket and into ``status``.

A status of a machine is computed where it is asked for, from the store and the ledger, whoever asks; a running watch
adds these facts: which models a pass works on and how far it is, when the next run is, how well it hears, why the
newest manifest is not in force, and since when each condition has been as it is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from reconciler.adapters.ledger import Ledger, ModelRow
from reconciler.core.lifecycle import Lifecycle
from reconciler.core.remembered import ConditionStatus, Remembered, RememberedModel, SourceFact, WatchFact
from reconciler.core.state import DesiredState
from reconciler.core.status import Status, status
from reconciler.planning import Pass, plan_pass
from reconciler.world import World

NOTHING = DesiredState(models=())


@dataclass(frozen=True, slots=True)
class Live:
    """The facts. ``progress`` is (model, bytes done, bytes in all or None, bytes a second or None)."""

    pid: int = 0
    is_running: bool = False
    running: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    next_run_at: float | None = None
    manifest_problem: str = ""
    source: SourceFact = SourceFact()
    watch: WatchFact | None = None
    conditions: tuple[ConditionStatus, ...] = ()
    progress: tuple[tuple[str, int, int | None, float | None], ...] = ()

    def to_document(self) -> dict[str, Any]:
        """As the socket sends it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Live":
        """As the socket sent it; keys that a newer watch may add are left out."""
        known = {key: value for key, value in document.items() if key in cls.__dataclass_fields__}
        for key, kind in (("source", SourceFact), ("watch", WatchFact)):
            known[key] = kind(**known[key]) if known.get(key) else cls.__dataclass_fields__[key].default
        known["conditions"] = tuple(ConditionStatus(**row) for row in known.get("conditions", ()))
        known["progress"] = tuple(tuple(row) for row in known.get("progress", ()))
        known["running"], known["held"] = tuple(known.get("running", ())), tuple(known.get("held", ()))
        return cls(**known)


NOBODY = Live()


def see_status(world: World, ledger: Ledger, desired: DesiredState | None, live: Live = NOBODY) -> Status:
    """The status now, with what a running watch adds."""
    return status_of(desired, plan_pass(world, desired or NOTHING, ledger, offline=True), live)


def status_of(desired: DesiredState | None, made: Pass, live: Live) -> Status:
    """The status at the moment of a plan."""
    facts = made.sight.facts
    remembered = Remembered(
        observed_generation=facts.meta.generation,
        models=tuple(_remembered(row) for row in facts.models.values()),
        conditions=live.conditions,
        next_run_at=live.next_run_at,
        source=live.source,
        running=live.running,
        is_running=live.is_running,
        watch=live.watch,
        manifest_problem=live.manifest_problem,
    )
    seen = status(desired, made.sight.observed, made.plan if desired else None, remembered)
    return _with_progress(seen, live)


def _with_progress(seen: Status, live: Live) -> Status:
    """The bytes on disk are noted every few megabytes; the watch knows each one."""
    shares = {name: done / total for name, done, total, _ in live.progress if total}
    if not shares:
        return seen
    models = tuple(
        replace(model, progress=round(min(1.0, shares[model.name]), 4))
        if model.name in shares and not model.is_settled
        else model
        for model in seen.models
    )
    return replace(seen, models=models)


def _remembered(row: ModelRow) -> RememberedModel:
    return RememberedModel(
        name=row.name,
        lifecycle=row.lifecycle.value if row.lifecycle is not Lifecycle.UNINITIALIZED else "",
        format=row.format,
        metadata=row.metadata if row.metadata != "{}" else "",
        last_used=row.last_used or None,
        use_count=row.use_count,
        bytes=row.size_bytes,
        priority=row.priority,
    )
