"""Verbs that only record something: a pin, a use, a pause."""

from collections.abc import Callable

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.durations import MOMENT
from reconciler.cli.names import names_argument
from reconciler.cli.opening import desired_if_any, opened, said
from reconciler.core.moments import moment_text


@click.command(cls=Verb, help="Never evict these models, also when they leave the manifest.")
@names_argument()
@click.pass_context
def pin(context: click.Context, names: tuple[str, ...]) -> int:
    """Pin by name."""
    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        for name in names:
            reconciler.pin(name)
    return said(settings, "pin", names, f"pinned {', '.join(names)}")


@click.command(cls=Verb, help="Let these models be evicted again.")
@names_argument()
@click.pass_context
def unpin(context: click.Context, names: tuple[str, ...]) -> int:
    """Unpin by name."""
    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        for name in names:
            reconciler.unpin(name)
    return said(settings, "unpin", names, f"unpinned {', '.join(names)}")


@click.command(cls=Verb, help="Record that models were used, for lru and lfu.")
@names_argument()
@click.option("--at", type=MOMENT, metavar="TIME", help="When (RFC 3339); now where absent.")
@click.pass_context
def touch(context: click.Context, names: tuple[str, ...], at: tuple[str, float] | None) -> int:
    """Record a use by name."""
    settings = settings_of(context)
    if at is not None and at[0] != "at":
        raise click.UsageError("--at takes a moment such as 2027-01-31T06:00:00Z", context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        for name in names:
            reconciler.touch(name, at=at[1] if at else None)
    return said(settings, "touch", names, f"recorded a use of {', '.join(names)}")


@click.command(cls=Verb, help="Pause: watch and apply do nothing until resume.")
@click.option("--until", type=MOMENT, metavar="TIME", help="A moment, or a duration from now; for ever where absent.")
@click.pass_context
def suspend(context: click.Context, until: tuple[str, float] | None) -> int:
    """Suspend."""
    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        moment = _moment(until, reconciler.world.now)
        reconciler.suspend(moment)
    ends = moment_text(moment) or "reconciler resume"
    return said(settings, "suspend", (), f"suspended until {ends}")


def _moment(given: tuple[str, float] | None, now: Callable[[], float]) -> float | None:
    """Seconds since the epoch; None for no end."""
    if given is None:
        return None
    return given[1] if given[0] == "at" else now() + given[1]


@click.command(cls=Verb, help="Go on after suspend.")
@click.pass_context
def resume(context: click.Context) -> int:
    """Resume."""
    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        reconciler.resume()
    return said(settings, "resume", (), "resumed")


@click.command(cls=Verb, help="Look again now. Without a running watch this clears back-off.")
@click.pass_context
def poke(context: click.Context) -> int:
    """Poke."""
    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        reconciler.poke()
    return said(settings, "poke", (), "looking again; back-off is cleared")
