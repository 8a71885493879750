"""``download``: fetch what is missing of one model, check it, commit it, place it.

Files of a model come side by side; a required one that fails fails the model, and what did arrive stays as blobs, so
that nothing is fetched twice. Content is judged before it becomes a blob: a file that is not its declared format, or
that holds a pickle nobody allowed, never enters the store.
"""

from collections.abc import Iterable
from dataclasses import replace

from reconciler.adapters.ledger import BroughtRow, FileRow
from reconciler.adapters.store import Batch
from reconciler.core.actions import Action, ActionKind
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, permanent, refused, transient
from reconciler.core.ports import Fetched, FetchRequest, Location
from reconciler.execute.aside import bad_copy_for, set_damaged_aside
from reconciler.execute.content import judge_partial
from reconciler.execute.extract import unpack
from reconciler.execute.placing import judge_revision, place, rows_of
from reconciler.execute.present import Arrived, copy_local, find_blob, find_brought, remember, remember_large
from reconciler.execute.remember import tolerating
from reconciler.execute.vouching import REFUSALS, forget_refused, prepare, vouch_for
from reconciler.execute.window import fetch_in_window
from reconciler.execute.work import Done, Work
from reconciler.observe.partials import key_of
from reconciler.resolve import REFUSED_BY_SOURCE, failure_of

_MAY_BE_MISSING = frozenset({"not_found", "gone"})
_PLAIN = ("http:", "https:", "file:")  # asked by GET whatever a HEAD answered


def download(action: Action, work: Work) -> Done:
    """Bring the model's missing files into the store and place it, unless an extract follows."""
    model = work.models.get(action.model)
    if model is None:
        raise permanent("not_wanted", f"{action.model} is not in the manifest any more")
    _stop_unresolved(work, model)
    prepare(work, model)
    set_damaged_aside(work, action)
    wanted = [file for file in work.targets(model) if not action.paths or file.path in action.paths]
    arrived = bring(work, model, wanted)
    work.arrivals.update({(model.name, file.row.path): file.row for file in arrived})
    brought = sum(file.brought_bytes for file in arrived)
    done = Done(brought, network_bytes=sum(file.network_bytes for file in arrived))
    source = next((file.source for file in arrived if file.source), "")
    rows = _with_kept(action, work, model, [file.row for file in arrived])
    _stop_unsigned(work, model, rows, arrived)
    if work.is_planned(ActionKind.EXTRACT, model.name):
        remember(work, model, arrived)
        return replace(done, message=f"downloaded from {source}" if source else "")
    stats = {file.row.digest: file.stat for file in arrived}
    if unpack(work, action, model, rows):
        return done
    place(work, action, judge_revision(work, model, rows, source=source, download_bytes=brought), stats)
    return done


def _stop_unsigned(work: Work, model: DesiredModel, rows: tuple[FileRow, ...], arrived: Iterable[Arrived]) -> None:
    """Before anything is unpacked or placed; what is refused leaves nothing behind.

    Raises:
        Failure: permanent ``unsigned``, ``bad_signature``, ``unknown_key``, ``signature_support_missing``.
    """
    try:
        vouch_for(work, model.name, model.spec_digest, rows)
    except Failure as failure:
        if failure.reason in REFUSALS:
            forget_refused(work, model, [file.row for file in arrived if file.is_new])
        raise


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
    with work.world.store.batch() as batch:
        ended = work.share.claims.hands.do(lambda file: _arrive(work, model, file, batch), files)
        batch.sync()
    failures = [failure for failure in ended if isinstance(failure, Exception)]
    arrived = [file for file in ended if isinstance(file, Arrived)]
    if failures:
        remember(work, model, arrived)  # so that they are not fetched again
        raise min(failures, key=_gravity)
    return arrived


def _gravity(failure: Exception) -> int:
    """Which of several failures is told: what stands in the way for good comes first, being cancelled last."""
    if not isinstance(failure, Failure):
        return 0
    if failure.reason == "cancelled":
        return 3
    return 1 if failure.kind.value == "permanent" else 2


def _arrive(work: Work, model: DesiredModel, file: Artifact, batch: Batch) -> Arrived | None:
    """One file as a blob: there already, from another cache here, or fetched; None where it is optional and gone."""
    key = key_of(model.name, file)
    with work.flight(key):
        present = find_blob(work, model, file) or find_brought(work, model, file)
        if present is not None:
            return present
        copied = copy_local(work, model, file)
        if copied is not None:
            return copied
        try:
            fetched = _fetch(work, model, file, f"{work.world.store.root}/partial/{key}")
        except Failure as failure:
            if file.optional and failure.reason in _MAY_BE_MISSING:
                return None
            if failure.reason in REFUSED_BY_SOURCE:
                work.refused[model.name] = file
            if failure.reason == "size_mismatch":
                work.world.store.remove_partial(key)  # of no use to any later try
            raise _against_lock(model, file, failure) from failure
        return _commit(work, model, file, fetched, batch)


