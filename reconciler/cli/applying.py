"""Verbs that change the store: ``apply``, and one-shot verbs that go the same way through planner and executor."""

from typing import Any

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.durations import DURATION
from reconciler.cli.names import names_argument, only_option, with_known_names
from reconciler.cli.opening import desired_if_any, desired_within, opened, run_apply
from reconciler.cli.planning import read_document
from reconciler.cli.settings import Settings
from reconciler.core.actions import Plan, Request
from reconciler.core.errors import permanent


@click.command(cls=Verb, help="Do what the manifest asks for, once. PLAN is a file of plan --out.")
@click.argument("saved", metavar="[PLAN]", required=False)
@click.option("--prune", is_flag=True, help="Evict what the manifest does not name.")
@click.option("--allow-evict", type=click.IntRange(0), metavar="N", help="Replaces cache.maxEvictions for this run.")
@only_option
@click.option("--timeout", type=DURATION, metavar="DURATION", help="Stop after so long (exit 8).")
@click.option("--yes", is_flag=True, help="Do not ask before evicting.")
@click.pass_context
def apply(context: click.Context, /, **options: Any) -> int:
    """Apply the manifest, or a saved plan."""
    settings = settings_of(context)
    request = Request(only=options["only"], prune=options["prune"], allow_evict=options["allow_evict"])
    if options["saved"] is not None:
        if request != Request():
            raise click.UsageError("a saved plan is done as it is: no --prune, --allow-evict or --only", context)
        return _apply_saved(settings, options["saved"], options["timeout"])
    desired, timeout_s = desired_within(settings, options["timeout"])
    with opened(settings, desired) as reconciler:
        with_known_names(reconciler, request.only)
        return run_apply(
            settings,
            reconciler,
            request,
            timeout_s=timeout_s,
            must_confirm=options["prune"] and not options["yes"],
        )


def _apply_saved(settings: Settings, path: str, timeout_s: float | None) -> int:
    """The manifest is read again from where it lay when the plan was made, unless ``-f`` names another place."""
    plan, files = _read_plan(path)
    if not settings.files and "-" in files:
        told = "the plan was made from a manifest on standard input, which was not kept; give it again with -f"
        raise click.UsageError(told, click.get_current_context())
    settings.files = settings.files or files
    desired, timeout_s = desired_within(settings, timeout_s)
    with opened(settings, desired) as reconciler:
        return run_apply(settings, reconciler, plan.request, saved=plan, timeout_s=timeout_s)


def _read_plan(path: str) -> tuple[Plan, list[str]]:
    document = read_document(path, "plan")
    from reconciler.core.document import plan_from_document  # noqa: PLC0415 -- only for a saved plan

    plan = plan_from_document(document)
    desired = document.get("desired")
    files = desired.get("files", []) if isinstance(desired, dict) else []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise permanent("document_invalid", f"the plan {path} has no list of manifest files")
    return plan, files


def _one_shot(context: click.Context, request: Request, *, must_confirm: bool = False) -> int:
    """Run one verb; a manifest is used where there is one."""
    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        with_known_names(reconciler, request.models)
        return run_apply(settings, reconciler, request, must_confirm=must_confirm)


@click.command(cls=Verb, help="Hash models again. What is bad is recorded, exit 4; --repair mends it.")
@names_argument(required=False)
@click.option("--repair", is_flag=True, help="Fetch again what is bad.")
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...], *, repair: bool) -> int:
    """Re-hash."""
    return _one_shot(context, Request(verb="repair" if repair else "verify", models=names))


@click.command(cls=Verb, help="Delete models from the store, loaded ones too. Pinned, used and foreign ones stay.")
@names_argument()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def evict(context: click.Context, names: tuple[str, ...], *, yes: bool) -> int:
    """Evict by name."""
    return _one_shot(context, Request(verb="evict", models=names), must_confirm=not yes)


@click.command(cls=Verb, help="Evict every model that the manifest does not name.")
@click.option("--allow-evict", type=click.IntRange(0), metavar="N", help="Replaces cache.maxEvictions for this run.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def prune(context: click.Context, *, allow_evict: int | None, yes: bool) -> int:
    """Evict what is unwanted."""
    return _one_shot(context, Request(verb="prune", allow_evict=allow_evict), must_confirm=not yes)


@click.command(cls=Verb, help="Bring models into their runtime.")
@names_argument()
@click.pass_context
def load(context: click.Context, names: tuple[str, ...]) -> int:
    """Load by name."""
    return _one_shot(context, Request(verb="load", models=names))


@click.command(cls=Verb, help="Let models go from their runtime.")
@names_argument()
@click.pass_context
def unload(context: click.Context, names: tuple[str, ...]) -> int:
    """Unload by name."""
    return _one_shot(context, Request(verb="unload", models=names))


@click.command(cls=Verb, help="Take over files in the store that the tool did not place.")
@names_argument(required=False)
@click.pass_context
def adopt(context: click.Context, names: tuple[str, ...]) -> int:
    """Adopt by name, or everything foreign."""
    return _one_shot(context, Request(verb="adopt", models=names))


@click.command(cls=Verb, help="Bring back the revision before, from the store, without a download.")
@names_argument()
@click.pass_context
def rollback(context: click.Context, names: tuple[str, ...]) -> int:
    """Roll back by name."""
    return _one_shot(context, Request(verb="rollback", models=names))
