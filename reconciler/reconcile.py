"""One pass, as verbs in the order they happen: observe, plan, ask, guard, execute, report.

A plan is complete before anything happens. What the first plan finds missing (a size, a repository's files, whether a
victim is in use) is asked for and the plan is made again, until there is nothing left to ask; a dry run ends there. Apply
goes on under the owner's lock. What verifying finds damaged is planned and repaired in the same apply.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from reconciler.adapters.ledger import Change, Ledger, PassRow
from reconciler.core.actions import ActionKind, Guard, Outcome, OutcomeStatus, Plan, Request
from reconciler.core.document import plan_digest
from reconciler.core.errors import Failure, refused
from reconciler.core.plan import plan as decide
from reconciler.core.ports import CancelToken, ProgressSink
from reconciler.core.report import ApplyResult, Stop, apply_result
from reconciler.core.saved import sort_saved
from reconciler.core.state import DesiredModel, DesiredState, Digest, FailureFact, Override
from reconciler.execute import Claims, Share, Work, execute
from reconciler.log import get_log
from reconciler.observe import Answers, Sight, observe, target_artifacts
from reconciler.resolve import NEVER, changed_sources, needs_asking, resolve_all
from reconciler.bookkeeping import keep_books, remember_request, tidy
from reconciler.world import World

MAX_QUESTIONS = 5  # rounds of asking before a plan is taken as it is
MAX_REPAIRS = 3  # rounds of planning again after verifying found damage


@dataclass(frozen=True, slots=True)
class Pass:
    """A finished plan with what it was made from."""

    desired: DesiredState
    sight: Sight
    plan: Plan


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

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, but not past the deadline."""
        left = None if self.timeout_s is None else max(0.0, self.started + self.timeout_s - time.monotonic())
        spans = [span for span in (timeout, left) if span is not None]
        self.token.wait(min(spans) if spans else None)
        return self.is_set()


# --- planning -------------------------------------------------------------------------------------------------------


def plan_pass(
    world: World,
    desired: DesiredState,
    ledger: Ledger,
    request: Request = Request(),
    *,
    offline: bool = False,
    cancel: CancelToken = NEVER,
) -> Pass:
    """Observe, plan, ask for what the plan lacks, and plan again until nothing is left to ask. Changes nothing."""
    facts = ledger.snapshot()
    if ledger.is_lost:
        get_log().warning("ledger_rebuilt", models=0, reason="ledger_lost", path=ledger.path)
    desired = with_rollbacks(desired, facts.overrides, {name: rows[0] for name, rows in facts.revisions.items() if rows})
    sight = observe(world, desired, facts, offline=offline)
    plan = decide(desired, sight.observed, request)
    answers = Answers(resolutions=sight.observed.resolutions)
    for _ in range(MAX_QUESTIONS):
        more = _ask(world, desired, sight, plan, answers, cancel)
        if more == answers:
            break
        answers = more
        sight = _with_answers(sight, answers)
        plan = decide(desired, sight.observed, request)
    return Pass(desired, sight, plan)


def with_rollbacks(
    desired: DesiredState, overrides: Iterable[Override], current: dict[str, "object"]
) -> DesiredState:
    """A model that was rolled back by hand keeps that revision until its entry asks for something else again."""
    held = {override.model: override.spec_digest for override in overrides if override.kind == "rollback"}
    if not held:
        return desired
    models = []
    for model in desired.models:
        row = current.get(model.name)
        if row is not None and held.get(model.name) == model.spec_digest:
            models.append(replace(model, spec_digest=getattr(row, "spec_digest", model.spec_digest), artifacts=()))
        else:
            models.append(model)
    return replace(desired, models=tuple(models))


def _with_answers(sight: Sight, answers: Answers) -> Sight:
    observed = sight.observed
    models = tuple(
        replace(model, in_use=True) if model.name in answers.in_use else model for model in observed.store.models
    )
    failures = tuple(
        replace(fact, source_changed=True) if fact.model in answers.changed_sources else fact
        for fact in observed.failures
    )
    observed = replace(
        observed,
        store=replace(observed.store, models=models),
        resolutions=answers.resolutions,
        local_copies=answers.local_copies,
        failures=failures,
    )
    return replace(sight, observed=observed)


