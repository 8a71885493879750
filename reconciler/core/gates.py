"""What keeps a model from being acted on now though there is room: past failures, a person, windows, the network.

Each gate answers with a :class:`Deferred` or None. Only bytes from another machine pass the network gates; linking,
verifying and files of this machine do not.
"""

from collections.abc import Iterable

from reconciler.core.actions import Deferred, Request
from reconciler.core.desired import DesiredModel
from reconciler.core.errors import FailureKind
from reconciler.core.inventory import Inventory
from reconciler.core.observed import DeviceFacts, FailureFact
from reconciler.core.policies import NetworkPolicy, Window
from reconciler.core.retry import blocking_failure, failure_message
from reconciler.core.targets import Need
from reconciler.core.words import Digest, DownloadPolicy, NetworkRequirement

DAY_MINUTES = 24 * 60
OUTSIDE_WINDOW = "outside_window"
WAITING = "waiting_for_source"


def failure_gate(model: str, spec: Digest, inventory: Inventory, steps: Iterable[str]) -> Deferred | None:
    """A past failure of one of these steps that still holds."""
    failures = inventory.failures.get(model)
    if not failures:
        return None
    failure = blocking_failure(failures, spec, inventory.now, steps)
    return None if failure is None else _failed(failure)


def _failed(failure: FailureFact) -> Deferred:
    if failure.reason == "memory_pressure":  # not a fault: the machine had better use for the memory
        return Deferred(failure.model, failure.reason, failure_message(failure), retry_at=failure.retry_at)
    reason = failure.reason if failure.kind == FailureKind.PERMANENT else "backing_off"
    message = failure_message(failure)
    return Deferred(failure.model, reason, message, retry_at=failure.retry_at, is_failed=True)


def steps_of(need: Need) -> tuple[str, ...]:
    """The kinds of action that a need leads to, as the ledger names the step that failed.

    What could not be placed is not fetched again either; but bytes that are in the store are placed, though fetching
    them failed once.
    """
    if need.fetch:
        return ("download", "extract", "link")
    steps = [("extract", need.is_extracted), ("verify", bool(need.verify)), ("link", _is_linking(need))]
    return tuple(step for step, is_planned in steps if is_planned)


def _is_linking(need: Need) -> bool:
    return bool(need.place or need.links or need.copy or need.relink)


def network_gate(need: Need, policy: NetworkPolicy, inventory: Inventory, request: Request) -> Deferred | None:
    """Whether the network may be used for this model now."""
    if not need.is_network_needed:
        return None
    device = inventory.observed.device
    return (
        _hold_gate(need.model, inventory)
        or _policy_gate(need.model, device, request)
        or _window_gate(need.model, policy.windows, inventory)
        or _requirement_gate(need.model, policy.require, device)
        or _answer_gate(need.model, inventory)
    )


def _hold_gate(model: DesiredModel, inventory: Inventory) -> Deferred | None:
    """A person holds the download back; what was cancelled only until the manifest asks for something else."""
    hold, name = inventory.holds.get(model.name), model.name
    if hold is None or hold.spec_digest not in {"", model.spec_digest}:
        return None
    if hold.kind == "pause":
        return Deferred(name, "paused", f"paused by hand; `resume {name}` goes on")
    return Deferred(name, "cancelled", f"cancelled by hand; `resume {name}` or a changed entry starts it again")


def _answer_gate(model: DesiredModel, inventory: Inventory) -> Deferred | None:
    """Nobody waits for a silent source: what it was asked is answered later, and then planned anew."""
    if model.name not in inventory.observed.unanswered:
        return None
    return Deferred(model.name, WAITING, "its source was asked what it has and has not answered yet")


def _policy_gate(model: DesiredModel, device: DeviceFacts, request: Request) -> Deferred | None:
    name, policy = model.name, model.download
    if policy is DownloadPolicy.NEVER:
        return Deferred(name, "download_never", "the manifest says never to download it; place its files and adopt")
    is_asked = name in request.only or (request.verb == "load" and name in request.models)
    if policy is DownloadPolicy.MANUAL and not is_asked:
        return Deferred(name, "download_manual", f"downloaded by hand only: `load {name}` or `apply --only {name}`")
    if policy is DownloadPolicy.UNMETERED and device.is_metered:
        return Deferred(name, "network_metered", "the network is metered and the model asks for one that is not")
    return None


def _requirement_gate(model: DesiredModel, require: NetworkRequirement, device: DeviceFacts) -> Deferred | None:
    if require is NetworkRequirement.ANY:
        return None
    if require is NetworkRequirement.UNMETERED:
        message = "the network is metered and network.require is unmetered"
        return Deferred(model.name, "network_metered", message) if device.is_metered else None
    if device.network == require.value:
        return None
    message = f"network.require is {require.value} and the network is {device.network}"
    return Deferred(model.name, "network_unmet", message)


def _window_gate(model: DesiredModel, windows: tuple[Window, ...], inventory: Inventory) -> Deferred | None:
    minute = inventory.observed.device.local_minute
    if not windows or any(is_open(window, minute) for window in windows):
        return None
    wait, opens = min(((window.start_minute - minute) % DAY_MINUTES, window.start_minute) for window in windows)
    message = f"outside the download window; it opens at {opens // 60:02}:{opens % 60:02}"
    return Deferred(model.name, OUTSIDE_WINDOW, message, retry_at=_minute_start(inventory.now) + wait * 60)


def _minute_start(now: float) -> float:
    """Zones are whole minutes apart: the local minute begins where every other does."""
    return now - now % 60


def window_end(windows: tuple[Window, ...], minute: int, now: float) -> float | None:
    """When the network may not be used any more, in seconds since the epoch; None where that moment never comes.

    Args:
        windows: ones that follow each other without a gap count as one.
        minute: since local midnight.
        now: the same moment, in seconds since the epoch.
    """
    ahead = 0
    while windows and ahead < DAY_MINUTES:
        then = (minute + ahead) % DAY_MINUTES
        spans = [(window.end_minute - then) % DAY_MINUTES or DAY_MINUTES for window in windows if is_open(window, then)]
        if not spans:
            return _minute_start(now) + ahead * 60
        ahead += max(spans)
    return None


def is_open(window: Window, minute: int) -> bool:
    """Whether ``minute`` (since local midnight) lies in the window; one that ends where it starts is the whole day."""
    start, end = window.start_minute % DAY_MINUTES, window.end_minute % DAY_MINUTES
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end
