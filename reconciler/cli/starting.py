"""Verbs that need no store: ``init``, ``validate``, ``schema``, ``version``, ``completion``."""

import json
import platform
import sys
from pathlib import Path

import click

from reconciler import __version__
from reconciler.cli.command import Verb, add_files, settings_of
from reconciler.cli.layout import count
from reconciler.cli.opening import desired_from, said
from reconciler.cli.screen import put, show, tell, yaml_text
from reconciler.cli.starter import starter_text
from reconciler.core.desired import DesiredState
from reconciler.core.errors import permanent, refused
from reconciler.core.exits import Exit
from reconciler.core.heading import Document, heading

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Verb, help="Write a commented starter manifest for this machine (models.yaml; - prints it).")
@click.argument("path", default="models.yaml", metavar="[PATH|-]")
@click.pass_context
def init(context: click.Context, path: str) -> int:
    """Write the starter manifest; never over another file."""
    text = starter_text()
    if path == "-":
        put(text)
        return Exit.DONE
    try:
        with Path(path).open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        hint = "name another path, or - to print it"
        raise refused("manifest_exists", f"{path} exists already; it was not changed", hint=hint) from error
    except OSError as error:
        raise permanent("manifest_unwritable", f"cannot write {path}: {error.strerror}") from error
    named = "" if path == "models.yaml" else f" -f {path}"
    tell(f"next: edit {path}, then: reconciler{named} plan")
    return said(settings_of(context), "init", (), path)


@click.command(cls=Verb, help="Check manifests: every problem with its place. No store, no network.")
@click.argument("paths", metavar="[MANIFEST]...", nargs=-1)
@click.pass_context
def validate(context: click.Context, paths: tuple[str, ...]) -> int:
    """Validate what ``-f``, the arguments or the defaults name."""
    add_files(context, None, paths)
    settings = settings_of(context)
    from reconciler.sourcing import find_place  # noqa: PLC0415

    place, files = find_place(settings.files, settings.environ)
    if place is not None:  # its models lie elsewhere, and no network is asked here
        found = heading("Validation") | {"generation": None, "files": list(files), "models": [], "diagnostics": []}
        show(settings, lambda: found, lambda _ink: ["ok: a bootstrap; its manifest lies in Git, and plan fetches it"])
        return Exit.DONE
    desired = desired_from(settings)
    show(settings, lambda: validation_document(desired), lambda _ink: validation_lines(desired))
    return Exit.DONE


def validation_document(desired: DesiredState) -> Document:
    """The ``Validation`` document of a manifest that is valid; ``Problems`` tells of one that is not."""
    return heading("Validation") | {
        "generation": desired.digest,
        "files": list(desired.files),
        "models": [model.name for model in desired.models],
        "diagnostics": [
            {"reason": note.reason, "message": note.message, "place": note.place} for note in desired.diagnostics
        ],
    }


def validation_lines(desired: DesiredState) -> list[str]:
    """ok, and what is worth a note."""
    notes = [f"note: {note.place + ': ' if note.place else ''}{note.message}" for note in desired.diagnostics]
    return [*notes, f"ok: {count(len(desired.models), 'model')}"]


def _schema_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from reconciler.adapters.manifest.schemas import schema_names  # noqa: PLC0415

    return [name for name in schema_names() if name.startswith(incomplete)]


@click.command(cls=Verb, help="Print a JSON schema (draft-07): of the manifest, or of a document that is printed.")
@click.argument("name", default="manifest", metavar="[NAME]", shell_complete=_schema_names)
@click.pass_context
def schema(context: click.Context, name: str) -> int:
    """Print a schema as it was shipped, or as YAML."""
    from reconciler.adapters.manifest.schemas import schema_text  # noqa: PLC0415

    text = schema_text(name)
    put(yaml_text(json.loads(text)) if settings_of(context).output == "yaml" else text)
    return Exit.DONE


@click.command(cls=Verb, help="Print the version.")
@click.pass_context
def version(context: click.Context) -> int:
    """The version, of Python and of the platform too where a document is asked for."""
    settings = settings_of(context)
    show(settings, version_document, lambda _ink: [f"reconciler {__version__}"])
    return Exit.DONE


def version_document() -> Document:
    """The ``Version`` document."""
    return heading("Version") | {
        "version": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
    }


@click.command(cls=Verb, help='Print a completion script. bash: eval "$(reconciler completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Click's own script for that shell."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    from reconciler.cli.run import COMPLETE_VARIABLE  # noqa: PLC0415

    found = get_completion_class(shell)
    if found is None:
        raise permanent("unknown_shell", f"there is no completion for {shell}")
    completer = found(context.find_root().command, {}, "reconciler", COMPLETE_VARIABLE)
    put(completer.source_template % completer.source_vars() + "\n")
    return Exit.DONE
