"""Brakes: what stops a whole plan before its first effect.

Two of them. A plan that would empty much of the store is refused, since it is more often a mistake in a manifest than a
wish; ``--allow-evict N`` says that it is a wish. And a suspended reconciler changes nothing unless a person typed it.
"""

from collections.abc import Iterable

from reconciler.core.actions import Action, ActionKind, Guard, Request
from reconciler.core.inventory import Inventory
from reconciler.core.moments import moment_text
from reconciler.core.policies import CachePolicy

MAX_NAMES = 10  # in the message


def allowed_evictions(cache: CachePolicy, in_store: int, request: Request) -> int | None:
    """How many models may leave the store in one plan; None for any number."""
    if request.allow_evict is not None:
        return request.allow_evict
    if cache.max_evictions_count is not None:
        return cache.max_evictions_count
    if cache.max_evictions_percent is None:
        return None
    return max(1, int(in_store * cache.max_evictions_percent / 100))


def leaving_names(actions: Iterable[Action]) -> list[str]:
    """Models that leave the store and are not brought back by the same plan, sorted."""
    gone, brought = set(), set()
    for action in actions:
        if action.kind is ActionKind.EVICT and not action.subject:
            gone.add(action.model)
        elif action.kind in {ActionKind.DOWNLOAD, ActionKind.LINK, ActionKind.EXTRACT}:
            brought.add(action.model)
    return sorted(gone - brought)


def guards(actions: Iterable[Action], cache: CachePolicy, inventory: Inventory, request: Request) -> tuple[Guard, ...]:
    """The brakes that hold this plan; empty where it may go on."""
    planned = tuple(actions)
    found = []
    until = inventory.observed.suspended_until
    if planned and not request.verb and until is not None and until > inventory.now:
        moment = moment_text(until)
        found.append(Guard("suspended", f"suspended until {moment or 'resumed'}", "reconciler resume"))
    is_named = request.verb == "evict" and bool(request.models)
    names = [] if is_named else leaving_names(planned)
    in_store = len(inventory.current)
    allowed = allowed_evictions(cache, in_store, request)
    if allowed is not None and len(names) > allowed:
        listed = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
        message = f"{len(names)} of {in_store} models would leave the store and {allowed} may: {listed}"
        found.append(Guard("too_many_evictions", message, f"--allow-evict {len(names)}"))
    return tuple(found)
