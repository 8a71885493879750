"""The smallest change that turns a decision: found by planning again, never guessed.

For each reason there is a short list of things a person could change, the least intrusive first. Each is applied to the
inputs and planned; the first that turns the decision is the answer. Where the change is a number, it is searched for
until one byte less does not turn it. :func:`apply_change` is public, so that a test can hold every answer to its word.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.core.moments import moment_text
from reconciler.core.state import (
    Artifact,
    DesiredModel,
    DesiredState,
    DownloadPolicy,
    NetworkRequirement,
    ObservedState,
    Priority,
    Selector,
    Size,
    StoredModel,
    WantedState,
)
from reconciler.core.units import format_size


@dataclass(frozen=True, slots=True)
class Change:
    """One edit. ``field`` is a path in the manifest, or the verb to type; ``from_`` and ``to`` are JSON values."""

    field: str
    from_: Any
    to: Any
    message: str


Turned = Callable[[Change], bool]


def model_field(name: str, key: str) -> str:
    """The path of one key of one model."""
    return f"models.{name}.{key}"


def candidates(
    desired: DesiredState, observed: ObservedState, name: str, reason: str, turned: Turned
) -> Iterator[Change]:
    """What could be changed about the model ``name`` for which the plan gives ``reason``."""
    model = next((model for model in desired.models if model.name == name), None)
    match reason:
        case "no_room" | "over_limit" | "room_needed":
            yield from _for_room(desired, observed, name, model, turned)
        case "no_memory" | "memory_needed" | "memory_pressure":
            yield from _for_memory(desired, observed, name, model, turned)
        case "outside_window":
            yield Change("network.windows", _windows(desired), [], "without windows it is downloaded at any time")
        case "network_metered" | "network_unmet" | "download_manual" | "download_never":
            yield from _for_network(desired, name, model)
        case "too_many_evictions":
            yield from _for_guard(desired, observed, turned)
        case _:
            yield from _by_hand(observed, name, reason)
            yield from _of_entry(model, name)


def _windows(desired: DesiredState) -> list[str]:
    return [
        f"{w.start_minute // 60:02}:{w.start_minute % 60:02}-{w.end_minute // 60:02}:{w.end_minute % 60:02}"
        for w in desired.network.windows
    ]


def _for_network(desired: DesiredState, name: str, model: DesiredModel | None) -> Iterator[Change]:
    if model is not None and model.download is not DownloadPolicy.AUTOMATIC:
        message = "downloaded as soon as there is room"
        yield Change(model_field(name, "download"), model.download.value, DownloadPolicy.AUTOMATIC.value, message)
    if desired.network.require is not NetworkRequirement.ANY:
        yield Change("network.require", desired.network.require.value, "any", "any network will do")


def _by_hand(observed: ObservedState, name: str, reason: str) -> Iterator[Change]:
    """What a person does rather than writes."""
    stored = _current(observed, name)
    failures = [failure for failure in observed.failures if failure.model == name]
    if reason == "suspended":
        yield Change("resume", "suspended", "resumed", "`reconciler resume`")
    if reason == "foreign_files":
        yield Change("adopt", "foreign", "adopted", f"`reconciler adopt {name}` takes the files over")
    if reason == "in_use":
        yield Change("in_use", True, to=False, message="it goes when nothing uses it any more")
    if reason == "link_blocked":
        yield Change("links", "foreign", "free", "move away what stands at the link's place")
    if failures and reason not in {"present", "loaded"}:
        until = moment_text(failures[0].retry_at)
        wait = f"wait until {until}, or " if until else "change the source, or "
        yield Change("poke", until or failures[0].reason, "now", f"{wait}`reconciler poke` tries again at once")
    if stored is not None and stored.pinned and reason in {"pinned", "absent"}:
        yield Change(model_field(name, "pin"), True, to=False, message=f"`reconciler unpin {name}` lets it go")
    if reason in {"retention", "pruned"}:
        yield Change(model_field(name, "pin"), False, to=True, message=f"`reconciler pin {name}` keeps it for good")


def _of_entry(model: DesiredModel | None, name: str) -> Iterator[Change]:
    """What a person writes into the model's entry."""
    if model is None:
        yield Change(f"models.{name}", None, "present", "in the manifest it is wanted and no longer cache")
        return
    if model.when != Selector():
        yield Change(model_field(name, "when"), "set", {}, "without a selector it is for every machine")
    if model.rollout_percent is not None:
        yield Change(model_field(name, "rollout"), model.rollout_percent, 100, "the roll-out takes in every machine")
    if model.state is WantedState.LOADED:
        yield Change(model_field(name, "state"), "loaded", "present", "it stays on the disk and leaves the memory")
    if model.state is WantedState.ABSENT:
        yield Change(model_field(name, "state"), "absent", "present", "it is wanted again")
    else:
        yield Change(model_field(name, "state"), model.state.value, "absent", "it is not wanted at all")


