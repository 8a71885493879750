"""From a look at the world to a complete plan: observe, plan, ask for what the plan lacks, plan again. Changes nothing.

What the first plan finds missing (a size, a repository's files, whether a victim is in use, whether a failed source
answers otherwise now) is asked for and becomes a fact; then the plan is made again, until there is nothing left to ask.
A dry run ends here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from reconciler.adapters.ledger import Ledger
from reconciler.core.actions import ActionKind, Plan, Request
from reconciler.core.plan import plan as decide
from reconciler.core.ports import CancelToken
from reconciler.core.state import DesiredModel, DesiredState, Digest, FailureFact, LocalCopy, Override, Resolution
from reconciler.log import get_log
from reconciler.observe import Answers, Sight, observe, target_artifacts
from reconciler.publishing import with_published
from reconciler.resolve import NEVER, changed_sources, needs_asking, resolve_all
from reconciler.world import World

MAX_QUESTIONS = 5  # rounds of asking before a plan is taken as it is
NOTHING_ASKED = Request()


@dataclass(frozen=True, slots=True)
class Pass:
    """A finished plan with what it was made from."""

    desired: DesiredState
    sight: Sight
    plan: Plan


def plan_pass(
    world: World,
    desired: DesiredState,
    ledger: Ledger,
    request: Request = NOTHING_ASKED,
    *,
    offline: bool = False,
    cancel: CancelToken = NEVER,
) -> Pass:
    """Observe, plan, ask for what the plan lacks, and plan again until nothing is left to ask. Changes nothing."""
    facts = ledger.snapshot()
    if ledger.is_lost:
        get_log().warning("ledger_rebuilt", models=0, reason="ledger_lost", path=ledger.path)
    current = {name: rows[0].spec_digest for name, rows in facts.revisions.items() if rows}
    declared = with_rollbacks(desired, facts.overrides, current)
    desired = with_published(world, declared, (row.resolution for row in facts.resolutions.values()))
    sight = observe(world, desired, facts, offline=offline)
    plan = decide(desired, sight.observed, request)
    answers = Answers(resolutions=sight.observed.resolutions)
    for _ in range(MAX_QUESTIONS):
        more = _ask(world, desired, sight, plan, answers, cancel)
        if more == answers:
            break
        answers = more
        desired = with_published(world, declared, answers.resolutions)
        sight = _with_answers(sight, answers)
        plan = decide(desired, sight.observed, request)
    return Pass(desired, sight, plan)


def with_rollbacks(desired: DesiredState, overrides: Iterable[Override], current: Mapping[str, Digest]) -> DesiredState:
    """A model that was rolled back by hand keeps that revision until its entry asks for something else again."""
    held = {override.model: override.spec_digest for override in overrides if override.kind == "rollback"}
    if not held:
        return desired
    models = []
    for model in desired.models:
        kept = current.get(model.name)
        if kept is not None and held.get(model.name) == model.spec_digest:
            models.append(replace(model, spec_digest=kept, artifacts=()))
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
    open_names |= {deferred.model for deferred in plan.deferred if not deferred.is_failed}  # backing off is not asking
    models = {model.name: model for model in desired.models if model.name in open_names}
    if not sight.observed.is_offline:
        answers = replace(answers, resolutions=_resolutions(world, desired, models, answers, cancel))
        answers = replace(
            answers, changed_sources=_changed(world, desired, sight, plan, cancel) | answers.changed_sources
        )
    answers = _look_for_copies(world, sight, models, answers)
    return replace(answers, in_use=answers.in_use | _in_use(world, sight, plan))


def _resolutions(
    world: World, desired: DesiredState, models: dict[str, DesiredModel], answers: Answers, cancel: CancelToken
) -> tuple[Resolution, ...]:
    known = {resolution.model: resolution for resolution in answers.resolutions}
    asked = [
        model
        for name, model in models.items()
        if (name not in known or known[name].spec_digest != model.spec_digest) and needs_asking(world, model, None)
    ]
    fresh = resolve_all(world, desired, asked, cancel)
    merged = known | {resolution.model: resolution for resolution in fresh}
    return tuple(merged[name] for name in sorted(merged))


def _changed(world: World, desired: DesiredState, sight: Sight, plan: Plan, cancel: CancelToken) -> frozenset[str]:
    """Of the models that failed for good, those whose source answers otherwise now."""
    stuck = {deferred.model for deferred in plan.deferred if deferred.is_failed and deferred.retry_at is None}
    rows = [row for row in sight.facts.failures if row.fact.model in stuck and row.fact.kind == "permanent"]
    pairs: list[tuple[FailureFact, str]] = [(row.fact, row.fingerprint) for row in rows]
    return changed_sources(world, desired, pairs, cancel)


def _look_for_copies(world: World, sight: Sight, models: dict[str, DesiredModel], answers: Answers) -> Answers:
    """Look once in other tools' caches for each digest that is missing; resolving may have told new ones."""
    here = {blob.digest for blob in sight.observed.store.blobs}
    told = {(fact.model, fact.spec_digest): fact.files for fact in answers.resolutions if not fact.reason}
    wanted: dict[Digest, int | None] = {
        artifact.digest: artifact.size_bytes
        for model in models.values()
        for artifact in told.get((model.name, model.spec_digest)) or target_artifacts(model, sight.facts)
        if artifact.digest is not None and artifact.digest not in here | answers.looked_for
    }
    if not wanted:
        return answers
    found: tuple[LocalCopy, ...] = world.local_copies(wanted)
    copies = tuple(sorted((*answers.local_copies, *found), key=lambda copy: copy.digest))
    return replace(answers, local_copies=copies, looked_for=answers.looked_for | wanted.keys())


def _in_use(world: World, sight: Sight, plan: Plan) -> frozenset[str]:
    """Of the models that the plan would evict, those that some process has open."""
    victims = {action.model for action in plan.actions if action.kind is ActionKind.EVICT and action.subject == ""}
    return frozenset(
        model.name
        for model in sight.observed.store.models
        if model.name in victims
        and any(
            file.digest is not None and world.store.is_in_use(world.store.blob_path(file.digest))
            for file in model.files
        )
    )
