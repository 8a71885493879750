"""One run of the command: parse, call the verb, and turn whatever happens into an exit code and a line of text."""

import sys
import traceback
from collections.abc import Sequence

import click

from reconciler import __version__
from reconciler.cli import screen
from reconciler.cli.command import Verbs
from reconciler.cli.settings import Settings, typed
from reconciler.core.errors import Failure, ManifestInvalid, permanent, refused
from reconciler.core.exits import Exit, failure_exit_code
from reconciler.core.heading import heading
from reconciler.log import get_log, scrub

SECTIONS = {
    "Say what you want": {
        "init": ("starting", "write a commented starter manifest for this machine"),
        "validate": ("starting", "check manifests; no store, no network"),
        "lock": ("locking", "write down what references stand for; --upgrade moves them on"),
        "outdated": ("locking", "which locked references moved on"),
        "plan": ("planning", "what apply would do, and why"),
        "apply": ("applying", "do it once"),
        "watch": ("watching", "keep doing it"),
    },
    "See what is there": {
        "status": ("reading", "state, conditions and reasons of every model"),
        "show": ("showing", "everything that is known of one model"),
        "why": ("reading", "the facts behind a decision, and what would turn it"),
        "events": ("reading", "what happened, oldest first"),
        "history": ("reading", "the lifecycle and revisions of one model"),
        "df": ("reading", "what the store takes on the disk"),
        "snapshot": ("reading", "this machine as a file, for plan --observed"),
        "doctor": ("reading", "check store, clock, watcher, network, permissions"),
    },
    "Do one thing": {
        "verify": ("applying", "hash models again; --repair mends them"),
        "bundle": ("bundling", "carry models to a machine without a network, in one file"),
        "load": ("applying", "bring models into their runtime"),
        "unload": ("applying", "let models go from their runtime"),
        "evict": ("applying", "delete models from the store"),
        "prune": ("applying", "evict everything the manifest does not name"),
        "adopt": ("applying", "take over files that the tool did not place"),
        "rollback": ("applying", "bring back the revision before"),
        "pin": ("marking", "never evict these models"),
        "unpin": ("marking", "let them be evicted again"),
        "touch": ("marking", "record that a model was used"),
        "pause": ("marking", "download models no further, or do nothing at all"),
        "cancel": ("marking", "give up a download; --discard deletes what is there of it"),
        "suspend": ("marking", "do nothing until resume, or until a moment"),
        "resume": ("marking", "go on with models, or with everything"),
        "poke": ("marking", "look again now; clears back-off"),
    },
    "About the tool": {
        "schema": ("starting", "the JSON schema of a document"),
        "version": ("starting", "which version this is"),
        "completion": ("starting", "completion script for bash, zsh or fish"),
    },
}

HELP = "Models as code: a manifest says which AI models this machine holds; reconciler makes it true."
COMPLETE_VARIABLE = "_RECONCILER_COMPLETE"


def build() -> Verbs:
    """The whole command."""
    made = Verbs(
        SECTIONS,
        name="reconciler",
        help=HELP,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        no_args_is_help=True,
    )
    return click.version_option(__version__, prog_name="reconciler", message="%(prog)s %(version)s")(made)


def run(arguments: list[str], *, is_process: bool = False) -> int:
    """Run ``arguments``; the exit code. Only a KeyboardInterrupt and an exit come out."""
    settings = Settings(is_process=is_process)
    try:
        code = build().main(
            arguments, prog_name="reconciler", complete_var=COMPLETE_VARIABLE, standalone_mode=False, obj=settings
        )
        screen.put("")
    except Exception as error:  # noqa: BLE001 -- a person gets one line; the traceback is there for the asking
        return _code_of(error, settings, arguments)
    return int(code) if isinstance(code, int) else Exit.DONE