# --- numbers ----------------------------------------------------------------------------------------------------------


def smallest(low: int, step: int, bound: int, is_enough: Callable[[int], bool]) -> int | None:
    """The smallest number above ``low`` that is enough, where one less is not; None where ``bound`` is not enough.

    ``step`` is a first guess of the distance; plans are costly, so the search gallops from there.
    """
    high = min(bound, low + max(step, 1))
    while not is_enough(high):
        if high >= bound:
            return None
        low, high = high, min(bound, high + (high - low) * 2)
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


def _for_room(
    desired: DesiredState, observed: ObservedState, name: str, model: DesiredModel | None, turned: Turned
) -> Iterator[Change]:
    total = observed.disk.total_bytes
    now = desired.cache.max_size.of(total)
    everything = _everything(desired, observed)
    need = max(1, everything // 64)

    def room(size: int) -> Change:
        message = f"with {format_size(size)} ({size} bytes) there is room for it"
        return Change("cache.maxSize", _size_word(desired.cache.max_size), size, message)

    found = smallest(now, need, now + everything, lambda size: turned(room(size)))
    if found is not None:
        yield room(found)
    kept_free = desired.cache.min_free.of(total)

    def free(less: int) -> Change:
        left = kept_free - less
        message = f"keeping only {format_size(left)} ({left} bytes) free there is room for it"
        return Change("cache.minFreeSpace", _size_word(desired.cache.min_free), left, message)

    found = smallest(0, need, kept_free, lambda less: turned(free(less))) if kept_free else None
    if found is not None:
        yield free(found)
    yield from _more_priority(name, model)
    if model is None:
        yield Change(model_field(name, "pin"), False, to=True, message=f"`reconciler pin {name}` keeps it for good")


def _more_priority(name: str, model: DesiredModel | None) -> Iterator[Change]:
    for priority in Priority:
        if model is not None and priority > model.priority:
            message = "it then comes before what takes the room now"
            yield Change(model_field(name, "priority"), model.priority.word, priority.word, message)


def _for_memory(
    desired: DesiredState, observed: ObservedState, name: str, model: DesiredModel | None, turned: Turned
) -> Iterator[Change]:
    total = observed.memory.total_bytes
    budget = desired.memory.budget

    def more(size: int) -> Change:
        return Change("memory.budget", _size_word(budget), size, f"a budget of {size} bytes has room for it")

    if budget is not None:
        now = budget.of(total)
        found = smallest(now, max(1, total // 64), max(total, now) * 4, lambda size: turned(more(size)))
        if found is not None:
            yield more(found)
    yield from _more_priority(name, model)


def _for_guard(desired: DesiredState, observed: ObservedState, turned: Turned) -> Iterator[Change]:
    cache = desired.cache
    now = cache.max_evictions_count if cache.max_evictions_count is not None else f"{cache.max_evictions_percent:g}%"

    def allow(count: int) -> Change:
        return Change("cache.maxEvictions", now, count, f"--allow-evict {count} says that it is meant")

    found = smallest(0, 1, len(observed.store.models), lambda count: turned(allow(count)))
    if found is not None:
        yield allow(found)


def _everything(desired: DesiredState, observed: ObservedState) -> int:
    """More bytes than the store could ever need for all that is wanted and all that is there, twice over."""
    block = observed.disk.block_bytes
    resolved = [file for resolution in observed.resolutions for file in resolution.files]
    files: list[Artifact] = [*resolved, *(file for model in desired.models for file in model.artifacts)]
    copies = sum(copy.size_bytes + block for copy in observed.local_copies)
    stored = sum(file.size_bytes + block for model in observed.store.models for file in model.files)
    wanted = sum((file.size_bytes or 0) + block for file in files)
    return 4 * (wanted + copies + stored + observed.store.used_bytes + 1)


def _size_word(size: Size | None) -> int | str | None:
    if size is None:
        return None
    return size.size_bytes if size.size_bytes is not None else f"{size.percent:g}%"


def _current(observed: ObservedState, name: str) -> StoredModel | None:
    return next((stored for stored in observed.store.models if stored.name == name and stored.is_current), None)
