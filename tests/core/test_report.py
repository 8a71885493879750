"""Sums of a run, exit codes, histories, disk use, moments."""

import math
from dataclasses import replace

import pytest

from reconciler.core.actions import (
    Action,
    ActionKind,
    Cause,
    Deferred,
    Guard,
    Outcome,
    OutcomeStatus,
    Plan,
    Request,
    Summary,
)
from reconciler.core.errors import ManifestInvalid, permanent, refused, transient
from reconciler.core.exits import Exit, apply_exit_code, failure_exit_code, plan_exit_code
from reconciler.core.history import History, RevisionFact, Transition, history_document, time_in_states
from reconciler.core.moments import moment_text, parse_moment
from reconciler.core.notices import Check, Event, checks_document, event_document
from reconciler.core.observed import DiskFacts, MemoryFacts, ObservedState
from reconciler.core.policies import CachePolicy, Size
from reconciler.core.report import ApplySummary, Stop, apply_result, apply_result_document
from reconciler.core.roster import OTHERS_ONLY
from reconciler.core.stored import BlobFact, PartialFact, StoredFile, StoredModel, StoreFacts
from reconciler.core.usage import df_document, measure_df
from reconciler.core.words import Digest

A = Digest("sha256:" + "a" * 64)
B = Digest("sha256:" + "b" * 64)
SUMMARY = Summary((), (), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)
PLAN = Plan(A, A, 0.0, (), (), (), SUMMARY)


def outcome(status, kind=ActionKind.DOWNLOAD, size=10):
    return Outcome("1", kind, "m", status, "not_found", "404", size, 1.23456, "transient", 60.0)


def test_a_result_counts_what_was_done_and_only_that():
    outcomes = [
        outcome(OutcomeStatus.DONE),
        outcome(OutcomeStatus.FAILED),
        outcome(OutcomeStatus.CANCELLED),
        outcome(OutcomeStatus.SKIPPED),
        outcome(OutcomeStatus.DONE, ActionKind.EVICT, 7),
        outcome(OutcomeStatus.DONE, ActionKind.VERIFY, 5),
    ]
    waiting = (Deferred("a", "no_room", "x"), Deferred("b", "backing_off", "x", is_failed=True))
    result = apply_result(replace(PLAN, deferred=waiting, guards=(Guard("g", "x"),)), A, outcomes, seconds=2.0)
    summary = result.summary
    assert (summary.done, summary.failed, summary.cancelled, summary.skipped) == (3, 1, 1, 1)
    assert (summary.bytes_downloaded, summary.bytes_freed) == (10, 7)
    assert (summary.deferred, summary.backing_off, summary.guards) == (2, 1, 1)
    document = apply_result_document(result)
    assert document["outcomes"][0]["seconds"] == 1.235
    assert document["outcomes"][0]["retry_at"] == "1970-01-01T00:01:00.000Z"
    assert document["summary"]["stopped"] is None


def test_what_a_run_was_not_about_does_not_count():
    waiting = (Deferred("a", "no_room", "x"), Deferred("b", "not_found", "x", is_failed=True))
    for request in (Request(verb="load", models=("c",)), Request(only=("c",))):
        summary = apply_result(replace(PLAN, deferred=waiting, request=request), A, ()).summary
        assert (summary.deferred, summary.backing_off) == (0, 0)
    summary = apply_result(replace(PLAN, deferred=waiting, request=Request(only=("b",))), A, ()).summary
    assert (summary.deferred, summary.backing_off) == (1, 1)


def test_outcomes_stand_in_the_order_of_the_plan_however_they_ended():
    actions = tuple(Action(name, ActionKind.DOWNLOAD, name, "new", "", Cause.INTENT) for name in ("b", "a", "c"))
    ended = [Outcome(name, ActionKind.DOWNLOAD, name, OutcomeStatus.DONE) for name in ("c", "a", "b")]
    result = apply_result(replace(PLAN, actions=actions), A, ended)
    assert [each.id for each in result.outcomes] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        (ApplySummary(), Exit.DONE),
        (ApplySummary(done=3), Exit.DONE),
        (ApplySummary(deferred=1), Exit.BLOCKED),
        (ApplySummary(guards=1), Exit.BLOCKED),
        (ApplySummary(deferred=1, failed=1), Exit.FAILED),
        (ApplySummary(deferred=1, backing_off=1), Exit.FAILED),
        (ApplySummary(failed=1, stopped=Stop.TIMED_OUT), Exit.TIMED_OUT),
        (ApplySummary(stopped=Stop.INTERRUPTED), Exit.INTERRUPTED),
        (ApplySummary(stopped=Stop.TERMINATED), Exit.TERMINATED),
    ],
)
def test_the_exit_code_of_apply_is_a_function_of_its_summary(summary, code):
    assert apply_exit_code(summary) is code


def test_a_model_that_nobody_asked_about_does_not_block():
    left_out = replace(PLAN, deferred=(Deferred("a", OTHERS_ONLY, "not asked for"),))
    result = apply_result(left_out, A, [])
    assert apply_exit_code(result.summary) is Exit.DONE
    assert apply_result_document(result)["deferred"][0]["model"] == "a"


