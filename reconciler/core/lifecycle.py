"""The life of a model: 20 states, one table of legal transitions, and what follows from it.

The lifecycle is a record for people, observers and ``status``; the planner decides from observed facts alone. All that
is said about the states stands in :data:`TRANSITIONS` and :data:`DURABLE`; everything else here is computed from them.
:func:`defects` checks the table itself and is run as a test. (The shape, states as one table, is that of h11's
``_state.py``.)
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from reconciler.core.errors import permanent
from reconciler.core.records import dataclass


class Lifecycle(StrEnum):
    """Where a model stands in its life."""

    UNINITIALIZED = "uninitialized"
    DISCOVERED = "discovered"  # known, nothing of it is on disk
    DOWNLOADING = "downloading"
    PAUSED = "paused"
    DOWNLOADED = "downloaded"  # the bytes are on disk, nothing is proven
    EXTRACTING = "extracting"
    EXTRACTED = "extracted"
    VALIDATING = "validating"
    VALIDATED = "validated"  # in the store and proven
    INITIALIZING = "initializing"
    INITIALIZED = "initialized"
    LOADING = "loading"
    LOADED = "loaded"
    READY = "ready"
    EXECUTING = "executing"
    CLEANUP = "cleanup"
    EVICTED = "evicted"
    QUARANTINED = "quarantined"
    DELETED = "deleted"
    ERROR = "error"


class Presence(StrEnum):
    """The short word for ``status``: how much of a model is on the machine."""

    ABSENT = "absent"
    PARTIAL = "partial"
    PRESENT = "present"
    LOADED = "loaded"


_L = Lifecycle

# The table as written down, without the rule "every state but deleted may go to error".
_STEPS: Mapping[Lifecycle, tuple[Lifecycle, ...]] = {
    _L.UNINITIALIZED: (_L.DISCOVERED,),
    _L.DISCOVERED: (_L.DOWNLOADING, _L.VALIDATING, _L.DELETED),
    _L.DOWNLOADING: (_L.DOWNLOADED, _L.PAUSED, _L.DISCOVERED),
    _L.PAUSED: (_L.DOWNLOADING, _L.DISCOVERED),
    _L.DOWNLOADED: (_L.EXTRACTING, _L.VALIDATING),
    _L.EXTRACTING: (_L.EXTRACTED,),
    _L.EXTRACTED: (_L.VALIDATING,),
    _L.VALIDATING: (_L.VALIDATED, _L.QUARANTINED),
    _L.VALIDATED: (_L.INITIALIZING, _L.VALIDATING, _L.EVICTED, _L.DELETED),
    _L.INITIALIZING: (_L.INITIALIZED,),
    _L.INITIALIZED: (_L.LOADING,),
    _L.LOADING: (_L.LOADED,),
    _L.LOADED: (_L.READY, _L.CLEANUP),
    _L.READY: (_L.EXECUTING, _L.CLEANUP),
    _L.EXECUTING: (_L.READY,),
    _L.CLEANUP: (_L.VALIDATED, _L.EVICTED, _L.DELETED),
    _L.EVICTED: (_L.DISCOVERED, _L.DELETED),
    _L.QUARANTINED: (_L.DISCOVERED, _L.DELETED),
    _L.DELETED: (_L.DISCOVERED,),
    _L.ERROR: (_L.DISCOVERED, _L.CLEANUP),
}

TRANSITIONS: Mapping[Lifecycle, frozenset[Lifecycle]] = {
    state: frozenset(steps) | (frozenset() if state is _L.DELETED else {_L.ERROR}) for state, steps in _STEPS.items()
}

# Where a state falls back to after a crash. A state that is not named is durable and stays. What was unpacked or
# checked without being committed lies in a staging folder that does not outlive its process; what was in a runtime is
# only on disk until it is observed loaded again.
DURABLE: Mapping[Lifecycle, Lifecycle] = {
    _L.DOWNLOADING: _L.DISCOVERED,
    _L.EXTRACTING: _L.DOWNLOADED,
    _L.EXTRACTED: _L.DOWNLOADED,
    _L.VALIDATING: _L.DOWNLOADED,
    _L.INITIALIZING: _L.VALIDATED,
    _L.INITIALIZED: _L.VALIDATED,
    _L.LOADING: _L.VALIDATED,
    _L.LOADED: _L.VALIDATED,
    _L.READY: _L.VALIDATED,
    _L.EXECUTING: _L.VALIDATED,
    _L.CLEANUP: _L.VALIDATED,
}

IN_RUNTIME = frozenset({_L.LOADED, _L.READY, _L.EXECUTING})
ON_DISK = frozenset(
    {_L.DOWNLOADED, _L.EXTRACTING, _L.EXTRACTED, _L.VALIDATING, _L.VALIDATED}
    | {_L.INITIALIZING, _L.INITIALIZED, _L.LOADING, _L.CLEANUP}
    | IN_RUNTIME
)
_BUSY = frozenset({_L.DOWNLOADING, _L.EXTRACTING, _L.VALIDATING, _L.INITIALIZING, _L.LOADING, _L.EXECUTING, _L.CLEANUP})


# --- the table ----------------------------------------------------------------------------------------------------


def is_valid(current: Lifecycle, to: Lifecycle) -> bool:
    """Whether the table allows the step."""
    return to in TRANSITIONS[current]


def allowed_next(current: Lifecycle) -> tuple[Lifecycle, ...]:
    """The states one step away, in the order of the enumeration."""
    return tuple(state for state in Lifecycle if state in TRANSITIONS[current])


def transition(current: Lifecycle, to: Lifecycle) -> Lifecycle:
    """``to``, where the table allows the step.

    Raises:
        Failure: permanent ``illegal_transition``, naming both states and what would be allowed.
    """
    if is_valid(current, to):
        return to
    allowed = ", ".join(allowed_next(current))
    raise permanent("illegal_transition", f"a model that is {current} cannot become {to}; it can become: {allowed}")


def path(current: Lifecycle, to: Lifecycle, avoiding: Collection[Lifecycle] = ()) -> tuple[Lifecycle, ...]:
    """The shortest legal way, without ``current`` and with ``to``; empty where they are the same.

    A way never leads through ``error``, for nothing is done by failing, nor through a state that is to be avoided;
    both may be where it begins or ends. Ties go to the step that the table names first: onwards, not back.

    Raises:
        Failure: permanent ``illegal_transition`` where no way leads there (nothing becomes uninitialized).
    """
    if current is to:
        return ()
    closed = {_L.ERROR, *avoiding} - {to}
    came_from: dict[Lifecycle, Lifecycle] = {}
    queue = deque([current])
    while queue and to not in came_from:
        here = queue.popleft()
        for step in (*_STEPS[here], _L.ERROR):
            if step in TRANSITIONS[here] and step not in came_from and step not in closed and step is not current:
                came_from[step] = here
                queue.append(step)
    if to not in came_from:
        raise permanent("illegal_transition", f"no way leads from {current} to {to}")
    way = [to]
    while came_from[way[-1]] is not current:
        way.append(came_from[way[-1]])
    return tuple(reversed(way))


def defects(table: Mapping[Lifecycle, Iterable[Lifecycle]] = TRANSITIONS) -> tuple[str, ...]:
    """What is wrong with a table of transitions, one sentence each; empty for a sound one.

    Looks for states without an entry, dead ends, orphans (no way in, but for the first), states that cannot be reached
    from the first, and states from which an error could not be recorded.
    """
    nexts = {state: frozenset(table.get(state, ())) for state in Lifecycle}
    reached = _reach(nexts, _L.UNINITIALIZED)
    entered = frozenset(to for state, steps in nexts.items() for to in steps if to is not state)
    found = [f"{state} has no entry" for state in Lifecycle if state not in table]
    for state in Lifecycle:
        if not nexts[state] - {_L.ERROR, state}:
            found.append(f"{state} is a dead end")
        if state not in entered and state is not _L.UNINITIALIZED:
            found.append(f"{state} is an orphan")
        if state not in reached:
            found.append(f"{state} cannot be reached")
        if (_L.ERROR in nexts[state]) is (state is _L.DELETED):
            found.append(f"{state} {'must not' if state is _L.DELETED else 'cannot'} go to error")
    return tuple(found)


def _reach(nexts: Mapping[Lifecycle, frozenset[Lifecycle]], start: Lifecycle) -> frozenset[Lifecycle]:
    seen = {start}
    queue = [start]
    while queue:
        fresh = nexts[queue.pop()] - seen
        seen |= fresh
        queue.extend(fresh)
    return frozenset(seen)


# --- what follows from a state ------------------------------------------------------------------------------------


def recover(state: Lifecycle) -> Lifecycle:
    """The last durable state, for a model that a crash caught in ``state``; a durable state is itself."""
    return DURABLE.get(state, state)


def presence(state: Lifecycle) -> Presence:
    """The short word for ``status``."""
    if state in IN_RUNTIME:
        return Presence.LOADED
    if state in (_L.DOWNLOADING, _L.PAUSED):
        return Presence.PARTIAL
    return Presence.PRESENT if state in ON_DISK else Presence.ABSENT


@dataclass(frozen=True, slots=True)
class Flags:
    """What a state means to somebody who only wants yes or no."""

    needs_download: bool
    needs_extraction: bool
    needs_validation: bool
    is_ready: bool
    is_processing: bool
    is_in_error: bool
    is_in_use: bool


def flags(state: Lifecycle, *, is_archive: bool = False) -> Flags:
    """The derived flags of a state; ``is_archive`` where the model still has to be unpacked once it is downloaded."""
    return Flags(
        needs_download=state not in ON_DISK and state is not _L.ERROR,
        needs_extraction=is_archive and state in (_L.DOWNLOADED, _L.EXTRACTING),
        needs_validation=state is _L.EXTRACTED or (state is _L.DOWNLOADED and not is_archive),
        is_ready=state is _L.READY,
        is_processing=state in _BUSY,
        is_in_error=state is _L.ERROR,
        is_in_use=state is _L.EXECUTING,
    )


def progress_to(current: Lifecycle, target: Lifecycle, origin: Lifecycle = Lifecycle.UNINITIALIZED) -> float:
    """How much of the shortest way from ``origin`` to ``target`` lies behind ``current``: 0.0 to 1.0, by steps.

    Raises:
        Failure: permanent ``illegal_transition`` where no way leads to ``target``.
    """
    left = len(path(current, target))
    whole = max(len(path(origin, target)), left, 1)
    return (whole - left) / whole
