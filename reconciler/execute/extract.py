"""``extract``: unpack a model's archives into a stage, judge the members, make them blobs, place them.

One bad member refuses the whole archive and nothing is left at the model's path. The archive itself is dropped once its
members are placed: the ledger keeps its digest, so that a second pass knows it was here.
"""

from collections.abc import Sequence

from reconciler.adapters.ledger import FileRow
from reconciler.core.actions import Action
from reconciler.core.desired import DesiredModel
from reconciler.core.errors import Failure, permanent
from reconciler.core.names import check_collisions
from reconciler.core.ports import Member, Progress
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest, ExtractMode, Role
from reconciler.execute.content import extractor_of, is_archive, judge_member
from reconciler.execute.placing import judge_revision, place, require_blobs
from reconciler.execute.present import brought_row
from reconciler.execute.vouching import vouch_for
from reconciler.execute.work import Done, Work

# The content is what it is: keeping the archive would only take room. Too large may be mere lack of room.
_BAD_FOR_EVER = frozenset({"archive_unsafe", "archive_damaged", "archive_truncated", "archive_encrypted"})


def extract(action: Action, work: Work) -> Done:
    """Unpack what the download brought and place the members; what turns out to be no archive is placed as it is."""
    model = work.models.get(action.model)
    if model is None:
        raise permanent("not_wanted", f"{action.model} is not in the manifest any more")
    rows = _downloaded(work, model)
    if unpack(work, action, model, rows):
        return Done(sum(row.size_bytes for row in rows))
    if model.extract is ExtractMode.ALWAYS:
        raise permanent("not_an_archive", f"{model.name} has no file that can be extracted", hint="set extract: false")
    revision = judge_revision(work, model, rows)
    place(work, action, revision, require_blobs(work, rows))
    return Done(0, message="it is no archive by its content; placed as it is")


def _downloaded(work: Work, model: DesiredModel) -> tuple[FileRow, ...]:
    """The blobs that the download before this action brought."""
    rows = []
    for file in work.targets(model):
        arrived = work.arrivals.get((model.name, file.path))
        brought = brought_row(work, model, file)
        digest = brought.digest if brought is not None else file.digest
        if arrived is not None:
            rows.append(arrived)
        elif digest is not None and (stat := work.world.store.stat_blob(digest)) is not None:
            rows.append(FileRow(file.path, digest, stat.size_bytes, file.role))
    return tuple(rows)


def unpack(work: Work, action: Action, model: DesiredModel, rows: Sequence[FileRow]) -> bool:
    """Unpack the archives among ``rows`` and place the result; False, with nothing done, where there is none."""
    store = work.world.store
    archives = [row for row in rows if is_archive(work, model, store.blob_path(row.digest), row.path)]
    if not archives:
        return False
    vouch_for(work, model.name, model.spec_digest, rows)  # over the archive as it came, before it is opened
    members: list[FileRow] = []
    stats: dict[Digest, FileStat] = {}
    for row in archives:
        stage = store.make_stage()
        try:
            found = _unpack_one(work, model, row, stage)
            finished = [(f"{stage}/{member.path}", member.digest, member.size_bytes) for member in found]
            for member in found:
                judge_member(work, model, member.path, f"{stage}/{member.path}")
            committed = store.commit_many(finished)
        finally:
            store.drop_stage(stage)
        stats.update({member.digest: stat for member, stat in zip(found, committed, strict=True)})
        members += _rows_of(found)
    kept = [row for row in rows if row not in archives]
    stats.update(require_blobs(work, kept))
    _place_members(work, action, model, (*kept, *members), stats, archives)
    return True


def _place_members(
    work: Work,
    action: Action,
    model: DesiredModel,
    rows: tuple[FileRow, ...],
    stats: dict[Digest, FileStat],
    archives: Sequence[FileRow],
) -> None:
    check_collisions([row.path for row in rows])
    revision = judge_revision(
        work,
        model,
        rows,
        archive_digest=archives[0].digest,
        download_bytes=sum(row.size_bytes for row in archives),
    )
    place(work, action, revision, stats)
    digests = {row.digest for row in rows}
    for row in archives:
        if row.digest not in digests and not work.is_referenced(row.digest, except_model=model.name):
            work.world.store.remove_blob(row.digest)


def _unpack_one(work: Work, model: DesiredModel, row: FileRow, stage: str) -> tuple[Member, ...]:
    path = work.world.store.blob_path(row.digest)
    extractor = extractor_of(work, path, row.path, is_forced=True)
    if extractor is None:
        raise permanent("not_an_archive", f"{row.path} cannot be extracted")

    def tell(done_bytes: int) -> None:
        work.progress(Progress(model.name, row.path, "extracting", done_bytes, None))

    try:
        return extractor.extract(
            path, stage, limit_bytes=work.room_bytes(), progress=tell, cancel=work.cancel_of(model.name)
        )
    except Failure as failure:
        if failure.reason in _BAD_FOR_EVER and not work.is_referenced(row.digest, except_model=model.name):
            work.world.store.remove_blob(row.digest)
        raise


def _rows_of(members: Sequence[Member]) -> list[FileRow]:
    """Members as rows: the largest is the primary, all others go with it."""
    largest = max(members, key=lambda member: member.size_bytes, default=None)
    rows = [FileRow(member.path, member.digest, member.size_bytes, Role.COMPANION) for member in members]
    return [
        row._replace(role=Role.PRIMARY) if largest is not None and row.path == largest.path else row for row in rows
    ]
