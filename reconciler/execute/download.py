"""``download``: fetch what is missing of one model, check it, commit it, place it.

Files of a model come side by side; a required one that fails fails the model, and what did arrive stays as blobs, so
that nothing is fetched twice. Content is judged before it becomes a blob: a file that is not its declared format, or
that holds a pickle nobody allowed, never enters the store.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from reconciler.adapters.ledger import FileRow
from reconciler.core.actions import Action, ActionKind
from reconciler.core.errors import Failure, permanent, refused
from reconciler.core.ports import Fetched, FetchRequest, Location
from reconciler.core.state import Artifact, DesiredModel, FileStat
from reconciler.execute.content import Findings, judge_model, judge_partial
from reconciler.execute.extract import unpack
from reconciler.execute.placing import Revision, make_proofs, place, rows_of
from reconciler.execute.work import Done, Work
from reconciler.observe import key_of
from reconciler.resolve import failure_of

FILES_AT_ONCE = 8  # of one model
_MAY_BE_MISSING = frozenset({"not_found", "gone"})
_PLAIN = ("http:", "https:", "file:")  # asked by GET whatever a HEAD answered


@dataclass(frozen=True, slots=True)
class Arrived:
    """One file that is a blob now; ``brought_bytes`` came in for it, ``network_bytes`` of them over the network."""

    row: FileRow
    stat: FileStat
    brought_bytes: int = 0
    network_bytes: int = 0
    source: str = ""
    is_new: bool = False


def download(action: Action, work: Work) -> Done:
    """Bring the model's missing files into the store and place it, unless an extract follows."""
    model = work.models.get(action.model)
    if model is None:
        raise permanent("not_wanted", f"{action.model} is not in the manifest any more")
    _stop_unresolved(work, model)
    wanted = [file for file in work.targets(model) if not action.paths or file.path in action.paths]
    arrived = bring(work, model, wanted)
    work.arrivals.update({(model.name, file.row.path): file.row for file in arrived})
    brought = sum(file.brought_bytes for file in arrived)
    done = Done(brought, network_bytes=sum(file.network_bytes for file in arrived))
    source = next((file.source for file in arrived if file.source), "")
    if work.is_planned(ActionKind.EXTRACT, model.name):
        _remember_blobs(work, arrived)
        return replace(done, message=f"downloaded from {source}" if source else "")
    stats = {file.row.digest: file.stat for file in arrived}
    rows = _with_kept(action, work, model, [file.row for file in arrived])
    if unpack(work, action, model, rows):
        return done
    findings = judge_model(work, model, rows)
    place(work, action, _revision(work, model, rows, source, findings, brought), stats)
    return done


def _stop_unresolved(work: Work, model: DesiredModel) -> None:
    """What a source cannot tell cannot be fetched from it; a plain URL, or a mirror by digest, is tried all the same.

    Raises:
        Failure: as the source said it.
    """
    told = (fact for fact in work.sight.observed.resolutions if fact.reason and fact.model == model.name)
    resolution = next((fact for fact in told if fact.spec_digest == model.spec_digest), None)
    if resolution is None:
        return
    for file in work.targets(model):
        has_mirror = file.digest is not None and bool(work.desired.network.mirrors)
        if not (file.optional or has_mirror or any(url.startswith(_PLAIN) for url in file.sources)):
            raise failure_of(resolution)


def _revision(
    work: Work, model: DesiredModel, rows: tuple[FileRow, ...], source: str, findings: Findings, brought: int
) -> Revision:
    return Revision(
        model.name,
        model.spec_digest,
        rows,
        revision=work.revision_of(model),
        source=source,
        format=findings.format,
        metadata=findings.metadata,
        download_bytes=brought,
    )


def _with_kept(action: Action, work: Work, model: DesiredModel, rows: list[FileRow]) -> tuple[FileRow, ...]:
    """A repair brings some files; the others of the revision stay as they are."""
    stored = work.stored.get(model.name)
    if not action.paths or stored is None:
        return tuple(rows)
    fresh = {row.path: row for row in rows}
    kept = [fresh.pop(row.path, row) for row in rows_of(stored)]
    return (*kept, *fresh.values())


def bring(work: Work, model: DesiredModel, files: Iterable[Artifact]) -> list[Arrived]:
    """Every file as a durable blob, in the order asked for; optional ones that the origin does not have are left out.

    The names are made durable together at the end, and nothing is recorded before: whoever places the model records it.
    """
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix=f"fetch-{model.name}") as pool:
        futures = [pool.submit(_arrive, work, model, file) for file in files]
    failures = [failure for future in futures if isinstance(failure := future.exception(), Exception)]
    ended = [future.result() for future in futures if future.exception() is None]
    arrived = [file for file in ended if file is not None]
    work.world.store.sync_blobs(file.row.digest for file in arrived if file.is_new)
    if failures:
        _remember_blobs(work, arrived)  # so that they are not fetched again
        raise min(failures, key=_gravity)
    return arrived


