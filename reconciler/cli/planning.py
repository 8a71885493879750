"""``plan``: what ``apply`` would do, here or on another machine, on paper or saved."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.names import only_option, with_known_names
from reconciler.cli.opening import desired_or_in_force, opened
from reconciler.cli.plan_text import fleet_lines, fleet_verdict, plan_lines
from reconciler.cli.screen import json_text, show, tell
from reconciler.cli.settings import Settings
from reconciler.core.actions import Plan, Request
from reconciler.core.errors import permanent
from reconciler.core.exits import Exit, plan_exit_code
from reconciler.core.heading import Document, heading
from reconciler.durable import write_whole

if TYPE_CHECKING:
    from reconciler.core.desired import DesiredState
    from reconciler.core.observed import ObservedState

MAX_DOCUMENT_BYTES = 256 << 20  # a snapshot of tens of thousands of models is a few MB


@click.command(cls=Verb, markdown=True, help="What apply would do, and why. Changes nothing.")
@click.option("--out", metavar="FILE", help="Save the plan; apply FILE does exactly that or nothing.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 where there is something to do.")
@click.option("--observed", multiple=True, metavar="SNAPSHOT", help="Plan for another machine; repeat for a table.")
@click.option("--offline", is_flag=True, help="Ask no origin; sizes that nobody declared stay unknown.")
@only_option
@click.option("--prune", is_flag=True, help="Evict what the manifest does not name.")
@click.option("--allow-evict", type=click.IntRange(0), metavar="N", help="Replaces cache.maxEvictions for this run.")
@click.pass_context
def plan(context: click.Context, /, **options: Any) -> int:
    """Plan here, or for the machines of the snapshots."""
    settings = settings_of(context)
    request = Request(only=options["only"], prune=options["prune"], allow_evict=options["allow_evict"])
    snapshots: tuple[str, ...] = options["observed"]
    if options["out"] and len(snapshots) > 1:
        raise click.UsageError("--out takes one plan; give --observed once", context)
    observed = [read_snapshot(path) for path in snapshots]
    hosts = [state.device.hostname for state in observed]
    wanted = desired_or_in_force(settings, "last" if options["offline"] else "look", hosts)
    if observed:
        plans = [_plan_for(settings, *pair, request) for pair in zip(wanted, observed, strict=True)]
    else:
        with opened(settings, wanted[0]) as reconciler:
            with_known_names(reconciler, request.only)
            plans = [reconciler.plan(request, offline=options["offline"])]
    if len(plans) > 1:
        show_fleet(settings, [(name, made) for name, made in zip(_names(snapshots, observed), plans, strict=True)])
    else:
        if options["out"]:
            save(options["out"], plans[0], settings.files or wanted[0].files)
            tell(f"saved to {options['out']}; do it with: reconciler apply {options['out']}")
        show_plan(settings, plans[0])
    return max(plan_exit_code(made.summary, detailed=options["detailed_exitcode"]) for made in plans)


def _plan_for(settings: Settings, desired: "DesiredState", observed: "ObservedState", request: Request) -> Plan:
    """The plan that another machine would make."""
    with opened(settings, desired) as reconciler:
        return reconciler.plan(request, offline=True, observed=observed)


def show_plan(settings: Settings, made: Plan) -> None:
    """One plan."""
    markdown = None
    if settings.output == "markdown":
        from reconciler.cli.plan_markdown import plan_markdown  # noqa: PLC0415

        markdown = plan_markdown(made, document_of(made)["plan_digest"])
    show(settings, lambda: document_of(made), lambda ink: plan_lines(made, ink), markdown)


def document_of(made: Plan) -> Document:
    """The ``Plan`` document; imported late, since text needs none."""
    from reconciler.core.document import plan_document  # noqa: PLC0415

    return plan_document(made)


def show_fleet(settings: Settings, plans: list[tuple[str, Plan]]) -> None:
    """Several machines as a table."""
    markdown = None
    if settings.output == "markdown":
        from reconciler.cli.plan_markdown import fleet_markdown  # noqa: PLC0415

        markdown = fleet_markdown(plans)
    show(settings, lambda: fleet_document(plans), lambda ink: fleet_lines(plans, ink), markdown)


def fleet_document(plans: list[tuple[str, Plan]]) -> Document:
    """The ``PlanTable`` document: a verdict and a whole plan per machine."""
    return heading("PlanTable") | {
        "machines": [
            {
                "name": name,
                "verdict": fleet_verdict(made)[0],
                "message": fleet_verdict(made)[1],
                "plan": document_of(made),
            }
            for name, made in plans
        ]
    }


def _names(paths: tuple[str, ...], observed: "list[ObservedState]") -> list[str]:
    """Host names; the file's name where there is none, or where two machines have the same; else the whole path."""
    hosts, files = [state.device.hostname for state in observed], [Path(path).name for path in paths]
    return [
        host if host and hosts.count(host) == 1 else file if files.count(file) == 1 else path
        for host, file, path in zip(hosts, files, paths, strict=True)
    ]


def read_document(path: str, what: str) -> Document:
    """A JSON document from a file, or from standard input for ``-``.

    Raises:
        Failure: it cannot be read, is too large, or is no JSON object.
    """
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_DOCUMENT_BYTES + 1)
        else:
            with open(path, "rb") as stream:  # noqa: PTH123 -- one bounded read
                data = stream.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise permanent("document_unreadable", f"cannot read the {what} {path}: {error.strerror}") from error
    try:
        document = json.loads(data) if len(data) <= MAX_DOCUMENT_BYTES else None
    except (ValueError, RecursionError) as error:
        raise permanent("document_invalid", f"the {what} {path} is no JSON document") from error
    if not isinstance(document, dict):
        raise permanent("document_invalid", f"the {what} {path} is no JSON object of a sensible size")
    return document


def read_snapshot(path: str) -> "ObservedState":
    """The observed state of another machine."""
    document = read_document(path, "snapshot")
    from reconciler.core.document import observed_from_document  # noqa: PLC0415 -- only for a snapshot

    return observed_from_document(document)


def save(path: str, made: Plan, files: Sequence[str]) -> None:
    """Write the plan and where its manifest lies; all or nothing, readable by its owner.

    ``files`` are as ``-f`` names them, made absolute here: a folder stays a folder, whatever it holds by then.
    """
    document = document_of(made)
    lying = [file if file == "-" else os.path.abspath(file) for file in files]  # noqa: PTH100 -- no link is followed
    document["desired"] = document["desired"] | {"files": lying}
    try:
        write_whole(path, json_text(document).encode())
    except OSError as error:
        raise permanent("plan_unwritable", f"cannot write the plan to {path}: {error.strerror}") from error


__all__ = ["Exit", "plan", "read_document", "read_snapshot", "save", "show_plan"]
