"""Plans and reasons as documents: read back as they were, and only where they are what they say."""

import json
import math
from dataclasses import dataclass, replace
from enum import Enum

import pytest
from hypothesis import given, settings

from reconciler.core.actions import Plan, Request
from reconciler.core.change import Change
from reconciler.core.codec import decode, encode, exact_moment
from reconciler.core.desired import Artifact
from reconciler.core.document import (
    observed_from_document,
    plan_document,
    plan_from_document,
    snapshot_document,
    why_document,
)
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.observed import FailureFact, Resolution
from reconciler.core.plan import plan
from reconciler.core.why import Link, Why
from reconciler.core.words import Digest, Role
from tests.core.worlds import NOW, artifact, desired, digest, held, observed, wanted, worlds


def failed(spec, **rest):
    return FailureFact("b", spec, "transient", "timeout", "no answer", 2, NOW + 60.5, **rest)


def saved_plan() -> Plan:
    """A plan with an action, something deferred until a moment, and something satisfied."""
    a, b, c = wanted("a"), wanted("b"), wanted("c")
    return plan(desired(a, b, c), observed(held(c), failures=(failed(b.spec_digest),)), Request(prune=True))


def on_paper(document):
    return json.loads(json.dumps(document))


def test_a_saved_plan_is_read_back_as_it_was():
    made = saved_plan()
    read = plan_from_document(on_paper(plan_document(made)))
    assert read.actions == made.actions
    assert read.satisfied == made.satisfied
    assert read.summary == made.summary
    assert read.request == made.request
    assert (read.desired_digest, read.observed_digest) == (made.desired_digest, made.observed_digest)
    assert read.taken_at == pytest.approx(made.taken_at, abs=0.001)
    assert [each.retry_at for each in read.deferred] == [NOW + 60.5]
    assert plan_document(read) == plan_document(made)


@settings(max_examples=25, deadline=None)
@given(worlds())
def test_any_plan_survives_being_saved(world):
    document = on_paper(plan_document(plan(*world)))
    assert on_paper(plan_document(plan_from_document(document))) == document


@settings(max_examples=25, deadline=None)
@given(worlds())
def test_any_snapshot_survives_being_saved(world):
    _, found = world
    read = observed_from_document(on_paper(snapshot_document(found)))
    assert read == found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("actions", 5),
        ("actions", ["download a"]),
        ("actions", [{"id": "download:a"}]),
        ("deferred", [{"model": "b", "reason": "r", "message": "m", "retry_at": "soon"}]),
        ("deferred", [{"model": "b", "reason": "r", "message": 7}]),
        ("satisfied", {"c": "present"}),
        ("summary", []),
        ("summary", {"download": 1}),
        ("desired", None),
        ("observed", {"digest": "x"}),
        ("observed", {"digest": "x", "taken_at": "noon"}),
        ("observed", {"digest": "x", "taken_at": 5}),
        ("request", {"prune": "yes"}),
        ("guards", [{}]),
        ("diagnostics", [[]]),
        ("request", {"only": ["\ud800"]}),  # half a character
        ("observed", {"digest": "x", "taken_at": "9" * 400}),
    ],
)
def test_a_plan_with_a_part_that_cannot_be_read_is_refused(key, value):
    document = on_paper(plan_document(saved_plan()))
    with pytest.raises(Failure, match="Plan document cannot be read") as caught:
        plan_from_document(document | {key: value})
    assert (caught.value.kind, caught.value.reason) == (FailureKind.PERMANENT, "document_invalid")
    del document[key]
    with pytest.raises(Failure, match="cannot be read"):
        plan_from_document(document)


@pytest.mark.parametrize("key", ["desired", "request", "actions", "satisfied"])
def test_a_plan_that_was_changed_by_hand_is_refused(key):
    document = on_paper(plan_document(saved_plan()))
    changed = {"desired": {"digest": digest("other")}, "request": {}, "actions": [], "satisfied": []}[key]
    with pytest.raises(Failure, match="changed after it was saved") as caught:
        plan_from_document(document | {key: changed})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "2.0"}, "of version 2.0 are not known"),
        ({"format_version": 1}, "this is no Plan document"),
        ({"kind": "Snapshot"}, "this is no Plan document"),
    ],
)
def test_a_document_of_another_kind_or_version_is_refused(change, message):
    with pytest.raises(Failure, match=message):
        plan_from_document(plan_document(saved_plan()) | change)


def test_a_newer_minor_version_is_read():
    document = plan_document(saved_plan()) | {"format_version": "1.7", "added": "later"}
    assert plan_from_document(document).actions == saved_plan().actions


