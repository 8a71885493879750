"""``download``: fetch what is missing of one model, check it, commit it, place it.

A required file that fails fails the model, and what did arrive stays as blobs, so that nothing is fetched twice.
Content is judged before it becomes a blob: a file that is not its declared format, or that holds a pickle nobody
allowed, never enters the store.
"""

from collections.abc import Iterable
from dataclasses import replace

from reconciler.adapters.ledger import FileRow
from reconciler.core.actions import Action, ActionKind
from reconciler.core.desired import DesiredModel
from reconciler.core.errors import Failure, permanent
from reconciler.execute.aside import set_damaged_aside
from reconciler.execute.bringing import PLAIN, bring
from reconciler.execute.extract import unpack
from reconciler.execute.placing import judge_revision, place, rows_of
from reconciler.execute.present import Arrived, remember
from reconciler.execute.vouching import REFUSALS, forget_refused, prepare, vouch_for
from reconciler.execute.work import Done, Work
from reconciler.resolve import failure_of


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
    with work.share.claims.gate.hold():
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
        if not (file.optional or has_mirror or any(url.startswith(PLAIN) for url in file.sources)):
            raise failure_of(resolution)


def _with_kept(action: Action, work: Work, model: DesiredModel, rows: list[FileRow]) -> tuple[FileRow, ...]:
    """A repair brings some files; the others of the revision stay as they are."""
    stored = work.stored.get(model.name)
    if not action.paths or stored is None:
        return tuple(rows)
    fresh = {row.path: row for row in rows}
    kept = [fresh.pop(row.path, row) for row in rows_of(stored)]
    return (*kept, *fresh.values())