def test_a_plan_is_2_only_where_asked_and_something_is_to_do():
    busy = replace(SUMMARY, changes=1)
    assert [plan_exit_code(s, detailed=d) for s in (SUMMARY, busy) for d in (False, True)] == [0, 0, 0, 2]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ManifestInvalid(()), Exit.INVALID),
        (transient("store_busy", "x"), Exit.BUSY),
        (refused("plan_stale", "x"), Exit.STALE),
        (refused("not_confirmed", "x"), Exit.BLOCKED),
        (transient("timed_out", "x"), Exit.TIMED_OUT),
        (permanent("unknown_model", "x"), Exit.ERROR),
    ],
)
def test_a_failure_of_the_whole_command_has_its_code(failure, code):
    assert failure_exit_code(failure) is code


def test_time_in_states_counts_only_what_was_left():
    steps = (
        Transition(1.0, "a", "b", 2.0),
        Transition(2.0, "b", "a", 4.0),
        Transition(3.0, "a", "b", 1.0),
        Transition(4.0, "b", "c", None),
    )
    assert time_in_states(steps) == (("a", 2, 3.0), ("b", 1, 4.0))
    history = History("m", "c", steps, (RevisionFact(A, "", 5, 1.0, in_store=False),))
    document = history_document(history)
    assert document["states"][0] == {"state": "a", "count": 2, "seconds": 3.0, "average_seconds": 1.5}
    assert document["transitions"][3]["seconds"] is None
    assert document["revisions"][0]["in_store"] is False


def test_checks_are_counted():
    found = (Check("a", "ok", "x"), Check("b", "fail", "y", "z"))
    assert checks_document(found)["summary"] == {"ok": 1, "warn": 0, "fail": 1}


def test_an_event_is_one_flat_document():
    document = event_document(Event(7, 1.0, "Warning", "not_found", "m", "404", 3))
    assert list(document) == ["format_version", "kind", "seq", "time", "type", "reason", "model", "message", "count"]


def store(*models, free=5_000, taken_at=100 * 86400.0, **more):
    blobs = (BlobFact(A, 10, 16, True), BlobFact(B, 10, 16, True))
    partial = PartialFact("k", "m", 1, 4, 0.0)
    facts = StoreFacts(tuple(models), blobs, (partial,), path="/store", **more)
    return ObservedState(taken_at, facts, DiskFacts(10_000, free), MemoryFacts(1, 1))


def model(name, digest, **more):
    return StoredModel(name, digest, (StoredFile("f", digest, 10, 16),), **more)


def test_df_counts_a_shared_blob_once_within_a_model_and_sorts_by_size():
    old = model("m", A, is_current=False)
    facts = store(model("n", A, format="onnx"), model("m", A), old, model("m", B, is_current=False))
    df = measure_df(CachePolicy(), facts, {"m": "gguf"})
    assert [(usage.name, usage.bytes, usage.revisions, usage.files) for usage in df.models] == [
        ("m", 32, 3, 1),
        ("n", 16, 1, 1),
    ]
    assert [(usage.format, usage.models) for usage in df.formats] == [("gguf", 1), ("onnx", 1)]
    assert (df.blob_bytes, df.partial_bytes) == (32, 4)


def test_df_does_not_count_foreign_files_as_models():
    assert measure_df(CachePolicy(), store(model("x", A, is_foreign=True))).models == ()


@pytest.mark.parametrize(("free", "reason"), [(400, "disk_critical"), (900, "disk_low")])
def test_df_warns_of_a_full_disk(free, reason):
    assert [advice.reason for advice in measure_df(CachePolicy(), store(free=free)).recommendations] == [reason]


def test_df_names_what_nobody_uses_but_no_pin():
    facts = store(
        model("old", A), model("pin", B, pinned=True), model("new", B, last_used=99.9 * 86400), quarantine_bytes=3
    )
    advice = measure_df(CachePolicy(), facts).recommendations
    assert [(item.reason, item.bytes) for item in advice] == [("unused_models", 16), ("quarantine", 3)]
    document = df_document(measure_df(CachePolicy(), facts))
    assert document["models"][0]["installed_at"] is None


def test_several_unused_models_are_counted():
    advice = measure_df(CachePolicy(), store(model("a", A), model("b", B))).recommendations
    assert advice[0].message.startswith("2 models")


def test_room_is_the_stricter_of_both_limits():
    policy = CachePolicy(max_size=Size(size_bytes=1000), min_free=Size(size_bytes=100))
    assert measure_df(policy, store(used_bytes=300)).room_bytes == 700
    assert measure_df(policy, store(used_bytes=300, free=600)).room_bytes == 500
    assert measure_df(policy, store(used_bytes=3000)).room_bytes == 0


def test_a_moment_comes_back_as_it_went():
    assert moment_text(parse_moment("2026-11-23T19:37:32.123Z")) == "2026-11-23T19:37:32.123Z"
    assert moment_text(parse_moment("2026-11-23T19:37:32")) == "2026-11-23T19:37:32.000Z"
    assert moment_text(parse_moment("2026-11-23T19:37:32+01:00")) == "2026-11-23T18:37:32.000Z"


@pytest.mark.parametrize("moment", [None, math.inf, math.nan, 1e18])
def test_no_moment_is_null(moment):
    assert moment_text(moment) is None
