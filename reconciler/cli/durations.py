"""Durations and moments on the command line, in the manifest's own words."""

import click

from reconciler.core.moments import parse_moment
from reconciler.core.units import parse_duration

LEAST_PERIOD_S = 1.0


class DurationType(click.ParamType[float]):
    """``90s``, ``10m``, ``24h``; a bare number is seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        text = str(value)
        try:
            return float(text) if text.isdecimal() else parse_duration(text)
        except ValueError as error:
            self.fail(f"{text!r} is not {error}", param, ctx)


class MomentType(click.ParamType["tuple[str, float]"]):
    """A moment in RFC 3339, or a duration from now: ``("at", seconds)`` or ``("in", seconds)``."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """The kind, and seconds."""
        if isinstance(value, tuple):
            return value
        text = str(value)
        try:
            return "in", parse_duration(text)
        except ValueError:
            pass
        try:
            return "at", parse_moment(text)
        except ValueError:
            self.fail(
                f"{text!r} is neither a duration such as 2h nor a moment such as 2027-01-31T06:00:00Z", param, ctx
            )


class PeriodType(DurationType):
    """A duration between two runs of something: a second at the least, so that nothing runs hot."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        seconds = super().convert(value, param, ctx)
        if seconds < LEAST_PERIOD_S:
            self.fail(f"{str(value)!r} is less than {LEAST_PERIOD_S:g} s", param, ctx)
        return seconds


DURATION = DurationType()
PERIOD = PeriodType()
MOMENT = MomentType()
