"""The disk, settled: who keeps a place, who leaves, who comes, in which order.

Reads as a table of contents: what cannot move, who may leave, admission, schedule; once more without those that are
stuck. The common case, nothing to bring and the limit kept, is left before any of it.
"""

from collections.abc import Iterable, Sequence

from reconciler.core.actions import Cause
from reconciler.core.admission import Seat, admit
from reconciler.core.eviction import (
    QUARANTINED,
    Candidate,
    is_expired,
    is_given_up,
    leftovers,
    of_damaged,
    of_model,
    policy_key,
)
from reconciler.core.inventory import Inventory, held
from reconciler.core.policies import CachePolicy
from reconciler.core.records import dataclass
from reconciler.core.schedule import Schedule, Scheduler
from reconciler.core.space import Holdings, limit_bytes
from reconciler.core.stored import StoredModel
from reconciler.core.words import Digest


@dataclass(frozen=True, slots=True)
class Departures:
    """Which models of the store are not wanted, sorted by how they may leave.

    Attributes:
        absent: the manifest says ``state: absent``: they leave at once, ``absent_names`` with all that is left of them.
        unwanted: cache, evicted by policy; ``unloading`` names those that this plan unloads first.
        is_pruning: everything unwanted leaves at once.
        is_cleaning: retention is applied and a store over its limit is relieved (not with ``--only``).
        keeps_partials: see :class:`~reconciler.core.actions.Request`.
    """

    absent: tuple[StoredModel, ...] = ()
    absent_names: frozenset[str] = frozenset()
    unwanted: tuple[StoredModel, ...] = ()
    unloading: frozenset[str] = frozenset()
    is_pruning: bool = False
    is_cleaning: bool = True
    keeps_partials: bool = False


def settle(seats: Sequence[Seat], departures: Departures, cache: CachePolicy, inventory: Inventory) -> Schedule:
    """Settle every seat; see :class:`Seat` for what is set on it."""
    store = inventory.observed.store
    limit = limit_bytes(cache, inventory.observed)
    is_pressing = store.used_bytes > limit or any(seat.need is not None for seat in seats)
    has_leaving = departures.absent or departures.unwanted or store.partials or inventory.superseded
    if not is_pressing and not has_leaving and len(inventory.allocated) == _held_count(inventory):
        return Schedule(peak_bytes=store.used_bytes, final_bytes=store.used_bytes)
    schedule = _attempt(seats, departures, cache, inventory)
    while schedule.stuck:
        for seat in schedule.stuck:
            seat.is_stuck = True
        schedule = _attempt(seats, departures, cache, inventory)
    return schedule


def _held_count(inventory: Inventory) -> int:
    return len({digest for stored in inventory.revisions() for digest in held(stored)})


def _attempt(seats: Sequence[Seat], departures: Departures, cache: CachePolicy, inventory: Inventory) -> Schedule:
    """One admission and the schedule it leads to."""
    limit = limit_bytes(cache, inventory.observed)
    used = inventory.observed.store.used_bytes
    leaving = _leaving(departures, cache)
    waiting = wanted_partials((seat for seat in seats if seat.is_reserving), inventory)
    immovable, fixed = _immovable(seats, leaving, waiting, inventory)
    admit(seats, inventory, limit, immovable, fixed)
    coming = wanted_partials((seat for seat in seats if seat.is_arriving), inventory)
    stale = [partial for partial in inventory.observed.store.partials if partial.key not in waiting | coming]
    holdings = Holdings(inventory)
    orphans = holdings.orphans()
    for digest in orphans:
        holdings.hold((digest,))
    expected = [seat.need for seat in seats if seat.need is not None and (seat.is_arriving or seat.is_reserving)]
    for need in expected:
        holdings.hold(need.keeps)
    awaited = frozenset(digest for need in expected for digest in need.keeps)
    orphans = [digest for digest in orphans if digest not in awaited]
    front = leftovers(inventory, cache, orphans, stale)
    line = [*_damaged(seats, inventory), *front, *leaving, *_refused(seats, departures.unloading)]
    useful = useful_partials(seats, inventory)
    urgent = _urgent(line, departures, cache, inventory.now, useful)
    gone = {candidate.id for candidates, _, _ in urgent for candidate in candidates}
    scheduler = Scheduler(holdings, [each for each in line if each.id not in gone], limit=limit, used=used)
    for candidates, reason, cause in urgent:
        scheduler.evict_now(candidates, reason, cause)
    if departures.is_cleaning:
        scheduler.relieve()
    arriving = [seat for seat in seats if seat.is_arriving]
    arriving.sort(key=lambda seat: (bool(seat.need and seat.need.fetch), -seat.model.priority, seat.model.name))
    return scheduler.bring(arriving)