def _against_lock(model: DesiredModel, file: Artifact, failure: Failure) -> Failure:
    """Other bytes than were locked are no mere bad download: somebody has to look."""
    if not model.is_locked or failure.reason not in {"digest_mismatch", "size_mismatch"}:
        return failure
    message = f"{model.name}: {file.path} is not what was locked: {failure.message}"
    hint = f"find out why; to accept it: reconciler lock --upgrade {model.name}"
    return refused("lock_mismatch", message, hint=hint)


def _fetch(work: Work, model: DesiredModel, file: Artifact, target: str) -> Fetched:
    network = work.desired.network
    observed = work.sight.observed
    bad_copy = bad_copy_for(work, model, file)
    digest, reuse = bad_copy or (file.digest, None)
    is_listed = file.size_bytes is not None and not any(url.startswith(_PLAIN) for url in file.sources[:1])
    size = file.size_bytes if is_listed or _has_declared_size(model, file) else None
    request = FetchRequest(
        model=model.name,
        path=file.path,
        locations=_locations(work, file),
        target=target,
        digest=digest,
        size_bytes=size,
        expected_bytes=file.size_bytes,
        limit_bytes=work.room_bytes() + (file.size_bytes or 0) if size is None else None,
        min_free_bytes=work.desired.cache.min_free.of(observed.disk.total_bytes),
        connections=network.connections,
        timeout_s=network.timeout_s,
        priority=int(model.priority),
        reuse=reuse,
        is_listed=is_listed,
        accepts_newer=file.digest is None,
    )
    if file.size_bytes is None:
        return _fetch_within(work, model, file, request)
    return fetch_in_window(work, request, file)


def _fetch_within(work: Work, model: DesiredModel, file: Artifact, request: FetchRequest) -> Fetched:
    """Fetch a file whose size nobody knows; what is too large is remembered, so that the next plan reckons with it.

    Raises:
        Failure: transient ``no_room``, and whatever keeps it from being fetched.
    """
    cancel = work.cancel_of(model.name)
    fact = next(
        (fact for fact in work.sight.observed.brought if (fact.model, fact.path) == (model.name, file.path)), None
    )
    with work.room.hold(request.target, fact.size_bytes if fact else 0, cancel) as limit_bytes:
        try:
            return fetch_in_window(work, replace(request, limit_bytes=limit_bytes), file)
        except Failure as failure:
            if failure.reason != "too_large":
                raise
            work.world.store.remove_partial(key_of(model.name, file))
            row = BroughtRow(model.name, file.path, model.spec_digest, limit_bytes + 1)
            tolerating(lambda: work.ledger.brought.save([row]))
            raise transient("no_room", failure.message, hint=failure.hint) from failure


def _has_declared_size(model: DesiredModel, file: Artifact) -> bool:
    """Whether the manifest, or its lock, says how large the file is; what a plain URL was asked is only measured."""
    return any(artifact.path == file.path and artifact.size_bytes is not None for artifact in model.artifacts)


def _locations(work: Work, file: Artifact) -> tuple[Location, ...]:
    """The sources in order, then the mirrors by digest."""
    digest = (file.digest or "").removeprefix("sha256:")
    mirrors = [mirror.replace("{sha256}", digest) for mirror in work.desired.network.mirrors] if digest else []
    return work.world.locate_all([(file, url) for url in (*file.sources, *mirrors)], work.context)


def _commit(work: Work, model: DesiredModel, file: Artifact, fetched: Fetched, batch: Batch) -> Arrived:
    """Judge the content, then make it a blob. What is refused leaves nothing behind."""
    key = key_of(model.name, file)
    target = f"{work.world.store.root}/partial/{key}"
    try:
        judge_partial(work, model, file, target, fetched.content)
    except Failure:
        work.world.store.remove_partial(key)
        raise
    row = FileRow(file.path, fetched.digest, fetched.size_bytes, file.role)
    if file.digest is None:
        remember_large(work, model, row, fetched)
    stat = batch.commit(target, fetched.digest, fetched.size_bytes)
    if file.digest is None:
        work.world.store.remove_partial(key)  # the engine's notes, which spoke for the file until now
    work.proven[fetched.digest] = stat
    is_local = fetched.source.startswith("/")  # a path: copied from a file, nothing came over the network
    brought = fetched.size_bytes if is_local else fetched.received_bytes
    return Arrived(row, stat, brought, fetched.received_bytes, fetched.source, True, fetched.revision)
