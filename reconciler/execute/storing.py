"""``verify``, ``link``, ``adopt``: making true what bytes that are already on this machine allow."""

from collections.abc import Iterator, Mapping, Sequence

from reconciler.adapters.ledger import EventType, FileRow, Installed, LinkRow
from reconciler.adapters.store import Hashed
from reconciler.core.actions import Action
from reconciler.core.desired import Artifact
from reconciler.core.errors import Failure, refused, transient
from reconciler.core.observed import Override
from reconciler.core.ports import Progress
from reconciler.core.stored import FileStat, StoredFile, StoredModel
from reconciler.core.words import Condition, Digest, Role
from reconciler.execute.aside import set_aside
from reconciler.execute.download import download
from reconciler.execute.placing import (
    Revision,
    category_of,
    make_proofs,
    place,
    require_blobs,
    rows_of,
)
from reconciler.execute.vouching import vouch_for_foreign
from reconciler.execute.work import Done, Work
from reconciler.observe.linking import link_target
from reconciler.publishing import names_elsewhere, publish, published


def verify(action: Action, work: Work) -> Done:
    """Re-hash files. Good ones get a proof; bad copies are set aside, for a download to repair.

    ``verify`` as it is typed mends nothing: what is not as it was placed is told, and left for a repair.
    """
    stored = work.stored_revision(action)
    if stored is None:
        return Done(is_skipped=True, message="it is not in the store any more")
    files = [file for file in stored.files if not action.paths or file.path in action.paths]
    gone = [file.path for file in files if file.condition is Condition.MISSING]
    is_asking = work.plan.request.verb == "verify"
    astray = [file for file in files if is_asking and file.condition is Condition.UNPLACED]
    good: dict[Digest, FileStat] = {}
    bad: list[str] = []
    hashed_bytes = 0
    for file, result in _hashes(work, stored, [file for file in files if file.path not in gone]):
        if isinstance(result, Hashed):
            hashed_bytes += result.stat.size_bytes
            if result.digest == file.digest:
                good[result.digest] = result.stat if file in astray else _keep(work, stored, file, result)
                continue
        elif result[1].reason == "cancelled":
            raise result[1]
        bad.append(file.path)
        set_aside(work, stored, file)
    _remember(work, action, stored, good, bad)
    details = [f"{file.path}: {file.detail}" for file in astray if file.path not in bad]
    found = _found(work, stored, {"damaged": bad, "missing": gone, "unplaced": details})
    if found:
        return Done(hashed_bytes, *found, is_damaged=True)
    return Done(hashed_bytes, message=f"{len(files)} file{'s' if len(files) != 1 else ''} verified")


_TROUBLES = {
    "damaged": "bad content in {}; the bad copy is in quarantine",
    "missing": "{}: not in the store any more",
    "unplaced": "{}",
}


