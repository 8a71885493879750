"""What a pass leaves in the ledger beside what its handlers record: failures with their next try, what was begun.

A ledger that cannot be written (a full disk, a read-only one) never undoes what was done on disk: that is truth, and
the next pass sees it. It is told in the log.
"""

from collections.abc import Callable

from reconciler.adapters.ledger import JournalRow
from reconciler.core.actions import Action, ActionKind
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.retry import delay_s
from reconciler.core.state import Digest, FailureFact
from reconciler.execute.work import Done, Work
from reconciler.log import get_log

_UNWRITABLE = frozenset({"disk_full", "ledger_read_only", "ledger_io_error", "ledger_busy", "no_space", "read_only"})


def remember_start(work: Work) -> None:
    """Note everything that is about to be done, in one transaction: a crash leaves the list."""

    def write() -> None:
        with work.ledger.transaction():
            for action in work.plan.actions:
                row = JournalRow(
                    action.id, action.model, action.kind, 0.0, action.spec_digest, action.subject, action.paths
                )
                work.ledger.journal.start(row)

    tolerating(write)


def remember_end(work: Work) -> None:
    """What was not begun or not finished is no longer under way."""

    def write() -> None:
        with work.ledger.transaction():
            for action in work.plan.actions:
                work.ledger.journal.finish(action.id)

    tolerating(work.ledger.journal.clear if work.share.claims.is_alone(work.share) else write)


def remember_failure(work: Work, action: Action, failure: Failure) -> float | None:
    """Record a failure; when it is tried again (None: not by itself)."""
    past = next(
        (
            fact
            for fact in work.sight.observed.failures
            if (fact.model, fact.step, fact.spec_digest) == (action.model, action.kind.value, _spec(work, action))
        ),
        None,
    )
    attempts = (past.attempts if past else 0) + 1
    retry_at = None
    if failure.kind is FailureKind.TRANSIENT:
        retry_at = work.world.now() + delay_s(attempts, work.world.random(), failure.retry_after_s)
    fact = FailureFact(
        model=action.model,
        spec_digest=_spec(work, action),
        kind=failure.kind.value,
        reason=failure.reason,
        message=failure.message,
        attempts=attempts,
        retry_at=retry_at,
        step=action.kind.value,
    )
    fingerprint = work.fingerprint(action.model) if failure.kind is FailureKind.PERMANENT else ""
    tolerating(lambda: work.ledger.record_failure(fact, fingerprint=fingerprint, action_id=action.id))
    return retry_at


def _spec(work: Work, action: Action) -> Digest:
    model = work.models.get(action.model)
    return model.spec_digest if model else action.spec_digest


def remember_success(work: Work, action: Action, done: Done, seconds: float) -> None:
    """A step that worked ends its failures; downloads tell how fast this machine is."""

    def write() -> None:
        with work.ledger.transaction():
            work.ledger.clear_failure(action.model, step=action.kind.value)
            if action.kind is ActionKind.DOWNLOAD and done.network_bytes > 0:
                work.ledger.meta.record_throughput(done.network_bytes, seconds)

    has_failed = any(fact.model == action.model and fact.step == action.kind for fact in work.sight.observed.failures)
    if has_failed or (action.kind is ActionKind.DOWNLOAD and done.network_bytes > 0):
        tolerating(write)


def tolerating(write: Callable[[], object]) -> None:
    """Write to the ledger; where it cannot be written, say so and go on."""
    try:
        write()
    except Failure as failure:
        if failure.reason not in _UNWRITABLE:
            raise
        get_log().warning("ledger_unwritable", error=failure.message, path="state.db")
