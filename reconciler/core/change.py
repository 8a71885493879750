"""The smallest change that turns a decision: found by planning again, never guessed.

For each reason there is a short list of things a person could change, the least intrusive first. Each is applied to the
inputs and planned; the first that turns the decision is the answer. Where the change is a number, it is searched for
until one byte less does not turn it (:mod:`~reconciler.core.threshold`); :mod:`~reconciler.core.changed` makes the
change, also for the test that checks.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reconciler.core.actions import Plan
from reconciler.core.desired import Artifact, DesiredModel, DesiredState, Selector
from reconciler.core.moments import moment_text
from reconciler.core.observed import ObservedState
from reconciler.core.policies import Size
from reconciler.core.records import dataclass
from reconciler.core.space import limit_bytes
from reconciler.core.stored import StoredModel
from reconciler.core.threshold import smallest, turning_limits
from reconciler.core.units import format_size
from reconciler.core.words import DownloadPolicy, NetworkRequirement, Priority, WantedState


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
    desired: DesiredState, observed: ObservedState, made: Plan, name: str, reason: str, turned: Turned
) -> Iterator[Change]:
    """What could be changed about the model ``name`` for which the plan that was ``made`` gives ``reason``."""
    model = next((model for model in desired.models if model.name == name), None)
    match reason:
        case "no_room" | "over_limit" | "room_needed":
            yield from _for_room(desired, observed, made, name, turned)
        case "no_memory" | "memory_needed" | "memory_pressure":
            yield from _for_memory(desired, observed, name, model, turned)
        case "outside_window":
            yield Change("network.windows", _windows(desired), [], "without windows it is downloaded at any time")
        case "network_metered" | "network_unmet" | "download_manual" | "download_never":
            yield from _for_network(desired, name, model)
        case "too_many_evictions":
            yield from _for_guard(desired, observed, turned)
        case _:
            yield from _by_hand(observed, model, name, reason)
            yield from _of_entry(model, name)


def _windows(desired: DesiredState) -> list[str]:
    return [
        f"{w.start_minute // 60:02}:{w.start_minute % 60:02}-{w.end_minute // 60:02}:{w.end_minute % 60:02}"
        for w in desired.network.windows
    ]


def _for_network(desired: DesiredState, name: str, model: DesiredModel | None) -> list[Change]:
    found = []
    if model is not None and model.download is not DownloadPolicy.AUTOMATIC:
        message = "downloaded as soon as there is room"
        found.append(
            Change(model_field(name, "download"), model.download.value, DownloadPolicy.AUTOMATIC.value, message)
        )
    if desired.network.require is not NetworkRequirement.ANY:
        found.append(Change("network.require", desired.network.require.value, "any", "any network will do"))
    return found


def _by_hand(observed: ObservedState, model: DesiredModel | None, name: str, reason: str) -> Iterator[Change]:
    """What a person does rather than writes."""
    stored = _current(observed, name)
    failures = [failure for failure in observed.failures if failure.model == name]
    is_by_hand = any(each.model == name and each.kind == "pin" for each in observed.overrides)
    if reason == "suspended":
        yield Change("resume", "suspended", "resumed", "`reconciler resume`")
    if reason in {"paused", "cancelled"}:
        yield Change("resume", reason, "resumed", f"`reconciler resume {name}`")
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
        field = model_field(name, "pin") if model is not None and model.pinned and not is_by_hand else "unpin"
        yield Change(field, True, to=False, message=f"`reconciler unpin {name}` lets it go")
    if reason in {"retention", "pruned", "unwanted"}:
        yield _pinning(name, model)


def _pinning(name: str, model: DesiredModel | None) -> Change:
    """A key of the model's entry where it has one, else the verb."""
    field = "pin" if model is None else model_field(name, "pin")
    return Change(field, False, to=True, message=f"`reconciler pin {name}` keeps it for good")


def _of_entry(model: DesiredModel | None, name: str) -> list[Change]:
    """What a person writes into the model's entry."""
    if model is None:
        return []
    found = []
    if model.when != Selector():
        found.append(Change(model_field(name, "when"), "set", {}, "without a selector it is for every machine"))
    if model.rollout_percent is not None:
        message = "the roll-out takes in every machine"
        found.append(Change(model_field(name, "rollout"), f"{model.rollout_percent:g}%", "100%", message))
    if model.state is WantedState.LOADED:
        message = "it stays on the disk and leaves the memory"
        found.append(Change(model_field(name, "state"), "loaded", "present", message))
    if model.state is WantedState.ABSENT:
        if model.artifacts:  # an entry that names no source cannot ask for anything
            found.append(Change(model_field(name, "state"), "absent", "present", "it is wanted again"))
    else:
        found.append(Change(model_field(name, "state"), model.state.value, "absent", "it is not wanted at all"))
    return found