def _ask(
    world: World, desired: DesiredState, sight: Sight, plan: Plan, answers: Answers, cancel: CancelToken
) -> Answers:
    """Everything this plan wants to know that nobody asked for yet."""
    open_names = {action.model for action in plan.actions if action.kind is ActionKind.DOWNLOAD}
    open_names |= {deferred.model for deferred in plan.deferred}
    models = {model.name: model for model in desired.models if model.name in open_names}
    if not sight.observed.is_offline:
        answers = replace(answers, resolutions=_resolutions(world, desired, models, answers, cancel))
        answers = replace(answers, changed_sources=_changed(world, desired, sight, plan, cancel) | answers.changed_sources)
    answers = replace(answers, local_copies=answers.local_copies or _copies(world, sight, models))
    return replace(answers, in_use=answers.in_use | _in_use(world, sight, plan))


def _resolutions(
    world: World, desired: DesiredState, models: dict[str, DesiredModel], answers: Answers, cancel: CancelToken
) -> tuple:  # type: ignore[type-arg]
    known = {resolution.model: resolution for resolution in answers.resolutions}
    asked = [
        model
        for name, model in models.items()
        if (name not in known or known[name].spec_digest != model.spec_digest) and needs_asking(world, model, None)
    ]
    fresh = resolve_all(world, desired, asked, cancel)
    merged = known | {resolution.model: resolution for resolution in fresh}
    return tuple(merged[name] for name in sorted(merged))


def _changed(
    world: World, desired: DesiredState, sight: Sight, plan: Plan, cancel: CancelToken
) -> frozenset[str]:
    """Of the models that failed for good, those whose source answers otherwise now."""
    stuck = {deferred.model for deferred in plan.deferred if deferred.is_failed and deferred.retry_at is None}
    rows = [row for row in sight.facts.failures if row.fact.model in stuck and row.fact.kind == "permanent"]
    pairs: list[tuple[FailureFact, str]] = [(row.fact, row.fingerprint) for row in rows]
    return changed_sources(world, desired, pairs, cancel)


def _copies(world: World, sight: Sight, models: dict[str, DesiredModel]) -> tuple:  # type: ignore[type-arg]
    here = {blob.digest for blob in sight.observed.store.blobs}
    wanted: dict[Digest, int | None] = {
        artifact.digest: artifact.size_bytes
        for model in models.values()
        for artifact in target_artifacts(model, sight.facts)
        if artifact.digest is not None and artifact.digest not in here
    }
    return world.local_copies(wanted) if wanted else ()


def _in_use(world: World, sight: Sight, plan: Plan) -> frozenset[str]:
    """Of the models that the plan would evict, those that some process has open."""
    victims = {action.model for action in plan.actions if action.kind is ActionKind.EVICT and action.subject == ""}
    return frozenset(
        model.name
        for model in sight.observed.store.models
        if model.name in victims
        and any(
            file.digest is not None and world.store.is_in_use(world.store.blob_path(file.digest)) for file in model.files
        )
    )


# --- applying -------------------------------------------------------------------------------------------------------


def apply_pass(  # noqa: PLR0913 -- one value each for what, how and who
    world: World,
    desired: DesiredState,
    request: Request = Request(),
    *,
    saved: Plan | None = None,
    cancel: CancelToken = NEVER,
    timeout_s: float | None = None,
    listeners: Listeners = Listeners(),
) -> ApplyResult:
    """Make it so, once, as the store's owner.

    Raises:
        Failure: refused ``store_busy`` or ``plan_stale``; whatever keeps the store from being read at all.
    """
    deadline = Deadline(cancel, timeout_s)
    tidy(world)
    with world.store.acquire(), world.ledger() as ledger:
        share = Claims().open(deadline)
        return run_pass(world, ledger, desired, request, saved=saved, deadline=deadline, listeners=listeners, share=share)


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
) -> ApplyResult:
    """One pass of the store's owner, who may have others under way: what they have in hand is left to them.

    Raises:
        Failure: refused ``plan_stale``; whatever keeps the store from being read at all.
    """
    started = time.monotonic()
    busy = share.claims.busy(share)
    remember_request(world, ledger, desired, request)
    made = plan_pass(world, desired, ledger, request, cancel=deadline)
    skipped: tuple[Outcome, ...] = ()
    if saved is not None:
        made, skipped = _as_saved(made, saved)
    listeners.on_pass(made)
    listeners.on_plan(made.plan)
    _log_plan(made.plan)
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
    result = apply_result(told, plan_digest(made.plan), outcomes, seconds=seconds, stopped=stopped)
    if outcomes:
        _remember_pass(world, ledger, made, result)
    return result


