"""What only the running watch knows, as one value: it goes over the control socket and into ``status``.

A status of a machine is computed where it is asked for, from the store and the ledger, whoever asks; a running watch
adds these facts: which models a pass works on and how far it is, whose sources have not answered yet, when the next
run is, how well it hears, why the newest manifest is not in force, and since when each condition has been as it is.
"""

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from typing import Any

from reconciler.adapters.ledger import Ledger, ModelRow
from reconciler.bookkeeping import kept_conditions, last_source
from reconciler.core.desired import DesiredState
from reconciler.core.lifecycle import Lifecycle
from reconciler.core.plan import plan as decide
from reconciler.core.records import dataclass
from reconciler.core.remembered import ConditionStatus, Remembered, RememberedModel, SourceFact, WatchFact
from reconciler.core.status import Status, status
from reconciler.core.transfer import Transfer, completed
from reconciler.planning import LOOKING, Pass, plan_pass
from reconciler.world import World

NOTHING = DesiredState(models=())


@dataclass(frozen=True, slots=True)
class Live:
    """The facts. ``transfers`` are by model, of the files in ``arrived``."""

    pid: int = 0
    is_running: bool = False
    running: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    next_run_at: float | None = None
    manifest_problem: str = ""
    source: SourceFact = SourceFact()
    watch: WatchFact | None = None
    conditions: tuple[ConditionStatus, ...] = ()
    transfers: Mapping[str, Transfer] = field(default_factory=dict)
    arrived: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
        known["transfers"] = {name: Transfer(**row) for name, row in known.get("transfers", {}).items()}
        known |= {key: tuple(known.get(key, ())) for key in ("running", "unanswered")}
        return cls(**known)


NOBODY = Live()
_LIFECYCLES = {"downloading": "downloading", "extracting": "extracting", "verifying": "validating"}  # by stage


def see_status(
    world: World, ledger: Ledger, desired: DesiredState | None, live: Live = NOBODY, *, is_kept: bool = False
) -> Status:
    """The status now, with what a running watch adds; ``is_kept``: ``desired`` is what the last watch had in force."""
    if not live.pid and desired is not None:  # no watch tells: what was kept does
        live = replace(live, source=last_source(ledger, desired.digest))
    if not live.pid and is_kept:
        told = {condition.type: condition for condition in kept_conditions(ledger.meta.get())}
        valid = told.get("ManifestValid")
        live = replace(live, manifest_problem=valid.message if valid and valid.status == "False" else "")
    made = plan_pass(world, desired or NOTHING, ledger, LOOKING, offline=True)
    return status_of(desired, _with_silence(made, live), live)


def _with_silence(made: Pass, live: Live) -> Pass:
    """Which sources have not answered yet only the watch knows that asked them."""
    if not live.unanswered:
        return made
    observed = replace(made.sight.observed, unanswered=live.unanswered)
    return replace(
        made, sight=replace(made.sight, observed=observed), plan=decide(made.desired, observed, made.plan.request)
    )


def status_of(desired: DesiredState | None, made: Pass, live: Live) -> Status:
    """The status at the moment of a plan."""
    facts = made.sight.facts
    remembered = replace(
        remembered_of(live),
        observed_generation=facts.meta.generation,
        models=tuple(_remembered(row) for row in facts.models.values()),
        conditions=live.conditions or kept_conditions(facts.meta),
        changed_at=None if live.pid else max((row.started_at + row.seconds for row in facts.meta.passes), default=None),
    )
    seen = status(desired, made.sight.observed, made.plan if desired else None, remembered)
    return _with_transfers(seen, made, live)


def remembered_of(live: Live) -> Remembered:
    """What a watch adds, as a status takes it."""
    return Remembered(
        conditions=live.conditions,
        next_run_at=live.next_run_at,
        source=live.source,
        running=live.running,
        is_running=live.is_running,
        watch=live.watch,
        manifest_problem=live.manifest_problem,
    )


def _with_transfers(seen: Status, made: Pass, live: Live) -> Status:
    """The bytes on disk are noted every few megabytes; the watch knows each one, and how fast they come."""
    if not live.transfers:
        return seen
    observed = made.sight.observed
    files = {model.name: model.artifacts for model in made.desired.models}
    files |= {found.model: found.files for found in observed.resolutions if found.files}
    here = {blob.digest for blob in observed.store.blobs}
    models = []
    for model in seen.models:
        transfer = live.transfers.get(model.name)
        if transfer is not None and not model.is_settled:
            reported = live.arrived.get(model.name, ())
            transfer = completed(transfer, files.get(model.name, ()), reported, here)
            share = model.progress if transfer.share is None else transfer.share
            lifecycle = _LIFECYCLES.get(transfer.stage, model.lifecycle)
            models.append(replace(model, lifecycle=lifecycle, progress=share, transfer=transfer))
        else:
            models.append(model)
    return replace(seen, models=tuple(models))


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
