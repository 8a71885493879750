"""A plan as text: what will happen, in sections by cause, with a reason each, and one closing line.

``+`` comes into the store (download, link, adopt) · ``~`` is worked on where it lies (verify, extract) · ``-`` is
evicted · ``>`` is loaded · ``<`` is unloaded · ``!`` is deferred. Inside a section the order is that of execution.
"""

from collections.abc import Iterable, Iterator

from reconciler.cli.layout import Cell, Ink, columns, count, paragraph
from reconciler.core.actions import Action, ActionKind, Cause, Deferred, Plan, Summary
from reconciler.core.moments import moment_text
from reconciler.core.roster import OTHERS_ONLY
from reconciler.core.units import format_duration, format_size

SYMBOLS = {
    ActionKind.DOWNLOAD: ("+", "green"),
    ActionKind.LINK: ("+", "green"),
    ActionKind.ADOPT: ("+", "green"),
    ActionKind.VERIFY: ("~", "cyan"),
    ActionKind.EXTRACT: ("~", "cyan"),
    ActionKind.EVICT: ("-", "red"),
    ActionKind.LOAD: (">", "blue"),
    ActionKind.UNLOAD: ("<", "magenta"),
}
SECTIONS = {
    Cause.INTENT: "What the manifest asks for",
    Cause.DRIFT: "Drift: the machine changed under the manifest",
    Cause.PRESSURE: "To make room",
    Cause.RETENTION: "Unused for too long",
    Cause.REQUEST: "What you asked for",
}
NOUNS = {
    ActionKind.DOWNLOAD: "to download",
    ActionKind.VERIFY: "to verify",
    ActionKind.EXTRACT: "to extract",
    ActionKind.LOAD: "to load",
    ActionKind.UNLOAD: "to unload",
    ActionKind.EVICT: "to evict",
    ActionKind.LINK: "to link",
    ActionKind.ADOPT: "to adopt",
}


def plan_lines(plan: Plan, ink: Ink) -> Iterator[str]:
    """The whole plan."""
    for guard in plan.guards:
        yield from paragraph(f"! Refused: {guard.message}", ink, style="red")
        if guard.hint:
            yield from paragraph(f"  {guard.hint}", ink, style="dim")
        yield ""
    yield from _actions(plan, ink)
    yield from _deferred(plan, ink)
    if ink.verbose:
        yield from _satisfied(plan, ink)
    yield from diagnostic_lines(plan, ink)
    yield from paragraph(plan_summary(plan), ink, style="bold")


def _actions(plan: Plan, ink: Ink) -> Iterator[str]:
    by_cause: dict[Cause, list[Action]] = {}
    for action in plan.actions:
        by_cause.setdefault(action.cause, []).append(action)
    for cause, title in SECTIONS.items():
        if cause not in by_cause:
            continue
        yield ink.paint("bold", title)
        if ink.verbose:
            for action in by_cause[cause]:
                yield from columns([action_row(action)], ink, align="<<<>")
                yield from _details(action, ink)
        else:
            yield from columns(map(action_row, by_cause[cause]), ink, align="<<<>")
        yield ""


def action_row(action: Action) -> list[Cell | str]:
    """Symbol, kind, model, size, message."""
    symbol, style = SYMBOLS[action.kind]
    size = "" if action.bytes is None else format_size(action.bytes)
    if action.bytes is None and action.kind is ActionKind.DOWNLOAD:
        size = "size unknown"
    name = f"{action.model} ({action.subject})".strip() if action.subject else action.model
    return [Cell(symbol, style), action.kind.value, Cell(name, "bold"), size, why_of(action)]


def why_of(action: Action) -> str:
    """The message without what the other columns say already (``download llama (4.7 GB): new`` is ``new``)."""
    return shortened(action.message, action.model) or action.reason


def shortened(message: str, model: str) -> str:
    """The part after the colon where the part before it only names what to do, the model and its size."""
    head, colon, rest = message.partition(": ")
    _verb, names_it, tail = head.partition(f" {model}")
    return rest if colon and names_it and (not tail or tail.startswith((" (", ", "))) else message


def _details(action: Action, ink: Ink) -> Iterator[str]:
    facts = [("id", action.id), ("reason", action.reason)]
    if action.depends_on:
        facts.append(("after", ", ".join(action.depends_on)))
    if action.score is not None:
        facts.append(("score", f"{action.score:g}"))
    facts += [("only if", f"{need.kind} {need.subject} is {need.value}") for need in action.preconditions]
    yield from columns(([Cell(name, "dim"), Cell(value, "dim")] for name, value in facts), ink, indent=8)


def _deferred(plan: Plan, ink: Ink) -> Iterator[str]:
    rows = deferred_rows(plan.deferred, ink)
    if rows:
        yield ink.paint("bold", "Deferred: not now")
        yield from columns(rows, ink)
        yield ""


def deferred_rows(deferred: Iterable[Deferred], ink: Ink) -> list[list[Cell | str]]:
    """A row each; those that nobody asked about only where more is to be told."""
    return [deferred_row(each) for each in deferred if ink.verbose or each.reason != OTHERS_ONLY]


def deferred_row(deferred: Deferred) -> list[Cell | str]:
    """Symbol, reason, model, message with its numbers."""
    style = "red" if deferred.is_failed else "yellow"
    return [Cell("!", style), deferred.reason, Cell(deferred.model, "bold"), deferred_message(deferred)]


