"""From a look at the world to a complete plan: observe, plan, ask for what the plan lacks, plan again. Changes nothing.

What the first plan finds missing (a size, a repository's files, whether a victim is in use, whether a failed source
answers otherwise now) is asked for and becomes a fact; then the plan is made again, until there is nothing left to ask.
A dry run ends here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.adapters.ledger import Ledger
from reconciler.core.actions import ActionKind, Plan, Request
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.errors import FailureKind
from reconciler.core.lock import is_settled
from reconciler.core.observed import ObservedState, Override
from reconciler.core.plan import plan as decide
from reconciler.core.records import dataclass
from reconciler.core.roster import OTHERS_ONLY
from reconciler.core.stored import LocalCopy
from reconciler.core.words import Digest
from reconciler.log import get_log
from reconciler.observe import Answers, Sight, observe
from reconciler.observe.partials import files_told, partial_facts, target_artifacts
from reconciler.publishing import cache_folder, with_published
from reconciler.resolve import Asker, Patient, needs_asking
from reconciler.world import World

ASK_AGAIN_S = 900.0  # about the size of what found no room
MAX_QUESTIONS = 5  # rounds of asking before a plan is taken as it is
NOTHING_ASKED = Request()
LOOKING = Request(keeps_partials=True)  # of a status: as a watch would see it
PATIENT = Patient()


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
    asker: Asker = PATIENT,
) -> Pass:
    """Observe, plan, ask for what the plan lacks, and plan again until nothing is left to ask. Changes nothing."""
    facts = ledger.snapshot()
    tell_lost(ledger)
    current = {name: rows[0].spec_digest for name, rows in facts.revisions.items() if rows}
    declared = with_rollbacks(desired, facts.overrides, current)
    cache = cache_folder(world.environment)
    desired = with_published(cache, declared, (row.resolution for row in facts.resolutions.values()))
    sight = observe(world, desired, facts, offline=offline)
    plan = decide(desired, sight.observed, request)
    answers = Answers(resolutions=sight.observed.resolutions)
    for _ in range(MAX_QUESTIONS):
        before, answers = answers, _ask(world, desired, sight, plan, answers, asker)
        if answers.facts == before.facts:
            break
        desired = with_published(cache, declared, answers.resolutions)
        sight = _with_answers(sight, desired, answers)
        plan = decide(desired, sight.observed, request)
    return Pass(desired, sight, plan)


def tell_lost(ledger: Ledger) -> None:
    """After a read: what looks empty is not, where the database cannot be believed."""
    if ledger.is_lost:
        get_log().warning("ledger_lost", path=ledger.path, hint="the next apply rebuilds it")


def plan_elsewhere(desired: DesiredState, observed: ObservedState, request: Request = NOTHING_ASKED) -> Plan:
    """The plan that another machine would make of the manifest, where ``observed`` was found."""
    current = {model.name: model.spec_digest for model in observed.store.models if model.is_current}
    declared = with_rollbacks(desired, observed.overrides, current)
    return decide(with_published(observed.hub_cache, declared, observed.resolutions), observed, request)


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


def _with_answers(sight: Sight, desired: DesiredState, answers: Answers) -> Sight:
    observed = sight.observed
    told = {(fact.model, fact.spec_digest): fact.files for fact in answers.resolutions if fact.files}
    models = tuple(
        replace(model, in_use=True) if model.name in answers.in_use else model for model in observed.store.models
    )
    failures = tuple(
        replace(fact, source_changed=True)
        if fact.kind == FailureKind.PERMANENT and fact.model in answers.changed_sources
        else fact
        for fact in observed.failures
    )
    observed = replace(
        observed,
        store=replace(observed.store, models=models, partials=partial_facts(sight.scan, desired, told)),
        resolutions=answers.resolutions,
        unanswered=tuple(sorted(answers.unanswered)),
        local_copies=answers.local_copies,
        failures=failures,
    )
    return replace(sight, observed=observed)


def _ask(world: World, desired: DesiredState, sight: Sight, plan: Plan, answers: Answers, asker: Asker) -> Answers:
    """Everything this plan wants to know that nobody asked for yet."""
    open_names = {action.model for action in plan.actions if action.kind is ActionKind.DOWNLOAD}
    waiting = [deferred for deferred in plan.deferred if deferred.reason != OTHERS_ONLY]
    open_names |= {deferred.model for deferred in waiting if not deferred.is_failed}  # backing off is not asking
    models = {model.name: model for model in desired.models if model.name in open_names}
    if not sight.observed.is_offline:
        answers = _with_resolutions(world, desired, models, answers, _sized(sight, plan), asker)
        answers = _probe(world, desired, sight, plan, answers, asker)
    answers = _look_for_copies(world, sight, models, answers)
    return replace(answers, in_use=answers.in_use | _in_use(world, sight, plan))


def asked_again(sight: Sight, plan: Plan) -> set[str]:
    """Models that found no room, and whose size was told so long ago that it is asked again: it may be a mistake."""
    short = {deferred.model for deferred in plan.deferred if deferred.reason == "no_room"}
    since = sight.observed.taken_at - ASK_AGAIN_S
    return {name for (name, _), row in sight.facts.resolutions.items() if name in short and row.resolved_at < since}


def _sized(sight: Sight, plan: Plan) -> set[str]:
    """Models whose size matters now."""
    return asked_again(sight, plan) | {action.model for action in plan.actions if action.kind is ActionKind.DOWNLOAD}


def _with_resolutions(
    world: World,
    desired: DesiredState,
    models: dict[str, DesiredModel],
    answers: Answers,
    sized: set[str],
    asker: Asker,
) -> Answers:
    """Ask what models are made of; of the ``sized`` also again, where it was told once and may have changed.

    Where the answer is a failure, what was told counts.
    """
    known = {resolution.model: resolution for resolution in answers.resolutions}
    held = {name for name, model in models.items() if name in known and known[name].spec_digest == model.spec_digest}
    doubtful = {name for name in held & sized if not is_settled(models[name], known[name])}
    asked = [
        model
        for name, model in models.items()
        if name not in answers.asked and (name not in held or name in doubtful) and needs_asking(world, model, None)
    ]
    fresh = asker.resolve(world, desired, asked)
    told = {resolution.model: resolution for resolution in fresh}
    merged = known | {name: fact for name, fact in told.items() if not (fact.reason and name in held)}
    return replace(
        answers,
        resolutions=tuple(merged[name] for name in sorted(merged)),
        asked=answers.asked | {model.name for model in asked},
        unanswered=answers.unanswered | ({model.name for model in asked} - told.keys()),
    )


def _probe(world: World, desired: DesiredState, sight: Sight, plan: Plan, answers: Answers, asker: Asker) -> Answers:
    """Of the models that failed for good, those whose source answers otherwise now; each is looked at once."""
    stuck = {
        deferred.model
        for deferred in plan.deferred
        if deferred.is_failed and deferred.retry_at is None and _is_meant(plan.request, deferred.model)
    }
    wanted = {model.name: model.spec_digest for model in desired.models if model.name in stuck - answers.probed}
    failed = [
        (row.fact, row.fingerprint)
        for row in sight.facts.failures
        if row.fingerprint and row.fact.kind == "permanent" and wanted.get(row.fact.model) == row.fact.spec_digest
    ]
    if not failed:
        return answers
    changed = asker.changed(world, desired, failed, sight.observed.resolutions)
    return replace(answers, probed=answers.probed | wanted.keys(), changed_sources=answers.changed_sources | changed)


def _is_meant(request: Request, name: str) -> bool:
    """Whether this run is about the model: who asks for one thing does not wait for another model's origin."""
    return name in request.models if request.verb else not request.only or name in request.only


def _look_for_copies(world: World, sight: Sight, models: dict[str, DesiredModel], answers: Answers) -> Answers:
    """Look once in other tools' caches for each digest that is missing; resolving may have told new ones."""
    known = {blob.digest for blob in sight.observed.store.blobs} | answers.looked_for
    told = {(fact.model, fact.spec_digest): fact.files for fact in answers.resolutions if not fact.reason}
    wanted: dict[Digest, int | None] = {
        artifact.digest: artifact.size_bytes
        for model in models.values()
        for artifact in told.get((model.name, model.spec_digest)) or target_artifacts(model, files_told(sight.facts))
        if artifact.digest is not None and artifact.digest not in known
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
