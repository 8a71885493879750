"""World → ObservedState: what is on disk, read with what the ledger remembers of it.

Disk is truth, the ledger is memory. A blob is believed without reading it where its stat is the one it was verified
with; everything else about a file is judged here, once, as a :class:`Condition`. Where the ledger knows nothing of a
folder below ``models/`` whose files are blobs, it is ours all the same (the record on the folder says which revision):
so a lost database needs no rebuilding step, observing is the rebuild, and verifying fills the ledger again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.adapters.ledger import FileRow, LedgerFacts, RevisionRow
from reconciler.adapters.store import Blob, Partial, Placed, StoreScan, partial_key
from reconciler.core.errors import Failure
from reconciler.core.ports import Proof, RuntimeModel
from reconciler.core.state import (
    Artifact,
    BlobFact,
    Condition,
    DesiredModel,
    DesiredState,
    Digest,
    FailureFact,
    FileStat,
    LocalCopy,
    ObservedState,
    PartialFact,
    Resolution,
    Role,
    RuntimeFact,
    StoredFile,
    StoredModel,
    StoreFacts,
    WantedState,
)
from reconciler.publishing import fact_of
from reconciler.world import World

SEALED_MODE = 0o444
UNKNOWN = Artifact("", ())


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
    local_copies: tuple[LocalCopy, ...] = ()
    looked_for: frozenset[Digest] = frozenset()  # digests that were looked for in other tools' caches
    changed_sources: frozenset[str] = frozenset()
    in_use: frozenset[str] = frozenset()


def observe(
    world: World, desired: DesiredState, facts: LedgerFacts, answers: Answers = Answers(), *, offline: bool = False
) -> Sight:
    """Look at the store, the device and the runtimes, and judge what was seen by what the ledger remembers."""
    scan = world.store.scan()
    models = _stored_models(scan, facts, world, frozenset(model.name for model in desired.models))
    models = _with_links(models, desired, facts, world)
    runtimes = observe_runtimes(world, desired, models, facts)
    loaded = {name: fact.name for fact in runtimes for name, _ in fact.loaded}
    models = tuple(
        replace(model, loaded=True, runtime=loaded[model.name]) if model.is_current and model.name in loaded else model
        for model in models
    )
    store = StoreFacts(
        models=models,
        blobs=tuple(_blob_fact(blob, facts.proofs.get(blob.digest)) for blob in scan.blobs),
        partials=_partials(scan, desired, facts),
        quarantine_bytes=scan.quarantine_bytes,
        foreign_bytes=scan.foreign_bytes + _foreign_bytes(scan, models),
        used_bytes=scan.used_bytes,
        path=world.store.root,
    )
    observed = ObservedState(
        taken_at=world.now(),
        store=store,
        disk=world.disk(),
        memory=world.memory(),
        device=world.device(desired),
        runtimes=runtimes,
        resolutions=answers.resolutions or _remembered_resolutions(desired, facts),
        local_copies=answers.local_copies,
        failures=tuple(_failure(row.fact, answers.changed_sources) for row in facts.failures),
        overrides=facts.overrides,
        suspended_until=facts.meta.suspended_until,
        is_offline=offline,
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
    """A source with a query is never remembered: the manifest's own stands for it; None where it has none."""
    if all(file.sources for file in resolution.files):
        return resolution
    declared = {artifact.path: artifact.sources for artifact in model.artifacts}
    only = model.artifacts[0].sources if len(model.artifacts) == len(resolution.files) == 1 else ()
    files = tuple(replace(file, sources=file.sources or declared.get(file.path, only)) for file in resolution.files)
    return replace(resolution, files=files) if all(file.sources for file in files) else None


def _failure(fact: FailureFact, changed: frozenset[str]) -> FailureFact:
    return replace(fact, source_changed=True) if fact.model in changed else fact


# --- models ---------------------------------------------------------------------------------------------------------


