"""What need not be fetched: blobs that are in the store already, and files of other caches of this machine.

What nobody declared has no digest to be looked up by: the ledger remembers what it turned out to be, until the model
is placed. A blob is believed where a proof speaks for it. One without (a crash came between its name and its proof) is
read, which costs time but no network; where it is not what its name says it is set aside, and its good parts serve the
download.
"""

import os
from collections.abc import Iterable
from dataclasses import replace

from reconciler.adapters.ledger import BroughtRow, FileRow
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure
from reconciler.core.ports import Fetched, Progress
from reconciler.core.records import dataclass
from reconciler.core.reference import display
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest
from reconciler.execute.placing import make_proofs
from reconciler.execute.remember import tolerating
from reconciler.execute.work import Work

LARGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Arrived:
    """One file that is a blob now; ``brought_bytes`` came in for it, ``network_bytes`` of them over the network."""

    row: FileRow
    stat: FileStat
    brought_bytes: int = 0
    network_bytes: int = 0
    source: str = ""
    is_new: bool = False
    validator: str = ""


def find_blob(work: Work, model: DesiredModel, file: Artifact) -> Arrived | None:
    """Already true: the blob is in the store and proven, if need be now; None where it is not there, or bad.

    Raises:
        Failure: transient ``cancelled``.
    """
    if file.digest is None or not (file.digest in work.blobs or file.digest in work.proven):
        return None
    stat = work.world.store.stat_blob(file.digest)
    if stat is None:
        return None
    row = FileRow(file.path, file.digest, stat.size_bytes, file.role)
    if work.proven.get(file.digest) == stat or _is_proven(work, file.digest, stat):
        return Arrived(row, stat)
    proven = _prove(work, model, file, file.digest)
    return None if proven is None else Arrived(row, proven, is_new=True)


def find_brought(work: Work, model: DesiredModel, file: Artifact) -> Arrived | None:
    """What an earlier pass brought of a file that nobody declared, where the origin still has the same object.

    Raises:
        Failure: transient ``cancelled``.
    """
    row = brought_row(work, model, file)
    if row is None or not _is_unchanged(work, file, row):
        return None
    found = find_blob(work, model, replace(file, digest=row.digest, size_bytes=row.size_bytes))
    return None if found is None else replace(found, source=row.source, validator=row.validator, is_new=True)


def brought_row(work: Work, model: DesiredModel, file: Artifact) -> BroughtRow | None:
    """What the ledger remembers of this very file, if it is a blob."""
    row = work.sight.facts.brought.get((model.name, file.path))
    if row is None or row.digest is None or file.digest is not None or row.spec_digest != model.spec_digest:
        return None
    return row if file.size_bytes in {None, row.size_bytes} else None


def _is_unchanged(work: Work, file: Artifact, row: BroughtRow) -> bool:
    """False where the place that it came from holds another object by now; what cannot be asked has not changed."""
    url = next((url for url in file.sources if display(url) == row.source and url.startswith(("http:", "https:"))), "")
    ask = getattr(work.world.sources.for_url(url), "fingerprint", None) if url and row.validator else None
    word = str(ask(url, work.context)) if callable(ask) else ""
    return not word.startswith(("200|", "206|")) or row.validator in word


def remember(work: Work, model: DesiredModel, arrived: Iterable[Arrived]) -> None:
    """Blobs that no model is placed of yet: their proofs, and which file each is where nobody declared it."""
    fresh = [file for file in arrived if file.is_new]
    undeclared = {file.path for file in work.targets(model) if file.digest is None}
    rows = [_row_of(model, file.row, file.source, file.validator) for file in fresh if file.row.path in undeclared]
    if fresh:
        with work.ledger.transaction():
            work.ledger.proofs.save(make_proofs(work, {file.row.digest: file.stat for file in fresh}))
            work.ledger.brought.save(rows)


def remember_large(work: Work, model: DesiredModel, row: FileRow, fetched: Fetched) -> None:
    """A file that nobody declared, before it becomes a blob: a kill right after would cost it.

    What is small is not worth a sync.
    """
    if row.size_bytes >= LARGE_BYTES:
        tolerating(lambda: work.ledger.brought.save([_row_of(model, row, fetched.source, fetched.revision)]))


def _row_of(model: DesiredModel, row: FileRow, source: str, validator: str) -> BroughtRow:
    return BroughtRow(model.name, row.path, model.spec_digest, row.size_bytes, row.digest, source, validator)


def _is_proven(work: Work, digest: Digest, stat: FileStat) -> bool:
    proof = work.ledger.proofs.get(digest)
    return proof is not None and (proof.stat.inode, proof.stat.mtime_ns) == (stat.inode, stat.mtime_ns)


def _prove(work: Work, model: DesiredModel, file: Artifact, digest: Digest) -> FileStat | None:
    """Read the blob; its stat where it is right, else it is set aside."""
    store = work.world.store

    def tell(done_bytes: int) -> None:
        work.progress(Progress(model.name, file.path, "verifying", done_bytes, file.size_bytes))

    try:
        hashed = store.hash_file(store.blob_path(digest), tell, work.cancel_of(model.name))
    except Failure as failure:
        if failure.reason == "cancelled":
            raise
    else:
        if hashed.digest == digest:
            work.proven[digest] = hashed.stat
            return hashed.stat
    work.bad_copies[digest] = store.quarantine_path(store.quarantine(digest, "digest_mismatch"))
    return None


def copy_local(work: Work, model: DesiredModel, file: Artifact) -> Arrived | None:
    """From another cache of this machine, re-hashed; its own file stays as it is."""
    if file.digest is None:
        return None
    for copy in work.sight.observed.local_copies:
        if copy.digest == file.digest and os.path.exists(copy.path):  # noqa: PTH110
            try:
                stat = work.world.store.import_file(copy.path, file.digest, None, work.cancel_of(model.name))
            except Failure as failure:
                if failure.reason in {"cancelled", "no_space"}:
                    raise
                continue  # it was not what its name promised: ask the source
            work.proven[file.digest] = stat
            row = FileRow(file.path, file.digest, stat.size_bytes, file.role)
            return Arrived(row, stat, source=copy.path, is_new=True)
    return None
