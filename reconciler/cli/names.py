"""Model names on the command line: completed from the manifest, and the nearest one named where there is none such."""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.core.errors import unknown_model

if TYPE_CHECKING:
    from reconciler.library import Reconciler


def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the manifest for the shell; nothing at all where anything is wrong."""
    with contextlib.suppress(Exception):
        from reconciler.cli.command import settings_of  # noqa: PLC0415
        from reconciler.cli.opening import desired_from  # noqa: PLC0415

        desired = desired_from(settings_of(context))
        return [model.name for model in desired.models if model.name.startswith(incomplete)]
    return []


def names_argument(*, required: bool = True) -> Callable[[Any], Any]:
    """``NAME...``."""
    return click.argument(
        "names", metavar="NAME..." if required else "[NAME]...", nargs=-1, required=required, shell_complete=complete
    )


def name_argument(*, required: bool = True) -> Callable[[Any], Any]:
    """``NAME``."""
    return click.argument("name", metavar="NAME" if required else "[NAME]", required=required, shell_complete=complete)


def only_option(verb: Any) -> Any:
    """``--only NAME``, repeatable."""
    option = click.option(
        "--only", multiple=True, metavar="NAME", help="Only these models; repeat for several.", shell_complete=complete
    )
    return option(verb)


def with_known_names(reconciler: "Reconciler", names: Sequence[str]) -> None:
    """Let through only names that the manifest or the store knows.

    Raises:
        Failure: ``unknown_model`` for the first that neither does.
    """
    if not names:
        return
    declared = {model.name for model in reconciler.desired.models} if reconciler.desired else set()
    if declared.issuperset(names):
        return
    known = declared | {model.name for model in reconciler.status().models}
    for name in names:
        if name not in known:
            raise unknown_model(name, sorted(known))
