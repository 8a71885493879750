"""The exact number at which a decision turns: guessed from the plan, proved by planning, searched for where that fails.

A plan of ten thousand models takes a good part of a second, so every number that is tried counts. The plan itself says
how many bytes a model lacks and what each eviction frees; where the limit that follows turns the decision, and one byte
less does not, two plans are enough. Else the search gallops and halves, first over whole blocks: bytes on disk come in
blocks, so that is where decisions turn.
"""

from collections.abc import Callable, Iterable

from reconciler.core.actions import ActionKind, Plan
from reconciler.core.desired import DesiredState
from reconciler.core.inventory import Inventory
from reconciler.core.observed import ObservedState
from reconciler.core.space import limit_bytes
from reconciler.core.targets import assess


def smallest(
    low: int, step: int, bound: int, is_enough: Callable[[int], bool], guesses: Iterable[int] = (), grain: int = 1
) -> int | None:
    """The smallest number above ``low`` that is enough, where one less is not; None where ``bound`` is not enough.

    Args:
        low: not enough.
        step: a first guess of the distance, from where the search gallops.
        bound: what is not looked beyond.
        is_enough: costly.
        guesses: numbers that may be the answer.
        grain: most answers are a multiple of this.
    """
    for guess in guesses:
        if low < guess <= bound and is_enough(guess) and (guess - 1 == low or not is_enough(guess - 1)):
            return guess
    if bound <= low:
        return None
    high = min(bound, low + max(step, 1))
    while not is_enough(high):
        if high >= bound:
            return None
        low, high = high, min(bound, high + (high - low) * 2)
    while high - low > 1:
        middle = _between(low, high, grain)
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


def _between(low: int, high: int, grain: int) -> int:
    """A whole number of grains near the middle; where none lies between, what proves that ``high`` is the answer."""
    middle = (low + high) // 2
    for multiple in (middle - middle % grain, middle + -middle % grain):
        if low < multiple < high:
            return multiple
    return middle if high % grain else high - 1


def turning_limits(made: Plan, desired: DesiredState, observed: ObservedState, name: str) -> tuple[int, ...]:
    """Limits of the disk, in bytes, at which the decision on ``name`` may turn, as far as the plan tells."""
    limit = limit_bytes(desired.cache, observed)
    for deferred in made.deferred:
        if deferred.model == name and deferred.available_bytes is not None:
            model = next(model for model in desired.models if model.name == name)
            inventory = Inventory(observed)
            need = assess(model, inventory, inventory.current.get(name))
            lack = (need.room_bytes if need is not None else 0) - deferred.available_bytes
            return limit + lack, limit + lack + (need.temporary_bytes if need is not None else 0)
    evictions = [action for action in made.actions if action.kind is ActionKind.EVICT]
    for place, action in enumerate(evictions):
        if action.model == name and not action.subject:
            return (made.summary.disk_final_bytes + sum(later.bytes or 0 for later in evictions[place:]),)
    return ()