def _stored_models(
    scan: StoreScan, facts: LedgerFacts, world: World, wanted: frozenset[str]
) -> tuple[StoredModel, ...]:
    blobs = {blob.digest: blob for blob in scan.blobs}
    placed: dict[str, dict[str, Placed]] = {name: {} for name in scan.models}
    for file in scan.placed:
        placed.setdefault(file.model, {})[file.path] = file
    found = []
    recorded = set()
    for name, revisions in facts.revisions.items():
        for revision in revisions:
            model = _recorded(revision, blobs, placed.get(name, {}), facts)
            if model is None or (name not in wanted and _is_gone(model)):
                continue
            if model.is_current:
                recorded.add(name)
            found.append(model)
    found.extend(
        _unrecorded(name, files, blobs, facts, world)
        for name, files in placed.items()
        if name not in recorded and files
    )
    return tuple(sorted(found, key=lambda model: (model.name, not model.is_current, model.spec_digest)))


def link_target(root: str, model: str, paths: Sequence[str]) -> str:
    """What a declared link points at: the only file of a model, or the folder of one that has several."""
    folder = f"{root}/models/{model}"
    return f"{folder}/{paths[0]}" if len(paths) == 1 else folder


def _with_links(
    models: tuple[StoredModel, ...], desired: DesiredState, facts: LedgerFacts, world: World
) -> tuple[StoredModel, ...]:
    """The same models, each with how its links stand: those that are declared, and those that the tool once made."""
    own: dict[str, set[str]] = {}
    for row in facts.links:
        own.setdefault(row.model, set()).add(row.path)
    declared = {model.name: model.links for model in desired.models if model.links}
    if not own and not declared:
        return models
    linked = []
    for model in models:
        paths = {*own.get(model.name, ()), *declared.get(model.name, ())} if model.is_current else set()
        target = link_target(world.store.root, model.name, [file.path for file in model.files])
        found = tuple(
            fact_of(world, model, path, target, is_own=path in own.get(model.name, ())) for path in sorted(paths)
        )
        linked.append(replace(model, links=found) if found else model)
    return tuple(linked)


def _recorded(
    revision: RevisionRow, blobs: Mapping[Digest, Blob], placed: Mapping[str, Placed], facts: LedgerFacts
) -> StoredModel | None:
    """A revision as the ledger knows it; None for a superseded one whose bytes are not all there any more."""
    is_current = revision.superseded_at is None
    files = tuple(
        _judge(row, blobs.get(row.digest), facts.proofs.get(row.digest), placed.get(row.path))
        if is_current
        else _judge_kept(row, blobs.get(row.digest), facts.proofs.get(row.digest))
        for row in revision.files
    )
    if not is_current and any(file.condition is Condition.MISSING for file in files):
        return None
    row = facts.models.get(revision.model)
    proofs = [facts.proofs[file.digest].verified_at for file in revision.files if file.digest in facts.proofs]
    return StoredModel(
        name=revision.model,
        spec_digest=revision.spec_digest,
        files=files,
        is_current=is_current,
        revision=revision.revision,
        pinned=row.pinned if row else False,
        installed_at=revision.installed_at,
        last_used=row.last_used if row else 0.0,
        use_count=row.use_count if row else 0,
        verified_at=min(proofs) if len(proofs) == len(revision.files) and proofs else None,
        format=revision.format,
        memory_bytes=row.memory_bytes if row else None,
        priority=row.priority if row else None,
    )


def _is_gone(model: StoredModel) -> bool:
    """Nothing of it is left: an eviction that was cut off before it was recorded."""
    return all(file.condition is Condition.MISSING for file in model.files)