def wanted_partials(seats: Iterable[Seat], inventory: Inventory) -> frozenset[str]:
    """Keys of the unfinished downloads that these models carry on."""
    if not inventory.observed.store.partials:
        return frozenset()
    files = ((seat.model.name, file) for seat in seats if seat.need is not None for file in seat.need.fetch)
    found = (inventory.partial_of(name, file) for name, file in files)
    return frozenset(partial.key for partial in found if partial is not None)


def useful_partials(seats: Iterable[Seat], inventory: Inventory) -> frozenset[str]:
    """Keys of the unfinished downloads that some wanted model could carry on, now or later.

    All of them while nobody can say what the files of a model are.
    """
    lacking = [seat for seat in seats if seat.need is not None]
    if any(not file.path for seat in lacking if seat.need is not None for file in seat.need.fetch):
        return frozenset(partial.key for partial in inventory.observed.store.partials)
    return wanted_partials(lacking, inventory)


def _leaving(departures: Departures, cache: CachePolicy) -> list[Candidate]:
    """Unwanted models in the order they leave; the absent ones first."""
    key = policy_key(cache.policy)
    line = []
    for group, detail in (
        (departures.absent, "the manifest says absent"),
        (departures.unwanted, "not in the manifest"),
    ):
        for stored in sorted(group, key=key):
            after = (f"unload:{stored.name}",) if stored.name in departures.unloading else ()
            line.append(of_model(stored, detail, after=after))
    return line


def _refused(seats: Iterable[Seat], unloading: frozenset[str]) -> list[Candidate]:
    """Wanted models in the store that admission found no place for: lowest priority first, last name first."""
    refused = [seat for seat in seats if seat.stored is not None and not seat.is_kept]
    refused.sort(key=lambda seat: seat.model.name, reverse=True)
    refused.sort(key=lambda seat: seat.model.priority)
    return [
        of_model(
            seat.stored,
            f"wanted with {seat.model.priority.word} priority, but what comes before it takes the room",
            is_wanted=True,
            after=(f"unload:{seat.model.name}",) if seat.model.name in unloading else (),
        )
        for seat in refused
        if seat.stored is not None
    ]


def _damaged(seats: Iterable[Seat], inventory: Inventory) -> list[Candidate]:
    """Bad copies in the places of what is repaired now, each once."""
    owners = {
        digest: seat.model.name
        for seat in sorted(seats, key=lambda seat: seat.model.name, reverse=True)
        if seat.need is not None and seat.is_arriving
        for digest in seat.need.bad
    }
    return [of_damaged(name, digest, inventory.allocated[digest]) for digest, name in sorted(owners.items())]


def _immovable(
    seats: Iterable[Seat], leaving: Iterable[Candidate], waiting: frozenset[str], inventory: Inventory
) -> tuple[int, list[Digest]]:
    """Bytes that stay whatever is decided, and the blobs among them that no seat accounts for."""
    movable = {stored.name for seat in seats if (stored := seat.stored) is not None}
    movable |= {candidate.name for candidate in leaving}
    fixed = {
        digest
        for stored in inventory.revisions()
        if (stored.is_current and stored.name not in movable) or (not stored.is_current and stored.in_use)
        for digest in held(stored)
    }
    loose = sum(size for digest, size in inventory.allocated.items() if digest not in fixed)
    store = inventory.observed.store
    loose += sum(partial.allocated_bytes for partial in store.partials if partial.key not in waiting)
    loose += sum(copy.allocated_bytes for copy in store.bad_copies)
    return store.used_bytes - loose, sorted(fixed)


_Urgent = list[tuple[list[Candidate], str, Cause]]


def _urgent(
    line: Sequence[Candidate], departures: Departures, cache: CachePolicy, now: float, useful: frozenset[str]
) -> _Urgent:
    """What leaves whether or not room is needed: as typed, as the manifest says, or unused for too long."""
    rest = [each for each in line if not each.is_wanted and each.subject != QUARANTINED]  # that is cleared by time
    typed: list[Candidate] = rest if departures.is_pruning else []
    named = [] if typed else [candidate for candidate in rest if candidate.name in departures.absent_names]
    given_up = [
        candidate
        for candidate in rest
        if departures.is_cleaning
        and not typed
        and candidate not in named
        and is_given_up(candidate, useful, now, keeps_partials=departures.keeps_partials)
    ]
    chosen = {candidate.id for candidate in (*named, *given_up)}
    expired = [
        candidate
        for candidate in rest
        if departures.is_cleaning and not typed and candidate.id not in chosen and is_expired(candidate, cache, now)
    ]
    return [
        (typed, "pruned", Cause.REQUEST),
        (named, "absent", Cause.INTENT),
        (given_up, "given_up", Cause.INTENT),
        (expired, "retention", Cause.RETENTION),
    ]
