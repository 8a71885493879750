"""From the global options to a :class:`reconciler.library.Reconciler`, and back from a run to what is printed."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.cli.layout import Ink
from reconciler.cli.plan_text import plan_lines
from reconciler.cli.progress import Live, Quiet, progress_for
from reconciler.cli.result_text import result_lines
from reconciler.cli.screen import ink_for, is_terminal, put_lines, show, tell
from reconciler.cli.settings import Settings
from reconciler.cli.signals import Cancel, cancel_on_signals, interruptible, write_entry
from reconciler.core.actions import ActionKind, Plan, Request
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure, refused, transient
from reconciler.core.exits import Exit, apply_exit_code
from reconciler.core.git_place import Reach
from reconciler.core.heading import heading
from reconciler.core.ports import CancelToken
from reconciler.core.report import ApplyResult, Stop, apply_result_document
from reconciler.log import Level, get_log

if TYPE_CHECKING:
    from reconciler.library import Reconciler

_EXITS = {Stop.INTERRUPTED: Exit.INTERRUPTED, Stop.TERMINATED: Exit.TERMINATED}
_TOLD = frozenset({"action_failed"})  # by the line of the outcome
NEVER_FETCHED = "source_never_fetched"  # its reason where a manifest in Git was never here
NO_MANIFEST = "manifest_missing"  # the reason of load_manifest where no default place holds one


def desired_from(settings: Settings, reach: str = "look", cancel: CancelToken | None = None) -> DesiredState:
    """The manifest that ``-f`` names, or the default one; one in Git as far as ``reach`` goes for it.

    Raises:
        Failure: it is missing or invalid; ``cancelled``.
    """
    from reconciler.library import load_manifest  # noqa: PLC0415

    configure_log(settings)
    files, environ = tuple(settings.files), settings.environ
    return load_manifest(files, environ, store=settings.store, reach=Reach(reach), cancel=cancel)


def desired_within(settings: Settings, timeout_s: float | None) -> tuple[DesiredState, float | None]:
    """The manifest for ``apply``, and what is left of ``timeout_s``: that bounds the fetch of one in Git as well.

    Raises:
        Failure: it is missing or invalid; transient ``timed_out``.
    """
    if timeout_s is None:
        return desired_from(settings, "keep"), None
    from reconciler.reconcile import Deadline  # noqa: PLC0415

    deadline = Deadline(Cancel(), timeout_s)
    try:
        return desired_from(settings, "keep", deadline), deadline.left_s()
    except Failure as failure:
        if not deadline.is_over:
            raise
        raise transient("timed_out", f"the manifest was not fetched within {timeout_s:g} s") from failure


def desired_if_any(settings: Settings) -> DesiredState | None:
    """The same for a verb that can do without: None where there is no ``-f`` and no default manifest.

    Nobody is asked for a manifest in Git: the last good one counts, and none where nothing was fetched yet.
    """
    try:
        return desired_from(settings, "last")
    except Failure as failure:
        if (failure.reason == NO_MANIFEST and not settings.files) or failure.reason == NEVER_FETCHED:
            return None
        raise


def desired_or_in_force(settings: Settings, reach: str = "look", hosts: Sequence[str] = ()) -> list[DesiredState]:
    """The manifest that ``-f`` names, or the default one, or the one that a watch of the store has in force.

    As each of ``hosts`` reads it, in their order; where there is none, as this machine does.

    Raises:
        Failure: it is missing or invalid.
    """
    try:
        return _desired_of_each(settings, reach, hosts) if hosts else [desired_from(settings, reach)]
    except Failure as failure:
        if failure.reason != NO_MANIFEST or settings.files:
            raise
        with opened(settings) as reconciler:
            kept = reconciler.in_force()
        if kept is None:
            raise
        return [kept] * max(1, len(hosts))


def _desired_of_each(settings: Settings, reach: str, hosts: Sequence[str]) -> list[DesiredState]:
    from reconciler.library import load_manifests  # noqa: PLC0415

    configure_log(settings)
    files, environ = tuple(settings.files), settings.environ
    return list(load_manifests(hosts, files, environ, store=settings.store, reach=Reach(reach)))


@contextmanager
def opened(settings: Settings, desired: DesiredState | None = None) -> Iterator["Reconciler"]:
    """The library over the store that the options name."""
    from reconciler.library import Reconciler  # noqa: PLC0415

    configure_log(settings)
    with Reconciler(desired, store=settings.store, environ=settings.environ) as reconciler:
        reconciler.world.may_fork = settings.is_process
        yield reconciler


def configure_log(
    settings: Settings,
    default: str = "warning",
    write: Callable[[str], None] | None = None,
    told: frozenset[str] = frozenset(),
) -> None:
    """Logs as the options say; ``told`` is left out unless logs of a level or a form were asked for."""
    is_default = settings.level_name("") == "" and settings.format_name() == "console"
    get_log().configure(
        level=Level[settings.level_name(default).upper()],
        fmt=settings.format_name(),
        colour=ink_for(settings, sys.stderr).colour,
        write=write,
        told=told if is_default else frozenset(),
    )


def cancel_for(settings: Settings) -> Cancel:
    """A cancel token that tells of signals as the log is written."""
    return Cancel(write_entry) if settings.format_name() == "json" else Cancel()


def run_apply(
    settings: Settings,
    reconciler: "Reconciler",
    request: Request,
    *,
    saved: Plan | None = None,
    timeout_s: float | None = None,
    must_confirm: bool = False,
) -> int:
    """Apply, show progress meanwhile and the result afterwards; the exit code."""
    with cancel_on_signals(cancel_for(settings)) as cancel, progress_for(settings) as progress:
        cancel.announce = progress.note if isinstance(progress, Live) else cancel.announce
        configure_log(settings, write=progress.write if isinstance(progress, Live) else None, told=_TOLD)
        try:
            result = reconciler.apply(
                request,
                saved=saved,
                timeout_s=timeout_s,
                cancel=cancel,
                progress=progress.report,
                on_outcome=progress.finish,
                on_plan=_on_plan(settings, progress, must_confirm=must_confirm),
            )
        except Failure:
            if cancel.stop is None:
                raise
            return _EXITS[cancel.stop]  # stopped before there was a plan
        finally:
            configure_log(settings)
    result = _with_stop(result, cancel)
    show(settings, lambda: apply_result_document(result), lambda ink: result_lines(result, ink, request))
    return apply_exit_code(result.summary)


def _with_stop(result: ApplyResult, cancel: Cancel) -> ApplyResult:
    """The library knows that it was stopped; only the command knows by which signal."""
    cut_off = result.summary.stopped is not None or result.summary.cancelled > 0
    stop = cancel.stop if cut_off else None
    if stop is None or result.summary.stopped is Stop.TIMED_OUT:
        return result
    return replace(result, summary=replace(result.summary, stopped=stop))


def _on_plan(settings: Settings, progress: Live | Quiet, *, must_confirm: bool) -> Callable[[Plan], None]:
    def on_plan(plan: Plan) -> None:
        if must_confirm and any(action.kind is ActionKind.EVICT for action in plan.actions):
            with progress.hidden():
                confirm(settings, plan)
        progress.on_plan(plan)

    return on_plan


def confirm(settings: Settings, plan: Plan) -> None:
    """Ask a person, where there is one.

    Raises:
        Failure: ``not_confirmed`` where the answer is no.
    """
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return
    ink: Ink = ink_for(settings, sys.stderr)
    with interruptible():
        tell([*plan_lines(plan, ink)])
        sys.stderr.write("Evict these? [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        raise refused("not_confirmed", "not confirmed; nothing was changed", hint="--yes answers beforehand")


def said(settings: Settings, kind: str, names: Sequence[str], text: str) -> int:
    """The answer of a verb that only records something."""
    if settings.output in ("json", "yaml"):
        show(settings, lambda: heading("Done") | {"verb": kind, "models": list(names), "message": text}, lambda _: ())
    else:
        put_lines([text])
    return Exit.DONE
