"""Unfinished downloads: whose they are, by the names of what is wanted, and how much of each is done."""

from collections.abc import Mapping

from reconciler.adapters.ledger import LedgerFacts
from reconciler.adapters.store import Partial, StoreScan, partial_key
from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.stored import PartialFact
from reconciler.core.words import Digest, WantedState

UNKNOWN = Artifact("", ())


def key_of(model: str, artifact: Artifact) -> str:
    """The name of an artifact's partial: by digest where one is declared, so that equal content is fetched once."""
    if artifact.digest:
        return partial_key("", "", artifact.digest)
    return partial_key(model, artifact.path, artifact.sources[0] if artifact.sources else "")


Told = Mapping[tuple[str, Digest], tuple[Artifact, ...]]  # (model, spec digest) → the files it was resolved to


def files_told(facts: LedgerFacts) -> Told:
    """What the ledger remembers of what origins told."""
    return {key: row.resolution.files for key, row in facts.resolutions.items()}


def partial_facts(scan: StoreScan, desired: DesiredState, told: Told) -> tuple[PartialFact, ...]:
    """Every partial of the store; the owner is empty where no wanted model has use for it."""
    if not scan.partials:
        return ()
    owners: dict[str, tuple[str, Artifact]] = {}
    for model in desired.models:
        if model.state is not WantedState.ABSENT:
            for artifact in target_artifacts(model, told):
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


def target_artifacts(model: DesiredModel, told: Told) -> tuple[Artifact, ...]:
    """The concrete files of a wanted model as far as they are known without asking anybody."""
    return told.get((model.name, model.spec_digest), model.artifacts)
