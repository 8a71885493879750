"""``watch``: keep doing it. The loop is :mod:`reconciler.watch`; here are its options and its signals."""

from typing import Any

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.durations import DURATION
from reconciler.cli.opening import configure_log
from reconciler.cli.signals import Cancel, cancel_on_signals


@click.command(cls=Verb, help="Keep doing it: on a changed manifest, on drift, on a timer.")
@click.option(
    "--interval", type=DURATION, default="5m", show_default=True, metavar="DURATION", help="Between full passes."
)
@click.option("--git", "git_url", metavar="URL[#REF]", help="Take the manifest from a Git repository.")
@click.option("--git-path", default="models.yaml", show_default=True, metavar="PATH", help="Where in the repository.")
@click.option(
    "--git-interval", type=DURATION, default="60s", show_default=True, metavar="DURATION", help="Between fetches."
)
@click.option("--listen", metavar="ADDRESS", help="Serve health and metrics on HOST:PORT.")
@click.pass_context
def watch(context: click.Context, /, **options: Any) -> int:
    """Hand over to the loop; its exit code."""
    settings = settings_of(context)
    from reconciler.watch import watch as keep_doing  # noqa: PLC0415

    configure_log(settings, default="info")
    with cancel_on_signals(Cancel()) as cancel:
        return keep_doing(
            files=tuple(settings.files),
            store=settings.store,
            environ=settings.environ,
            cancel=cancel,
            interval_s=options["interval"],
            git_url=options["git_url"],
            git_path=options["git_path"],
            git_interval_s=options["git_interval"],
            listen=options["listen"],
        )
