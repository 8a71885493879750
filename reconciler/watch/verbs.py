"""What may be asked of a running watch: one function per ``op`` of the control socket.

Reading: ``status``, ``live``, ``events`` (``after``, ``model``, ``limit``, ``follow``). Recording: ``pin``, ``unpin``,
``touch`` (``models``, ``at``), ``suspend`` (``until``, seconds since the epoch), ``resume``, ``poke``. Holding back:
``pause`` (``models``; none: everything) and ``cancel`` (``models``) stop what is in flight, partials kept, until
``resume``. Doing: ``evict``, ``prune``, ``load``, ``unload``, ``verify``, ``repair``, ``adopt``, ``rollback``
(``models``, ``allow_evict``), which go through planner and executor beside the watch's own passes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from reconciler.adapters.ledger import EventRow, Ledger
from reconciler.core.actions import Request
from reconciler.core.errors import permanent, refused
from reconciler.core.ports import CancelToken
from reconciler.core.report import Event, apply_result_document, event_document
from reconciler.core.state import DesiredState
from reconciler.core.status_document import status_document
from reconciler.watch import marks
from reconciler.watch.bell import POKE, Bell
from reconciler.watch.live import NOTHING, Live, see_status
from reconciler.watch.passes import Passes
from reconciler.world import World

FOLLOW_EVERY_S = 0.5
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
    cancel: CancelToken

    @property
    def desired(self) -> DesiredState | None:
        """The manifest in force."""
        ...

    def live(self) -> Live:
        """What only the watch knows."""
        ...


def answer(desk: Desk, request: Keys) -> Answers:
    """The answers to one request.

    Raises:
        Failure: permanent ``bad_request``; what the verb says.
    """
    op = request.get("op")
    if op in ACTIONS:
        yield _act(desk, str(op), request)
        return
    verb = _VERBS.get(str(op))
    if verb is None:
        raise permanent("bad_request", f"there is no op {op!r}", hint=f"one of {', '.join([*_VERBS, *ACTIONS])}")
    yield from verb(desk, request)


def _status(desk: Desk, _keys: Keys) -> Answers:
    yield {"status": status_document(see_status(desk.world, desk.ledger, desk.desired, desk.live()))}


def _live(desk: Desk, _keys: Keys) -> Answers:
    yield {"live": desk.live().to_document()}


def _events(desk: Desk, keys: Keys) -> Answers:
    seq, model, limit = _count(keys, "after") or 0, keys.get("model"), _count(keys, "limit")
    if not isinstance(model, str | None):
        raise permanent("bad_request", "model is a name")
    while True:
        rows = desk.ledger.events.since(seq) if not limit else desk.ledger.events.latest(limit, model=model)
        limit = None
        for row in rows:
            if row.seq > seq and model in {None, row.model}:
                yield {"event": event_document(_event(row))}
        seq = max([seq, *(row.seq for row in rows)])
        if not keys.get("follow") or desk.cancel.wait(FOLLOW_EVERY_S):
            return


def _event(row: EventRow) -> Event:
    return Event(row.seq, row.time, row.type.value, row.reason, row.model, row.message, row.count)


def _pin(desk: Desk, keys: Keys) -> Answers:
    for name in _names(keys):
        marks.set_pin(desk.ledger, name, desk.world.now(), pinned=keys["op"] == "pin")
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
    names = set(_names(keys, is_needed=False))
    held = desk.passes.claims.held
    held -= names or set(held)
    if not names:
        desk.ledger.meta.resume()
    desk.bell.ring(POKE)
    yield {}


def _poke(desk: Desk, _keys: Keys) -> Answers:
    desk.ledger.clear_failure()
    desk.passes.claims.held.clear()
    desk.bell.ring(POKE)
    yield {}


def _pause(desk: Desk, keys: Keys) -> Answers:
    """Stop what is in flight: named models, or everything, which suspends the watch as well."""
    claims = desk.passes.claims
    names = _names(keys, is_needed=keys["op"] == "cancel")
    if not names:
        marks.suspend(desk.ledger, None)
    claims.held.update(names)
    stopped = [name for name in names or sorted(claims.busy()) if claims.give_up(name)]
    desk.bell.ring(POKE)
    yield {"stopped": stopped}


def _act(desk: Desk, verb: str, keys: Keys) -> Mapping[str, Any]:
    models = tuple(_names(keys, is_needed=verb in _NEEDS_NAMES))
    request = Request(verb=verb, models=models, allow_evict=_count(keys, "allow_evict"))
    run = desk.passes.start(desk.desired or NOTHING, request, f"request:{verb}")
    run.ended.wait()
    if run.failure is not None:
        raise run.failure
    if run.result is None:
        raise permanent("pass_crashed", f"{verb} ended with a fault of the program; see the log of the watch")
    if run.share.has_dropped and not run.result.outcomes:
        raise refused(
            "model_busy", f"a pass is working on {', '.join(request.models) or 'the store'}", hint="wait for it"
        )
    desk.bell.ring(POKE)
    return {"result": apply_result_document(run.result)}


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
    "events": _events,
    "pin": _pin,
    "unpin": _pin,
    "touch": _touch,
    "suspend": _suspend,
    "resume": _resume,
    "poke": _poke,
    "pause": _pause,
    "cancel": _pause,
}
