"""A recorded resolution against what the origin says now."""

import pytest

from reconciler.core.errors import Failure, FailureKind
from reconciler.core.lock import LockState, check_lock, compare_lock
from reconciler.core.state import Artifact, Digest, Resolution

A, B = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)


def resolution(revision: str, **files: tuple[Digest | None, int | None]) -> Resolution:
    artifacts = tuple(Artifact(path, (), digest, size) for path, (digest, size) in files.items())
    return Resolution("m", Digest(""), artifacts, revision)


@pytest.mark.parametrize(
    ("recorded", "current", "state", "paths"),
    [
        (resolution("1", x=(A, 1)), resolution("1", x=(A, 1)), LockState.SAME, []),
        (resolution("1", x=(None, None)), resolution("1", x=(A, 1)), LockState.SAME, []),
        (resolution("1", x=(A, 1)), resolution("2", x=(A, 1)), LockState.OUTDATED, []),
        (resolution("1", x=(A, 1)), resolution("2", y=(A, 1)), LockState.OUTDATED, ["x", "y"]),
        (resolution("1", x=(A, 1)), resolution("1", x=(B, 1)), LockState.CONTRADICTED, ["x"]),
        (resolution("1", x=(None, 1)), resolution("1", x=(None, 2)), LockState.CONTRADICTED, ["x"]),
        (resolution("1", x=(A, 1)), resolution("1"), LockState.CONTRADICTED, ["x"]),
        (resolution("", x=(A, 1)), resolution("", x=(B, 1)), LockState.OUTDATED, ["x"]),
    ],
)
def test_moving_on_and_contradicting_are_told_apart(
    recorded: Resolution, current: Resolution, state: LockState, paths: list[str]
) -> None:
    comparison = compare_lock(recorded, current)
    assert (comparison.state, [change.path for change in comparison.changes]) == (state, paths)
    if state is not LockState.CONTRADICTED:
        check_lock(comparison)
        return
    with pytest.raises(Failure) as caught:
        check_lock(comparison)
    assert (caught.value.kind, caught.value.reason) == (FailureKind.REFUSED, "lock_mismatch")
