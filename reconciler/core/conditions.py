"""The nine conditions of a status, each from facts alone, in one fixed order.

A judge returns (status, reason, message). The time of a condition is that of its last change of *status*: it is taken
over from the previous conditions where the status is the same.
"""

from collections.abc import Callable

from reconciler.core.actions import Plan
from reconciler.core.desired import DesiredState
from reconciler.core.gates import WAITING
from reconciler.core.moments import moment_text
from reconciler.core.observed import ObservedState
from reconciler.core.records import dataclass
from reconciler.core.remembered import ConditionStatus, Remembered
from reconciler.core.retry import refusals
from reconciler.core.usage import room_bytes

_STUCK = frozenset({"no_room", "no_memory"})  # deferrals that only a person or a change outside can turn

Verdict = tuple[bool | None, str, str]


@dataclass(frozen=True, slots=True)
class _Facts:
    desired: DesiredState | None
    observed: ObservedState
    plan: Plan | None
    remembered: Remembered


def conditions(
    desired: DesiredState | None, observed: ObservedState, plan: Plan | None, remembered: Remembered
) -> tuple[ConditionStatus, ...]:
    """All nine, in the order of the table below."""
    facts = _Facts(desired, observed, plan, remembered)
    before = {condition.type: condition for condition in remembered.conditions}
    found = []
    for kind, judge in _JUDGES:
        verdict, reason, message = judge(facts)
        word = "Unknown" if verdict is None else str(verdict)
        old = before.get(kind)
        since = _since(old, word, remembered.changed_at, observed.taken_at)
        found.append(ConditionStatus(kind, word, reason, message, since))
    return tuple(found)


def _since(old: ConditionStatus | None, word: str, changed_at: float | None, taken_at: float) -> float:
    """When a condition came to be ``word``: what two looks without a change between them agree on."""
    if old is not None and old.status == word:
        return old.last_transition_time
    if changed_at is None:
        return taken_at
    return changed_at if old is None else max(changed_at, old.last_transition_time)


def _ready(facts: _Facts) -> Verdict:
    plan = facts.plan
    if plan is None:
        return None, "no_manifest", "there is no manifest in force"
    if plan.guards:
        return False, plan.guards[0].reason, plan.guards[0].message
    failed = [(deferred.model, deferred.reason) for deferred in plan.deferred if deferred.is_failed]
    refused = [(name, fact.reason) for name, fact in refusals(plan.actions, facts.observed.failures).items()]
    for found, word in ((failed, "failed"), (refused, "refused")):
        if found:
            return False, found[0][1], f"{_count(len(found), 'model')} {word}, {found[0][0]} first"
    if plan.deferred:
        return False, plan.deferred[0].reason, f"{_count(len(plan.deferred), 'model')} deferred"
    if plan.actions:
        return False, "changes_pending", f"{_count(len(plan.actions), 'action')} to do"
    wanted = {model.name for model in facts.desired.models} if facts.desired else set()
    count = sum(done.model in wanted for done in plan.satisfied)  # unwanted cache and foreign files are none of it
    return True, "converged", f"{_count(count, 'model')} as the manifest says"


def _reconciling(facts: _Facts) -> Verdict:
    if facts.remembered.is_running:
        names = facts.remembered.running
        return True, "running", f"a pass is working on {', '.join(names)}" if names else "a pass is running"
    asked = [deferred.model for deferred in (facts.plan.deferred if facts.plan else ()) if deferred.reason == WAITING]
    if asked:
        return True, WAITING, f"the sources of {', '.join(asked)} have not answered yet"
    if facts.plan is not None and facts.plan.actions:
        return False, "changes_pending", f"{_count(len(facts.plan.actions), 'action')} wait for the next pass"
    return False, "idle", "nothing to do"


def _stalled(facts: _Facts) -> Verdict:
    plan = facts.plan
    if plan is None:
        return False, "no_manifest", "there is no manifest in force"
    if plan.guards:
        return True, plan.guards[0].reason, plan.guards[0].message
    for deferred in plan.deferred:
        if deferred.reason in _STUCK or (deferred.is_failed and deferred.retry_at is None):
            return True, deferred.reason, f"{deferred.model}: {deferred.message}"
    for failure in refusals(plan.actions, facts.observed.failures).values():
        return True, failure.reason, f"{failure.model}: {failure.message}"
    return False, "progressing", "nothing waits for a person"


def _manifest_valid(facts: _Facts) -> Verdict:
    if facts.remembered.manifest_problem:
        return False, "manifest_invalid", facts.remembered.manifest_problem
    if facts.desired is None:
        return None, "no_manifest", "there is no manifest in force"
    return True, "valid", f"{_count(len(facts.desired.models), 'model')} in the manifest"


def _source_verified(facts: _Facts) -> Verdict:
    source = facts.remembered.source
    if source.is_verified is None:
        return None, "not_asked", "no signature is asked for"
    if source.is_verified:
        return True, "signature_good", source.message or f"commit {source.revision} is signed by an allowed signer"
    return False, "signature_bad", source.message or f"commit {source.revision} is not signed by an allowed signer"


def _disk_pressure(facts: _Facts) -> Verdict:
    observed = facts.observed
    cache = (facts.desired or DesiredState(models=())).cache
    if observed.disk.free_bytes < cache.min_free.of(observed.disk.total_bytes):
        return True, "min_free_space", "less is free on the file system than has to stay free"
    if observed.store.used_bytes > cache.max_size.of(observed.disk.total_bytes):
        return True, "over_limit", "the store takes more than its limit"
    lacking = [
        deferred.model for deferred in (facts.plan.deferred if facts.plan else ()) if deferred.reason == "no_room"
    ]
    if lacking:
        return True, "no_room", f"no room for {', '.join(lacking)}"
    return False, "room", "there is room" if room_bytes(cache, observed) else "the store is full"


def _memory_pressure(facts: _Facts) -> Verdict:
    memory = (facts.desired or DesiredState(models=())).memory
    available = facts.observed.memory.available_bytes
    if available < memory.critical_bytes:
        return True, "critical", "available memory is below memory.critical"
    if available < memory.warning_bytes:
        return True, "warning", "available memory is below memory.warning"
    return False, "enough", "available memory is above memory.warning"


def _suspended(facts: _Facts) -> Verdict:
    until = facts.observed.suspended_until
    if until is None or until <= facts.observed.taken_at:
        return False, "active", "not suspended"
    end = moment_text(until)
    return True, "suspended", f"suspended by hand{f' until {end}' if end else ''}; resume goes on"


def _watch_healthy(facts: _Facts) -> Verdict:
    watch = facts.remembered.watch
    if watch is None:
        return None, "no_watch", "no watch is running"
    return watch.is_healthy, watch.mode, watch.message or f"watching by {watch.mode}"


_JUDGES: tuple[tuple[str, Callable[[_Facts], Verdict]], ...] = (
    ("Ready", _ready),
    ("Reconciling", _reconciling),
    ("Stalled", _stalled),
    ("ManifestValid", _manifest_valid),
    ("SourceVerified", _source_verified),
    ("DiskPressure", _disk_pressure),
    ("MemoryPressure", _memory_pressure),
    ("Suspended", _suspended),
    ("WatchHealthy", _watch_healthy),
)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
