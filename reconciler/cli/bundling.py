"""``bundle export`` and ``bundle import``: models in one file, for machines without a network."""

from typing import TYPE_CHECKING

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.names import complete
from reconciler.cli.opening import desired_if_any, opened, said
from reconciler.cli.settings import Settings
from reconciler.cli.signals import Cancel, cancel_on_signals
from reconciler.core.units import format_size

if TYPE_CHECKING:
    from reconciler.bundles import Carried


@click.command(
    cls=Verb, help="export FILE writes the wanted models (or NAME...) into FILE; import FILE takes them into the store."
)
@click.argument("direction", metavar="export|import", type=click.Choice(("export", "import")))
@click.argument("path", metavar="FILE")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete)
@click.pass_context
def bundle(context: click.Context, direction: str, path: str, names: tuple[str, ...]) -> int:
    """Export or import."""
    if names and direction == "import":
        raise click.UsageError("import takes all of a bundle: no NAME", context)
    settings = settings_of(context)
    return _export(settings, path, names) if direction == "export" else _import(settings, path)


def _export(settings: Settings, path: str, names: tuple[str, ...]) -> int:
    from reconciler.bundles import export_bundle  # noqa: PLC0415

    desired = desired_if_any(settings)
    with opened(settings, desired) as reconciler, cancel_on_signals(Cancel()) as cancel:
        with reconciler.world.ledger() as ledger:
            facts = ledger.snapshot()
        carried = export_bundle(reconciler.world, desired, facts, names, path, cancel)
    return _said(settings, "exported", carried)


def _import(settings: Settings, path: str) -> int:
    from reconciler.bundles import import_bundle  # noqa: PLC0415

    desired = desired_if_any(settings)
    with opened(settings, desired) as reconciler, cancel_on_signals(Cancel()) as cancel:
        store = reconciler.world.store
        store.create()
        with store.acquire(), reconciler.world.ledger() as ledger:
            carried = import_bundle(reconciler.world, desired, ledger, path, cancel)
    return _said(settings, "imported", carried)


def _said(settings: Settings, word: str, carried: "Carried") -> int:
    size = format_size(carried.bytes)
    text = f"{word} {len(carried.models)} models, {carried.files} files, {size}"
    return said(settings, "bundle", carried.models, text)
