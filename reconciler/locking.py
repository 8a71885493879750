"""Lock: write down what the manifest's references stand for, and tell which of them moved on.

What a machine was resolved to before (the ledger remembers) is what gets locked; only a model that nobody knows yet, or
one that is upgraded, is asked for. A digest that no origin tells, such as that of a small file on a hub, is taken from
the store where the very same revision is installed.
"""

import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.adapters.ledger import LedgerFacts, RevisionRow
from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.errors import Failure, permanent
from reconciler.core.lock import LockComparison, compare_lock
from reconciler.core.locked import LOCK_NAME, LockedModel, lock_document, locked_model, parse_lock
from reconciler.core.observed import Resolution
from reconciler.core.ports import CancelToken
from reconciler.core.records import dataclass
from reconciler.core.words import WantedState
from reconciler.durable import PUBLIC, write_whole
from reconciler.resolve import failure_of, needs_asking, resolve_all
from reconciler.world import World


@dataclass(frozen=True, slots=True)
class Locking:
    """The new lock, and how its entries stand to the old ones (those that were asked for again)."""

    entries: tuple[LockedModel, ...]
    changes: tuple[LockComparison, ...] = ()
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def make_lock(
    world: World,
    desired: DesiredState,
    facts: LedgerFacts,
    previous: Sequence[LockedModel],
    upgrade: Iterable[str] | None,
    cancel: CancelToken,
) -> Locking:
    """The lock of ``desired`` (as declared, without a lock). Entries that still hold are kept, but for ``upgrade``.

    Raises:
        Failure: what an origin answered instead.
    """
    old = {entry.name: entry for entry in previous}
    wanted = [model for model in desired.models if model.state is not WantedState.ABSENT and model.artifacts]
    again = set() if upgrade is None else set(upgrade)
    fresh = [model for model in wanted if model.name in again or not _holds(old.get(model.name), model)]
    told = _resolved(world, desired, facts, fresh, again, cancel)
    entries, changes = [], []
    for model in wanted:
        before = old.get(model.name)
        if model.name in told:
            entry = LockedModel(model.name, model.spec_digest, told[model.name].revision, told[model.name].files)
        else:
            entry = before or LockedModel(model.name, model.spec_digest, "", model.artifacts)
        entry = _with_digests(model, entry, before, facts.revisions.get(model.name, ()))
        entries.append(entry)
        if model.name in told and before is not None:
            changes.append(compare_lock(_as_resolution(before), _as_resolution(entry)))
    names = {entry.name for entry in entries}
    return Locking(tuple(entries), tuple(changes), tuple(sorted(names - old.keys())), tuple(sorted(old.keys() - names)))


def compare_all(
    world: World, desired: DesiredState, previous: Sequence[LockedModel], names: Sequence[str], cancel: CancelToken
) -> tuple[LockComparison, ...]:
    """How each locked model stands to what its origin says now. Changes nothing.

    Raises:
        Failure: permanent ``not_locked`` where there is no lock; what an origin answered instead.
    """
    models = {model.name: model for model in desired.models}
    asked = [entry for entry in previous if entry.name in models and (not names or entry.name in names)]
    if not asked:
        raise permanent("not_locked", "no lock file stands beside the manifest", hint="reconciler lock writes one")
    fresh = _ask(world, desired, [models[entry.name] for entry in asked], cancel)
    return tuple(compare_lock(_as_resolution(entry), _comparable(fresh[entry.name], entry)) for entry in asked)


def lock_path(desired: DesiredState) -> str:
    """Where the lock of a manifest lies: beside its first file.

    Raises:
        Failure: permanent ``no_manifest_file`` where the manifest came through standard input.
    """
    first = next((path for path in desired.files if path != "-"), None)
    if first is None:
        raise permanent("no_manifest_file", "a lock lies beside a manifest file, and there is none", hint="name it: -f")
    return f"{posixpath.dirname(first)}/{LOCK_NAME}"