def deferred_message(deferred: Deferred) -> str:
    """The message, and what the message may not say: numbers, who stands in the way, when it is tried again."""
    facts = []
    has_numbers = "needs " in deferred.message
    if deferred.needs_bytes is not None and deferred.available_bytes is not None and not has_numbers:
        facts.append(f"needs {format_size(deferred.needs_bytes)}, {format_size(deferred.available_bytes)} available")
    if deferred.blocked_by and deferred.blocked_by[0] not in deferred.message:
        facts.append(f"blocked by {', '.join(deferred.blocked_by)}")
    moment = moment_text(deferred.retry_at)
    if moment is not None and moment not in deferred.message:
        facts.append(f"again at {moment}")
    return f"{deferred.message} ({'; '.join(facts)})" if facts else deferred.message


def _satisfied(plan: Plan, ink: Ink) -> Iterator[str]:
    if not plan.satisfied:
        return
    yield ink.paint("bold", "Unchanged")
    yield from columns(([Cell("=", "dim"), done.model, Cell(done.message, "dim")] for done in plan.satisfied), ink)
    yield ""


def diagnostic_lines(plan: Plan, ink: Ink) -> Iterator[str]:
    """What the plan has to say aloud."""
    for diagnostic in plan.diagnostics:
        place = f"{diagnostic.place}: " if diagnostic.place else ""
        yield from paragraph(f"note: {place}{diagnostic.message}", ink, style="yellow")
    if plan.diagnostics:
        yield ""


def plan_summary(plan: Plan) -> str:
    """The closing line: ``Plan: 2 to download (1.4 GB), 1 to evict (300 MB freed), 5 unchanged. Peak 3 GB …``."""
    summary = plan.summary
    counts = dict(summary.counts)
    parts = [_counted(kind, counts[kind.value], plan) for kind in ActionKind if counts.get(kind.value)]
    nothing = "" if parts or plan.deferred or plan.guards else "nothing to do, "
    if summary.satisfied or not summary.changes:
        parts.append(f"{summary.satisfied:,} unchanged")
    if summary.deferred:
        parts.append(f"{summary.deferred:,} deferred")
    text = f"Plan: {nothing}{', '.join(parts)}."
    if summary.changes:
        text += f" Peak {format_size(summary.disk_peak_bytes)} of {format_size(summary.disk_limit_bytes)}."
    if summary.estimated_seconds:
        text += f" About {format_duration(summary.estimated_seconds)}."
    return text


def _counted(kind: ActionKind, number: int, plan: Plan) -> str:
    text = f"{number:,} {NOUNS[kind]}"
    if kind is ActionKind.DOWNLOAD:
        return f"{text} ({_brought(plan.summary)})"
    if kind is ActionKind.EVICT:
        return f"{text} ({format_size(plan.summary.bytes_freed)} freed)"
    return text


def _brought(summary: Summary) -> str:
    known, unknown = format_size(summary.bytes_download), summary.unknown_sizes
    if not unknown:
        return known
    return f"{known} and {unknown:,} of unknown size" if summary.bytes_download else "size unknown"


def fleet_lines(plans: Iterable[tuple[str, Plan]], ink: Ink) -> Iterator[str]:
    """One line for each of several machines."""
    head = [Cell(word, "dim") for word in ("", "MACHINE", "DOWNLOAD", "EVICT", "PEAK", "LIMIT", "VERDICT")]
    rows = [_machine_row(name, plan) for name, plan in plans]
    yield from columns([head, *rows], ink, align="<<>>>>", indent=0)


def _machine_row(name: str, plan: Plan) -> list[Cell | str]:
    summary = plan.summary
    verdict = fleet_verdict(plan)
    style = {"ok": "green", "changes": "green"}.get(verdict[0], "yellow")
    return [
        Cell({"ok": "=", "changes": "+"}.get(verdict[0], "!"), style),
        Cell(name, "bold"),
        format_size(summary.bytes_download),
        format_size(summary.bytes_freed),
        format_size(summary.disk_peak_bytes),
        format_size(summary.disk_limit_bytes),
        verdict[1],
    ]


def fleet_verdict(plan: Plan) -> tuple[str, str]:
    """(word, sentence) for one machine: ok, changes, deferred or refused."""
    if plan.guards:
        return "refused", f"blocked: {plan.guards[0].message}"
    evicted = len({action.model for action in plan.actions if action.kind is ActionKind.EVICT and not action.subject})
    loses = f"would evict {count(evicted, 'model')}" if evicted else ""
    if plan.deferred:
        return "deferred", "; ".join(filter(None, (_lacking(plan), loses)))
    if not plan.actions:
        return "ok", "ok, nothing to do"
    changes = count(plan.summary.changes, "change")
    return "changes", f"{loses}, {changes} in all" if loses else f"ok, {changes}"


def _lacking(plan: Plan) -> str:
    """What is not to be had: ``lacks 4 GB for llama, blocked by whisper``, and how many more."""
    worst = max(plan.deferred, key=lambda deferred: deferred.needs_bytes or 0)
    lack = max(0, (worst.needs_bytes or 0) - (worst.available_bytes or 0))
    text = f"lacks {format_size(lack)} for {worst.model}" if lack else f"{worst.model} deferred: {worst.reason}"
    if worst.blocked_by:
        text += f", blocked by {', '.join(worst.blocked_by)}"
    others = len(plan.deferred) - 1
    return f"{text}, {others} more deferred" if others else text
