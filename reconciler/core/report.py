"""What became of a plan: the result of a run, its sums, and the document made of them.

Every document carries ``format_version`` and ``kind``, keys in a stable order, sizes in bytes, times in RFC 3339,
durations in seconds. Nothing here decides anything, but for the sums that an exit code is a function of.
"""

from collections.abc import Iterable
from enum import StrEnum

from reconciler.core.actions import ActionKind, Deferred, Guard, Outcome, OutcomeStatus, Plan, Request
from reconciler.core.heading import Document, heading
from reconciler.core.moments import moment_text
from reconciler.core.records import dataclass
from reconciler.core.roster import OTHERS_ONLY
from reconciler.core.words import Digest


class Stop(StrEnum):
    """Why a run ended before its plan did."""

    TIMED_OUT = "timed_out"  # exit 8
    INTERRUPTED = "interrupted"  # SIGINT, exit 130
    TERMINATED = "terminated"  # SIGTERM, exit 143


@dataclass(frozen=True, slots=True)
class ApplySummary:
    """The sums of a run. The exit code is a function of this.

    ``failed`` counts failed actions, ``backing_off`` the models that failed before and are not tried now, ``deferred``
    all models that are not acted on, but for those that nobody asked about (``--only``, a verb by name);
    ``bytes_downloaded`` (brought in, from wherever its source is) and ``bytes_freed`` are what was really done.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0
    deferred: int = 0
    backing_off: int = 0
    guards: int = 0
    satisfied: int = 0
    bytes_downloaded: int = 0
    bytes_freed: int = 0
    seconds: float = 0.0
    stopped: Stop | None = None


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of a plan: one outcome per action that ended, in the order of the plan."""

    plan_digest: Digest
    outcomes: tuple[Outcome, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    guards: tuple[Guard, ...] = ()
    summary: ApplySummary = ApplySummary()


def apply_result(
    plan: Plan, plan_digest: Digest, outcomes: Iterable[Outcome], *, seconds: float = 0.0, stopped: Stop | None = None
) -> ApplyResult:
    """Sum up what became of ``plan``. ``seconds`` is how long the whole run took."""
    order = {action.id: place for place, action in enumerate(plan.actions)}
    ended = tuple(sorted(outcomes, key=lambda outcome: order.get(outcome.id, len(order))))
    counts = dict.fromkeys(OutcomeStatus, 0)
    for outcome in ended:
        counts[outcome.status] += 1
    deferred = asked_about(plan.deferred, plan.request)
    done = [outcome for outcome in ended if outcome.status is OutcomeStatus.DONE]
    summary = ApplySummary(
        done=counts[OutcomeStatus.DONE],
        skipped=counts[OutcomeStatus.SKIPPED],
        failed=counts[OutcomeStatus.FAILED],
        cancelled=counts[OutcomeStatus.CANCELLED],
        deferred=len(deferred),
        backing_off=sum(each.is_failed for each in deferred),
        guards=len(plan.guards),
        satisfied=len(plan.satisfied),
        bytes_downloaded=sum(outcome.bytes for outcome in done if outcome.kind is ActionKind.DOWNLOAD),
        bytes_freed=sum(outcome.bytes for outcome in done if outcome.kind is ActionKind.EVICT),
        seconds=seconds,
        stopped=stopped,
    )
    return ApplyResult(plan_digest, ended, plan.deferred, plan.guards, summary)


def asked_about(deferred: Iterable[Deferred], request: Request) -> tuple[Deferred, ...]:
    """Those that this run was about: a verb by name or ``--only`` has nothing to do with the others."""
    names = request.models or request.only
    return tuple(each for each in deferred if each.reason != OTHERS_ONLY and (not names or each.model in names))


def apply_result_document(result: ApplyResult) -> Document:
    """The ``ApplyResult`` document."""
    return heading("ApplyResult") | {
        "plan_digest": result.plan_digest,
        "outcomes": [outcome_document(outcome) for outcome in result.outcomes],
        "deferred": [_deferred(deferred) for deferred in result.deferred],
        "guards": [{"reason": guard.reason, "message": guard.message, "hint": guard.hint} for guard in result.guards],
        "summary": _summary(result.summary),
    }


def outcome_document(outcome: Outcome) -> Document:
    """One row of ``outcomes``."""
    return {
        "id": outcome.id,
        "kind": outcome.kind.value,
        "model": outcome.model,
        "status": outcome.status.value,
        "reason": outcome.reason,
        "message": outcome.message,
        "bytes": outcome.bytes,
        "seconds": round(outcome.seconds, 3),
        "failure": outcome.kind_of_failure or None,
        "retry_at": moment_text(outcome.retry_at),
    }


def _deferred(deferred: Deferred) -> Document:
    return {
        "model": deferred.model,
        "reason": deferred.reason,
        "message": deferred.message,
        "needs_bytes": deferred.needs_bytes,
        "available_bytes": deferred.available_bytes,
        "blocked_by": list(deferred.blocked_by),
        "retry_at": moment_text(deferred.retry_at),
    }


def _summary(summary: ApplySummary) -> Document:
    return {
        "done": summary.done,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "cancelled": summary.cancelled,
        "deferred": summary.deferred,
        "backing_off": summary.backing_off,
        "guards": summary.guards,
        "satisfied": summary.satisfied,
        "bytes_downloaded": summary.bytes_downloaded,
        "bytes_freed": summary.bytes_freed,
        "seconds": round(summary.seconds, 3),
        "stopped": summary.stopped.value if summary.stopped else None,
    }
