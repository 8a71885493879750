"""What a plan adds up to. Exit codes are a function of this, and of nothing else."""

from collections import Counter
from collections.abc import Sequence

from reconciler.core.actions import Action, ActionKind, Cause, Deferred, Guard, Satisfied, Summary
from reconciler.core.roster import OTHERS_ONLY


def summarize(
    parts: tuple[Sequence[Action], Sequence[Deferred], Sequence[Satisfied], Sequence[Guard]],
    disk: tuple[int, int, int],
    throughput: float | None = None,
    hidden: Sequence[Deferred] = (),
) -> Summary:
    """Counts and bytes.

    Args:
        parts: actions, deferred, satisfied, guards.
        disk: peak, final and limit in bytes.
        hidden: what was held back of models that have an action all the same; a failure among it still counts.
        throughput: bytes per second as measured on this machine, None where nothing was.
    """
    actions, deferred, satisfied, guards = parts
    failed = [each for each in (*deferred, *hidden) if each.is_failed]
    kinds = Counter(action.kind for action in actions)
    causes = Counter(action.cause for action in actions)
    downloads = [action for action in actions if action.kind is ActionKind.DOWNLOAD]
    bytes_download = sum(action.bytes or 0 for action in downloads)
    return Summary(
        counts=tuple((kind.value, kinds[kind]) for kind in ActionKind),
        causes=tuple((cause.value, causes[cause]) for cause in Cause),
        changes=len(actions),
        deferred=sum(1 for each in deferred if each.reason != OTHERS_ONLY),
        failed=len(failed),
        satisfied=len(satisfied),
        guards=len(guards),
        bytes_download=bytes_download,
        bytes_freed=sum(action.bytes or 0 for action in actions if action.kind is ActionKind.EVICT),
        disk_peak_bytes=disk[0],
        disk_final_bytes=disk[1],
        disk_limit_bytes=disk[2],
        unknown_sizes=sum(1 for action in downloads if action.bytes is None),
        estimated_seconds=round(bytes_download / throughput, 1) if throughput else None,
    )
