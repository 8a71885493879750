"""The reading verbs' values as text."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from reconciler.cli.layout import Cell, Ink, columns, count, paragraph
from reconciler.cli.plan_text import shortened
from reconciler.core.history import History, time_in_states
from reconciler.core.moments import moment_text
from reconciler.core.notices import Check, Event
from reconciler.core.units import format_duration, format_size
from reconciler.core.usage import Df

if TYPE_CHECKING:
    from reconciler.core.why import Why


def why_lines(why: "Why", ink: Ink) -> Iterator[str]:
    """The decision, the chain, the change."""
    message = shortened(why.message, why.model)
    yield from columns([[Cell(why.model, "bold"), Cell(str(why.decision), "cyan"), message]], ink, indent=0)
    told = {message}
    rows: list[list[Cell | str]] = []
    for link in why.chain:
        fact = shortened(link.message, why.model)
        if fact not in told:
            rows.append([Cell("·", "dim"), Cell(link.fact, "dim"), fact])
            told.add(fact)
    if rows:
        yield ""
        yield ink.paint("bold", "Because")
        yield from columns(rows, ink)
    if why.change is None:
        return
    yield ""
    yield ink.paint("bold", "To turn it")
    change = why.change
    edit = f"{change.field}: {_word(change.from_)} -> {_word(change.to)}"
    yield from columns([[Cell("·", "dim"), Cell(edit, "green"), change.message]], ink)


def _word(value: object) -> str:
    return "(not set)" if value is None else str(value)


def event_lines(events: Sequence[Event], ink: Ink) -> Iterator[str]:
    """One line each."""
    yield from columns(map(_event_row, events), ink, indent=0, align=">")


def _event_row(event: Event) -> list[Cell | str]:
    style = "yellow" if event.type == "Warning" else ""
    times = f" (x{event.count})" if event.count > 1 else ""
    return [
        Cell(str(event.seq), "dim"),
        Cell(moment_text(event.time) or "", "dim"),
        Cell(event.type, style),
        event.reason,
        Cell(event.model, "bold"),
        event.message + times,
    ]


def history_lines(history: History, ink: Ink) -> Iterator[str]:
    """Lifecycle, revisions, time in states."""
    used = f", last {moment_text(history.last_used)}" if history.last_used else ""
    yield from columns(
        [
            [Cell("model", "dim"), history.model],
            [Cell("lifecycle", "dim"), history.lifecycle],
            [Cell("uses", "dim"), f"{history.use_count}{used}"],
        ],
        ink,
        indent=0,
    )
    if history.revisions:
        yield ""
        yield ink.paint("bold", "Revisions")
        yield from columns(
            (
                [
                    Cell("*" if fact.is_current else "", "green"),
                    fact.revision or fact.spec_digest[:19],
                    format_size(fact.bytes),
                    moment_text(fact.installed_at) or "",
                    "in the store" if fact.in_store else "gone",
                ]
                for fact in history.revisions
            ),
            ink,
            align="<<>",
        )
    if history.transitions:
        yield ""
        yield from _lifecycle(history, ink)


def _lifecycle(history: History, ink: Ink) -> Iterator[str]:
    yield ink.paint("bold", "Lifecycle")
    yield from columns(
        (
            [
                Cell(moment_text(step.time) or "", "dim"),
                step.from_state,
                "->",
                step.to_state,
                "" if step.seconds is None else f"after {format_duration(step.seconds)}",
                step.message,
            ]
            for step in history.transitions
        ),
        ink,
    )
    spent = time_in_states(history.transitions)
    if spent:
        yield ""
        yield ink.paint("bold", "Time in states")
        yield from columns(
            ([state, f"{number}x", f"{format_duration(seconds)} in all"] for state, number, seconds in spent),
            ink,
            align="<>",
        )


def df_lines(df: Df, ink: Ink) -> Iterator[str]:
    """Parts, formats, models, advice."""
    room = f"{format_size(df.used_bytes)} used, {format_size(df.room_bytes)} room"
    free = f"{format_size(df.disk_free_bytes)} free, {format_size(df.min_free_bytes)} to stay free"
    parts = [
        ("store", df.store),
        ("limit", f"{format_size(df.limit_bytes)}, {room}"),
        ("disk", f"{format_size(df.disk_total_bytes)}, {free}"),
        ("models", format_size(df.blob_bytes)),
        ("partial", format_size(df.partial_bytes)),
        ("quarantine", format_size(df.quarantine_bytes)),
        ("foreign", format_size(df.foreign_bytes)),
    ]
    yield from columns(([Cell(name, "dim"), value] for name, value in parts), ink, indent=0)
    if df.models:
        yield ""
        head = [Cell(word, "dim") for word in ("MODEL", "SIZE", "FILES", "FORMAT", "FLAGS", "LAST USED")]
        rows = [
            [
                Cell(model.name, "bold"),
                format_size(model.bytes),
                str(model.files),
                model.format,
                "pinned" if model.pinned else "",
                moment_text(model.last_used) or "never",
            ]
            for model in df.models
        ]
        yield from columns([head, *rows], ink, align="<>>", indent=0)
        yield ""
        yield from columns(
            ([usage.format, count(usage.models, "model"), format_size(usage.bytes)] for usage in df.formats),
            ink,
            indent=0,
        )
    for advice in df.recommendations:
        size = "" if advice.bytes is None else f" ({format_size(advice.bytes)})"
        yield from paragraph(f"note: {advice.message}{size}", ink, style="yellow")


def check_lines(checks: Sequence[Check], ink: Ink) -> Iterator[str]:
    """One line per check, a hint below where there is one, and a closing line."""
    styles = {"ok": "green", "warn": "yellow", "fail": "red"}
    rows: list[list[Cell | str]] = [
        [
            Cell(check.status, styles.get(check.status, "")),
            Cell(check.name, "bold"),
            f"{check.message} - {check.hint}" if check.hint else check.message,
        ]
        for check in checks
    ]
    yield from columns(rows, ink, indent=0)
    failed = sum(check.status == "fail" for check in checks)
    yield ""
    yield ink.paint("bold", f"Doctor: {count(len(checks), 'check')}, {failed} failed.")
