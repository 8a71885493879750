"""What may be asked of a running watch: one function per ``op`` of the control socket.

Reading: ``status``, ``live``, ``events`` (``after``, ``model``, ``limit``, ``follow``). Recording: ``pin``, ``unpin``,
``touch`` (``models``, ``at``), ``suspend`` (``until``, seconds since the epoch), ``poke``. Holding back: ``pause``
(``models``; none: everything, and the watch is suspended) and ``cancel`` (``models``; ``discard``: without partials)
stop what is in flight until ``resume`` (``models``; none: everything). Doing: ``evict``, ``prune``, ``load``,
``unload``, ``verify``, ``repair``, ``adopt``, ``rollback`` (``models``, ``allow_evict``, ``progress``): see
:mod:`reconciler.watch.doing`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from reconciler.adapters.ledger import EventRow, Ledger
from reconciler.core.actions import Request
from reconciler.core.desired import DesiredState
from reconciler.core.errors import permanent, transient
from reconciler.core.notices import Event, event_document
from reconciler.core.status_document import status_document
from reconciler.watch import marks
from reconciler.watch.bell import POKE, Bell
from reconciler.watch.caller import Caller
from reconciler.watch.doing import act
from reconciler.watch.live import NOTHING, Live, see_status
from reconciler.watch.passes import Passes
from reconciler.world import World

FOLLOW_EVERY_S = 0.3
GIVE_UP_S = 5.0  # for a download to end before its partials are deleted
ACTIONS = ("evict", "prune", "load", "unload", "verify", "repair", "adopt", "rollback")
_NEEDS_NAMES = frozenset({"evict", "load", "unload", "rollback"})  # the others mean everything where nothing is named
_MAX_NUMBER = 1 << 53

Keys = Mapping[str, Any]
Answers = Iterator[Mapping[str, Any]]


class Desk(Protocol):
    """The parts of a running watch that a verb may reach."""

    world: World
    ledger: Ledger
    bell: Bell
    passes: Passes

    @property
    def desired(self) -> DesiredState | None:
        """The manifest in force."""
        ...

    def live(self) -> Live:
        """What only the watch knows."""
        ...


def answer(desk: Desk, request: Keys, caller: Caller) -> Answers:
    """The answers to one request.

    Raises:
        Failure: permanent ``bad_request``; what the verb says.
    """
    op = str(request.get("op"))
    if op == "events":
        return _events(desk, request, caller)
    if op in ACTIONS:
        return _act(desk, op, request, caller)
    verb = _VERBS.get(op)
    if verb is None:
        ops = ", ".join(["events", *_VERBS, *ACTIONS])
        raise permanent("bad_request", f"there is no op {request.get('op')!r}", hint=f"one of {ops}")
    return verb(desk, request)


def _status(desk: Desk, _keys: Keys) -> Answers:
    yield {"status": status_document(see_status(desk.world, desk.ledger, desk.desired, desk.live()))}


def _live(desk: Desk, _keys: Keys) -> Answers:
    yield {"live": desk.live().to_document()}


def _events(desk: Desk, keys: Keys, caller: Caller) -> Answers:
    """By sequence number, so that nothing is lost between what was and what comes, to the last one of a stop."""
    seq, model, limit = _count(keys, "after") or 0, keys.get("model"), _count(keys, "limit")
    if not isinstance(model, str | None):
        raise permanent("bad_request", "model is a name")
    while True:
        is_last = not keys.get("follow") or caller.closing.is_set()
        rows = desk.ledger.events.since(seq) if not limit else desk.ledger.events.latest(limit, model=model)
        limit = None
        for row in rows:
            if row.seq > seq and model in {None, row.model}:
                yield {"event": event_document(_event(row))}
        seq = max([seq, *(row.seq for row in rows)])
        if is_last or caller.is_gone():
            return
        caller.closing.wait(FOLLOW_EVERY_S)


def _event(row: EventRow) -> Event:
    return Event(row.seq, row.time, row.type.value, row.reason, row.model, row.message, row.count)


def _pin(desk: Desk, keys: Keys) -> Answers:
    for name in _names(keys):
        marks.set_pin(desk.ledger, desk.desired or NOTHING, name, desk.world.now(), pinned=keys["op"] == "pin")
    desk.bell.ring(POKE)
    yield {}


def _touch(desk: Desk, keys: Keys) -> Answers:
    at = _number(keys, "at")
    for name in _names(keys):
        marks.touch(desk.ledger, name, at)
    yield {}


def _suspend(desk: Desk, keys: Keys) -> Answers:
    marks.suspend(desk.ledger, _number(keys, "until"))
    desk.bell.ring(POKE)
    yield {}


def _resume(desk: Desk, keys: Keys) -> Answers:
    names = _names(keys, is_needed=False)
    marks.release(desk.ledger, names)
    desk.bell.ring(POKE)
    yield {}


def _poke(desk: Desk, _keys: Keys) -> Answers:
    desk.ledger.clear_failure()
    desk.bell.ring(POKE)
    yield {}


def _hold(desk: Desk, keys: Keys) -> Answers:
    """Stop what is in flight: named models, or everything, which suspends the watch as well."""
    kind, claims = str(keys["op"]), desk.passes.claims
    names = _names(keys, is_needed=kind == "cancel")
    if names:
        marks.hold(desk.ledger, desk.desired or NOTHING, names, desk.world.now(), kind)
    else:
        marks.suspend(desk.ledger, None)
    claims.withhold(names)
    stopped = [name for name in names or sorted(claims.busy()) if claims.give_up(name)]
    if keys.get("discard"):
        _discard(desk, names)
    desk.bell.ring(POKE)
    yield {"stopped": stopped}


def _discard(desk: Desk, names: Sequence[str]) -> None:
    desk.passes.wait_given_up(frozenset(names), GIVE_UP_S)
    if desk.passes.claims.busy() & set(names):
        raise transient("model_busy", "the download does not stop; its partial is kept", hint="try again")
    marks.discard(desk.world, desk.ledger, desk.desired or NOTHING, names)


def _act(desk: Desk, verb: str, keys: Keys, caller: Caller) -> Answers:
    models = tuple(_names(keys, is_needed=verb in _NEEDS_NAMES))
    request = Request(verb=verb, models=models, allow_evict=_count(keys, "allow_evict"))
    desired = desk.desired or NOTHING
    yield from act(
        lambda request, listeners: desk.passes.start(desired, request, f"request:{verb}", listeners),
        request,
        caller,
        is_followed=keys.get("progress") is True,
    )
    desk.bell.ring(POKE)


def _number(keys: Keys, key: str) -> float | None:
    value = keys.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_NUMBER:
        raise permanent("bad_request", f"{key} is a number of seconds since the epoch")
    return float(value)


def _count(keys: Keys, key: str) -> int | None:
    value = keys.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_NUMBER:
        raise permanent("bad_request", f"{key} is a whole number")
    return value


def _names(keys: Keys, *, is_needed: bool = True) -> Sequence[str]:
    names = keys.get("models") or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise permanent("bad_request", "models is a list of names")
    if is_needed and not names:
        raise permanent("bad_request", "models is missing")
    return names


_VERBS: Mapping[str, Callable[[Desk, Keys], Answers]] = {
    "status": _status,
    "live": _live,
    "pin": _pin,
    "unpin": _pin,
    "touch": _touch,
    "suspend": _suspend,
    "resume": _resume,
    "poke": _poke,
    "pause": _hold,
    "cancel": _hold,
}
