"""Documents: exact round trips, and nothing believed that comes from outside."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.actions import Request
from reconciler.core.codec import exact_moment, parse_exact_moment
from reconciler.core.desired import Artifact
from reconciler.core.document import (
    observed_digest,
    observed_from_document,
    plan_document,
    plan_from_document,
    snapshot_document,
)
from reconciler.core.errors import Failure
from reconciler.core.observed import DeviceFacts, FailureFact, Override, Resolution, RuntimeFact
from reconciler.core.plan import plan
from reconciler.core.stored import LocalCopy, PartialFact
from tests.core.worlds import BLOCK, NOW, artifact, desired, digest, held, observed, wanted


@given(st.floats(allow_nan=False))
def test_a_moment_is_read_back_exactly(seconds):
    assert parse_exact_moment(exact_moment(seconds)) == seconds


def test_moments_look_like_moments():
    assert exact_moment(0.0) == "1970-01-01T00:00:00Z"
    assert exact_moment(1763926652.1234567) == "2025-11-23T19:37:32.1234567Z"
    assert exact_moment(math.inf) == "forever"
    assert exact_moment(-5.0) == -5.0
    assert exact_moment(1e300) == 1e300


@pytest.mark.parametrize("text", ["yesterday", True, None, "2025-13-01T00:00:00Z"])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ValueError):
        parse_exact_moment(text)


def full():
    model = wanted("a", artifact("x", None, None))
    files = (Artifact("x", ("https://u:p@h/x?token=s3cret",), digest("x"), BLOCK),)
    return model, observed(
        held(wanted("b"), verified_at=NOW),
        partials=(PartialFact("k", "a", 1, BLOCK, NOW, digest("x"), BLOCK, "x"),),
        resolutions=(Resolution("a", model.spec_digest, files, revision="abc"),),
        local_copies=(LocalCopy(digest("x"), "/c", 1),),
        failures=(FailureFact("a", digest("s"), "transient", "r", "m", 1, NOW + 1.5),),
        overrides=(Override("b", "load", NOW - 1),),
        runtimes=(RuntimeFact("default", "page-cache", loaded=(("b", 5),)),),
        device=DeviceFacts(hostname="h", labels=(("site", "lab"),), is_metered=False),
        suspended_until=math.inf,
    )


def test_a_snapshot_holds_everything_but_queries():
    model, found = full()
    document = snapshot_document(found)
    assert "s3cret" not in str(document)
    read = observed_from_document(document)
    assert snapshot_document(read) == document
    assert replace(read, resolutions=()) == replace(found, resolutions=())
    assert read.digest == observed_digest(found) == document["digest"]
    assert plan_document(plan(desired(model), replace(found, digest=read.digest))) == plan_document(
        plan(desired(model), read)
    )


def test_the_digest_of_what_was_observed_covers_no_time():
    _, found = full()
    assert observed_digest(found) == observed_digest(replace(found, taken_at=NOW + 9))
    assert observed_digest(found) != observed_digest(replace(found, is_offline=True))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format_version",), "2.0"),
        (("format_version",), None),
        (("kind",), "Plan"),
        (("store",), []),
        (("store", "models"), {}),
        (("store", "models"), [{"name": "x"}]),
        (("store", "used_bytes"), "many"),
        (("disk", "total_bytes"), True),
        (("taken_at",), "noon"),
        (("runtimes",), [{"name": "r", "type": "t", "loaded": [["a"]]}]),
        (
            ("store", "models"),
            [
                {
                    "name": "x",
                    "spec_digest": "s",
                    "files": [
                        {"path": "p", "digest": None, "size_bytes": 1, "allocated_bytes": 1, "condition": "lovely"}
                    ],
                }
            ],
        ),
    ],
)
def test_a_snapshot_that_is_none_is_refused(path, value):
    document = snapshot_document(full()[1])
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(Failure) as caught:
        observed_from_document(document)
    assert caught.value.reason == "document_invalid"


def test_a_whole_number_is_read_where_a_fraction_may_stand():
    document = snapshot_document(observed(throughput_bytes_per_s=5.5)) | {"throughput_bytes_per_s": 5}
    assert observed_from_document(document).throughput_bytes_per_s == 5.0


@pytest.mark.parametrize("document", [None, [], {"format_version": "1.0"}])
def test_what_is_no_document_is_refused(document):
    with pytest.raises(Failure):
        plan_from_document(document)


def test_a_saved_plan_that_was_changed_is_refused():
    document = plan_document(plan(desired(wanted("a")), observed(), Request(only=("a",))))
    document["actions"][0]["model"] = "b"
    with pytest.raises(Failure, match="changed after it was saved"):
        plan_from_document(document)
    with pytest.raises(Failure, match="cannot be read"):
        plan_from_document(document | {"actions": 5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depends_on": ("download:a",)}, "download:a waits for download:a, which does not come before it"),
        ({"depends_on": ("nobody",)}, "download:a waits for nobody"),
        ({"depends_on": ("\x1b",)}, r"download:a waits for \\x1b,"),
        ({}, "download:a stands there twice"),
    ],
)
def test_a_saved_plan_that_would_never_end_is_refused(change, message):
    made = plan(desired(wanted("a")), observed())
    (download,) = made.actions
    changed = replace(made, actions=(replace(download, **change),) if change else (download, download))
    with pytest.raises(Failure, match=message):
        plan_from_document(plan_document(changed))


def test_a_version_that_cannot_be_printed_is_told_all_the_same():
    with pytest.raises(Failure, match=r"of version \\ud800 are not known"):
        plan_from_document({"kind": "Plan", "format_version": "\ud800"})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("disk", "block_bytes", 0),
        ("disk", "total_bytes", -1),
        ("memory", "available_bytes", 1 << 64),
        ("device", "local_minute", 1440),
        (None, "throughput_bytes_per_s", 1e-320),
        (None, "throughput_bytes_per_s", math.inf),
        (None, "taken_at", math.nan),
        (None, "taken_at", math.inf),
    ],
)
def test_a_snapshot_with_a_number_that_no_machine_has_is_refused_and_names_it(section, key, value):
    document = snapshot_document(observed())
    (document.setdefault(section, {}) if section else document)[key] = value
    with pytest.raises(Failure, match=f"{key}: .* is out of range"):
        observed_from_document(document)


def test_a_plan_document_begins_with_its_kind():
    document = plan_document(plan(desired(wanted("a")), observed()))
    assert list(document)[:3] == ["format_version", "kind", "plan_digest"]
    assert document["summary"]["download"] == 1
    assert document["observed"]["taken_at"].endswith("Z")


def test_free_bytes_that_change_no_action_do_not_change_the_digest():
    model = wanted("a")
    first = plan_document(plan(desired(model), observed(free=10**9)))
    second = plan_document(plan(desired(model), observed(free=10**8)))
    assert first["plan_digest"] == second["plan_digest"]
