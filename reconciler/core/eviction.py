"""Who may leave the store, and in which order: one fixed line, from which room is always taken at the front.

The line: bad copies in quarantine, partial downloads that nobody wants, blobs that nobody holds, superseded revisions,
unwanted models by the policy, and last the wanted models that admission found no room for, lowest priority first. Since
evictions are a prefix of one line, a higher limit takes a shorter prefix: it never evicts more. Ties are settled by
name, so equal inputs give equal plans.

Never in the line: what is pinned, loaded, in use or foreign, and partial downloads that are still wanted.
"""

from collections.abc import Callable, Iterable

from reconciler.core.inventory import Inventory, held, stored_bytes
from reconciler.core.policies import CachePolicy
from reconciler.core.records import dataclass
from reconciler.core.stored import BadCopy, BlobFact, PartialFact, StoredModel
from reconciler.core.words import Digest, EvictionPolicy

PARTIAL_AGE_S = 7 * 86400.0  # the partial of a download that is held back is dropped after so long, room or not
GIVEN_UP_S = 600.0  # under a watch, one that no wanted model has use for any more: its manifest may be taken back
ORPHAN_AGE_S = 86400.0  # so is a blob that nobody holds
QUARANTINED = "quarantine"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that may be evicted.

    Attributes:
        name: the model; empty for a blob.
        subject: as in :class:`Action`: empty for a model's current revision, else revision, partial, blob, quarantine.
        key: names the revision, partial, blob or bad copy.
        digests: the blobs it holds; ``own_bytes`` what it takes beyond blobs (a partial download, a bad copy).
        after: ids of actions that must be done first.
        detail: why it may go, for the message.
        is_wanted: the manifest wants it, but there is no room.
    """

    name: str
    subject: str = ""
    key: str = ""
    digests: tuple[Digest, ...] = ()
    own_bytes: int = 0
    stored: StoredModel | None = None
    after: tuple[str, ...] = ()
    detail: str = ""
    is_wanted: bool = False
    last_needed_at: float = 0.0

    @property
    def id(self) -> str:
        """The id of the action that evicts it."""
        suffix = {"revision": f":{self.key.removeprefix('sha256:')[:12]}", "": ""}.get(self.subject)
        return f"evict:{self.name}{f':{self.subject}:{self.key}' if suffix is None else suffix}"


_Key = Callable[[StoredModel], tuple[float | str, ...]]
_KEYS: dict[EvictionPolicy, _Key] = {
    EvictionPolicy.LRU: lambda stored: (stored.last_used, stored.installed_at),
    EvictionPolicy.LFU: lambda stored: (stored.use_count, stored.last_used, stored.installed_at),
    EvictionPolicy.FIFO: lambda stored: (stored.installed_at,),
    EvictionPolicy.LARGEST_FIRST: lambda stored: (-stored_bytes(stored), stored.last_used),
}


def policy_key(policy: EvictionPolicy) -> _Key:
    """The sort key of unwanted revisions: what goes first sorts first. Ties go by name, then by revision."""
    key = _KEYS[policy]
    return lambda stored: (*key(stored), stored.name, stored.spec_digest)


def of_model(stored: StoredModel, detail: str, *, is_wanted: bool = False, after: tuple[str, ...] = ()) -> Candidate:
    """A model's current revision."""
    return Candidate(
        stored.name,
        digests=held(stored),
        stored=stored,
        detail=detail,
        is_wanted=is_wanted,
        after=after,
        last_needed_at=max(stored.last_used, stored.installed_at),
    )


def of_revision(stored: StoredModel, after: tuple[str, ...] = (), replaced_at: float = 0.0) -> Candidate:
    """A superseded revision; it was needed until it was replaced."""
    return Candidate(
        stored.name,
        "revision",
        stored.spec_digest,
        held(stored),
        stored=stored,
        detail="superseded",
        after=after,
        last_needed_at=max(stored.last_used, stored.installed_at, replaced_at),
    )


def of_partial(partial: PartialFact) -> Candidate:
    """An unfinished download that nobody wants."""
    return Candidate(
        partial.model,
        "partial",
        partial.key,
        own_bytes=partial.allocated_bytes,
        detail="an unfinished download that is no longer wanted",
        last_needed_at=partial.modified_at,
    )


def of_bad_copy(copy: BadCopy, name: str) -> Candidate:
    """A bad copy that is kept for a look at it."""
    return Candidate(
        name, QUARANTINED, copy.key, own_bytes=copy.allocated_bytes, detail="a bad copy", last_needed_at=copy.since
    )


def of_damaged(name: str, digest: Digest, own_bytes: int) -> Candidate:
    """A bad copy in its place, which the repair of the model sets aside; where room is short it goes at once."""
    return Candidate(name, QUARANTINED, digest, own_bytes=own_bytes, detail="a bad copy")


def of_blob(blob: BlobFact) -> Candidate:
    """A blob that no revision and no target uses."""
    return Candidate(
        "", "blob", blob.digest, (blob.digest,), detail="used by no model", last_needed_at=blob.modified_at
    )


def leftovers(
    inventory: Inventory, cache: CachePolicy, orphans: Iterable[Digest], stale: Iterable[PartialFact]
) -> list[Candidate]:
    """The front of the line: bad copies, unwanted partials, orphan blobs, superseded revisions."""
    facts = {blob.digest: blob for blob in inventory.observed.store.blobs}
    blobs = [facts[digest] for digest in orphans if digest in facts]
    revisions = [stored for group in inventory.superseded.values() for stored in group]
    copies = sorted(inventory.observed.store.bad_copies, key=lambda copy: (copy.since, copy.key))
    return [
        *(of_bad_copy(copy, inventory.owner_of(copy.digest)) for copy in copies),
        *(of_partial(partial) for partial in sorted(stale, key=lambda partial: (partial.modified_at, partial.key))),
        *(of_blob(blob) for blob in sorted(blobs, key=lambda blob: (blob.modified_at, blob.digest))),
        *(
            of_revision(stored, replaced_at=_installed_at(stored.name, inventory))
            for stored in sorted(revisions, key=policy_key(cache.policy))
            if not stored.in_use
        ),
    ]


def _installed_at(name: str, inventory: Inventory) -> float:
    current = inventory.current.get(name)
    return current.installed_at if current is not None else 0.0


def is_given_up(candidate: Candidate, useful: frozenset[str], now: float, *, keeps_partials: bool) -> bool:
    """Whether it is an unfinished download that none of the wanted models has use for, and goes now.

    Cancelling keeps it (a newer manifest may want it again at once); but nothing stays in ``partial/`` for ever that
    nothing is unfinished for. So the next run that a person starts drops it, and a watch does after a while.
    """
    if candidate.subject != "partial" or candidate.key in useful:
        return False
    return not keeps_partials or now - candidate.last_needed_at > GIVEN_UP_S


def is_expired(candidate: Candidate, cache: CachePolicy, now: float) -> bool:
    """Whether it goes even where there is room: unused for longer than ``cache.retention``."""
    if not cache.cleanup_interval_s or candidate.is_wanted:
        return False
    age_s = now - candidate.last_needed_at
    match candidate.subject:
        case "partial":
            return age_s > PARTIAL_AGE_S
        case "blob":
            return age_s > ORPHAN_AGE_S
        case _:
            return cache.retention_s is not None and age_s > cache.retention_s
