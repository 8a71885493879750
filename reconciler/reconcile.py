"""One pass, as verbs in the order they happen: plan (see ``planning``), guard, execute, look again, report.

All of it under the owner's lock. What verifying finds damaged is planned and repaired in the same apply.
"""

import json
import time
from collections.abc import Callable
from dataclasses import field, replace

from reconciler.adapters.ledger import Change, EventType, Ledger, PassRow
from reconciler.bookkeeping import keep_books, remember_request, tidy
from reconciler.core.actions import ActionKind, Outcome, OutcomeStatus, Plan, Request
from reconciler.core.desired import DesiredState
from reconciler.core.document import plan_digest
from reconciler.core.errors import Failure, refused
from reconciler.core.gates import OUTSIDE_WINDOW
from reconciler.core.ports import CancelToken, ProgressSink
from reconciler.core.records import dataclass
from reconciler.core.report import ApplyResult, Stop, apply_result
from reconciler.core.saved import left_to_do, sort_saved
from reconciler.core.words import Digest
from reconciler.execute.claims import Claims, Share
from reconciler.log import get_log
from reconciler.planning import NOTHING_ASKED, Pass, asked_again, plan_pass
from reconciler.resolve import NEVER, Asker, Patient
from reconciler.world import World

MAX_REPAIRS = 3  # rounds of planning again after verifying found damage


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told what while a pass runs."""

    progress: ProgressSink = lambda _: None
    on_outcome: Callable[[Outcome], None] = lambda _: None
    on_plan: Callable[[Plan], None] = lambda _: None
    on_change: Callable[[Ledger, Change], None] = lambda _ledger, _change: None
    on_pass: Callable[["Pass"], None] = lambda _: None


@dataclass(slots=True)
class Deadline:
    """A cancel token that is also set when time is up."""

    token: CancelToken
    timeout_s: float | None = None
    started: float = field(default_factory=time.monotonic)
    is_over: bool = False

    def is_set(self) -> bool:
        """Whether to stop now."""
        if self.token.is_set():
            return True
        if self.timeout_s is not None and time.monotonic() - self.started >= self.timeout_s:
            self.is_over = True
        return self.is_over

    def left_s(self) -> float | None:
        """The seconds that are left; None where there is no limit."""
        return None if self.timeout_s is None else max(0.0, self.started + self.timeout_s - time.monotonic())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, but not past the deadline."""
        spans = [span for span in (timeout, self.left_s()) if span is not None]
        self.token.wait(min(spans) if spans else None)
        return self.is_set()


# --- applying -------------------------------------------------------------------------------------------------------


def apply_pass(  # noqa: PLR0913 -- one value each for what, how and who
    world: World,
    desired: DesiredState,
    request: Request = NOTHING_ASKED,
    *,
    saved: Plan | None = None,
    cancel: CancelToken = NEVER,
    timeout_s: float | None = None,
    listeners: Listeners = Listeners(),  # noqa: B008 -- it never changes
) -> ApplyResult:
    """Make it so, once, as the store's owner.

    Raises:
        Failure: refused ``store_busy`` or ``plan_stale``; whatever keeps the store from being read at all.
    """
    deadline = Deadline(cancel, timeout_s)
    tidy(world)
    with world.store.acquire(), world.ledger() as ledger:
        share = Claims().open(deadline)
        return run_pass(
            world, ledger, desired, request, saved=saved, deadline=deadline, listeners=listeners, share=share
        )


def run_pass(  # noqa: PLR0913 -- one value each for what, how and who
    world: World,
    ledger: Ledger,
    desired: DesiredState,
    request: Request,
    *,
    saved: Plan | None = None,
    deadline: Deadline,
    listeners: Listeners,
    share: Share,
    asker: Asker | None = None,
) -> ApplyResult:
    """One pass of the store's owner, who may have others under way: what they have in hand is left to them.

    Raises:
        Failure: refused ``plan_stale``; whatever keeps the store from being read at all.
    """
    started = time.monotonic()
    busy = share.claims.busy(share)
    remember_request(world, ledger, desired, request)
    world.set_network(desired.network)
    made = plan_pass(world, desired, ledger, request, asker=asker or Patient(deadline))
    skipped: tuple[Outcome, ...] = ()
    if saved is not None:
        made, skipped = _as_saved(made, saved)
    digest = plan_digest(saved or made.plan)  # of the whole plan, also where some of it is true already
    listeners.on_pass(made)
    listeners.on_plan(made.plan)
    _keep_answers(ledger, made)
    _log_plan(made.plan, digest)
    outcomes = skipped
    if not made.plan.guards and not (deadline.is_set() and share.is_superseded):
        made = replace(made, plan=share.take(made.plan, busy))
        keep_books(world, ledger, made.desired, made.sight, is_alone=not busy and share.claims.is_alone(share))
        outcomes += _run(world, ledger, made, deadline, listeners, share)
    stopped = Stop.TIMED_OUT if deadline.is_over else None
    if stopped:
        outcomes = tuple(_timed_out(outcome) for outcome in outcomes)
    seconds = time.monotonic() - started
    told = _as_it_stands(world, ledger, made, outcomes, request)
    if saved is not None:
        told = replace(told, actions=saved.actions)  # its order is that of the outcomes
    result = apply_result(told, digest, outcomes, seconds=seconds, stopped=stopped)
    if outcomes:
        _remember_pass(world, ledger, made, result)
        _remember_rebuilding(ledger, made, result)
    return result


