"""What a pass leaves in the ledger beside what its handlers record: failures with their next try, what was begun.

A ledger that cannot be written (a full disk, a read-only one) never undoes what was done on disk: that is truth, and
the next pass sees it. It is told in the log.
"""

from collections.abc import Callable

from reconciler.adapters.ledger import EventType, JournalRow
from reconciler.core.actions import Action, ActionKind
from reconciler.core.digests import links_digest, terms_digest
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.observed import FailureFact
from reconciler.core.retry import delay_s
from reconciler.core.words import Digest
from reconciler.execute.work import Done, Work
from reconciler.log import get_log

_UNWRITABLE = frozenset({"disk_full", "ledger_read_only", "ledger_io_error", "ledger_busy", "no_space", "read_only"})
_IN_THE_WAY = frozenset({"unexpected_file", "path_escape"})  # of the store, whatever the content is
_BRINGING = frozenset({ActionKind.DOWNLOAD, ActionKind.EXTRACT})


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
    """What was not begun or not finished is no longer under way; downloads tell how fast this machine is."""

    def write() -> None:
        with work.ledger.transaction():
            if work.throughput:  # side by side, so that the pass counts as one
                size_bytes = sum(each[0] for each in work.throughput)
                span_s = max(each[2] for each in work.throughput) - min(each[1] for each in work.throughput)
                work.ledger.meta.record_throughput(size_bytes, span_s)
            if work.share.claims.is_alone(work.share):
                work.ledger.journal.clear()
                return
            for action in work.plan.actions:
                work.ledger.journal.finish(action.id)

    tolerating(write)


def remember_failure(work: Work, action: Action, failure: Failure) -> float | None:
    """Record a failure; when it is tried again (None: not by itself).

    What found no room is no fault: the next plan knows its size by now, and defers it until there is more.
    """
    if failure.reason == "no_room":
        event = (EventType.WARNING, failure.reason, failure.message)
        tolerating(lambda: work.ledger.events.record(*event, model=action.model))
        return None
    past = next(
        (
            fact
            for fact in work.sight.observed.failures
            if (fact.model, fact.step, fact.spec_digest) == (action.model, action.kind.value, _spec(work, action))
        ),
        None,
    )
    attempts = (past.attempts if past and not past.source_changed else 0) + 1
    retry_at, kind = None, failure.kind
    if kind is FailureKind.REFUSED and action.kind in _BRINGING and failure.reason not in _IN_THE_WAY:
        kind = FailureKind.PERMANENT  # what was refused is the content: asking each pass would fetch it each pass
    if kind is FailureKind.TRANSIENT:
        retry_at = work.world.now() + delay_s(attempts, work.world.random(), failure.retry_after_s)
    fact = FailureFact(
        model=action.model,
        spec_digest=_spec(work, action),
        kind=kind.value,
        reason=failure.reason,
        message=failure.message,
        attempts=attempts,
        retry_at=retry_at,
        step=action.kind.value,
    )
    fingerprint = _fingerprint(work, action, kind)
    tolerating(lambda: work.ledger.record_failure(fact, fingerprint=fingerprint, action_id=action.id))
    return retry_at


def _fingerprint(work: Work, action: Action, kind: FailureKind) -> str:
    """What has to change so that it is tried at once: of a fault that passes, only what the manifest says."""
    model = work.models.get(action.model)
    if kind is FailureKind.PERMANENT:
        return work.fingerprint(action.model)
    is_bringing = kind is FailureKind.TRANSIENT and action.kind in _BRINGING
    return terms_digest(model, work.desired.network.mirrors) if is_bringing and model is not None else ""


def _spec(work: Work, action: Action) -> Digest:
    model = work.models.get(action.model)
    if model is not None and action.subject == "links":
        return links_digest(model)
    return model.spec_digest if model else action.spec_digest


def remember_success(work: Work, action: Action, done: Done, seconds: float) -> None:
    """A step that worked ends its failures; how fast downloads were is noted at the end of the pass."""

    def write() -> None:
        with work.ledger.transaction():
            work.ledger.clear_failure(action.model, step=action.kind.value)

    if action.kind is ActionKind.DOWNLOAD and done.network_bytes > 0:
        now = work.world.monotonic()
        work.throughput.append((done.network_bytes, now - seconds, now))
    if any(fact.model == action.model and fact.step == action.kind for fact in work.sight.observed.failures):
        tolerating(write)


def tolerating(write: Callable[[], object]) -> None:
    """Write to the ledger; where it cannot be written, say so and go on."""
    try:
        write()
    except Failure as failure:
        if failure.reason not in _UNWRITABLE:
            raise
        get_log().warning("ledger_unwritable", error=failure.message, path="state.db")
