"""The result of a run as text: one line per action that ran, what was not acted on, and one closing line."""

from collections.abc import Iterator

from reconciler.cli.layout import Cell, Ink, columns, paragraph
from reconciler.cli.plan_text import SYMBOLS, deferred_rows, shortened
from reconciler.core.actions import ActionKind, Outcome, OutcomeStatus, Request
from reconciler.core.report import ApplyResult, Stop, asked_about
from reconciler.core.units import format_duration, format_size

_STYLES = {
    OutcomeStatus.DONE: "green",
    OutcomeStatus.SKIPPED: "dim",
    OutcomeStatus.FAILED: "red",
    OutcomeStatus.CANCELLED: "yellow",
}
_DONE = {
    ActionKind.DOWNLOAD: "downloaded",
    ActionKind.VERIFY: "verified",
    ActionKind.EXTRACT: "extracted",
    ActionKind.LOAD: "loaded",
    ActionKind.UNLOAD: "unloaded",
    ActionKind.EVICT: "evicted",
    ActionKind.LINK: "linked",
    ActionKind.ADOPT: "adopted",
}
_STOPPED = {
    Stop.TIMED_OUT: "Timed out; what is unfinished is kept.",
    Stop.INTERRUPTED: "Interrupted; what is unfinished is kept.",
    Stop.TERMINATED: "Terminated; what is unfinished is kept.",
}


def result_lines(result: ApplyResult, ink: Ink, request: Request) -> Iterator[str]:
    """The whole result of what was asked for."""
    for guard in result.guards:
        yield from paragraph(f"! Refused: {guard.message}", ink, style="red")
        if guard.hint:
            yield from paragraph(f"  {guard.hint}", ink, style="dim")
    if result.outcomes:
        yield from columns(map(outcome_row, result.outcomes), ink, align="<<<<>>")
    rows = deferred_rows(result.deferred if ink.verbose else asked_about(result.deferred, request), ink)
    if rows:
        if result.outcomes:
            yield ""
        yield ink.paint("bold", "Deferred: not now")
        yield from columns(rows, ink)
    if result.outcomes or rows or result.guards:
        yield ""
    yield from paragraph(result_summary(result, request.verb or "apply"), ink, style="bold")


def outcome_row(outcome: Outcome) -> list[Cell | str]:
    """Symbol, status, kind, model, bytes, time, message."""
    style = _STYLES[outcome.status]
    has_ended_badly = outcome.status in (OutcomeStatus.FAILED, OutcomeStatus.CANCELLED)
    symbol = "!" if has_ended_badly else SYMBOLS[outcome.kind][0]
    return [
        Cell(symbol, style),
        Cell(outcome.status.value, style),
        outcome.kind.value,
        Cell(outcome.model, "bold"),
        format_size(outcome.bytes) if outcome.bytes else "",
        format_duration(outcome.seconds) if outcome.seconds >= 0.05 else "",
        _message(outcome),
    ]


def _message(outcome: Outcome) -> str:
    """What the other columns do not say. Why something was to be done is the plan's to tell, once it is done."""
    message = shortened(outcome.message, outcome.model)
    if outcome.status is OutcomeStatus.DONE:
        return message if message == outcome.message else ""
    if outcome.status is OutcomeStatus.FAILED and outcome.reason:
        return f"{outcome.reason}: {message}"
    return message


def result_summary(result: ApplyResult, verb: str = "apply") -> str:
    """The closing line: ``Apply: 2 downloaded (1.4 GB), 1 evicted (300 MB freed), 5 unchanged, 1 failed in 12s.``."""
    summary = result.summary
    parts = [part for kind in ActionKind if (part := _counted(kind, result))]
    if summary.skipped:
        parts.append(f"{summary.skipped:,} already true")
    if summary.failed:
        parts.append(f"{summary.failed:,} failed")
    if summary.cancelled:
        parts.append(f"{summary.cancelled:,} cancelled")
    if not parts and not summary.deferred and not summary.guards:
        parts.append("nothing to do")
    if summary.satisfied or not result.outcomes:
        parts.append(f"{summary.satisfied:,} unchanged")
    if summary.deferred:
        parts.append(f"{summary.deferred:,} deferred")
    time = f" in {format_duration(summary.seconds)}" if summary.seconds >= 0.1 and result.outcomes else ""
    stopped = f" {_STOPPED[summary.stopped]}" if summary.stopped else ""
    return f"{verb.capitalize()}: {', '.join(parts)}{time}.{stopped}"


def _counted(kind: ActionKind, result: ApplyResult) -> str:
    done = [o for o in result.outcomes if o.kind is kind and o.status is OutcomeStatus.DONE]
    if not done:
        return ""
    text = f"{len(done):,} {_DONE[kind]}"
    if kind is ActionKind.DOWNLOAD and result.summary.bytes_downloaded:
        return f"{text} ({format_size(result.summary.bytes_downloaded)})"
    if kind is ActionKind.EVICT:
        return f"{text} ({format_size(result.summary.bytes_freed)} freed)"
    return text