def _keep_answers(ledger: Ledger, made: Pass) -> None:
    """What sources said is not asked again, also where the plan does nothing with it; nothing new is no write."""
    known, observed = made.sight.facts.resolutions, made.sight.observed
    again = asked_again(made.sight, made.plan) - set(observed.unanswered)
    fresh = [
        each
        for each in observed.resolutions
        if not each.reason and ((each.model, each.spec_digest) not in known or each.model in again)
    ]
    if not fresh or made.plan.actions:
        return
    try:
        ledger.become_writer()
        with ledger.transaction():
            for resolution in fresh:
                ledger.resolutions.save(resolution)
    except Failure as failure:
        get_log().warning("ledger_unwritable", error=failure.message, path=ledger.path)


def _log_plan(plan: Plan, digest: Digest) -> None:
    log = get_log()
    tell = log.info if plan.summary.changes else log.debug  # a watch makes many a plan that changes nothing
    tell(
        "pass_planned",
        plan_digest=digest,
        changes=plan.summary.changes,
        deferred=plan.summary.deferred,
        satisfied=plan.summary.satisfied,
    )


def _as_it_stands(world: World, ledger: Ledger, made: Pass, outcomes: tuple[Outcome, ...], request: Request) -> Plan:
    """The plan with what is deferred *now*: success is told from a look at the world after the effects, not before.

    A model that was evicted for a more important one, or placed but not loaded for want of memory, is deferred.
    """
    if not outcomes or request.verb or made.plan.guards:
        return made.plan
    after = plan_pass(world, made.desired, ledger, request, offline=True).plan
    bad = {OutcomeStatus.FAILED, OutcomeStatus.CANCELLED}
    ended_badly = {o.model for o in outcomes if o.status in bad and o.reason != OUTSIDE_WINDOW}
    deferred = tuple(entry for entry in after.deferred if entry.model not in ended_badly)
    return replace(made.plan, deferred=deferred)


def _run(
    world: World, ledger: Ledger, made: Pass, deadline: Deadline, listeners: Listeners, share: Share
) -> tuple[Outcome, ...]:
    """Execute the plan; what verifying brought to light is planned again, and repaired."""
    outcomes: tuple[Outcome, ...] = ()
    verb = made.plan.request.verb
    for _ in range(MAX_REPAIRS):
        if not made.plan.actions:
            break
        ledger.become_writer()
        forget = ledger.observe(lambda change: listeners.on_change(ledger, change))
        ran = _execute(world, ledger, made, deadline, listeners, share)
        forget()
        checked = {o.model for o in ran if o.kind is ActionKind.VERIFY}
        if not checked or deadline.is_set() or share.is_superseded or verb not in {"", "repair"}:
            return outcomes + ran
        outcomes += tuple(replace(o, status=OutcomeStatus.DONE) if o.reason == "damaged" else o for o in ran)
        repair = Request(only=tuple(sorted(checked)))
        made = plan_pass(world, made.desired, ledger, repair, asker=Patient(deadline))
        made = replace(made, plan=share.take(made.plan))
    return outcomes


def _execute(
    world: World, ledger: Ledger, made: Pass, deadline: Deadline, listeners: Listeners, share: Share
) -> tuple[Outcome, ...]:

    with ledger.transaction():  # all of them: what was asked again may be told otherwise
        for resolution in made.sight.observed.resolutions:
            if not resolution.reason:
                ledger.resolutions.save(resolution)
    from reconciler.execute.run import execute  # noqa: PLC0415 -- planning and reading must not pay for it
    from reconciler.execute.work import Work  # noqa: PLC0415

    work = Work(world, ledger, made.desired, made.sight, made.plan, deadline, listeners.progress, share)
    return execute(work, listeners.on_outcome)


def _as_saved(fresh: Pass, saved: Plan) -> tuple[Pass, tuple[Outcome, ...]]:
    """The actions of a saved plan that are still to be done, and those that are already true.

    Raises:
        Failure: refused ``plan_stale``.
    """
    verdict = sort_saved(saved, fresh.desired, fresh.sight.observed, fresh.plan)
    if verdict.stale:
        raise refused(
            "plan_stale",
            "the saved plan no longer fits: " + "; ".join(verdict.stale),
            hint="nothing was done; make a new plan",
        )
    skipped = tuple(
        Outcome(action.id, action.kind, action.model, OutcomeStatus.SKIPPED, "already_true", "already true")
        for action in verdict.already_true
    )
    return replace(fresh, plan=left_to_do(saved, verdict, fresh.plan)), skipped


def _timed_out(outcome: Outcome) -> Outcome:
    if outcome.status is OutcomeStatus.CANCELLED and outcome.reason == "cancelled":
        return replace(outcome, reason="timed_out", message="not finished in time")
    return outcome


def _remember_rebuilding(ledger: Ledger, made: Pass, result: ApplyResult) -> None:
    """The database began empty, and a whole pass has been over the store: it knows again what was there."""
    if result.summary.cancelled or not ledger.was_rebuilt:
        return
    found = sum(model.is_current and not model.is_foreign for model in made.sight.observed.store.models)
    try:
        ledger.meta.mark_rebuilt()
        if found:
            who = "1 model of the store is" if found == 1 else f"{found} models of the store are"
            ledger.events.record(EventType.NORMAL, "ledger_rebuilt", f"{who} known again")
    except Failure as failure:
        get_log().warning("ledger_unwritable", error=failure.message, path=ledger.path)


def _remember_pass(world: World, ledger: Ledger, made: Pass, result: ApplyResult) -> None:
    summary = result.summary
    outcome = {
        "done": summary.done,
        "failed": summary.failed,
        "cancelled": summary.cancelled,
        "deferred": summary.deferred,
    }
    try:
        ledger.become_writer()
        ledger.meta.record_pass(
            PassRow(world.now() - summary.seconds, summary.seconds, made.desired.digest, json.dumps(outcome))
        )
    except Failure as failure:
        get_log().warning("ledger_unwritable", error=failure.message, path=ledger.path)
