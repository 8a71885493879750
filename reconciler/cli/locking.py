"""Verbs of the lock file: ``lock`` writes it beside the manifest, ``outdated`` compares it with the origins."""

from collections.abc import Iterable, Sequence

import click

from reconciler.cli.command import Verb, settings_of
from reconciler.cli.layout import Ink
from reconciler.cli.names import names_argument
from reconciler.cli.opening import opened
from reconciler.cli.screen import put_lines, show
from reconciler.cli.settings import Settings
from reconciler.core.desired import DesiredState
from reconciler.core.errors import unknown_model
from reconciler.core.exits import Exit
from reconciler.core.heading import Document, heading
from reconciler.core.lock import LockComparison, LockState
from reconciler.core.locked import lock_document


@click.command(cls=Verb, help="Write down what references stand for, beside the manifest (models.lock.json).")
@names_argument(required=False)
@click.option("--upgrade", is_flag=True, help="Ask again what NAME (or every model) stands for now.")
@click.pass_context
def lock(context: click.Context, names: tuple[str, ...], *, upgrade: bool) -> int:
    """Lock."""
    if names and not upgrade:
        raise click.UsageError("NAME goes with --upgrade; lock alone covers every model", context)
    settings = settings_of(context)
    desired = _declared(settings, names)
    from reconciler.locking import lock_path, make_lock, read_lock, write_lock  # noqa: PLC0415
    from reconciler.resolve import NEVER  # noqa: PLC0415

    path = lock_path(desired)
    with opened(settings, desired) as reconciler:
        with reconciler.world.ledger() as ledger:
            facts = ledger.snapshot()
        again = (names or [model.name for model in desired.models]) if upgrade else None
        made = make_lock(reconciler.world, desired, facts, read_lock(path), again, NEVER)
    is_new = write_lock(path, made.entries)
    if settings.output in ("json", "yaml"):
        show(settings, lambda: lock_document(made.entries), lambda _: ())
        return Exit.DONE
    put_lines([*_changes(made.changes), *(f"{name}  locked" for name in made.added)])
    put_lines([*(f"{name}  dropped" for name in made.dropped), f"{path} {'written' if is_new else 'is up to date'}"])
    return Exit.DONE


@click.command(cls=Verb, help="Tell which locked references moved on. Exit 3 where one contradicts its lock.")
@names_argument(required=False)
@click.pass_context
def outdated(context: click.Context, names: tuple[str, ...]) -> int:
    """Compare the lock with the origins."""
    settings = settings_of(context)
    desired = _declared(settings, names)
    from reconciler.locking import compare_all, lock_path, read_lock  # noqa: PLC0415
    from reconciler.resolve import NEVER  # noqa: PLC0415

    with opened(settings, desired) as reconciler:
        found = compare_all(reconciler.world, desired, read_lock(lock_path(desired)), names, NEVER)
    show(settings, lambda: outdated_document(found), lambda ink: _outdated_lines(found, ink))
    return Exit.BLOCKED if any(each.state is LockState.CONTRADICTED for each in found) else Exit.DONE


def _declared(settings: Settings, names: Sequence[str]) -> DesiredState:
    """The manifest as declared; every name must be one of its models."""
    from reconciler.library import load_manifest  # noqa: PLC0415

    desired = load_manifest(tuple(settings.files), environ=settings.environ, is_locked=False)
    known = [model.name for model in desired.models]
    for name in names:
        if name not in known:
            raise unknown_model(name, known)
    return desired


def outdated_document(found: Iterable[LockComparison]) -> Document:
    """The ``Outdated`` document."""
    return heading("Outdated") | {
        "models": [
            {
                "name": each.model,
                "state": each.state.value,
                "locked_revision": each.recorded_revision,
                "current_revision": each.current_revision,
                "changed_files": [change.path for change in each.changes],
            }
            for each in found
        ]
    }


def _changes(found: Iterable[LockComparison]) -> list[str]:
    return [_line(each) for each in found if each.state is not LockState.SAME]


def _outdated_lines(found: Sequence[LockComparison], _ink: Ink) -> list[str]:
    return _changes(found) or [f"all {len(found)} locked models are as their origins say"]


def _line(each: LockComparison) -> str:
    revisions = f"{each.recorded_revision[:12] or '?'} -> {each.current_revision[:12] or '?'}"
    files = ", ".join(change.path for change in each.changes[:3]) + (", …" if len(each.changes) > 3 else "")
    if each.state is LockState.CONTRADICTED:
        return f"{each.model}  contradicted at {each.recorded_revision[:12]}: {files}"
    return f"{each.model}  {revisions}" + (f"  ({files})" if files else "")
