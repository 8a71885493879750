"""A plan as a pull-request comment: a summary, tables, and never more than a comment may hold.

GitHub takes 65,536 characters; what does not fit is counted, not silently dropped. Names and messages come from
outside: what Markdown or HTML would read as mark-up is escaped.
"""

import re
from collections.abc import Iterable, Sequence

from reconciler.cli.layout import clean
from reconciler.cli.plan_text import SECTIONS, SYMBOLS, deferred_message, fleet_verdict, plan_summary, why_of
from reconciler.core.actions import Action, Plan
from reconciler.core.units import format_size

LIMIT = 65_536
_RESERVE = 400  # for the line that counts what was left out, and the ends of code spans
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|#@~]|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
_GAP = "&#8203;"  # of no width: what GitHub makes a mention, a reference or a link of after it has read the mark-up
_WRITTEN = {"<": "&lt;", ">": "&gt;", "@": f"@{_GAP}", "#": f"\\#{_GAP}", "": _GAP}


def escape(text: str) -> str:
    """Plain text inside a table cell: no mark-up, no mention, no link, no line end."""
    return _SPECIAL.sub(lambda found: _WRITTEN.get(found[0], f"\\{found[0]}"), clean(text))


def plan_markdown(plan: Plan, digest: str, limit: int = LIMIT) -> str:
    """The comment, at most ``limit`` characters."""
    head = ["## Model plan", "", f"**{escape(plan_summary(plan))}**", ""]
    for guard in plan.guards:
        head += [f"> **Refused:** {escape(guard.message)} {escape(guard.hint)}".rstrip(), ""]
    tail = [f"<sub>plan `{digest}` · manifest `{plan.desired_digest}`</sub>"]
    return _fit(head, _body(plan), tail, limit)


def _body(plan: Plan) -> Iterable[tuple[bool, str]]:
    """(is it a row, line) of the tables."""
    for cause, title in SECTIONS.items():
        actions = [action for action in plan.actions if action.cause is cause]
        if actions:
            yield from _heading(f"### {title}", ("", "action", "model", "size", "why"))
            yield from ((True, _action(action)) for action in actions)
            yield False, ""
    if plan.deferred:
        yield from _heading("### Deferred", ("", "reason", "model", "why"))
        for deferred in plan.deferred:
            cells = ("!", deferred.reason, deferred.model, deferred_message(deferred))
            yield True, _table_row(cells)
        yield False, ""
    for diagnostic in plan.diagnostics:
        yield True, f"- {escape(f'{diagnostic.place} {diagnostic.message}'.strip())}"


def _heading(title: str, names: Sequence[str]) -> Iterable[tuple[bool, str]]:
    yield False, title
    yield False, ""
    yield False, _table_row(names)
    yield False, "|" + " --- |" * len(names)


def _action(action: Action) -> str:
    size = "" if action.bytes is None else format_size(action.bytes)
    return _table_row((SYMBOLS[action.kind][0], action.kind.value, action.model, size, why_of(action)))


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escape(cell) for cell in cells)} |"


def _fit(head: list[str], body: Iterable[tuple[bool, str]], tail: list[str], limit: int) -> str:
    """Head, as many rows as fit, a count of the others, tail."""
    room = limit - _RESERVE - sum(len(line) + 1 for line in (*head, *tail))
    kept: list[str] = []
    dropped = 0
    for is_row, line in body:
        if len(line) >= room:
            dropped += is_row
        else:
            room -= len(line) + 1
            kept.append(line)
    if dropped:
        kept += ["", f"_{dropped:,} more lines do not fit here; `reconciler plan` shows them all._"]
    return "\n".join([*head, *kept, *tail]) + "\n"


def fleet_markdown(plans: Sequence[tuple[str, Plan]], limit: int = LIMIT) -> str:
    """Several machines as one table."""
    head = ["## Model plan for several machines", ""]
    names = ("machine", "download", "evict", "peak", "limit", "verdict")
    rows = [
        (
            name,
            format_size(plan.summary.bytes_download),
            format_size(plan.summary.bytes_freed),
            format_size(plan.summary.disk_peak_bytes),
            format_size(plan.summary.disk_limit_bytes),
            fleet_verdict(plan)[1],
        )
        for name, plan in plans
    ]
    head += [_table_row(names), "|" + " --- |" * len(names)]
    return _fit(head, ((True, _table_row(row)) for row in rows), [], limit)
