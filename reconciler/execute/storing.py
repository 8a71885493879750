"""``verify``, ``link``, ``adopt``: making true what bytes that are already on this machine allow."""

import os
from collections.abc import Sequence

from reconciler.adapters.ledger import FileRow, Installed, LinkRow
from reconciler.adapters.store import Hashed
from reconciler.core.actions import Action
from reconciler.core.errors import permanent, refused, transient
from reconciler.core.ports import Progress
from reconciler.core.state import Artifact, Digest, FileStat, Override, Role, StoredFile, StoredModel
from reconciler.execute.content import judge_model
from reconciler.execute.download import bring
from reconciler.execute.placing import Revision, category_of, make_proofs, place, require_blobs, rows_of
from reconciler.execute.work import Done, Work
from reconciler.observe import link_target
from reconciler.publishing import publish, published


def verify(action: Action, work: Work) -> Done:
    """Re-hash files. Good ones get a proof; bad copies are set aside, for a download to repair."""
    stored = work.stored_revision(action)
    if stored is None:
        return Done(is_skipped=True, message="it is not in the store any more")
    files = [file for file in stored.files if not action.paths or file.path in action.paths]
    good: dict[Digest, FileStat] = {}
    bad: list[str] = []
    hashed_bytes = 0
    paths = {_content_path(work, stored, file): file for file in files}

    def tell(path: str, done_bytes: int) -> None:
        file = paths[path]
        work.progress(Progress(stored.name, file.path, "verifying", done_bytes, file.size_bytes))

    for file, result in zip(
        files, work.world.store.hash_many(list(paths), tell, work.cancel_of(stored.name)), strict=False
    ):
        if isinstance(result, Hashed):
            hashed_bytes += result.stat.size_bytes
            if result.digest == file.digest:
                good[result.digest] = _keep(work, stored, file, result)
                continue
        elif result[1].reason == "cancelled":
            raise result[1]
        bad.append(file.path)
        _set_aside(work, stored, file)
    _remember(work, action, stored, good, bad)
    if bad:
        names = ", ".join(sorted(bad))
        return Done(hashed_bytes, "damaged", f"bad content in {names}; the bad copy is in quarantine", is_damaged=True)
    return Done(hashed_bytes, message=f"{len(files)} file{'s' if len(files) != 1 else ''} verified")


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
    return store.seal_blob(result.digest)


def _set_aside(work: Work, stored: StoredModel, file: StoredFile) -> None:
    """Keep the bad copy in quarantine, and leave no other name of it: nobody shall open it as the model."""
    store = work.world.store
    placed = store.placed_path(stored.name, file.path) if stored.is_current else ""
    blob = store.stat_blob(file.digest) if file.digest is not None else None
    if file.digest is not None and blob is not None:
        store.quarantine(file.digest, "digest_mismatch")
    if not placed or not os.path.lexists(placed):
        return
    if blob is not None and os.lstat(placed).st_ino == blob.inode:
        os.unlink(placed)  # noqa: PTH108 -- another name of what was just set aside
    else:
        store.quarantine(placed, "digest_mismatch")


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
    if is_repair and stored is not None:
        rows = rows_of(stored)
        for row in rows:
            if work.world.store.stat_blob(row.digest) is not None:
                work.world.store.seal_blob(row.digest)
        revision = Revision(stored.name, stored.spec_digest, rows, revision=stored.revision, format=stored.format)
        place(work, action, revision, require_blobs(work, rows))
        return Done(message="placed again")
    if model is None:
        raise permanent("not_wanted", f"{action.model} is not in the manifest any more")
    arrived = bring(work, model, work.targets(model))
    rows = tuple(file.row for file in arrived)
    findings = judge_model(work, model, rows)
    revision = Revision(
        model.name,
        model.spec_digest,
        rows,
        revision=work.revision_of(model),
        format=findings.format,
        metadata=findings.metadata,
        download_bytes=0,
    )
    place(work, action, revision, {file.row.digest: file.stat for file in arrived})
    return Done(0)


def _make_links(action: Action, work: Work) -> Done:
    """Point each declared link at the placed file, or at the folder of a model of several files."""
    model = work.models.get(action.model)
    current = work.ledger.revisions.current(action.model)
    if model is None or current is None:
        raise transient("not_placed", f"{action.model} is not placed yet", hint="run apply again")
    store = work.world.store
    target = link_target(store.root, action.model, [row.path for row in current.files])
    own = {link.path for link in work.sight.facts.links if link.model == action.model}
    files = {file.link: file for file in published(work.world, model, work.targets(model))}
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
