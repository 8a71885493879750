"""``evict``: delete from the store, backwards: links, placed files, blobs, and only then the record.

A blob goes only where nobody else uses it: no other revision, no wanted target. What is in use, pinned or loaded is
refused here once more, whatever the plan thought: it may have changed since.
"""

from reconciler.core.actions import Action, Cause
from reconciler.core.errors import refused
from reconciler.core.stored import StoredModel
from reconciler.core.words import Digest
from reconciler.execute.aside import give_up
from reconciler.execute.placing import known_files
from reconciler.execute.work import Done, Work
from reconciler.publishing import remove_link


def evict(action: Action, work: Work) -> Done:
    """Delete a model's current revision, or what ``subject`` names: an older one, a partial, a blob, a bad copy."""
    if action.subject == "partial":
        return _evict_partials(action, work)
    if action.subject == "quarantine":
        return Done(give_up(work, action))
    if action.subject == "blob":
        freed = sum(_remove(work, Digest(key), action) for key in action.paths)
        return Done(freed)
    stored = work.stored_revision(action)
    if stored is None:
        return Done(is_skipped=True, message="it is not in the store any more")
    is_placed = stored.is_current and action.subject != "revision"  # it may have been superseded in this very pass
    _refuse_where_needed(stored, work, is_current=is_placed)
    if is_placed:
        own = {link.path for link in work.sight.facts.links if link.model == stored.name}
        for fact in stored.links:
            remove_link(work.world, fact.path, is_own=fact.path in own)
        work.world.store.unplace(stored.name, known_files(stored))
    freed = 0
    with work.flight("evict"):
        for file in stored.files:
            if file.digest is not None:
                freed += _remove(work, file.digest, action, owner=stored)
    work.ledger.record_evicted(stored.name, stored.spec_digest, message=action.message)
    if is_placed and action.cause is Cause.REQUEST:  # who types evict takes back what was loaded or unloaded by hand
        for kind in ("load", "unload"):
            work.ledger.overrides.clear(stored.name, kind=kind)
    return Done(freed)


def _remove(work: Work, digest: Digest, action: Action, owner: StoredModel | None = None) -> int:
    """Delete a blob that nobody uses any more; the bytes that gave back."""
    except_revision = (owner.name, owner.spec_digest) if owner else None
    if work.is_referenced(digest, except_revision=except_revision) or work.is_needed(digest, action.model):
        return 0
    return work.world.store.remove_blob(digest)


def _evict_partials(action: Action, work: Work) -> Done:
    freed = 0
    for partial in work.sight.observed.store.partials:
        if partial.key in action.paths:
            work.world.store.remove_partial(partial.key)
            freed += partial.allocated_bytes
    return Done(freed)


def _refuse_where_needed(stored: StoredModel, work: Work, *, is_current: bool) -> None:
    row = work.ledger.models.get(stored.name)
    if is_current and row is not None and row.pinned:
        raise refused("pinned", f"{stored.name} is pinned", hint=f"reconciler unpin {stored.name}")
    loaded = {load.model for load in work.ledger.loads.get_all()}
    if is_current and stored.loaded and stored.name in loaded:
        raise refused("loaded", f"{stored.name} is loaded", hint=f"reconciler unload {stored.name}")
    for file in stored.files:
        if file.digest is not None and work.world.store.is_in_use(work.world.store.blob_path(file.digest)):
            raise refused("in_use", f"{stored.name} is open in another process", hint="stop what uses it")