def _judge(row: FileRow, blob: Blob | None, proof: Proof | None, placed: Placed | None) -> StoredFile:
    """How one file of the current revision stands."""
    if blob is None:
        if placed is not None and placed.digest is None and placed.stat.size_bytes == row.size_bytes:
            return _file(
                row, None, Condition.UNVERIFIED, "its blob is gone, the placed file is still there", placed.stat
            )
        return _file(row, None, Condition.MISSING, "its blob is gone")
    kept = _judge_kept(row, blob, proof)
    if kept.condition is not Condition.INTACT:
        return kept
    if placed is None:
        return _file(row, blob, Condition.UNPLACED, "the file under models/ is gone")
    if placed.digest != row.digest:
        return _file(row, blob, Condition.UNPLACED, "the file under models/ was replaced")
    return kept


def _judge_kept(row: FileRow, blob: Blob | None, proof: Proof | None) -> StoredFile:
    """How one blob stands against what is remembered of it."""
    if blob is None:
        return _file(row, None, Condition.MISSING, "its blob is gone")
    if blob.stat.size_bytes != row.size_bytes:
        detail = f"{blob.stat.size_bytes} bytes on disk where {row.size_bytes} belong"
        return _file(row, blob, Condition.DAMAGED, detail)
    if proof is None:
        return _file(row, blob, Condition.UNVERIFIED, "no proof")
    if not is_same_version(proof.stat, blob.stat):
        return _file(row, blob, Condition.UNVERIFIED, "it was written to since it was verified")
    if blob.stat.mode & 0o7777 != SEALED_MODE:
        return _file(row, blob, Condition.UNPLACED, f"its mode is {blob.stat.mode & 0o7777:04o}, not 0444")
    return _file(row, blob, Condition.INTACT)


def _file(
    row: FileRow, blob: Blob | None, condition: Condition, detail: str = "", stat: FileStat | None = None
) -> StoredFile:
    allocated = blob.allocated_bytes if blob else 0
    found = stat or (blob.stat if blob else None)
    return StoredFile(row.path, row.digest, row.size_bytes, allocated, condition, row.role, found, detail)


def is_same_version(proof: FileStat, now: FileStat) -> bool:
    """Whether a file is the version that was verified. Device numbers may change with a reboot: they do not count."""
    return (proof.inode, proof.size_bytes, proof.mtime_ns) == (now.inode, now.size_bytes, now.mtime_ns)


def _unrecorded(
    name: str, files: Mapping[str, Placed], blobs: Mapping[Digest, Blob], facts: LedgerFacts, world: World
) -> StoredModel:
    """A folder that the ledger does not know: ours where its files are blobs, foreign where none is."""
    ours = {path: file for path, file in files.items() if file.digest is not None and file.digest in blobs}
    if not ours:
        stranger = tuple(
            StoredFile(path, None, file.stat.size_bytes, file.allocated_bytes, Condition.UNVERIFIED, stat=file.stat)
            for path, file in sorted(files.items())
        )
        return StoredModel(name, Digest(""), stranger, is_foreign=True)
    record = read_record(world.store.read_record(name))
    roles = record.get("roles")
    words = roles if isinstance(roles, dict) else {}
    judged = []
    for path, file in sorted(ours.items()):
        digest = Digest(str(file.digest))
        row = FileRow(path, digest, blobs[digest].stat.size_bytes, _role(words.get(path)))
        judged.append(_judge(row, blobs[digest], facts.proofs.get(digest), file))
    return StoredModel(
        name=name,
        spec_digest=Digest(str(record.get("spec", ""))),
        files=tuple(judged),
        revision=str(record.get("revision", "")),
        pinned=record.get("pinned") is True,
        installed_at=min(file.stat.mtime_ns for file in ours.values()) / 1e9,
        format=str(record.get("format", "")),
    )


def _role(word: object) -> Role:
    return next((role for role in Role if role.value == word), Role.PRIMARY)