def _remember_blobs(work: Work, arrived: Iterable[Arrived]) -> None:
    """Proofs of blobs that no model is placed of yet."""
    proofs = make_proofs(work, {file.row.digest: file.stat for file in arrived if file.is_new})
    if proofs:
        work.ledger.proofs.save(proofs)


def _gravity(failure: Exception) -> int:
    """Which of several failures is told: what stands in the way for good comes first, being cancelled last."""
    if not isinstance(failure, Failure):
        return 0
    if failure.reason == "cancelled":
        return 3
    return 1 if failure.kind.value == "permanent" else 2


def _arrive(work: Work, model: DesiredModel, file: Artifact) -> Arrived | None:
    """One file as a blob: there already, from another cache here, or fetched; None where it is optional and gone."""
    key = key_of(model.name, file)
    with work.flight(key):
        present = _present(work, file)
        if present is not None:
            return present
        copied = _copy_local(work, model, file)
        if copied is not None:
            return copied
        try:
            fetched = _fetch(work, model, file, f"{work.world.store.root}/partial/{key}")
        except Failure as failure:
            if file.optional and failure.reason in _MAY_BE_MISSING:
                return None
            raise _against_lock(model, file, failure) from failure
        return _commit(work, model, file, fetched, key)


def _against_lock(model: DesiredModel, file: Artifact, failure: Failure) -> Failure:
    """Other bytes than were locked are no mere bad download: somebody has to look."""
    if not model.is_locked or failure.reason not in {"digest_mismatch", "size_mismatch"}:
        return failure
    message = f"{model.name}: {file.path} is not what was locked: {failure.message}"
    hint = f"find out why; to accept it: reconciler lock --upgrade {model.name}"
    return refused("lock_mismatch", message, hint=hint)


def _present(work: Work, file: Artifact) -> Arrived | None:
    """Already true: the blob is in the store and proven."""
    if file.digest is None:
        return None
    stat = work.world.store.stat_blob(file.digest)
    if stat is not None and work.proven.get(file.digest) == stat:
        return Arrived(FileRow(file.path, file.digest, stat.size_bytes, file.role), stat)
    proof = work.ledger.proofs.get(file.digest) if stat else None
    if stat is None or proof is None or proof.stat.inode != stat.inode or proof.stat.mtime_ns != stat.mtime_ns:
        return None
    return Arrived(FileRow(file.path, file.digest, stat.size_bytes, file.role), stat)


def _copy_local(work: Work, model: DesiredModel, file: Artifact) -> Arrived | None:
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


def _fetch(work: Work, model: DesiredModel, file: Artifact, target: str) -> Fetched:
    network = work.desired.network
    observed = work.sight.observed
    request = FetchRequest(
        model=model.name,
        path=file.path,
        locations=_locations(work, file),
        target=target,
        digest=file.digest,
        size_bytes=file.size_bytes,
        limit_bytes=work.room_bytes() if file.size_bytes is None else None,
        min_free_bytes=work.desired.cache.min_free.of(observed.disk.total_bytes),
        connections=network.connections,
        timeout_s=network.timeout_s,
        priority=int(model.priority),
        reuse=work.bad_copies.get(file.digest) if file.digest else None,
    )
    return work.world.fetcher(work.desired).fetch(request, work.progress, work.cancel_of(model.name))


def _locations(work: Work, file: Artifact) -> tuple[Location, ...]:
    """The sources in order, then the mirrors by digest."""
    context = work.world.source_context(work.desired, work.cancel)
    located = [work.world.sources.for_url(url).locate(file, url, context) for url in file.sources]
    if file.digest is not None:
        for mirror in work.desired.network.mirrors:
            url = mirror.replace("{sha256}", file.digest.removeprefix("sha256:"))
            located.append(work.world.sources.for_url(url).locate(file, url, context))
    return tuple(located)


def _commit(work: Work, model: DesiredModel, file: Artifact, fetched: Fetched, key: str) -> Arrived:
    """Judge the content, then make it a blob. What is refused leaves nothing behind."""
    target = f"{work.world.store.root}/partial/{key}"
    try:
        judge_partial(work, model, file, target)
    except Failure:
        work.world.store.remove_partial(key)
        raise
    stat = work.world.store.commit(target, fetched.digest, fetched.size_bytes, is_synced=False)
    work.proven[fetched.digest] = stat
    row = FileRow(file.path, fetched.digest, fetched.size_bytes, file.role)
    is_local = fetched.source.startswith("/")  # a path: copied from a file, nothing came over the network
    brought = fetched.size_bytes if is_local else fetched.received_bytes
    return Arrived(row, stat, brought, fetched.received_bytes, fetched.source, is_new=True)
