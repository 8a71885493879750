"""Lock: what a mutable reference was resolved to, against what it stands for now. Pure comparison of two resolutions.

A recorded resolution stays in force until somebody upgrades it. What the origin says now may differ in two ways, and
they mean opposite things: it *moved on* (another revision: `outdated`, an offer), or it *contradicts* the record (the
same revision with other bytes: a refusal, since a revision never changes what it holds).
"""

from enum import StrEnum

from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, refused
from reconciler.core.observed import Resolution
from reconciler.core.records import dataclass
from reconciler.core.reference import is_lasting


class LockState(StrEnum):
    """How the present stands to the record."""

    SAME = "same"
    OUTDATED = "outdated"  # the reference moved to another revision or other files
    CONTRADICTED = "contradicted"  # the same revision holds other bytes than recorded


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that differs: ``before`` is None where it is new, ``after`` where it is gone."""

    path: str
    before: Artifact | None
    after: Artifact | None


@dataclass(frozen=True, slots=True)
class LockComparison:
    """The outcome for one model. ``changes`` are sorted by path."""

    model: str
    state: LockState
    recorded_revision: str
    current_revision: str
    changes: tuple[FileChange, ...]


def compare_lock(recorded: Resolution, current: Resolution) -> LockComparison:
    """What became of a recorded resolution; sizes and digests count only where both sides know them."""
    before = {file.path: file for file in recorded.files}
    after = {file.path: file for file in current.files}
    changes = tuple(
        FileChange(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if _differs(before.get(path), after.get(path))
    )
    state = LockState.SAME
    if changes or recorded.revision != current.revision:
        is_same_revision = bool(recorded.revision) and recorded.revision == current.revision
        state = LockState.CONTRADICTED if changes and is_same_revision else LockState.OUTDATED
    return LockComparison(recorded.model, state, recorded.revision, current.revision, changes)


def is_agreed(model: DesiredModel, resolution: Resolution) -> bool:
    """Whether a remembered resolution says nothing else than the manifest (or its lock) declares by now."""
    told = {file.path: file for file in resolution.files}
    return all(
        artifact.digest in {None, told[artifact.path].digest}
        and artifact.size_bytes in {None, told[artifact.path].size_bytes}
        for artifact in model.artifacts
        if artifact.path in told
    )


def is_settled(model: DesiredModel, resolution: Resolution) -> bool:
    """Whether a remembered resolution still holds: else it is an estimate, and is asked for again before a download."""
    declared = {artifact.path for artifact in model.artifacts if artifact.size_bytes is not None}
    return all(file.path in declared or all(map(is_lasting, file.sources[:1])) for file in resolution.files)


def check_lock(comparison: LockComparison) -> None:
    """Refuse an origin that contradicts the record.

    Raises:
        Failure: refused ``lock_mismatch``.
    """
    if comparison.state is LockState.CONTRADICTED:
        raise _mismatch(comparison)


def _mismatch(comparison: LockComparison) -> Failure:
    first = comparison.changes[0].path
    message = f"{comparison.model}: {first} is not what was locked at revision {comparison.recorded_revision}"
    return refused("lock_mismatch", message, hint="find out why; to accept it: reconciler lock --upgrade")


def _differs(before: Artifact | None, after: Artifact | None) -> bool:
    if before is None or after is None:
        return True
    has_other_bytes = before.digest and after.digest and before.digest != after.digest
    sizes = (before.size_bytes, after.size_bytes)
    return bool(has_other_bytes) or (None not in sizes and sizes[0] != sizes[1])
