"""In which order bytes leave and come, so that the disk never holds more than the limit at any moment.

Room is taken from the front of the eviction line right before the first model that needs it. Everything that is coming
is counted from its start, with archives and revisions about to be replaced beside it, so that any number of models may
download side by side. Only where room is short does a model wait until another has come and let its temporary bytes
go. A model for which no order leaves room is *stuck*: it is taken out and the rest is planned again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from reconciler.core.actions import Cause
from reconciler.core.admission import Seat
from reconciler.core.eviction import QUARANTINED, Candidate, of_revision
from reconciler.core.records import dataclass
from reconciler.core.space import Holdings
from reconciler.core.targets import Need


@dataclass(frozen=True, slots=True)
class Eviction:
    """One candidate leaves. ``after`` are ids of actions that come first; ``score`` its place in the line."""

    candidate: Candidate
    reason: str
    cause: Cause
    freed_bytes: int
    after: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """One model's bytes come. ``after`` are ids of what makes room for it."""

    seat: Seat
    need: Need
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps in order of execution, and what the disk holds at most and at the end."""

    steps: tuple[Eviction | Arrival, ...] = ()
    stuck: tuple[Seat, ...] = ()
    peak_bytes: int = 0
    final_bytes: int = 0

    @property
    def evicted(self) -> frozenset[str]:
        """Names of the models whose current revision leaves."""
        return frozenset(
            step.candidate.name for step in self.steps if isinstance(step, Eviction) and not step.candidate.subject
        )


class Scheduler:
    """Builds a :class:`Schedule` step by step."""

    def __init__(self, holdings: Holdings, line: Sequence[Candidate], *, limit: int, used: int) -> None:
        self._holdings = holdings
        self._candidates = tuple(line)
        self._line = list(line)
        self._scores = {candidate.id: float(place) for place, candidate in enumerate(line)}
        self._limit = limit
        self._start = used
        self._current = used
        self._peak = used
        self._needed = 0  # by all arrivals so far
        self._steps: list[Eviction | Arrival] = []
        self._batch: tuple[str, ...] = ()
        self._waiting: list[Candidate] = []  # what may leave once an arrival is placed: the old revision, bad copies
        self._temporary: list[tuple[int, str]] = []  # bytes that go once the action of this id is done
        self._released: tuple[str, ...] = ()
        self._is_relieving = False
        self._arrived: set[str] = set()
        self._evictable = 0
        self._line_up(self._line)

    def evict_now(self, candidates: Iterable[Candidate], reason: str, cause: Cause) -> None:
        """Evict these whether or not room is needed."""
        ids = tuple(self._evict(candidate, reason, cause, ()) for candidate in candidates)
        self._batch = ids or self._batch
        self._line_up(self._candidates)

    def relieve(self) -> None:
        """Come below the limit, as far as what may leave allows."""
        self._is_relieving = True
        self._make_room(0, "over_limit")

    def bring(self, seats: Sequence[Seat]) -> Schedule:
        """Place every arrival where it has room; what never has is stuck."""
        queue = [(seat, seat.need) for seat in seats if seat.need is not None]
        while queue:
            left = [(seat, need) for seat, need in queue if not self._try(seat, need)]
            if len(left) == len(queue):
                break
            queue = left
        if self._is_relieving and self._current > self._limit:
            self._let_go([*self._waiting, *self._line])
            self._make_room(0, "over_limit")
        temporary = sum(size for size, _ in self._temporary)
        stuck = tuple(seat for seat, _ in queue)
        return Schedule(tuple(self._steps), stuck, self._peak, self._current - temporary)

    def _try(self, seat: Seat, need: Need) -> bool:
        coming = {key: size for key, size in need.still_to_come if key not in self._arrived}
        needed = sum(coming.values()) + need.temporary_to_come
        if needed and not self._is_feasible(needed):
            return False
        after = self._room_for(needed) if needed else ()
        after = (*after, *(id_ for id_ in self._given_up(need) if id_ not in after))
        self._arrived.update(coming)
        self._current += needed
        self._needed += needed
        self._peak = max(self._peak, self._current)
        self._steps.append(Arrival(seat, need, after))
        self._expect_release(seat.model.name, need)
        return True

    def _given_up(self, need: Need) -> list[str]:
        """Ids of what gives up the bad copies of this very repair."""
        gone = (step.candidate for step in self._steps if isinstance(step, Eviction))
        return [each.id for each in gone if each.subject == QUARANTINED and each.key in need.bad]

    def _expect_release(self, name: str, need: Need) -> None:
        """What this arrival will let go of when it is placed."""
        last = f"extract:{name}" if need.is_extracted else f"download:{name}" if need.fetch else f"link:{name}"
        if need.temporary_bytes:
            self._temporary.append((need.temporary_bytes, last))
        copies = [each for each in self._line if each.subject == QUARANTINED and each.key in need.bad]
        if copies:
            self._line_up([each for each in self._line if each not in copies])
            self._waiting += [replace(each, after=(last,)) for each in copies]
        if need.replaces is None or need.replaces.in_use:
            return
        is_gone = any(isinstance(step, Eviction) and step.candidate.stored is need.replaces for step in self._steps)
        if is_gone:
            return
        self._line_up([candidate for candidate in self._line if candidate.stored is not need.replaces])
        self._waiting.append(of_revision(need.replaces, after=(last,)))

    def _is_feasible(self, needed: int) -> bool:
        """Whether there is room once all that may leave has left; waits for what others let go of, if that helps."""
        if self._current + needed - self._evictable <= self._limit:
            return True
        if not (self._waiting or self._temporary):
            return False
        line = [*self._waiting, *self._line]
        temporary = sum(size for size, _ in self._temporary)
        if self._current - temporary + needed - self._all_evictable(line) > self._limit:
            return False
        self._let_go(line)
        return True

    def _let_go(self, line: Sequence[Candidate]) -> None:
        """From here on, wait until what is temporary has gone; ``line`` is who may leave then."""
        self._released = (*self._released, *(id_ for _, id_ in self._temporary))
        self._current -= sum(size for size, _ in self._temporary)
        self._waiting, self._temporary = [], []
        self._line_up(line)

    def _room_for(self, needed: int) -> tuple[str, ...]:
        """Ids of what must be done before ``needed`` bytes may come."""
        batch = self._make_room(needed, "room_needed")
        if self._needed + needed <= self._limit - self._start:
            return batch
        return tuple(dict.fromkeys((*(batch or self._batch), *self._released)))

    def _make_room(self, needed: int, reason: str) -> tuple[str, ...]:
        previous = self._batch[-1:]
        batch: list[str] = []
        while self._line and self._current + needed > self._limit:
            after = previous if not batch else ()
            batch.append(self._evict(self._line.pop(0), reason, Cause.PRESSURE, after))
        self._batch = tuple(batch) or self._batch
        return tuple(batch)

    def _evict(self, candidate: Candidate, reason: str, cause: Cause, after: tuple[str, ...]) -> str:
        freed = candidate.own_bytes + self._holdings.release(candidate.digests)
        self._current -= freed
        self._evictable = max(0, self._evictable - freed)
        score = self._scores.get(candidate.id, 0.0)
        self._steps.append(Eviction(candidate, reason, cause, freed, (*candidate.after, *after), score))
        return candidate.id

    def _all_evictable(self, line: Sequence[Candidate]) -> int:
        own = sum(candidate.own_bytes for candidate in line)
        return own + self._holdings.bytes_of(self._holdings.freed_by_all(candidate.digests for candidate in line))

    def _line_up(self, line: Sequence[Candidate]) -> None:
        """Keep the candidates that can free something: all of whose holders may leave."""
        free = self._holdings.freed_by_all(candidate.digests for candidate in line)
        self._line = [each for each in line if each.own_bytes or not free.isdisjoint(each.digests)]
        self._evictable = self._all_evictable(self._line)
