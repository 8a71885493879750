"""Verbs that only read: ``status``, ``why``, ``events``, ``history``, ``df``, ``snapshot``, ``doctor``."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import reading_text
from reconciler.cli.command import Verb, settings_of
from reconciler.cli.durations import DURATION
from reconciler.cli.names import name_argument, with_known_names
from reconciler.cli.opening import desired_if_any, opened
from reconciler.cli.screen import ink_for, json_text, put, show, tell, yaml_text
from reconciler.cli.settings import Settings
from reconciler.cli.signals import Cancel, cancel_on_signals
from reconciler.cli.status_text import model_lines, status_lines
from reconciler.core.errors import ManifestInvalid, unknown_model
from reconciler.core.exits import Exit
from reconciler.core.history import history_document
from reconciler.core.notices import Event, checks_document, event_document
from reconciler.core.status import Status
from reconciler.core.status_document import status_document
from reconciler.core.usage import df_document
from reconciler.log import scrub

if TYPE_CHECKING:
    from reconciler.core.desired import DesiredState
    from reconciler.library import Reconciler

LOOK_EVERY_S = 0.5
CONDITIONS = (
    "Ready",
    "Reconciling",
    "Stalled",
    "ManifestValid",
    "SourceVerified",
    "DiskPressure",
    "MemoryPressure",
    "Suspended",
    "WatchHealthy",
)


@click.command(cls=Verb, help="State, conditions and reasons of every model, or of one in full.")
@name_argument(required=False)
@click.option(
    "--wait",
    "awaited",
    type=click.Choice(CONDITIONS, case_sensitive=False),
    metavar="CONDITION",
    help="Wait until it is True, e.g. READY.",
)
@click.option("--timeout", type=DURATION, metavar="DURATION", help="Wait no longer than this (exit 8).")
@click.pass_context
def status(context: click.Context, /, name: str | None, **options: Any) -> int:
    """The status; an invalid manifest is told, and the last good one shown."""
    settings = settings_of(context)
    desired, invalid = _desired(settings)
    with opened(settings, desired) as reconciler:
        if options["awaited"]:
            seen, code = _wait(reconciler, name, options["awaited"], options["timeout"])
        else:
            seen, code = reconciler.status(), Exit.DONE
    if invalid is not None:
        seen = with_invalid(seen, invalid)
        code = Exit.INVALID
    show_status(settings, seen, name)
    return code


def _desired(settings: Settings) -> "tuple[DesiredState | None, ManifestInvalid | None]":
    try:
        return desired_if_any(settings), None
    except ManifestInvalid as invalid:
        tell([scrub(str(problem)) for problem in invalid.problems])
        return None, invalid


def with_invalid(seen: Status, invalid: ManifestInvalid) -> Status:
    """The status with ``ManifestValid`` False: the newest manifest is not the one in force."""
    message = f"{invalid.message}; the last good one stays in force"
    conditions = tuple(
        replace(
            condition,
            status="False",
            reason=invalid.reason,
            message=message,
            last_transition_time=seen.taken_at if condition.status != "False" else condition.last_transition_time,
        )
        if condition.type == "ManifestValid"
        else condition
        for condition in seen.conditions
    )
    return replace(seen, conditions=conditions)


def show_status(settings: Settings, seen: Status, name: str | None) -> None:
    """All of it, or one model of it."""
    if name is None:
        show(settings, lambda: status_document(seen), lambda ink: status_lines(seen, ink))
        return
    found = [model for model in seen.models if model.name == name]
    if not found:
        raise unknown_model(name, [model.name for model in seen.models])
    one = replace(seen, models=tuple(found))
    show(settings, lambda: status_document(one), lambda ink: model_lines(found[0], one, ink))


def _wait(reconciler: "Reconciler", name: str | None, awaited: str, timeout_s: float | None) -> tuple[Status, Exit]:
    """Look again until it is so, the time is over, or somebody interrupts."""
    start = time.monotonic()
    with cancel_on_signals(Cancel()) as cancel:
        while True:
            seen = reconciler.status()
            if _is_reached(seen, name, awaited):
                return seen, Exit.DONE
            left = LOOK_EVERY_S if timeout_s is None else timeout_s - (time.monotonic() - start)
            if left <= 0:
                tell(f"error: {name or 'the machine'} is not {awaited} after {timeout_s:g} s")
                return seen, Exit.TIMED_OUT
            if cancel.wait(min(left, LOOK_EVERY_S)):
                return seen, Exit.TERMINATED if cancel.stop == "terminated" else Exit.INTERRUPTED


def _is_reached(seen: Status, name: str | None, awaited: str) -> bool:
    if name is None or awaited.lower() != "ready":
        return seen.condition(awaited).status == "True"
    found = [model for model in seen.models if model.name == name]
    if not found:
        raise unknown_model(name, [model.name for model in seen.models])
    return found[0].is_settled and found[0].wanted in ("present", "loaded")


@click.command(cls=Verb, help="The chain of facts behind a decision, and the smallest change that would turn it.")
@name_argument()
@click.option("--offline", is_flag=True, help="Ask no origin for what the manifest does not tell.")
@click.pass_context
def why(context: click.Context, name: str, *, offline: bool) -> int:
    """Why."""
    from reconciler.core.document import why_document  # noqa: PLC0415

    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        found = reconciler.why(name, offline=offline)
    show(settings, lambda: why_document(found), lambda ink: reading_text.why_lines(found, ink))
    return Exit.DONE


@click.command(cls=Verb, help="What happened, oldest first; -o json gives one line each.")
@click.option("--model", metavar="NAME", help="Only of this model.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Only later than this number.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the last so many.")
@click.option("--follow", is_flag=True, help="Go on until interrupted.")
@click.pass_context
def events(context: click.Context, /, **options: Any) -> int:
    """Events."""
    settings = settings_of(context)
    after, model = options["after"], options["model"]
    with opened(settings) as reconciler:
        if options["follow"]:
            return _follow(settings, reconciler, (after, options["limit"]), model)
        found = reconciler.events(after=after, model=model, limit=options["limit"])
        if not found and model:
            with_known_names(reconciler, (model,))
        _print_events(settings, found)
    return Exit.DONE


def _follow(settings: Settings, reconciler: "Reconciler", since: tuple[int, int | None], model: str | None) -> int:
    """Print what is there and what comes, until interrupted, nobody reads, or the watch that tells it stops."""
    after, limit = since
    with cancel_on_signals(Cancel()) as cancel:
        cancel.announce = lambda _: None
        found = reconciler.events(after=after, model=model, limit=limit)
        if not _print_events(settings, found):
            return Exit.DONE
        after = found[-1].seq if found else after
        for event in reconciler.follow_events(after, model, cancel):
            if not _print_events(settings, [event]):
                return Exit.DONE
        if not cancel.is_set():
            tell("the watch stopped")
            return Exit.DONE
        return Exit.TERMINATED if cancel.stop == "terminated" else Exit.INTERRUPTED


def _print_events(settings: Settings, found: Sequence[Event]) -> bool:
    """False where nobody reads any more."""
    if settings.output == "json":
        return put("".join(json_text(event_document(event), indent=None) for event in found))
    if settings.output == "yaml":
        return put("".join("---\n" + yaml_text(event_document(event)) for event in found))
    import sys  # noqa: PLC0415

    lines: Iterator[str] = reading_text.event_lines(found, ink_for(settings, sys.stdout))
    return put("".join(f"{line}\n" for line in lines))


@click.command(cls=Verb, help="The lifecycle of one model, its revisions, its uses.")
@name_argument()
@click.pass_context
def history(context: click.Context, name: str) -> int:
    """History."""
    settings = settings_of(context)
    with opened(settings) as reconciler:
        found = reconciler.history(name)
    show(settings, lambda: history_document(found), lambda ink: reading_text.history_lines(found, ink))
    return Exit.DONE


@click.command(cls=Verb, help="What the store takes on the disk, by part, format and model.")
@click.pass_context
def df(context: click.Context) -> int:
    """Disk use."""
    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        found = reconciler.df()
    show(settings, lambda: df_document(found), lambda ink: reading_text.df_lines(found, ink))
    return Exit.DONE


@click.command(cls=Verb, help="Everything that plan --observed needs to know of this machine, and no secret.")
@click.pass_context
def snapshot(context: click.Context) -> int:
    """Snapshot; JSON unless YAML was asked for."""
    from reconciler.core.document import snapshot_document  # noqa: PLC0415

    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        document = snapshot_document(reconciler.snapshot())
    put(yaml_text(document) if settings.output == "yaml" else json_text(document))
    return Exit.DONE


@click.command(cls=Verb, help="Check what a reconciler needs; exit 1 where a check fails.")
@click.pass_context
def doctor(context: click.Context) -> int:
    """Checks."""
    settings = settings_of(context)
    desired, _invalid = _desired(settings)
    with opened(settings, desired) as reconciler:
        found = tuple(reconciler.doctor())
    show(settings, lambda: checks_document(found), lambda ink: reading_text.check_lines(found, ink))
    return Exit.ERROR if any(check.status == "fail" for check in found) else Exit.DONE
