"""What click is made to do here: global options on both sides of the verb, verbs imported late, near words named.

A verb is a :class:`Verb`: a click command that also takes the global options and writes them into the one
:class:`~reconciler.cli.settings.Settings` of the run. :class:`Verbs` is the group: a table tells which module holds a
verb, so that ``status`` does not import what only ``apply`` needs.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from reconciler.cli.settings import LEVELS, OUTPUTS, Settings

GLOBAL_SECTION = "Options of every verb"


def settings_of(context: click.Context) -> Settings:
    """The settings of this run."""
    return context.find_root().ensure_object(Settings)


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that keeps what was typed; what was not typed changes nothing."""

    def keep(context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        if value not in (None, (), False, 0):
            setattr(settings_of(context), name, value)
        return value

    return keep


def add_files(context: click.Context, parameter: click.Parameter | None, value: tuple[str, ...]) -> Any:
    """Note the manifests that ``-f`` or an argument names; an unset variable of the shell must not name the folder."""
    if "" in value:
        raise click.BadParameter("an empty name is no manifest", context, parameter)
    settings_of(context).files += value
    return value


def _without_colour(context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    if value:
        settings_of(context).color = False
    return value


def global_options(*, markdown: bool = True) -> list[click.Parameter]:
    """Fresh ones for each command; ``markdown`` is offered by the verbs that have it."""
    outputs = OUTPUTS if markdown else tuple(each for each in OUTPUTS if each != "markdown")
    option: Callable[..., click.Option] = _option
    return [
        option(
            "-f",
            "--file",
            callback=add_files,
            multiple=True,
            metavar="MANIFEST",
            help="A file, a folder or -; repeat to merge.",
        ),
        option("--store", callback=_store("store"), metavar="DIR", help="Where the models lie."),
        option("-o", "--output", callback=_store("output"), type=click.Choice(outputs), help="How to print."),
        option("--log-level", callback=_store("log_level"), type=click.Choice(LEVELS), help="What to log."),
        option(
            "--log-format", callback=_store("log_format"), type=click.Choice(("console", "json")), help="How to log."
        ),
        option("-v", "--verbose", callback=_store("verbosity"), count=True, help="Tell more; twice: even more."),
        option("--no-color", callback=_without_colour, is_flag=True, help="No colour; nothing else changes."),
        option("--debug", callback=_store("debug"), is_flag=True, hidden=True, help="Show tracebacks."),
    ]


def _option(*names: str, **settings: Any) -> click.Option:
    return click.Option(names, expose_value=False, **settings)


class Verb(click.Command):
    """A verb, with the global options after it as well."""

    def __init__(self, *args: Any, markdown: bool = False, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.markdown = markdown
        self.own = list(self.params)
        self.params += global_options(markdown=markdown)

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse what cannot be printed before anything is done."""
        if settings_of(ctx).output == "markdown" and not self.markdown:
            raise click.UsageError(f"{self.name} has no markdown output; plan has", ctx)
        return super().invoke(ctx)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The verb's own options first."""
        write_options(context, formatter, self.get_params(context), self.own)


class Verbs(click.Group):
    """The verbs in sections; each is imported when it is used."""

    def __init__(self, sections: Mapping[str, Mapping[str, tuple[str, str]]], **settings: Any) -> None:
        super().__init__(subcommand_metavar="VERB [ARGS]...", **settings)
        self.sections = sections
        self.table = {verb: row for rows in sections.values() for verb, row in rows.items()}
        self.params += global_options()

    def list_commands(self, _context: click.Context) -> list[str]:
        """In the order of the help page."""
        return list(self.table)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import the verb's module."""
        if name not in self.table:
            return None
        module = importlib.import_module(f"reconciler.cli.{self.table[name][0]}")
        verb = getattr(module, name)
        if not isinstance(verb, click.Command):
            raise TypeError(f"{module.__name__}.{name} is no verb")
        return verb

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest verb where there is none of that name."""
        if args and args[0] not in self.table and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 -- only for a slip of the pen

            near = difflib.get_close_matches(args[0], self.table, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            context.fail(f"there is no verb {args[0]!r}.{hint}")
        return super().resolve_command(context, args)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs by section, from the table alone."""
        for title, rows in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(verb, text) for verb, (_module, text) in rows.items()])

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Verbs first: they are what one looks for."""
        self.format_commands(context, formatter)
        write_options(context, formatter, self.get_params(context), [])


def _without_range(row: tuple[str, str]) -> tuple[str, str]:
    """Click's ``[x>=0]`` behind a count says nothing to a person."""
    return row[0], row[1].partition("  [x>=")[0]


def write_options(
    context: click.Context,
    formatter: click.HelpFormatter,
    params: Sequence[click.Parameter],
    own: Sequence[click.Parameter],
) -> None:
    """Two sections: the verb's own options, and those of every verb."""
    options = [param for param in own if isinstance(param, click.Option)]  # arguments stand in the usage line
    mine = [_without_range(row) for param in options if (row := param.get_help_record(context))]
    others = [row for param in params if param not in own and (row := param.get_help_record(context))]
    if mine:
        with formatter.section("Options"):
            formatter.write_dl(mine)
    with formatter.section(GLOBAL_SECTION):
        formatter.write_dl(others)
