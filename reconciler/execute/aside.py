"""Setting bad copies aside: nobody shall open them as the model, and what is good of them serves the repair."""

# ruff: noqa: PTH119 -- paths are plain strings here, as the store speaks them

import os
from collections.abc import Iterable

from reconciler.core.actions import Action
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import refused
from reconciler.core.stored import StoredFile, StoredModel
from reconciler.core.words import Condition, Digest
from reconciler.execute.work import Work

_WHY = "digest_mismatch"


def set_aside(work: Work, stored: StoredModel, file: StoredFile) -> None:
    """Keep the bad copy in quarantine, and leave no other name of it."""
    store = work.world.store
    placed = store.placed_path(stored.name, file.path) if stored.is_current else ""
    blob = store.stat_blob(file.digest) if file.digest is not None else None
    if file.digest is not None and blob is not None:
        work.bad_copies[file.digest] = store.quarantine_path(store.quarantine(file.digest, _WHY))
    if not placed or not os.path.lexists(placed):
        return
    if blob is not None and os.lstat(placed).st_ino == blob.inode:
        store.drop_name(placed)
        return
    name = store.quarantine(placed, _WHY, file.digest)
    if file.digest is not None:
        work.bad_copies.setdefault(file.digest, store.quarantine_path(name))


def set_damaged_aside(work: Work, action: Action) -> None:
    """What is known to be bad without being hashed (its size is wrong) goes before the repair, not after it."""
    stored = work.stored.get(action.model)
    if stored is None or stored.spec_digest != action.spec_digest:
        return
    _set_aside(work, action, stored, [file for file in stored.files if file.path in action.paths])


def _set_aside(work: Work, action: Action, stored: StoredModel, files: Iterable[StoredFile]) -> None:
    bad = [file for file in files if file.condition is Condition.DAMAGED]
    for file in bad:
        set_aside(work, stored, file)
    lost = [file.digest for file in bad if file.digest is not None]
    if lost:
        message = f"{stored.name}: bad content in {', '.join(file.path for file in bad)}"
        work.ledger.record_quarantined(stored.name, lost, action_id=action.id, message=message)


def give_up(work: Work, action: Action) -> int:
    """Delete a bad copy for its room; one that is in its place still is set aside first. The bytes that gave back.

    Raises:
        Failure: refused ``in_use`` where a process has the one in its place open.
    """
    store, key = work.world.store, action.paths[0]
    if key.startswith("sha256:"):
        _take_from_its_place(work, action, Digest(key))
        key = os.path.basename(work.bad_copies.get(Digest(key), ""))
    path = store.quarantine_path(key) if key else ""
    if not os.path.lexists(path):
        return 0
    freed = os.lstat(path).st_blocks * 512
    for digest in [digest for digest, copy in work.bad_copies.items() if copy == path]:
        del work.bad_copies[digest]
    store.remove_quarantined(key)
    return freed


def _take_from_its_place(work: Work, action: Action, digest: Digest) -> None:
    """Set aside what lies there; not what was repaired meanwhile."""
    stored, blob = work.stored.get(action.model), work.world.store.stat_blob(digest)
    files = stored.files if stored is not None else ()
    bad = [file for file in files if file.digest == digest and file.stat is not None and file.stat == blob]
    if stored is None or not bad:
        return
    if work.world.store.is_in_use(work.world.store.blob_path(digest)):
        raise refused("in_use", f"{stored.name} is open in another process", hint="stop what uses it")
    _set_aside(work, action, stored, bad)


def bad_copy_for(work: Work, model: DesiredModel, file: Artifact) -> tuple[Digest, str] | None:
    """A bad copy of this file, and the digest it should have: the declared one, else the one the model was placed with.

    A file whose digest nobody declared may be another at its source by now; that is for the engine to find out.
    """
    digest = file.digest
    stored = work.stored.get(model.name)
    if digest is None and stored is not None and stored.spec_digest == model.spec_digest:
        digest = next((found.digest for found in stored.files if found.path == file.path), None)
    if digest is None or digest not in work.bad_copies:
        return None
    return digest, work.bad_copies[digest]
