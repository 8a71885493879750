"""The ``Status`` of a machine: conditions, models and figures, from facts alone.

``status(desired, observed, plan, remembered)`` is pure. What was seen is in ``observed``, what would be done about it
in ``plan`` (the plan of an ordinary pass, nothing requested), and what only the ledger knows in ``remembered``. A
model's reason and message are those the plan gives it, so that ``status``, ``plan`` and ``why`` never disagree.

The words and the shape of the conditions are those of controller-runtime and Flux: Ready is True where nothing is left
to do, Reconciling while a pass works on it, Stalled where nothing happens without a person or a change outside.
``last_transition_time`` moves only when a condition's status does.
"""

from reconciler.core.actions import Plan
from reconciler.core.conditions import conditions
from reconciler.core.desired import DesiredState
from reconciler.core.model_status import ModelStatus, model_statuses
from reconciler.core.observed import ObservedState, Override
from reconciler.core.records import dataclass
from reconciler.core.remembered import ConditionStatus, Remembered, RememberedModel
from reconciler.core.usage import room_bytes

__all__ = [
    "CacheStatus",
    "ConditionStatus",
    "MemoryStatus",
    "ModelStatus",
    "Remembered",
    "RememberedModel",
    "Status",
    "status",
]


NOTHING_REMEMBERED = Remembered()


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The disk. ``room_bytes`` is what may still be stored under both limits."""

    limit_bytes: int
    used_bytes: int
    room_bytes: int
    partial_bytes: int
    quarantine_bytes: int
    foreign_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    min_free_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """The RAM. ``loaded_bytes`` is what the models of all runtimes hold."""

    total_bytes: int
    available_bytes: int
    budget_bytes: int | None
    loaded_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """The whole machine at ``taken_at``."""

    taken_at: float
    store: str
    generation: str
    observed_generation: str
    conditions: tuple[ConditionStatus, ...]
    models: tuple[ModelStatus, ...]
    cache: CacheStatus
    memory: MemoryStatus
    next_run_at: float | None = None
    revision: str = ""
    suspended_until: float | None = None
    overrides: tuple[Override, ...] = ()

    def condition(self, kind: str) -> ConditionStatus:
        """The condition of that type, whatever the case it is written in.

        Raises:
            KeyError: there is no such condition.
        """
        for condition in self.conditions:
            if condition.type.lower() == kind.lower():
                return condition
        raise KeyError(kind)


def status(
    desired: DesiredState | None,
    observed: ObservedState,
    plan: Plan | None,
    remembered: Remembered = NOTHING_REMEMBERED,
) -> Status:
    """The status of a machine.

    Args:
        desired: the manifest in force; None where none was ever given.
        observed: what was found.
        plan: of an ordinary pass over these two (no request); None where there is no manifest.
        remembered: what only the ledger knows.
    """
    models = model_statuses(desired, observed, plan, remembered)
    settings = desired or DesiredState(models=())
    return Status(
        taken_at=observed.taken_at,
        store=observed.store.path,
        generation=desired.digest if desired else "",
        observed_generation=remembered.observed_generation,
        conditions=conditions(desired, observed, plan, remembered),
        models=models,
        cache=_cache(settings, observed),
        memory=_memory(settings, observed),
        next_run_at=remembered.next_run_at,
        revision=remembered.source.revision,
        suspended_until=observed.suspended_until if (observed.suspended_until or 0.0) > observed.taken_at else None,
        overrides=observed.overrides,
    )


# --- figures --------------------------------------------------------------------------------------------------------


def _cache(desired: DesiredState, observed: ObservedState) -> CacheStatus:
    store, disk = observed.store, observed.disk
    return CacheStatus(
        limit_bytes=desired.cache.max_size.of(disk.total_bytes),
        used_bytes=store.used_bytes,
        room_bytes=room_bytes(desired.cache, observed),
        partial_bytes=sum(fact.allocated_bytes for fact in store.partials),
        quarantine_bytes=store.quarantine_bytes,
        foreign_bytes=store.foreign_bytes,
        disk_total_bytes=disk.total_bytes,
        disk_free_bytes=disk.free_bytes,
        min_free_bytes=desired.cache.min_free.of(disk.total_bytes),
    )


def _memory(desired: DesiredState, observed: ObservedState) -> MemoryStatus:
    budget = desired.memory.budget
    return MemoryStatus(
        total_bytes=observed.memory.total_bytes,
        available_bytes=observed.memory.available_bytes,
        budget_bytes=budget.of(observed.memory.total_bytes) if budget else None,
        loaded_bytes=sum(held for runtime in observed.runtimes for _, held in runtime.loaded),
    )
