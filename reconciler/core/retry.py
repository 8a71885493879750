"""After a failure: when to try again, and what that means for a plan.

One table: *transient* is tried again after 1 s · 2ⁿ with full jitter, capped at 15 minutes, ``Retry-After`` being a
floor that is itself capped; *permanent* waits for a changed manifest or source; *refused* is asked again each pass,
since the guard that said no is asked again too. Back-off is a fact in the ledger, never sleeping.
"""

from collections.abc import Iterable

from reconciler.core.actions import Action
from reconciler.core.errors import FailureKind
from reconciler.core.moments import moment_text
from reconciler.core.observed import FailureFact
from reconciler.core.words import Digest

BASE_DELAY_S = 1.0
CAP_DELAY_S = 15 * 60.0
_MAX_DOUBLINGS = 30  # beyond the cap; keeps 2ⁿ small for absurd attempt counts


def delay_s(attempts: int, jitter: float, retry_after_s: float | None = None) -> float:
    """Seconds to wait after ``attempts`` failures in a row (at least 1).

    ``jitter`` is a random number in [0, 1): full jitter as in the AWS architecture blog, "Exponential Backoff And
    Jitter". ``retry_after_s`` is what the other side asked for.
    """
    span = min(CAP_DELAY_S, BASE_DELAY_S * float(1 << min(max(attempts, 1), _MAX_DOUBLINGS)))
    floor = min(max(retry_after_s or 0.0, 0.0), CAP_DELAY_S)
    return max(floor, span * jitter)


def is_blocking(failure: FailureFact, spec: Digest, now: float) -> bool:
    """Whether a past failure keeps the same step from being tried now."""
    if failure.spec_digest != spec or failure.source_changed:
        return False  # other bytes are asked for, or from elsewhere: what failed then says nothing now
    if failure.kind == FailureKind.PERMANENT:
        return True
    if failure.kind != FailureKind.TRANSIENT or failure.retry_at is None:
        return False
    return 0 < failure.retry_at - now <= CAP_DELAY_S  # nobody waits longer: then the clock was set back


def blocking_failure(
    failures: Iterable[FailureFact], spec: Digest, now: float, steps: Iterable[str]
) -> FailureFact | None:
    """The failure that keeps one of ``steps`` from being tried now; a permanent one comes first."""
    wanted = frozenset(steps)
    found = [failure for failure in failures if failure.step in wanted and is_blocking(failure, spec, now)]
    found.sort(key=lambda failure: (failure.retry_at is not None, failure.retry_at or 0.0, failure.step))
    return found[0] if found else None


def refusals(actions: Iterable[Action], failures: Iterable[FailureFact]) -> dict[str, FailureFact]:
    """By model: what is to be done and was refused when it was last tried. Only a person turns that; it is asked anew.

    Something stands in the way in the store, say: each pass tries, and says so again until it is gone.
    """
    planned = {(action.model, action.kind.value, action.spec_digest) for action in actions}
    return {
        failure.model: failure
        for failure in failures
        if failure.kind == FailureKind.REFUSED and (failure.model, failure.step, failure.spec_digest) in planned
    }


def failure_message(failure: FailureFact) -> str:
    """What happened and what follows, in one sentence."""
    what = failure.message.rstrip(".") or failure.reason.replace("_", " ")
    if failure.kind == FailureKind.PERMANENT:
        return f"{what}; waits for a changed manifest or source"
    tries = "1 try" if failure.attempts == 1 else f"{failure.attempts} tries"
    return f"{what}; after {tries}, next at {moment_text(failure.retry_at)}"