def test_queries_and_user_names_of_urls_never_reach_a_document():
    model = wanted("a", artifact("x", None, None))
    signed = ("https://u:s3cret@h/x?token=s3cret", "https://mirror/x#s3cret")
    files = (Artifact("x", signed, digest("x"), 5),)
    found = observed(resolutions=(Resolution("a", model.spec_digest, files, revision="r"),))
    document = snapshot_document(found)
    assert "s3cret" not in json.dumps(document)
    assert "s3cret" not in json.dumps(plan_document(plan(desired(model), found)))
    assert observed_from_document(document).resolutions[0].files[0].sources == ("https://h/x", "https://mirror/x")
    assert found.resolutions[0].files[0].sources == signed


def test_why_tells_its_chain_and_the_change_that_would_turn_it():
    change = Change("cache.maxSize", 10, 20, "with 20 bytes there is room for it")
    chain = (Link("wanted", "the manifest wants it"), Link("no_room", "no room"))
    document = why_document(Why("a", "deferred", "no_room", "no room", chain, change))
    assert document["change"] == {
        "field": "cache.maxSize",
        "from": 10,
        "to": 20,
        "message": "with 20 bytes there is room for it",
    }
    assert [link["fact"] for link in document["chain"]] == ["wanted", "no_room"]
    assert list(document)[:2] == ["format_version", "kind"]
    assert document["kind"] == "Why"
    assert (document["model"], document["decision"], document["reason"]) == ("a", "deferred", "no_room")


def test_why_without_a_change_says_so():
    assert why_document(Why("a", "satisfied", "present", "it is there", (), None))["change"] is None


# --- the codec itself -------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    colour: Colour | None
    role: Role = Role.PRIMARY


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    inner: Inner | None
    many: tuple[Inner, ...] = ()
    pair: tuple[str, int] = ("", 0)
    share: float | None = None
    content: Digest | None = None
    retry_at: float | None = None
    made_at: float = 0.0


FULL = Outer("n", Inner(Colour.RED, Role.CONFIG), (Inner(None),), ("a", 1), 0.5, digest("x"), math.inf, NOW)


@pytest.mark.parametrize("value", [FULL, Outer("n", None), replace(FULL, inner=Inner(None), retry_at=-1.0)])
def test_values_are_read_back_exactly(value):
    assert decode(Outer, on_paper(encode(value))) == value


def test_what_has_its_default_is_left_out():
    assert encode(Outer("n", None)) == {"name": "n", "inner": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 7}, "name: expected str"),
        ({"name": None}, "name: expected str"),
        ({"inner": []}, "inner: Inner: expected a mapping"),
        ({"inner": {}}, "inner: Inner: colour is missing"),
        ({"inner": {"colour": "mauve"}}, "inner: colour: 'mauve'"),
        ({"many": {}}, "many: expected a list"),
        ({"many": [{"colour": 5}]}, "many: colour: 5"),
        ({"pair": ["a"]}, "pair: expected a list"),
        ({"pair": ["a", 1, 2]}, "pair: expected a list"),
        ({"pair": ["a", "b"]}, "pair: expected int"),
        ({"pair": ["a", True]}, "pair: expected int"),
        ({"share": "half"}, "share: expected float"),
        ({"share": True}, "share: expected float"),
        ({"content": 5}, "content: expected str"),
        ({"made_at": None}, "made_at: a moment"),
        ({"retry_at": "2025-01-01"}, "retry_at: a moment"),
        ({"retry_at": True}, "retry_at: a moment"),
    ],
)
def test_what_is_not_as_the_type_says_is_refused_and_its_place_named(change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        decode(Outer, encode(FULL) | change)


def test_a_whole_number_may_stand_for_a_fraction_and_not_the_other_way_round():
    share = decode(Outer, encode(FULL) | {"share": 1}).share
    assert (share, type(share)) == (1.0, float)
    with pytest.raises(ValueError, match="pair: expected int"):
        decode(Outer, encode(FULL) | {"pair": ["a", 1.0]})


def test_a_field_without_a_default_must_be_there():
    with pytest.raises(ValueError, match="Outer: name is missing"):
        decode(Outer, {"inner": None})


def test_moments_beyond_the_calendar_stay_numbers():
    assert exact_moment(253402300799.0) == "9999-12-31T23:59:59Z"
    assert exact_moment(253402300800.0) == 253402300800.0
    assert exact_moment(1e-7) == 1e-7