def read_lock(path: str) -> tuple[LockedModel, ...]:
    """The entries of a lock file; none where there is no file.

    Raises:
        Failure: permanent ``lock_invalid`` or ``lock_unreadable``.
    """
    try:
        return parse_lock(Path(path).read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise permanent("lock_unreadable", f"cannot read {path}: {error.strerror}") from error


def write_lock(path: str, entries: Sequence[LockedModel]) -> bool:
    """Write the lock in one step; False where it says so already.

    Raises:
        Failure: permanent ``lock_unwritable``.
    """
    data = (json.dumps(lock_document(entries), indent=2, ensure_ascii=False) + "\n").encode()
    target = Path(path)
    try:
        if target.exists() and target.read_bytes() == data:
            return False
        write_whole(target, data, PUBLIC)  # it is committed and read by others, as the manifest is
    except OSError as error:
        raise permanent("lock_unwritable", f"cannot write {path}: {error.strerror}") from error
    return True


def _holds(entry: LockedModel | None, model: DesiredModel) -> bool:
    return entry is not None and entry.spec_digest == model.spec_digest


def _resolved(
    world: World,
    desired: DesiredState,
    facts: LedgerFacts,
    models: Sequence[DesiredModel],
    again: set[str],
    cancel: CancelToken,
) -> Mapping[str, Resolution]:
    """What each model stands for: as remembered, else as its origin says."""
    remembered = {
        model.name: facts.resolutions[model.name, model.spec_digest].resolution
        for model in models
        if model.name not in again and (model.name, model.spec_digest) in facts.resolutions
    }
    asked = _ask(world, desired, [model for model in models if model.name not in remembered], cancel)
    return {**remembered, **asked}


def _ask(
    world: World, desired: DesiredState, models: Sequence[DesiredModel], cancel: CancelToken
) -> dict[str, Resolution]:
    known = {
        model.name: Resolution(model.name, model.spec_digest, model.artifacts)
        for model in models
        if not needs_asking(world, model, None)
    }
    fresh = resolve_all(world, desired, [model for model in models if model.name not in known], cancel)
    for resolution in fresh:
        if resolution.reason:
            failure = failure_of(resolution)
            message = f"{resolution.model}: {failure.message}"
            raise Failure(failure.kind, failure.reason, message, hint=failure.hint)
    return known | {resolution.model: resolution for resolution in fresh}


def _with_digests(
    model: DesiredModel, entry: LockedModel, before: LockedModel | None, rows: Sequence[RevisionRow]
) -> LockedModel:
    """Digests that only the store knows, where the installed revision is the one that is locked."""
    row = next((row for row in rows if row.is_current), None)
    if row is None or row.revision != entry.revision or all(file.digest for file in entry.files):
        return entry
    specs = {model.spec_digest}
    if _holds(before, model) and before is not None:
        specs.add(locked_model(model, before).spec_digest)
    if row.spec_digest not in specs:
        return entry
    found = {(file.path, file.size_bytes): file.digest for file in row.files}
    files = tuple(file if file.digest or file.size_bytes is None else _with_digest(file, found) for file in entry.files)
    return replace(entry, files=files)


def _with_digest(file: Artifact, found: Mapping[tuple[str, int], object]) -> Artifact:
    digest = found.get((file.path, file.size_bytes or 0))
    return replace(file, digest=digest) if digest else file  # type: ignore[arg-type]


def _as_resolution(entry: LockedModel) -> Resolution:
    return Resolution(entry.name, entry.spec_digest, entry.files, entry.revision)


def _comparable(fresh: Resolution, entry: LockedModel) -> Resolution:
    """Optional files that an origin lost are no news; everything else is compared as it is."""
    paths = {file.path for file in fresh.files}
    kept = tuple(file for file in entry.files if file.optional and file.path not in paths)
    return replace(fresh, files=(*fresh.files, *kept))
