"""A status as text: what matters first, a table of models, and the conditions that are not as one would like."""

from collections.abc import Iterator

from reconciler.cli.layout import Cell, Ink, columns, count
from reconciler.cli.plan_text import shortened
from reconciler.core.moments import moment_text
from reconciler.core.status import ConditionStatus, ModelStatus, Status
from reconciler.core.units import format_duration, format_size

_STATE_STYLES = {"loaded": "green", "present": "green", "partial": "yellow", "absent": "dim"}
_GOOD = {  # the status that a person need not read about
    "Ready": "True",
    "Reconciling": "False",
    "Stalled": "False",
    "ManifestValid": "True",
    "SourceVerified": "True",
    "DiskPressure": "False",
    "MemoryPressure": "False",
    "Suspended": "False",
    "WatchHealthy": "True",
}


def status_lines(status: Status, ink: Ink) -> Iterator[str]:
    """The whole machine."""
    yield from _figures(status, ink)
    yield ""
    if status.models:
        head = [Cell(w, "dim") for w in ("", "MODEL", "STATE", "SIZE", "PRIORITY", "FLAGS", "WHY")]
        yield from columns([head, *map(_row, status.models)], ink, align="<<<>", indent=0)
    else:
        yield "No models: neither in the manifest nor in the store."
    yield ""
    yield from columns(map(_condition, _telling(status, ink)), ink, indent=0)


def _telling(status: Status, ink: Ink) -> list[ConditionStatus]:
    """Ready always; the others where something is to be said."""
    if ink.verbose:
        return list(status.conditions)
    return [
        condition
        for condition in status.conditions
        if condition.type == "Ready" or condition.status not in (_GOOD[condition.type], "Unknown")
    ]


def _figures(status: Status, ink: Ink) -> Iterator[str]:
    cache, memory = status.cache, status.memory
    used = f"{format_size(cache.used_bytes)} of {format_size(cache.limit_bytes)} used"
    disk = f"{used}, {format_size(cache.room_bytes)} room, {format_size(cache.disk_free_bytes)} free on the disk"
    budget = f" of a budget of {format_size(memory.budget_bytes)}" if memory.budget_bytes is not None else ""
    ram = f"{format_size(memory.loaded_bytes)} loaded{budget}, {format_size(memory.available_bytes)} available"
    rows: list[tuple[Cell, str]] = [(Cell("store", "dim"), status.store), (Cell("disk", "dim"), disk)]
    rows.append((Cell("memory", "dim"), ram))
    if status.revision:
        rows.append((Cell("source", "dim"), f"revision {status.revision}"))
    if status.next_run_at is not None:
        rows.append((Cell("next", "dim"), f"{moment_text(status.next_run_at)}"))
    overrides = [f"{override.kind} {override.model}" for override in status.overrides]
    if overrides:
        rows.append((Cell("by hand", "dim"), ", ".join(overrides)))
    yield from columns(rows, ink, indent=0)


def _row(model: ModelStatus) -> list[Cell | str]:
    mark = Cell("=", "dim") if model.is_settled else Cell("!" if model.is_deferred else "~", "yellow")
    state = model.state
    if model.progress is not None and 0 < model.progress < 1:
        state = f"{model.state} {model.progress:.0%}"
    moment = moment_text(model.retry_at)
    again = f" (again at {moment})" if moment is not None and moment not in model.message else ""
    return [
        mark,
        Cell(model.name, "bold"),
        Cell(state, _STATE_STYLES.get(model.state, "")),
        "" if model.bytes is None else format_size(model.bytes),
        model.priority,
        _flags(model),
        (_why(model) or model.reason) + again,
    ]


def _why(model: ModelStatus) -> str:
    """``download: not in the store``: name and size stand in columns of their own."""
    rest = shortened(model.message, model.name)
    return rest if rest == model.message else f"{model.message.split(' ', 1)[0]}: {rest}"


def _flags(model: ModelStatus) -> str:
    flags = []
    if model.pinned:
        flags.append("pinned")
    if model.foreign:
        flags.append("foreign")
    if model.wanted in ("unwanted", "absent"):
        flags.append("unwanted")
    return " ".join(flags)


def _condition(condition: ConditionStatus) -> list[Cell | str]:
    good = _GOOD[condition.type] == condition.status
    style = "green" if good else ("dim" if condition.status == "Unknown" else "yellow")
    return [Cell(condition.type, style), Cell(condition.status, style), f"{condition.message} ({condition.reason})"]


def model_lines(model: ModelStatus, status: Status, ink: Ink) -> Iterator[str]:
    """One model in full."""
    now = status.taken_at
    rows = [
        ("model", model.name),
        ("state", f"{model.state}, {model.lifecycle}"),
        ("wanted", model.wanted),
        ("why", f"{model.message} ({model.reason})"),
        ("priority", model.priority),
        ("flags", _flags(model)),
        ("size", "" if model.bytes is None else f"{format_size(model.bytes)} ({count(model.bytes, 'byte')})"),
        ("progress", "" if model.progress is None else f"{model.progress:.0%}"),
        ("path", model.path or ""),
        ("digest", model.digest or ""),
        ("revision", model.revision),
        ("format", model.format),
        ("signed by", model.signed_by),
        *model.warnings,
        *((f"  {key}", str(value)) for key, value in sorted(model.metadata.items())),
        ("memory", "" if model.memory_bytes is None else format_size(model.memory_bytes)),
        ("verified", _ago(model.verified_at, now)),
        ("last used", _ago(model.last_used, now)),
        ("uses", str(model.use_count) if model.use_count else ""),
        ("again at", moment_text(model.retry_at) or ""),
        ("by hand", ", ".join(o.kind for o in status.overrides if o.model == model.name)),
    ]
    yield from columns(([Cell(name, "dim"), value] for name, value in rows if value), ink, indent=0)


def _ago(moment: float | None, now: float) -> str:
    if moment is None:
        return ""
    return f"{format_duration(max(0.0, now - moment))} ago ({moment_text(moment)})"
