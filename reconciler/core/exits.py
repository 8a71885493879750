"""The one table of exit codes, and which summary gives which code."""

from enum import IntEnum

from reconciler.core.actions import Summary
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.report import ApplySummary, Stop


class Exit(IntEnum):
    """What the shell is told."""

    DONE = 0  # or nothing to do
    ERROR = 1
    CHANGES = 2  # only with --detailed-exitcode
    BLOCKED = 3  # guard, no room, window, confirmation
    FAILED = 4  # some actions failed, the others are done
    STALE = 5  # the saved plan no longer fits
    BUSY = 7  # another reconciler owns the store
    TIMED_OUT = 8
    USAGE = 64
    INVALID = 65  # the manifest
    INTERRUPTED = 130
    TERMINATED = 143


_BY_REASON = {
    "manifest_invalid": Exit.INVALID,
    "plan_stale": Exit.STALE,
    "store_busy": Exit.BUSY,
    "timed_out": Exit.TIMED_OUT,
    "usage": Exit.USAGE,
    "git_url_refused": Exit.USAGE,
    "git_ref_refused": Exit.USAGE,
    "git_path_refused": Exit.USAGE,
}
_BY_STOP = {
    Stop.TIMED_OUT: Exit.TIMED_OUT,
    Stop.INTERRUPTED: Exit.INTERRUPTED,
    Stop.TERMINATED: Exit.TERMINATED,
}


def plan_exit_code(summary: Summary, *, detailed: bool = False) -> Exit:
    """0, or 2 where there is something to do and ``--detailed-exitcode`` asked for it."""
    return Exit.CHANGES if detailed and summary.changes else Exit.DONE


def apply_exit_code(summary: ApplySummary) -> Exit:
    """Why it was cut off, else 4 if something failed, else 3 if something is deferred or guarded, else 0."""
    if summary.stopped is not None:
        return _BY_STOP[summary.stopped]
    if summary.failed or summary.backing_off:
        return Exit.FAILED
    if summary.deferred or summary.guards:
        return Exit.BLOCKED
    return Exit.DONE


def failure_exit_code(failure: Failure) -> Exit:
    """The code of a failure that ended the whole command."""
    by_reason = _BY_REASON.get(failure.reason)
    if by_reason is not None:
        return by_reason
    return Exit.BLOCKED if failure.kind is FailureKind.REFUSED else Exit.ERROR
