"""Failures: sorted by what happens next, and the same on the other side of a process border."""

import copy
import pickle

import pytest

from reconciler.core.errors import (
    MAX_PROBLEMS,
    Failure,
    FailureKind,
    ManifestInvalid,
    Problem,
    manifest_missing,
    permanent,
    refused,
    transient,
)

WHERE = Problem("models.yaml", 12, 3, "found 'larg'", "one of: small, large", "did you mean large?", "models.a.size")


def fields(failure):
    return (failure.kind, failure.reason, failure.message, failure.hint, failure.retry_after_s)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (transient("timeout", "no answer", hint="wait", retry_after_s=3.0), FailureKind.TRANSIENT),
        (permanent("digest_mismatch", "other bytes", hint="mend"), FailureKind.PERMANENT),
        (refused("in_use", "it is in use", hint="stop it"), FailureKind.REFUSED),
    ],
)
def test_a_failure_is_the_same_after_pickling(failure, kind):
    assert failure.kind is kind
    assert str(failure) == failure.message
    for twin in (pickle.loads(pickle.dumps(failure)), copy.copy(failure), copy.deepcopy(failure)):
        assert type(twin) is Failure
        assert fields(twin) == fields(failure)
        assert str(twin) == failure.message


@pytest.mark.parametrize("make", [transient, permanent, refused])
def test_a_hint_may_be_missing_and_no_wait_is_asked_for_unless_named(make):
    assert fields(make("r", "m"))[1:] == ("r", "m", "", None)


def test_kinds_are_spelled_as_the_ledger_remembers_them():
    assert [str(kind) for kind in FailureKind] == ["transient", "permanent", "refused"]


def test_a_problem_begins_with_its_place_and_ends_with_its_hint():
    text = "models.yaml:12:3: found 'larg'; expected one of: small, large"
    assert str(WHERE) == f"{text} (did you mean large?)"
    assert str(Problem("models.yaml", 12, 3, "found 'larg'", "one of: small, large")) == text


def test_an_invalid_manifest_tells_all_its_problems_in_order_of_place():
    early = Problem("models.yaml", 2, 9, "x", "y")
    same_line = Problem("models.yaml", 12, 1, "x", "y")
    other_file = Problem("a.yaml", 99, 1, "x", "y")
    invalid = ManifestInvalid((WHERE, same_line, early, other_file))
    assert invalid.problems == (other_file, early, same_line, WHERE)
    assert (invalid.kind, invalid.reason) == (FailureKind.PERMANENT, "manifest_invalid")
    assert invalid.hint


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1 problem"), (2, "2 problems"), (MAX_PROBLEMS, f"{MAX_PROBLEMS} problems or more; only so many are told")],
)
def test_problems_are_counted(count, words):
    assert str(ManifestInvalid((WHERE,) * count)) == f"the manifest has {words}"


def test_an_invalid_manifest_keeps_its_problems_across_a_process_border():
    problem = Problem("m.yaml", 3, 5, "a tab", "spaces")
    found = pickle.loads(pickle.dumps(ManifestInvalid((problem,))))
    assert isinstance(found, ManifestInvalid)
    assert found.problems == (problem,)


def test_no_manifest_is_an_invalid_one_with_a_reason_of_its_own():
    missing = manifest_missing()
    assert (missing.reason, [problem.found for problem in missing.problems]) == ("manifest_missing", ["no manifest"])
