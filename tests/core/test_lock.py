"""A recorded resolution against what the origin says now."""

import pytest

from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.lock import LockState, check_lock, compare_lock, is_agreed, is_settled
from reconciler.core.observed import Resolution
from reconciler.core.words import Digest

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


@pytest.mark.parametrize(
    ("source", "declared", "is_right"),
    [
        ("https://h/x", (None, None), False),
        ("s3://b/x", (None, None), False),
        ("https://h/x", (A, None), False),
        ("https://h/x", (None, 1), True),
        ("hf://o/r@abc/x", (None, None), True),
    ],
)
def test_what_was_told_of_a_place_that_may_change_is_an_estimate(
    source: str, declared: tuple[Digest | None, int | None], is_right: bool
) -> None:
    model = DesiredModel("m", artifacts=(Artifact("x", (source,), *declared),))
    told = Resolution("m", Digest(""), (Artifact("x", (source,), declared[0], 1),))
    assert is_settled(model, told) is is_right


@pytest.mark.parametrize(
    ("declared", "is_right"), [((None, None), True), ((A, 1), True), ((None, 2), False), ((B, None), False)]
)
def test_what_is_declared_by_now_counts_before_what_was_told(
    declared: tuple[Digest | None, int | None], is_right: bool
) -> None:
    model = DesiredModel("m", artifacts=(Artifact("x", (), *declared), Artifact("", (), A)))
    assert is_agreed(model, resolution("1", x=(A, 1))) is is_right