def _code_of(error: Exception, settings: Settings, arguments: list[str]) -> int:
    """Tell what went wrong; the code for it."""
    match error:
        case click.UsageError():
            return _usage(error, arguments)
        case click.Abort():
            return Exit.INTERRUPTED
        case ManifestInvalid():
            return _invalid(error, settings)
        case Failure():
            return _failed(error, settings)
        case _:
            return _unexpected(error, settings)


def _usage(error: click.UsageError, arguments: list[str]) -> int:
    """Exit 64: in this tool 2 means that changes are pending."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        screen.tell(error.format_message())
        return Exit.USAGE
    if error.ctx is not None:
        if typed(arguments).format_name() != "json":
            screen.tell(error.ctx.get_usage())
        command = error.ctx.command_path
    else:
        command = "reconciler"
    hint = f"try: {command} --help"
    settings, failure = typed(arguments), refused("usage", error.format_message(), hint=hint)
    if not _log_failure(settings, failure):
        screen.tell([f"error: {error.format_message()}", hint])
    _print_document(settings, _error_document(failure, Exit.USAGE))
    return Exit.USAGE


def _invalid(invalid: ManifestInvalid, settings: Settings) -> int:
    """Every problem on its own line, where editors and CI look for it."""
    if _log_failure(settings, invalid, [str(problem) for problem in invalid.problems]):
        pass
    elif invalid.reason == "manifest_missing":
        problem = invalid.problems[0]
        screen.tell([f"error: there is no manifest; expected {problem.expected}", f"hint: {problem.hint}"])
    else:
        screen.tell([*(scrub(str(problem)) for problem in invalid.problems), f"error: {invalid.message}"])
    _print_document(settings, problems_document(invalid))
    return Exit.INVALID


def problems_document(invalid: ManifestInvalid) -> dict[str, object]:
    """The ``Problems`` document."""
    return heading("Problems") | {
        "reason": invalid.reason,
        "message": invalid.message,
        "problems": [
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "path": problem.path,
                "found": problem.found,
                "expected": problem.expected,
                "hint": problem.hint,
            }
            for problem in invalid.problems
        ],
    }


def _error_document(failure: Failure, code: int) -> dict[str, object]:
    return heading("Error") | {
        "reason": failure.reason,
        "message": failure.message,
        "hint": failure.hint,
        "failure": failure.kind.value,
        "exit_code": int(code),
    }


def _failed(failure: Failure, settings: Settings) -> int:
    code = failure_exit_code(failure)
    if not _log_failure(settings, failure):
        screen.tell(f"error: {scrub(failure.message)}")
        if failure.hint:
            screen.tell(f"hint: {scrub(failure.hint)}")
    _print_document(settings, _error_document(failure, code))
    if settings.wants_debug():
        traceback.print_exc()
    return code


def _log_failure(settings: Settings, failure: Failure, problems: Sequence[str] = ()) -> bool:
    """Where the log is JSON, so is what ends the command: whoever reads it reads every line; False elsewhere."""
    if settings.format_name() != "json":
        return False
    get_log().configure(fmt="json")
    found = [scrub(problem) for problem in problems]
    get_log().error("command_failed", reason=failure.reason, message=failure.message, hint=failure.hint, problems=found)
    return True


def _unexpected(error: Exception, settings: Settings) -> int:
    """A fault of this program."""
    if settings.wants_debug():
        traceback.print_exc()
        return Exit.ERROR
    text = " ".join(scrub(str(error)).split())
    message = f"unexpected {type(error).__name__}: {text}" if text else f"unexpected {type(error).__name__}"
    hint = "this is a fault of reconciler; run again with --debug (or RECONCILER_DEBUG=1) for the traceback"
    if not _log_failure(settings, permanent("unexpected", message, hint=hint)):
        screen.tell([f"error: {message}", f"hint: {hint}"])
    return Exit.ERROR


def _print_document(settings: Settings, document: dict[str, object]) -> None:
    if settings.output not in ("json", "yaml"):
        return
    try:
        screen.put(screen.to_text(settings, document))
    except Failure as failure:
        sys.stderr.write(f"error: {failure.message}\n")