def _found(work: Work, stored: StoredModel, found: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """(reason, message) of what is wrong with the files, the worst first. Bad content was recorded already."""
    texts = {reason: _TROUBLES[reason].format(", ".join(sorted(names))) for reason, names in found.items() if names}
    if not texts:
        return None
    reason, message = next(iter(texts)), "; ".join(texts.values())
    if reason != "damaged":
        work.ledger.events.record(EventType.WARNING, reason, f"{stored.name}: {message}", model=stored.name)
    return reason, message


def _hashes(
    work: Work, stored: StoredModel, files: Sequence[StoredFile]
) -> Iterator[tuple[StoredFile, Hashed | tuple[str, Failure]]]:
    """Each file with what hashing told of it; equal files have one blob, which is read once."""
    paths: dict[str, list[StoredFile]] = {}
    for file in files:
        paths.setdefault(_content_path(work, stored, file), []).append(file)

    def tell(path: str, done_bytes: int) -> None:
        file = paths[path][0]
        work.progress(Progress(stored.name, file.path, "verifying", done_bytes, file.size_bytes))

    found = work.world.store.hash_many(list(paths), tell, work.cancel_of(stored.name))
    for same, result in zip(paths.values(), found, strict=True):
        yield from ((file, result) for file in same)


def _content_path(work: Work, stored: StoredModel, file: StoredFile) -> str:
    """The blob; where that is gone, the placed file that is left of it."""
    store = work.world.store
    if file.digest is not None and store.stat_blob(file.digest) is not None:
        return store.blob_path(file.digest)
    return store.placed_path(stored.name, file.path)


def _keep(work: Work, stored: StoredModel, file: StoredFile, result: Hashed) -> FileStat:
    """The content is right: its blob is there again where it was gone, and sealed where its mode had changed."""
    store = work.world.store
    if store.stat_blob(result.digest) is None:
        return store.adopt_file(stored.name, file.path, None, work.cancel)[1]
    return _seal(work, result.digest)


def _seal(work: Work, digest: Digest) -> FileStat:
    """Its mode is 0444 again; a file of somebody else's that shares its inode stays as it is."""
    placed = [(file.model, file.path) for file in work.sight.scan.placed if file.digest == digest and not file.is_link]
    blob = work.world.store.blob_path(digest)
    return work.world.store.seal_blob(digest, placed, names_elsewhere(blob, work.sight.facts.links))


def _remember(
    work: Work, action: Action, stored: StoredModel, good: dict[Digest, FileStat], bad: Sequence[str]
) -> None:
    """Proofs for the good, none for the bad, whose blobs are gone. A folder nobody knew is in the ledger now."""
    lost = [file.digest for file in stored.files if file.path in bad and file.digest is not None]
    with work.ledger.transaction():
        if stored.is_current and work.ledger.revisions.current(stored.name) is None:
            _remember_found(work, action, stored, good)
        elif good:
            work.ledger.record_verified(stored.name, make_proofs(work, good), action_id=action.id)
        if lost:
            message = f"{stored.name}: bad content in {', '.join(sorted(bad))}"
            work.ledger.record_quarantined(stored.name, lost, action_id=action.id, message=message)


def _remember_found(work: Work, action: Action, stored: StoredModel, good: dict[Digest, FileStat]) -> None:
    desired = work.models.get(stored.name)
    work.ledger.record_installed(
        Installed(
            model=stored.name,
            spec_digest=stored.spec_digest or (desired.spec_digest if desired else Digest("")),
            files=rows_of(stored),
            proofs=make_proofs(work, good),
            revision=stored.revision,
            format=stored.format,
            category=category_of(desired),
            priority=desired.priority if desired else None,
            pinned=stored.pinned or None,
            signed_by=stored.signed_by,
            signed_under=stored.signed_under,
            action_id=action.id,
            message="found in the store and verified",
        )
    )


def link(action: Action, work: Work) -> Done:
    """Place what is in the store (or in another cache of this machine), or make the declared links."""
    if action.subject == "links":
        return _make_links(action, work)
    if action.reason == "rollback":
        return _roll_back(action, work)
    model, stored = work.models.get(action.model), work.stored.get(action.model)
    is_repair = stored is not None and (model is None or stored.spec_digest == action.spec_digest)
    if is_repair and stored is not None and (model is None or _is_whole(work, stored)):
        return _place_again(action, work, stored)
    return download(action, work)  # which looks for copies first, and asks the source where none is good


def _is_whole(work: Work, stored: StoredModel) -> bool:
    stats = ((row, work.world.store.stat_blob(row.digest)) for row in rows_of(stored))
    return all(stat is not None and stat.size_bytes == row.size_bytes for row, stat in stats)


def _place_again(action: Action, work: Work, stored: StoredModel) -> Done:
    rows = rows_of(stored)
    for row in rows:
        if work.world.store.stat_blob(row.digest) is not None:
            _seal(work, row.digest)
    revision = Revision(stored.name, stored.spec_digest, rows, revision=stored.revision, format=stored.format)
    place(work, action, revision, require_blobs(work, rows))
    return Done(message="placed again")


def _make_links(action: Action, work: Work) -> Done:
    """Point each declared link at the placed file, or at the folder of a model of several files."""
    model = work.models.get(action.model)
    current = work.ledger.revisions.current(action.model)
    if model is None or current is None:
        raise transient("not_placed", f"{action.model} is not placed yet", hint="run apply again")
    store = work.world.store
    target = link_target(store.root, action.model, [row.path for row in current.files])
    own = {link.path for link in work.sight.facts.links if link.model == action.model}
    files = {file.link: file for file in published(work.sight.observed.hub_cache, model, work.targets(model))}
    for path in action.paths or model.links:
        if path not in files:
            store.make_link(target, path, is_own=path in own)
        elif not publish(work.world, model, files[path], _by_path(current.files), is_own=path in own):
            continue  # the hub's own client has it: it is not ours to take away
        work.ledger.links.save(LinkRow(path, action.model, target.removeprefix(f"{store.root}/")))
    return Done(0)


def _by_path(rows: Sequence[FileRow]) -> dict[str, FileRow]:
    return {row.path: row for row in rows}


def _roll_back(action: Action, work: Work) -> Done:
    """Place a superseded revision again; the present one stays as cache."""
    kept = work.ledger.revisions.get(action.model, action.spec_digest)
    if kept is None:
        raise refused("no_previous_revision", f"{action.model} has no earlier revision in the store")
    stats = require_blobs(work, kept.files)
    revision = Revision(
        action.model,
        kept.spec_digest,
        kept.files,
        revision=kept.revision,
        source=kept.source,
        format=kept.format,
        archive_digest=kept.archive_digest,
    )
    place(work, action, revision, stats)
    desired = work.models.get(action.model)
    if desired is not None and desired.spec_digest != kept.spec_digest:
        work.ledger.overrides.save(Override(action.model, "rollback", work.world.now(), desired.spec_digest))
    return Done(0, message=f"back to {kept.revision or kept.spec_digest[:19]}")


def adopt(action: Action, work: Work) -> Done:
    """Take over the foreign files of a folder below ``models/``: they become blobs, placed where they are."""
    stranger = work.stored.get(action.model)
    if stranger is None or not stranger.is_foreign:
        return Done(is_skipped=True, message="there is nothing foreign to adopt")
    model = work.models.get(action.model)
    declared = {file.path: file for file in work.targets(model)} if model else {}
    if model is not None:
        vouch_for_foreign(work, model, stranger)
    for file in stranger.files:
        _check_declared(work, stranger, file, declared.get(file.path))
    rows, stats, total = [], {}, 0
    for file in stranger.files:
        digest, stat = work.world.store.adopt_file(stranger.name, file.path, None, work.cancel)
        role = declared[file.path].role if file.path in declared else Role.PRIMARY
        rows.append(FileRow(file.path, digest, stat.size_bytes, role))
        stats[digest] = stat
        total += stat.size_bytes
    spec = model.spec_digest if model and set(declared) <= {row.path for row in rows} else Digest("")
    place(work, action, Revision(stranger.name, spec, tuple(rows)), stats)
    return Done(total)


def _check_declared(work: Work, stranger: StoredModel, file: StoredFile, declared: Artifact | None) -> None:
    """A file that the manifest gives a digest must have it before anything is taken over."""
    if declared is None or declared.digest is None:
        return
    found = work.world.store.hash_file(work.world.store.placed_path(stranger.name, file.path), None, work.cancel)
    if found.digest != declared.digest:
        raise refused(
            "digest_mismatch",
            f"{stranger.name}/{file.path} is not what the manifest declares",
            hint="move it away, or correct sha256",
        )
