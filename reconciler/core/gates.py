"""What keeps a model from being acted on now though there is room: past failures, windows, the network, policy.

Each gate answers with a :class:`Deferred` or None. Only bytes from another machine pass the network gates; linking,
verifying and files of this machine do not.
"""

from collections.abc import Iterable

from reconciler.core.actions import Deferred, Request
from reconciler.core.errors import FailureKind
from reconciler.core.inventory import Inventory
from reconciler.core.retry import blocking_failure, failure_message
from reconciler.core.state import (
    DesiredModel,
    DeviceFacts,
    Digest,
    DownloadPolicy,
    FailureFact,
    NetworkPolicy,
    NetworkRequirement,
    Window,
)
from reconciler.core.targets import Need

DAY_MINUTES = 24 * 60


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
        _policy_gate(need.model, device, request)
        or _window_gate(need.model, policy.windows, inventory)
        or _requirement_gate(need.model, policy.require, device)
    )


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
    return Deferred(model.name, "outside_window", message, retry_at=inventory.now + wait * 60)


def is_open(window: Window, minute: int) -> bool:
    """Whether ``minute`` (since local midnight) lies in the window; one that ends where it starts is the whole day."""
    start, end = window.start_minute % DAY_MINUTES, window.end_minute % DAY_MINUTES
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end