def _log_plan(plan: Plan) -> None:
    log = get_log()
    tell = log.info if plan.summary.changes else log.debug  # a watch makes many a plan that changes nothing
    tell(
        "pass_planned",
        plan_digest=plan_digest(plan),
        changes=plan.summary.changes,
        deferred=plan.summary.deferred,
        satisfied=plan.summary.satisfied,
    )


def _as_it_stands(
    world: World, ledger: Ledger, made: Pass, outcomes: tuple[Outcome, ...], request: Request
) -> Plan:
    """The plan with what is deferred *now*: success is told from a look at the world after the effects, not before.

    A model that was evicted for a more important one, or placed but not loaded for want of memory, is deferred.
    """
    if not outcomes or request.verb or made.plan.guards:
        return made.plan
    after = plan_pass(world, made.desired, ledger, request, offline=True).plan
    ended_badly = {o.model for o in outcomes if o.status in {OutcomeStatus.FAILED, OutcomeStatus.CANCELLED}}
    deferred = tuple(entry for entry in after.deferred if entry.model not in ended_badly)
    return replace(made.plan, deferred=deferred)


def _run(  # noqa: PLR0913, PLR0917 -- the parts of one pass
    world: World, ledger: Ledger, made: Pass, deadline: Deadline, listeners: Listeners, share: Share
) -> tuple[Outcome, ...]:
    """Execute the plan; where verifying found damage and a pass was asked for, plan again and repair."""
    outcomes: tuple[Outcome, ...] = ()
    verb = made.plan.request.verb
    for _ in range(MAX_REPAIRS):
        if not made.plan.actions:
            break
        ledger.become_writer()
        forget = ledger.observe(lambda change: listeners.on_change(ledger, change))
        ran = _execute(world, ledger, made, deadline, listeners, share)
        forget()
        damaged = {o.model for o in ran if o.kind is ActionKind.VERIFY and o.reason == "damaged"}
        if not damaged or deadline.is_set() or share.is_superseded or verb not in {"", "repair"}:
            return outcomes + ran
        outcomes += tuple(replace(o, status=OutcomeStatus.DONE) if o.reason == "damaged" else o for o in ran)
        repair = Request(only=tuple(sorted(damaged)))
        made = plan_pass(world, made.desired, ledger, repair, cancel=deadline)
        made = replace(made, plan=share.take(made.plan))
    return outcomes


def _execute(  # noqa: PLR0913, PLR0917 -- the parts of one pass
    world: World, ledger: Ledger, made: Pass, deadline: Deadline, listeners: Listeners, share: Share
) -> tuple[Outcome, ...]:
    from reconciler.execute import Work, execute  # noqa: PLC0415 -- planning and reading must not pay for it

    with ledger.transaction():
        for resolution in made.sight.observed.resolutions:
            if not resolution.reason:
                ledger.resolutions.save(resolution)
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
    guards: tuple[Guard, ...] = saved.guards
    summary = replace(fresh.plan.summary, changes=len(verdict.todo))
    plan = replace(saved, actions=tuple(verdict.todo), guards=guards, summary=summary)
    return replace(fresh, plan=plan), skipped


def _timed_out(outcome: Outcome) -> Outcome:
    if outcome.status is OutcomeStatus.CANCELLED and outcome.reason == "cancelled":
        return replace(outcome, reason="timed_out", message="not finished in time")
    return outcome


def _remember_pass(world: World, ledger: Ledger, made: Pass, result: ApplyResult) -> None:
    import json  # noqa: PLC0415

    summary = result.summary
    outcome = {"done": summary.done, "failed": summary.failed, "cancelled": summary.cancelled, "deferred": summary.deferred}
    try:
        ledger.become_writer()
        ledger.meta.record_pass(
            PassRow(world.now() - summary.seconds, summary.seconds, made.desired.digest, json.dumps(outcome))
        )
    except Failure as failure:
        get_log().warning("ledger_unwritable", error=failure.message, path=ledger.path)


