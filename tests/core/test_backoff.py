"""After a failure: the table of waits, and which failures keep a step from being tried."""

import math
from dataclasses import replace

import pytest

from reconciler.core.actions import Request
from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.digests import links_digest, terms_digest
from reconciler.core.inventory import Inventory
from reconciler.core.observed import FailureFact
from reconciler.core.retry import blocking_failure, delay_s, failure_message, is_blocking
from reconciler.core.roster import seat_of
from reconciler.core.stored import StoredFile, StoredModel, StoreFacts
from reconciler.core.words import Priority
from tests.core.worlds import NOW, digest, observed, wanted

SPEC = digest("spec")
NEARLY_ONE = math.nextafter(1.0, 0.0)


def failure(kind="transient", reason="broken", **rest):
    values = {"message": "it broke.", "attempts": 2, "retry_at": None if kind == "permanent" else NOW + 60} | rest
    return FailureFact("a", values.pop("spec", SPEC), kind, reason, **values)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 2), (2, 4), (3, 8), (9, 512), (10, 900), (30, 900), (31, 900), (10**9, 900)],
)
def test_the_span_is_two_to_the_attempts_up_to_a_quarter_of_an_hour(attempts, seconds):
    assert delay_s(attempts, NEARLY_ONE) == pytest.approx(seconds)


@pytest.mark.parametrize("attempts", [0, -3])
def test_fewer_than_one_attempt_counts_as_one(attempts):
    assert delay_s(attempts, 0.5) == delay_s(1, 0.5) == 1.0


@pytest.mark.parametrize(
    ("asked", "seconds"), [(None, 0), (0, 0), (-5, 0), (30, 30), (900, 900), (901, 900), (math.inf, 900)]
)
def test_what_the_other_side_asks_for_is_a_floor_and_capped_itself(asked, seconds):
    assert delay_s(1, 0.0, asked) == seconds


def test_a_floor_below_the_jitter_changes_nothing():
    assert delay_s(5, 0.5, 3.0) == delay_s(5, 0.5) == 16.0


@pytest.mark.parametrize(
    ("past", "is_in_the_way"),
    [
        (failure(retry_at=NOW + 0.001), True),
        (failure(retry_at=NOW), False),
        (failure(retry_at=NOW + 900), True),
        (failure(retry_at=NOW + 901), False),  # the clock was set back
        (failure(retry_at=NOW - 1), False),
        (failure(retry_at=None), False),
        (failure("permanent"), True),
        (failure("permanent", source_changed=True), False),
        (failure(source_changed=True), False),
        (failure("refused"), False),
        (failure("refused", retry_at=None), False),
        (failure(spec=digest("other")), False),
        (failure("permanent", spec=digest("other")), False),
    ],
)
def test_which_failures_are_in_the_way(past, is_in_the_way):
    assert is_blocking(past, SPEC, NOW) is is_in_the_way
    assert blocking_failure((past,), SPEC, NOW, ("download",)) == (past if is_in_the_way else None)


def test_a_failed_step_is_not_in_the_way_of_another_step():
    assert blocking_failure((failure(step="load"),), SPEC, NOW, ("download", "extract")) is None
    assert blocking_failure((failure(step="load"),), SPEC, NOW, iter(("download", "load"))).step == "load"


@pytest.mark.parametrize(
    ("past", "text"),
    [
        (failure("permanent"), "it broke; waits for a changed manifest or source"),
        (
            failure("permanent", "digest_mismatch", message=""),
            "digest mismatch; waits for a changed manifest or source",
        ),
        (failure(attempts=1, retry_at=0.0), "it broke; after 1 try, next at 1970-01-01T00:00:00.000Z"),
        (failure(attempts=3, retry_at=1.5), "it broke; after 3 tries, next at 1970-01-01T00:00:01.500Z"),
    ],
)
def test_a_failure_says_what_happened_and_what_follows(past, text):
    assert failure_message(past) == text


def test_the_terms_of_a_failure_change_with_what_may_end_it_and_with_nothing_else():
    model = wanted("a")
    file = model.artifacts[0]
    terms = terms_digest(model, ["http://cache.lan/{sha256}"])
    assert terms == terms_digest(replace(model, priority=Priority.HIGH, pinned=True), ["http://cache.lan/{sha256}"])
    more = replace(model, artifacts=(replace(file, sources=(*file.sources, "https://other.example/a")),))
    others = [
        terms_digest(model, []),
        terms_digest(more, ["http://cache.lan/{sha256}"]),
        terms_digest(replace(model, allow_unsafe=True), ["http://cache.lan/{sha256}"]),
        terms_digest(replace(model, artifacts=(replace(file, size_bytes=1),)), ["http://cache.lan/{sha256}"]),
    ]
    assert len({terms, *others}) == 5


def test_links_that_failed_are_left_alone_until_there_are_others():
    model = DesiredModel("a", links=("/app/a",), spec_digest=SPEC, artifacts=(Artifact("a.bin", ("https://h/a.bin",)),))
    stored = StoredModel("a", SPEC, (StoredFile("a.bin", digest("a"), 5, 4096),))
    past = failure(step="link", spec=links_digest(model))
    world = replace(observed(), store=StoreFacts(models=(stored,)), failures=(past,))

    def gate(wanted):
        return seat_of(wanted, DesiredState((wanted,)), Inventory(world), Request()).gate

    assert gate(model).reason == "backing_off"
    assert gate(replace(model, links=("/app/b",))) is None
