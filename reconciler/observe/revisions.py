"""What lies under ``models/``, revision by revision: what the ledger recorded, what it lost, what is foreign.

A folder that the ledger does not know is ours where its files are blobs: the record on it says which revision it is.
"""

import json
from collections.abc import Iterable, Mapping

from reconciler.adapters.ledger import FileRow, LedgerFacts, RevisionRow
from reconciler.adapters.store import Blob, Placed, StoreScan
from reconciler.core.stored import StoredFile, StoredModel
from reconciler.core.words import Condition, Digest, Role
from reconciler.observe.judging import judge, judge_kept
from reconciler.world import World


def stored_models(scan: StoreScan, facts: LedgerFacts, world: World, wanted: frozenset[str]) -> tuple[StoredModel, ...]:
    """Every revision in the store: recorded ones, unrecorded ones of ours, foreign ones; sorted."""
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


def _recorded(
    revision: RevisionRow, blobs: Mapping[Digest, Blob], placed: Mapping[str, Placed], facts: LedgerFacts
) -> StoredModel | None:
    """A revision as the ledger knows it; None for a superseded one whose bytes are not all there any more."""
    is_current = revision.superseded_at is None
    files = tuple(
        judge(row, blobs.get(row.digest), facts.proofs.get(row.digest), placed.get(row.path))
        if is_current
        else judge_kept(row, blobs.get(row.digest), facts.proofs.get(row.digest))
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
        signed_by=revision.signed_by,
        signed_under=revision.signed_under,
        is_unpacked=revision.archive_digest is not None,
    )


def _is_gone(model: StoredModel) -> bool:
    """Nothing of it is left: an eviction that was cut off before it was recorded."""
    return all(file.condition is Condition.MISSING for file in model.files)


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
    signed_by, signed_under = _signed(record.get("signed"))
    judged = []
    for path, file in sorted(ours.items()):
        digest = Digest(str(file.digest))
        row = FileRow(path, digest, blobs[digest].stat.size_bytes, _role(words.get(path)))
        judged.append(judge(row, blobs[digest], facts.proofs.get(digest), file))
    return StoredModel(
        name=name,
        spec_digest=Digest(str(record.get("spec", ""))),
        files=tuple(judged),
        revision=str(record.get("revision", "")),
        pinned=record.get("pinned") is True,
        installed_at=min(file.stat.mtime_ns for file in ours.values()) / 1e9,
        format=str(record.get("format", "")),
        signed_by=signed_by,
        signed_under=Digest(signed_under),
        is_unpacked=bool(record.get("archive")),
    )


def _signed(value: object) -> tuple[str, str]:
    """Who signed, and under which rule that was found good."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value):
        return str(value[0]), str(value[1])
    return "", ""


def _role(word: object) -> Role:
    return next((role for role in Role if role.value == word), Role.PRIMARY)


def read_record(record: bytes | None) -> dict[str, object]:
    """What the record on a model's folder says; empty where it is missing or not ours."""
    try:
        value = json.loads(record or b"{}")
    except (ValueError, RecursionError):  # anybody may have written it
        return {}
    return value if isinstance(value, dict) else {}


def foreign_bytes(scan: StoreScan, models: Iterable[StoredModel]) -> int:
    """Blocks of files below ``models/`` that the tool did not place."""
    known = {(model.name, file.path) for model in models if not model.is_foreign for file in model.files}
    return sum(
        file.allocated_bytes for file in scan.placed if file.digest is None and (file.model, file.path) not in known
    )
