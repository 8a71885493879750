"""``show``: everything that is known of one model."""

from collections.abc import Iterator

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.layout import Cell, Ink, columns
from reconciler.cli.names import name_argument
from reconciler.cli.opening import desired_if_any, opened
from reconciler.cli.screen import show as put_document
from reconciler.core.exits import Exit
from reconciler.core.moments import moment_text
from reconciler.core.show import Shown, show_document
from reconciler.core.units import format_size


@click.command(cls=Verb, help="Everything that is known of one model: files, metadata, validation, signature, history.")
@name_argument()
@click.pass_context
def show(context: click.Context, name: str) -> int:
    """Show."""
    settings = settings_of(context)
    with opened(settings, desired_if_any(settings)) as reconciler:
        found = reconciler.show(name)
    put_document(settings, lambda: show_document(found), lambda ink: show_lines(found, ink))
    return Exit.DONE


def show_lines(shown: Shown, ink: Ink) -> Iterator[str]:
    """One model in full."""
    model, validation = shown.status, shown.validation
    rows = [
        ("model", model.name),
        ("state", f"{model.state}, {model.lifecycle}"),
        ("why", f"{model.message} ({model.reason})"),
        ("size", "" if model.bytes is None else format_size(model.bytes)),
        ("format", model.format),
        ("revision", model.revision),
        ("signed by", model.signed_by),
        ("verified", moment_text(model.verified_at) or ""),
        ("valid", "yes" if validation.is_valid else "no"),
        *(("error", text) for text in validation.errors),
        *((severity, text) for severity, text in validation.warnings),
        *(("source", source) for source in shown.sources),
        *(("link", link.path if link.is_right else f"{link.path} (not there)") for link in shown.links),
        ("depends on", ", ".join(shown.depends_on)),
        *((key, str(value)) for key, value in sorted(model.metadata.items())),
        ("uses", str(model.use_count) if model.use_count else ""),
    ]
    yield from columns(([Cell(name, "dim"), value] for name, value in rows if value), ink, indent=0)
    if shown.files:
        yield ""
        yield from columns(
            (
                [
                    file.path,
                    file.role.value,
                    word,
                    format_size(file.size_bytes),
                    file.condition.value,
                    str(file.digest),
                ]
                for file, word in zip(shown.files, shown.formats, strict=True)
            ),
            ink,
            indent=0,
        )
    if shown.history is not None and shown.history.revisions:
        count = len(shown.history.revisions)
        yield ""
        yield f"{count} revision{'' if count == 1 else 's'}; reconciler history {model.name} tells more"