# --- numbers ----------------------------------------------------------------------------------------------------------


def _searched(  # noqa: PLR0913, PLR0917 -- the search's own, and how to make the change
    make: Callable[[int], Change],
    low: int,
    step: int,
    bound: int,
    turned: Turned,
    guesses: Iterable[int] = (),
    grain: int = 1,
) -> Iterator[Change]:
    """The change with the smallest number that is enough, where there is one."""
    found = smallest(low, step, bound, lambda number: turned(make(number)), guesses, grain)
    if found is not None:
        yield make(found)


def _for_room(
    desired: DesiredState, observed: ObservedState, made: Plan, name: str, turned: Turned
) -> Iterator[Change]:
    model = next((model for model in desired.models if model.name == name), None)
    total, block = observed.disk.total_bytes, observed.disk.block_bytes
    limits = turning_limits(made, desired, observed, name)
    present = limit_bytes(desired.cache, observed)
    now, kept_free = desired.cache.max_size.of(total), desired.cache.min_free.of(total)
    everything = _everything(desired, observed)

    def room(size: int) -> Change:
        message = f"with {format_size(size)} ({size} bytes) there is room for it"
        return Change("cache.maxSize", _size_word(desired.cache.max_size), size, message)

    def free(less: int) -> Change:
        left = kept_free - less
        message = f"keeping only {format_size(left)} ({left} bytes) free there is room for it"
        return Change("cache.minFreeSpace", _size_word(desired.cache.min_free), left, message)

    yield from _searched(room, now, everything // 64, now + everything, turned, limits, block)
    yield from _searched(free, 0, everything // 64, kept_free, turned, [each - present for each in limits])
    yield from _more_priority(name, model)
    if model is None:
        yield _pinning(name, model)


def _more_priority(name: str, model: DesiredModel | None) -> list[Change]:
    message = "it then comes before what takes the room now"
    return [
        Change(model_field(name, "priority"), model.priority.word, priority.word, message)
        for priority in Priority
        if model is not None and priority > model.priority
    ]


def _for_memory(
    desired: DesiredState, observed: ObservedState, name: str, model: DesiredModel | None, turned: Turned
) -> Iterator[Change]:
    total, budget = observed.memory.total_bytes, desired.memory.budget
    if budget is not None:
        word, now = _size_word(budget), budget.of(total)

        def more(size: int) -> Change:
            return Change("memory.budget", word, size, f"a budget of {size} bytes has room for it")

        yield from _searched(more, now, total // 64, max(total, now) * 4, turned)
    yield from _more_priority(name, model)


def _for_guard(desired: DesiredState, observed: ObservedState, turned: Turned) -> Iterator[Change]:
    cache = desired.cache
    now = cache.max_evictions_count if cache.max_evictions_count is not None else f"{cache.max_evictions_percent:g}%"

    def allow(count: int) -> Change:
        return Change("cache.maxEvictions", now, count, f"--allow-evict {count} says that it is meant")

    return _searched(allow, 0, 1, len(observed.store.models), turned)


def _everything(desired: DesiredState, observed: ObservedState) -> int:
    """More bytes than the store could ever need for all that is wanted and all that is there, twice over."""
    block = observed.disk.block_bytes
    resolved = [file for resolution in observed.resolutions for file in resolution.files]
    files: list[Artifact] = [*resolved, *(file for model in desired.models for file in model.artifacts)]
    copies = sum(copy.size_bytes + block for copy in observed.local_copies)
    stored = sum(file.size_bytes + block for model in observed.store.models for file in model.files)
    wanted = sum((file.size_bytes or 0) + block for file in files)
    return 4 * (wanted + copies + stored + observed.store.used_bytes + 1)


def _size_word(size: Size) -> int | str:
    return size.size_bytes if size.size_bytes is not None else f"{size.percent:g}%"


def _current(observed: ObservedState, name: str) -> StoredModel | None:
    return next((stored for stored in observed.store.models if stored.name == name and stored.is_current), None)
