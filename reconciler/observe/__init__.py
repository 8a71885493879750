"""World → ObservedState: what is on disk, read with what the ledger remembers of it.

Disk is truth, the ledger is memory. A blob is believed without reading it where its stat is the one it was verified
with; everything else about a file is judged here, once, as a :class:`Condition`. Where the ledger knows nothing of a
folder below ``models/`` whose files are blobs, it is ours all the same (the record on the folder says which revision):
so a lost database needs no rebuilding step, observing is the rebuild, and verifying fills the ledger again.
"""

from dataclasses import replace

from reconciler.adapters.ledger import LedgerFacts
from reconciler.adapters.store import Blob, StoreScan
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.digests import terms_digest
from reconciler.core.lock import is_agreed
from reconciler.core.observed import BroughtFact, FailureFact, ObservedState, Resolution
from reconciler.core.ports import Proof
from reconciler.core.records import dataclass
from reconciler.core.stored import BadCopy, BlobFact, LocalCopy, StoreFacts
from reconciler.core.words import Digest
from reconciler.observe.judging import is_same_version
from reconciler.observe.linking import with_links
from reconciler.observe.partials import files_told, partial_facts
from reconciler.observe.residents import observe_runtimes
from reconciler.observe.revisions import foreign_bytes, stored_models
from reconciler.publishing import cache_folder
from reconciler.signing import key_facts
from reconciler.world import World


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at the store: the scan and the ledger's facts, of the same moment as ``observed`` was made from."""

    scan: StoreScan
    facts: LedgerFacts
    observed: ObservedState


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked of origins and of the file system because a first plan could not do without it."""

    resolutions: tuple[Resolution, ...] = ()
    asked: frozenset[str] = frozenset()  # models whose origins were asked
    unanswered: frozenset[str] = frozenset()  # those of them that have not said yet what they are made of
    local_copies: tuple[LocalCopy, ...] = ()
    looked_for: frozenset[Digest] = frozenset()  # digests that were looked for in other tools' caches
    probed: frozenset[str] = frozenset()  # models that failed for good, whose sources were looked at again
    changed_sources: frozenset[str] = frozenset()
    in_use: frozenset[str] = frozenset()

    @property
    def facts(self) -> tuple[object, ...]:
        """What a plan is made of; the rest only says what need not be asked again."""
        return self.resolutions, self.unanswered, self.local_copies, self.changed_sources, self.in_use


def observe(
    world: World,
    desired: DesiredState,
    facts: LedgerFacts,
    answers: Answers = Answers(),  # noqa: B008 -- it never changes
    *,
    offline: bool = False,
) -> Sight:
    """Look at the store, the device and the runtimes, and judge what was seen by what the ledger remembers."""
    scan = world.store.scan()
    models = stored_models(scan, facts, world, frozenset(model.name for model in desired.models))
    models = with_links(models, desired, facts, world)
    runtimes = observe_runtimes(world, desired, models, facts)
    loaded = {name: fact.name for fact in runtimes for name, _ in fact.loaded}
    models = tuple(
        replace(model, loaded=True, runtime=loaded[model.name]) if model.is_current and model.name in loaded else model
        for model in models
    )
    store = StoreFacts(
        models=models,
        blobs=tuple(_blob_fact(blob, facts.proofs.get(blob.digest)) for blob in scan.blobs),
        partials=partial_facts(scan, desired, files_told(facts)),
        quarantine_bytes=scan.quarantine_bytes,
        foreign_bytes=scan.foreign_bytes + foreign_bytes(scan, models),
        used_bytes=scan.used_bytes,
        path=world.store.root,
        bad_copies=tuple(
            BadCopy(copy.name, copy.allocated_bytes, copy.since, copy.digest) for copy in scan.quarantined
        ),
    )
    observed = ObservedState(
        taken_at=world.now(),
        store=store,
        disk=world.disk(),
        memory=world.memory(),
        device=world.device(),
        runtimes=runtimes,
        resolutions=answers.resolutions or _remembered_resolutions(desired, facts),
        local_copies=answers.local_copies,
        failures=_failures(desired, facts),
        overrides=facts.overrides,
        suspended_until=facts.meta.suspended_until,
        is_offline=offline,
        throughput_bytes_per_s=facts.meta.throughput_bytes_per_s,
        hub_cache=cache_folder(world.environment),
        keys=key_facts(desired),
        brought=_brought(desired, facts),
    )
    return Sight(scan, facts, observed)


def _remembered_resolutions(desired: DesiredState, facts: LedgerFacts) -> tuple[Resolution, ...]:
    known = facts.resolutions
    if not known:
        return ()
    remembered = (
        _with_sources(model, known[key].resolution)
        for model in desired.models
        if (key := (model.name, model.spec_digest)) in known
    )
    return tuple(resolution for resolution in remembered if resolution is not None)


def _with_sources(model: DesiredModel, resolution: Resolution) -> Resolution | None:
    """A source with a query is never remembered: the manifest's own stands for it; None where it has none.

    None also where the manifest, or its lock, declares something else by now.
    """
    if not is_agreed(model, resolution):
        return None
    if all(file.sources for file in resolution.files):
        return resolution
    declared = {artifact.path: artifact.sources for artifact in model.artifacts}
    only = model.artifacts[0].sources if len(model.artifacts) == len(resolution.files) == 1 else ()
    files = tuple(replace(file, sources=file.sources or declared.get(file.path, only)) for file in resolution.files)
    return replace(resolution, files=files) if all(file.sources for file in files) else None


def _failures(desired: DesiredState, facts: LedgerFacts) -> tuple[FailureFact, ...]:
    """What failed, marked where the manifest takes the content on other terms or from elsewhere than it did then."""
    if not facts.failures:
        return ()
    terms = {model.name: terms_digest(model, desired.network.mirrors) for model in desired.models}
    return tuple(
        replace(row.fact, source_changed=True)
        if row.fingerprint and row.fingerprint.partition("\n")[0] != terms.get(row.fact.model)
        else row.fact
        for row in facts.failures
    )


def _brought(desired: DesiredState, facts: LedgerFacts) -> tuple[BroughtFact, ...]:
    if not facts.brought:
        return ()
    specs = {model.name: model.spec_digest for model in desired.models}
    rows = (row for _, row in sorted(facts.brought.items()) if specs.get(row.model) == row.spec_digest)
    return tuple(BroughtFact(row.model, row.path, row.size_bytes, row.digest) for row in rows)


def _blob_fact(blob: Blob, proof: Proof | None) -> BlobFact:
    is_verified = proof is not None and is_same_version(proof.stat, blob.stat)
    return BlobFact(
        blob.digest,
        blob.stat.size_bytes,
        blob.allocated_bytes,
        is_verified,
        blob.stat,
        blob.stat.mtime_ns / 1e9,
    )
