"""``watch``: keep doing it. The loop is :mod:`reconciler.watch`; here are its options and its signals."""

from typing import Any

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.durations import PERIOD
from reconciler.cli.git_options import git_options, place_from
from reconciler.cli.opening import cancel_for, configure_log
from reconciler.cli.signals import cancel_on_signals
from reconciler.log import get_log


@click.command(cls=Verb, help="Keep doing it: on a changed manifest, on drift, on a timer.")
@click.option(
    "--interval", type=PERIOD, default="5m", show_default=True, metavar="DURATION", help="Between full passes."
)
@git_options
@click.option("--listen", metavar="ADDRESS", help="Serve health and metrics on HOST:PORT.")
@click.pass_context
def watch(context: click.Context, /, **options: Any) -> int:
    """Hand over to the loop; its exit code."""
    settings = settings_of(context)
    git = place_from(context, options, settings.environ)
    from reconciler.watch import watch as keep_doing  # noqa: PLC0415

    configure_log(settings, default="info")
    if git is not None and settings.files:
        get_log().warning("manifest_passed_over", path=", ".join(settings.files), reason="--git names the manifest")
    with cancel_on_signals(cancel_for(settings)) as cancel:
        return keep_doing(
            files=tuple(settings.files),
            store=settings.store,
            environ=settings.environ,
            cancel=cancel,
            interval_s=options["interval"],
            git=git,
            listen=options["listen"],
        )
