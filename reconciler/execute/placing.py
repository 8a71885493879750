"""Placing a model: the one way by which files come under ``models/``, and how it is remembered.

Everything is staged beside and swapped in one step; only then the ledger is told. A crash between the two is harmless:
the folder bears a record of its own, so the next observation knows what it is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.adapters.ledger import FileRow, Installed
from reconciler.core.actions import Action, Cause
from reconciler.core.desired import DesiredModel
from reconciler.core.errors import transient
from reconciler.core.ports import Proof
from reconciler.core.records import dataclass
from reconciler.core.steps import words
from reconciler.core.stored import FileStat, StoredModel
from reconciler.core.units import format_size
from reconciler.core.words import Digest
from reconciler.execute.content import judge_model
from reconciler.execute.vouching import vouch_for
from reconciler.execute.work import Work

MAX_RECORD_BYTES = 3000  # what an extended attribute holds on every file system


@dataclass(frozen=True, slots=True)
class Revision:
    """What is about to be placed."""

    model: str
    spec_digest: Digest
    files: tuple[FileRow, ...]
    revision: str = ""
    source: str = ""
    format: str = ""
    metadata: str = ""
    archive_digest: Digest | None = None
    download_bytes: int | None = None
    signed_by: str = ""
    signed_under: Digest = Digest("")


def judge_revision(
    work: Work,
    model: DesiredModel,
    files: Sequence[FileRow],
    *,
    source: str = "",
    archive_digest: Digest | None = None,
    download_bytes: int | None = None,
) -> Revision:
    """The wanted revision of a model, made of these blobs, with what their content says of it.

    Raises:
        Failure: permanent ``wrong_format`` or ``model_incomplete``; refused ``unsafe_pickle``.
    """
    findings = judge_model(work, model, files)
    return Revision(
        model.name,
        model.spec_digest,
        tuple(files),
        revision=work.revision_of(model),
        source=source,
        format=findings.format,
        metadata=findings.metadata,
        archive_digest=archive_digest,
        download_bytes=download_bytes,
    )


def place(work: Work, action: Action, revision: Revision, stats: Mapping[Digest, FileStat]) -> None:
    """Swap the revision in under ``models/<name>`` and remember it, in that order.

    Raises:
        Failure: permanent, where the manifest asks for a signature and nobody vouches for the files.
    """
    vouch = vouch_for(work, revision.model, revision.spec_digest, revision.files)
    revision = replace(revision, signed_by=vouch.signed_by, signed_under=vouch.signed_under)
    desired = work.models.get(revision.model)
    stored = work.stored.get(revision.model)
    known = known_files(stored)
    pinned = desired.pinned if desired else bool(stored and stored.pinned)
    record = make_record(revision, pinned=pinned)
    files = [(row.path, row.digest) for row in revision.files]
    with work.flight(f"model:{revision.model}"):
        work.world.store.place(revision.model, files, record, known, syncing=work.share.claims.gate.aside)
    installed = Installed(
        model=revision.model,
        spec_digest=revision.spec_digest,
        files=revision.files,
        proofs=make_proofs(work, stats),
        revision=revision.revision,
        source=revision.source,
        format=revision.format,
        archive_digest=revision.archive_digest,
        category=category_of(desired),
        metadata=revision.metadata,
        signed_by=revision.signed_by,
        signed_under=revision.signed_under,
        priority=desired.priority if desired else None,
        pinned=pinned or None,
        download_bytes=revision.download_bytes,
        memory_bytes=desired.memory_bytes if desired else None,
        action_id=action.id,
        message=_told(action, revision),
    )
    with work.share.claims.gate.aside():
        work.ledger.record_installed(installed)


def _told(action: Action, revision: Revision) -> str:
    """What happened, for the event: ``239 kB from https://host/model.gguf (files are damaged)``."""
    size = sum(row.size_bytes for row in revision.files)
    source = f" from {revision.source}" if revision.source else ""
    why = "" if action.cause is Cause.INTENT else f" ({words(action.reason)})"
    signed = f", signed by {revision.signed_by}" if revision.signed_by else ""
    return f"{format_size(size)}{source}{why}{signed}"


def make_record(revision: Revision, *, pinned: bool) -> bytes:
    """What the folder itself says, so that a lost database costs nothing: no more than fits an extended attribute."""
    record: dict[str, object] = {"spec": revision.spec_digest}
    optional = {
        "revision": revision.revision,
        "format": revision.format,
        "archive": revision.archive_digest or "",
        "pinned": pinned,
        "signed": [revision.signed_by, revision.signed_under] if revision.signed_by else "",
        "roles": {row.path: row.role.value for row in revision.files if row.role.value != "primary"},
    }
    for key, value in optional.items():
        if value and len(json.dumps({**record, key: value})) <= MAX_RECORD_BYTES:
            record[key] = value
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def make_proofs(work: Work, stats: Mapping[Digest, FileStat]) -> tuple[Proof, ...]:
    """Proofs of blobs that were just verified."""
    now = work.world.now()
    return tuple(Proof(digest, stat, now) for digest, stat in stats.items())


def known_files(stored: StoredModel | None) -> dict[str, Digest]:
    """What the tool has placed for a model: these files are ours to replace, all others are foreign."""
    if stored is None or stored.is_foreign:
        return {}
    return {file.path: file.digest for file in stored.files if file.digest is not None}


def category_of(desired: DesiredModel | None) -> str:
    """The manifest's word for what the model is for; empty where it gives none."""
    if desired is None:
        return ""
    return next((json.loads(value) for key, value in desired.metadata if key == "category"), "")


def rows_of(stored: StoredModel) -> tuple[FileRow, ...]:
    """A stored revision's files as ledger rows."""
    return tuple(
        FileRow(file.path, file.digest, file.size_bytes, file.role) for file in stored.files if file.digest is not None
    )


def require_blobs(work: Work, rows: Sequence[FileRow]) -> dict[Digest, FileStat]:
    """The stats of the rows' blobs.

    Raises:
        Failure: transient ``blob_missing`` where one is not there.
    """
    stats = {}
    for row in rows:
        stat = work.world.store.stat_blob(row.digest)
        if stat is None or stat.size_bytes != row.size_bytes:
            raise transient("blob_missing", f"{row.path}: its blob is not in the store", hint="run apply again")
        stats[row.digest] = stat
    return stats
