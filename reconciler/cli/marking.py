"""Verbs that record something, or hold something back: a pin, a use, a pause."""

import sys
from collections.abc import Callable

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.durations import MOMENT
from reconciler.cli.layout import with_local_times
from reconciler.cli.names import names_argument, with_known_names
from reconciler.cli.opening import desired_if_any, opened, said
from reconciler.cli.screen import is_terminal
from reconciler.cli.settings import Settings
from reconciler.core.desired import DesiredState
from reconciler.core.errors import ManifestInvalid
from reconciler.core.moments import moment_text


def _desired(settings: Settings) -> DesiredState | None:
    """The manifest, for the names in it. One that is invalid keeps nobody from stopping what goes on."""
    try:
        return desired_if_any(settings)
    except ManifestInvalid:
        return None


@click.command(cls=Verb, help="Never evict these models, also when they leave the manifest.")
@names_argument()
@click.pass_context
def pin(context: click.Context, names: tuple[str, ...]) -> int:
    """Pin by name."""
    settings = settings_of(context)
    with opened(settings, _desired(settings)) as reconciler:
        for name in names:
            reconciler.pin(name)
    return said(settings, "pin", names, f"pinned {', '.join(names)}")


@click.command(cls=Verb, help="Let these models be evicted again.")
@names_argument()
@click.pass_context
def unpin(context: click.Context, names: tuple[str, ...]) -> int:
    """Unpin by name."""
    settings = settings_of(context)
    with opened(settings, _desired(settings)) as reconciler:
        for name in names:
            reconciler.unpin(name)
        desired = reconciler.in_force()
    still = [model.name for model in desired.models if model.pinned and model.name in names] if desired else []
    note = f"; the manifest still says pin: true of {', '.join(still)}, and by hand wins" if still else ""
    return said(settings, "unpin", names, f"unpinned {', '.join(names)}{note}")


@click.command(cls=Verb, help="Record that models were used, for lru and lfu.")
@names_argument()
@click.option("--at", type=MOMENT, metavar="TIME", help="When (RFC 3339); now where absent.")
@click.pass_context
def touch(context: click.Context, names: tuple[str, ...], at: tuple[str, float] | None) -> int:
    """Record a use by name."""
    settings = settings_of(context)
    if at is not None and at[0] != "at":
        raise click.UsageError("--at takes a moment such as 2027-01-31T06:00:00Z", context)
    with opened(settings, _desired(settings)) as reconciler:
        for name in names:
            reconciler.touch(name, at=at[1] if at else None)
    return said(settings, "touch", names, f"recorded a use of {', '.join(names)}")


@click.command(cls=Verb, help="Watch and apply do nothing until resume.")
@click.option("--until", type=MOMENT, metavar="TIME", help="A moment, or a duration from now; for ever where absent.")
@click.pass_context
def suspend(context: click.Context, until: tuple[str, float] | None) -> int:
    """Suspend."""
    settings = settings_of(context)
    with opened(settings, _desired(settings)) as reconciler:
        moment, now = _moment(until, reconciler.world.now), reconciler.world.now()
        if moment is not None and moment <= now:
            raise click.BadParameter("that moment is over already", context, param_hint="'--until'")
        reconciler.suspend(moment)
    ends = (with_local_times if is_terminal(sys.stdout) else str)(moment_text(moment) or "reconciler resume")
    return said(settings, "suspend", (), f"suspended until {ends}")


def _moment(given: tuple[str, float] | None, now: Callable[[], float]) -> float | None:
    """Seconds since the epoch; None for no end."""
    if given is None:
        return None
    return given[1] if given[0] == "at" else now() + given[1]


@click.command(
    cls=Verb,
    help="Download these models no further until resume, whatever the manifest says; what is here of them stays. "
    "Without a name: do nothing at all.",
)
@names_argument(required=False)
@click.pass_context
def pause(context: click.Context, names: tuple[str, ...]) -> int:
    """Pause by name, or everything."""
    settings = settings_of(context)
    with opened(settings, _desired(settings)) as reconciler:
        reconciler.pause(names)
    return said(settings, "pause", names, f"paused {', '.join(names) or 'everything'}; resume goes on")


@click.command(
    cls=Verb, help="Give these downloads up until resume, or until their entries in the manifest change; partials stay."
)
@names_argument()
@click.option("--discard", is_flag=True, help="Delete what is there of them as well.")
@click.pass_context
def cancel(context: click.Context, names: tuple[str, ...], *, discard: bool) -> int:
    """Cancel by name."""
    settings = settings_of(context)
    with opened(settings, _desired(settings)) as reconciler:
        reconciler.cancel(names, discard=discard)
    rest = "nothing of them is kept" if discard else "what is there of them is kept"
    return said(settings, "cancel", names, f"cancelled {', '.join(names)}; {rest}")


@click.command(cls=Verb, help="Go on with these models; without a name with everything, after suspend too.")
@names_argument(required=False)
@click.pass_context
def resume(context: click.Context, names: tuple[str, ...]) -> int:
    """Resume."""
    settings = settings_of(context)
    with opened(settings, _desired(settings)) as reconciler:
        with_known_names(reconciler, names)
        reconciler.resume(names)
    return said(settings, "resume", names, f"resumed {', '.join(names)}" if names else "resumed")


@click.command(cls=Verb, help="Look again now. Without a running watch this clears back-off.")
@click.pass_context
def poke(context: click.Context) -> int:
    """Poke."""
    settings = settings_of(context)
    with opened(settings, _desired(settings)) as reconciler:
        reconciler.poke()
    return said(settings, "poke", (), "looking again; back-off is cleared")
