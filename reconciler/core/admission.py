"""Which wanted models have a place on the disk: by priority, those in the store first, then by name.

A balance is kept of what the store will take once the plan is carried out. What cannot leave counts from the start;
then, one priority after another, first the models in the store take their places, then what is to come. What does not
fit is passed over, not waited for: a smaller model after it may still fit. So nothing is evicted for a model of its
own priority, and what is admitted now is admitted again when it is in the store: never a loop of evict and download.

Two sums are kept. *Actual* is what will be there; *reserved* adds models that are wanted but cannot come now (backing
off, outside their window). A reservation keeps newcomers out, but it never evicts: that waits until the model can come.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from reconciler.core.actions import Deferred
from reconciler.core.desired import DesiredModel
from reconciler.core.inventory import Inventory, held
from reconciler.core.stored import StoredModel
from reconciler.core.targets import Need
from reconciler.core.words import Digest

MAX_BLOCKERS = 20  # names in ``blocked_by``: the largest say enough


@dataclass(slots=True)
class Seat:
    """One wanted model on its way through a plan.

    ``gate`` is why it cannot be brought now; ``is_reserving`` whether its room is kept for it meanwhile; ``is_forced``
    that it keeps its place whatever happens (pinned, loaded, in use, or critical and conservative). Admission fills
    the rest: ``is_kept``, the stored revision stays; ``is_admitted``, what is to come has room; ``no_room`` otherwise.
    """

    model: DesiredModel
    stored: StoredModel | None
    need: Need | None
    gate: Deferred | None = None
    is_reserving: bool = False
    is_forced: bool = False
    is_stuck: bool = False
    is_kept: bool = True
    is_admitted: bool = True
    available_bytes: int = 0
    blocked_by: tuple[str, ...] = ()

    @property
    def is_arriving(self) -> bool:
        """Whether it is brought by this plan."""
        return self.need is not None and self.gate is None and self.is_admitted and not self.is_stuck


@dataclass(slots=True)
class _Balance:
    """The running sums. ``payers`` counts who uses a blob or arrival: it is paid for once."""

    limit: int
    actual: int
    reserved: int
    allocated: dict[Digest, int]
    payers: dict[str, int] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)

    def cost(self, digests: Iterable[Digest], arrivals: Iterable[tuple[str, int]] = ()) -> int:
        """What these would add."""
        fresh: dict[str, int] = {
            digest: self.allocated.get(digest, 0) for digest in digests if not self.payers.get(digest)
        }
        fresh.update((key, size) for key, size in arrivals if not self.payers.get(key))
        return sum(fresh.values())

    def gain(self, digests: Iterable[Digest]) -> int:
        """What is freed where one payer of these lets go."""
        return sum(self.allocated.get(digest, 0) for digest in digests if self.payers.get(digest) == 1)

    def bad_bytes(self, digests: Iterable[Digest]) -> int:
        """What the bad copies of these take, whoever else uses them."""
        return sum(self.allocated.get(digest, 0) for digest in digests)

    def take(self, name: str, cost: int, keys: Iterable[str]) -> None:
        """Add ``cost`` for ``name``."""
        self.actual += cost
        self.reserved += cost
        self.shares[name] = self.shares.get(name, 0) + cost
        for key in keys:
            self.payers[key] = self.payers.get(key, 0) + 1


def admit(seats: Sequence[Seat], inventory: Inventory, limit: int, immovable: int, fixed: Iterable[Digest]) -> None:
    """Decide every seat's place.

    Args:
        seats: the wanted models; ``is_kept``, ``is_admitted`` and what goes with them are set.
        inventory: what is in the store.
        limit: bytes that the store may take.
        immovable: bytes that no plan can free: foreign files, wanted partials, what is held by ``fixed``.
        fixed: blobs already counted in ``immovable``.
    """
    balance = _Balance(limit, immovable, immovable, dict(inventory.allocated), dict.fromkeys(fixed, 1))
    ordered = sorted(seats, key=lambda seat: (-seat.model.priority, seat.model.name))
    forced = [seat for seat in ordered if seat.is_forced]
    _keep(forced, balance)
    shrinking = [seat for seat in forced if _is_shrinking(seat, balance)]
    early = {id(seat) for seat in shrinking}
    for seat in shrinking:  # what keeps its place anyway gives room back before anybody is refused
        _bring(seat, balance)
    for _, group in groupby(ordered, key=lambda seat: seat.model.priority):
        level = list(group)
        for seat in level:
            if not seat.is_forced and _would_shrink(seat, balance):
                _keep([seat], balance)
                if _is_shrinking(seat, balance):
                    _bring(seat, balance)
                    early.add(id(seat))
        _keep([seat for seat in level if not seat.is_forced and id(seat) not in early], balance)
        pending = [seat for seat in level if seat.need is not None and id(seat) not in early]
        pending.sort(key=lambda seat: (not _is_shrinking(seat, balance), not seat.is_kept, seat.model.name))
        for seat in pending:
            _bring(seat, balance)
        _explain(pending, balance, inventory)


def _keep(level: Sequence[Seat], balance: _Balance) -> None:
    """Models in the store take their places."""
    for seat in level:
        if seat.stored is None:
            seat.is_kept = False
            continue
        digests = held(seat.stored)
        cost = balance.cost(digests)
        seat.is_kept = seat.is_forced or not cost or balance.actual + cost <= balance.limit
        if seat.is_kept:
            balance.take(seat.model.name, cost, digests)


def _price(seat: Seat, need: Need, balance: _Balance) -> tuple[int, int, tuple[Digest, ...]]:
    """What bringing it costs, what the revision it replaces gives back, and the blobs that revision lets go of."""
    cost = balance.cost(need.keeps, need.arrivals if seat.gate is None else need.still_to_come)
    leaving = () if need.replaces is None or not seat.is_kept else _leaving(need.replaces, need)
    gain = balance.gain(leaving) + (balance.bad_bytes(need.bad) if seat.gate is None else 0)
    return cost, gain, leaving


def _is_shrinking(seat: Seat, balance: _Balance) -> bool:
    """Whether the new revision takes no more room than the one in the store, and can come now."""
    if seat.need is None or seat.need.replaces is None or seat.gate is not None or seat.is_stuck or not seat.is_kept:
        return False
    cost, gain, _ = _price(seat, seat.need, balance)
    return cost <= gain


def _would_shrink(seat: Seat, balance: _Balance) -> bool:
    """The same before it is known whether the stored revision keeps its place."""
    if seat.need is None or seat.need.replaces is None or seat.gate is not None or seat.is_stuck:
        return False
    return balance.cost(seat.need.keeps, seat.need.arrivals) <= balance.cost(held(seat.need.replaces))


def _bring(seat: Seat, balance: _Balance) -> None:
    """What is to come takes its place, where there is one."""
    need = seat.need
    is_losing = seat.stored is not None and not seat.is_kept
    if need is None or seat.is_stuck or (is_losing and not need.is_new):
        seat.is_admitted = False
        return
    cost, gain, leaving = _price(seat, need, balance)
    has_room = not cost or balance.reserved - gain + cost <= balance.limit
    if seat.gate is None:
        seat.is_admitted = has_room
        if has_room:
            keys = [*need.keeps, *(key for key, _ in need.arrivals)]
            balance.take(seat.model.name, cost - gain, keys)
            for digest in leaving:
                balance.payers[digest] -= 1
            balance.allocated.update(dict.fromkeys(need.bad, 0))
    elif seat.is_reserving and has_room:
        balance.reserved += cost


def _leaving(replaced: StoredModel, need: Need) -> tuple[Digest, ...]:
    """What only the revision that is replaced holds; nothing while somebody reads it."""
    if replaced.in_use:
        return ()
    return tuple(digest for digest in held(replaced) if digest not in need.keeps)


def _explain(pending: Sequence[Seat], balance: _Balance, inventory: Inventory) -> None:
    """For what found no room: the room that is left after everything of its priority, and what takes the rest."""
    refused = [seat for seat in pending if not seat.is_admitted and seat.gate is None]
    if not refused:
        return
    available = max(0, balance.limit - balance.reserved)
    store = inventory.observed.store
    shares = [(size, name) for name, size in balance.shares.items() if size > 0]
    shares.append((store.foreign_bytes, "foreign files"))
    blockers = sorted(((size, name) for size, name in shares if size > 0), key=lambda share: (-share[0], share[1]))
    for seat in refused:
        seat.available_bytes = available
        missing = (seat.need.size_bytes or 0) - available if seat.need else 0
        names = []
        for size, name in blockers[:MAX_BLOCKERS]:
            if missing <= 0:
                break
            if name != seat.model.name:
                names.append(name)
                missing -= size
        seat.blocked_by = tuple(names)