def read_record(record: bytes | None) -> dict[str, object]:
    """What the record on a model's folder says; empty where it is missing or not ours."""
    try:
        value = json.loads(record or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _foreign_bytes(scan: StoreScan, models: Iterable[StoredModel]) -> int:
    """Blocks of files below ``models/`` that the tool did not place."""
    known = {(model.name, file.path) for model in models if not model.is_foreign for file in model.files}
    return sum(
        file.allocated_bytes for file in scan.placed if file.digest is None and (file.model, file.path) not in known
    )


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


# --- partials -------------------------------------------------------------------------------------------------------


def key_of(model: str, artifact: Artifact) -> str:
    """The name of an artifact's partial: by digest where one is declared, so that equal content is fetched once."""
    if artifact.digest:
        return partial_key("", "", artifact.digest)
    return partial_key(model, artifact.path, artifact.sources[0] if artifact.sources else "")


def _partials(scan: StoreScan, desired: DesiredState, facts: LedgerFacts) -> tuple[PartialFact, ...]:
    if not scan.partials:
        return ()
    owners: dict[str, tuple[str, Artifact]] = {}
    for model in desired.models:
        if model.state is not WantedState.ABSENT:
            for artifact in target_artifacts(model, facts):
                owners.setdefault(key_of(model.name, artifact), (model.name, artifact))
    facts_of = []
    for partial in scan.partials:
        name, artifact = owners.get(partial.name, ("", UNKNOWN))
        facts_of.append(
            PartialFact(
                partial.name,
                name,
                _done_bytes(partial),
                partial.allocated_bytes,
                partial.modified_at,
                artifact.digest,
                artifact.size_bytes,
                artifact.path,
            )
        )
    return tuple(facts_of)


def _done_bytes(partial: Partial) -> int:
    """Finished chunks, by the engine's notes: the file itself may be preallocated, so its size says nothing."""
    chunk = partial.sidecar.get("chunk_bytes") if partial.sidecar else None
    return min(partial.notes * chunk, partial.size_bytes) if isinstance(chunk, int) else 0


def target_artifacts(model: DesiredModel, facts: LedgerFacts) -> tuple[Artifact, ...]:
    """The concrete files of a wanted model as far as they are known without asking anybody."""
    known = facts.resolutions.get((model.name, model.spec_digest))
    return known.resolution.files if known else model.artifacts


# --- runtimes -------------------------------------------------------------------------------------------------------


def observe_runtimes(
    world: World, desired: DesiredState, models: tuple[StoredModel, ...], facts: LedgerFacts
) -> tuple[RuntimeFact, ...]:
    """Ask each runtime about the models that this tool loaded into it. One that does not answer holds what it held."""
    loads: dict[str, list[str]] = {}
    for load in facts.loads:
        loads.setdefault(load.runtime, []).append(load.model)
    stored = {model.name: model for model in models if model.is_current and not model.is_foreign}
    found = []
    for spec in desired.runtimes:
        names = [name for name in loads.get(spec.name, ()) if name in stored]
        asked = tuple(runtime_model(world, stored[name]) for name in names)
        try:
            held = world.runtime(spec).observe(asked) if asked else {}
            found.append(RuntimeFact(spec.name, spec.type, loaded=tuple(sorted(held.items()))))
        except Failure as failure:
            remembered = tuple(sorted((load.model, load.size_bytes) for load in facts.loads if load.model in names))
            found.append(RuntimeFact(spec.name, spec.type, False, remembered, failure.message))
    return tuple(found)


def runtime_model(world: World, stored: StoredModel, declared_bytes: int | None = None) -> RuntimeModel:
    """A stored model as a runtime sees it: absolute paths, the primary file first."""
    folder = world.store.placed_path(stored.name)
    files = sorted(stored.files, key=lambda file: (file.role is not Role.PRIMARY, file.path))
    return RuntimeModel(
        name=stored.name,
        files=tuple((f"{folder}/{file.path}", file.role) for file in files),
        format=stored.format,
        size_bytes=sum(file.size_bytes for file in stored.files),
        memory_bytes=declared_bytes,
        folder=folder,
    )
