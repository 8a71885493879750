"""A status says of every model what the plan says, and of the machine what the facts say."""

from dataclasses import replace

import pytest

from reconciler.core.actions import Action, ActionKind, Cause, Deferred, Guard, Plan, Satisfied, Summary
from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.digests import digest_value
from reconciler.core.observed import (
    DiskFacts,
    FailureFact,
    MemoryFacts,
    ObservedState,
    Override,
    Resolution,
    RuntimeFact,
)
from reconciler.core.policies import CachePolicy, MemoryPolicy, Size
from reconciler.core.remembered import ConditionStatus, Remembered, RememberedModel, SourceFact, WatchFact
from reconciler.core.status import status
from reconciler.core.status_document import status_document
from reconciler.core.stored import PartialFact, StoredFile, StoredModel, StoreFacts
from reconciler.core.words import Condition, Digest, Priority, Role, WantedState

A = Digest("sha256:" + "a" * 64)
SUMMARY = Summary((), (), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)
CACHE = CachePolicy(max_size=Size(size_bytes=1000), min_free=Size(size_bytes=100))


def wanted(name, size=100, **more):
    return DesiredModel(name, artifacts=(Artifact("m.gguf", ("https://h/m",), size_bytes=size),), **more)


def stored(name, condition=Condition.INTACT, **more):
    files = (
        StoredFile("config.json", A, 1, 1, role=Role.CONFIG),
        StoredFile("m.gguf", A, 100, 128, condition),
    )
    return StoredModel(name, digest_value(name), files, **more)


def observed(*models, partials=(), used=0, free=5000, available=8 * 10**9, **more):
    return ObservedState(
        1000.0,
        StoreFacts(tuple(models), partials=tuple(partials), used_bytes=used, path="/store"),
        DiskFacts(10_000, free),
        MemoryFacts(16 * 10**9, available),
        **more,
    )


def desired(*models, **more):
    return DesiredState(tuple(models), cache=CACHE, digest=A, **more)


def planned(*actions, deferred=(), satisfied=(), guards=()):
    done = tuple(Satisfied(name, "in_place", "as it should be") for name in satisfied)
    return Plan(A, A, 0.0, tuple(actions), tuple(deferred), done, SUMMARY, tuple(guards))


def action(model, kind=ActionKind.DOWNLOAD, size=100):
    return Action("1", kind, model, "new", "it is wanted", Cause.INTENT, size)


def one(*args, **more):
    (model,) = status(*args, **more).models
    return model


def condition(kind, *args, **more):
    found = status(*args, **more).condition(kind)
    return found.status, found.reason


def test_a_model_in_place_is_settled_and_knows_its_file():
    model = one(desired(wanted("m")), observed(stored("m", verified_at=5.0)), planned(satisfied=["m"]))
    assert (model.state, model.is_settled, model.progress) == ("present", True, 1.0)
    assert model.path == "/store/models/m/m.gguf"  # the primary file, not the first
    assert model.digest == A
    assert model.bytes == 101
    assert (model.reason, model.lifecycle) == ("in_place", "validated")


def test_a_loaded_model_is_loaded():
    assert one(desired(wanted("m")), observed(stored("m", loaded=True)), planned(satisfied=["m"])).state == "loaded"


@pytest.mark.parametrize("harm", [Condition.MISSING, Condition.DAMAGED])
def test_a_model_with_a_bad_file_is_partial(harm):
    model = one(desired(wanted("m")), observed(stored("m", harm)), planned(action("m")))
    assert (model.state, model.is_settled) == ("partial", False)


def test_what_only_makes_room_does_not_speak_for_the_model():
    room = replace(action("m", ActionKind.EVICT), reason="room_needed", subject="quarantine")
    assert one(desired(wanted("m")), observed(), planned(room, action("m"))).reason == "new"


def test_a_download_under_way_shows_its_share():
    partial = PartialFact("k", "m", 25, 32, 0.0)
    model = one(desired(wanted("m")), observed(partials=[partial]), planned(action("m", size=75)))
    assert (model.state, model.progress, model.lifecycle) == ("partial", 0.25, "discovered")


def test_progress_is_unknown_where_nobody_knows_the_size():
    model = one(desired(wanted("m", size=None)), observed(), planned(action("m", size=None)))
    assert (model.state, model.progress) == ("absent", None)


def test_a_resolution_tells_sizes_and_revision():
    resolution = Resolution("m", A, (Artifact("m.gguf", (), size_bytes=200),), revision="abc")
    partial = PartialFact("k", "m", 50, 64, 0.0)
    seen = observed(partials=[partial], resolutions=(resolution,))
    model = one(desired(wanted("m", size=None)), seen, planned(action("m")))
    assert (model.progress, model.revision) == (0.25, "abc")


def test_a_deferred_model_says_why_and_until_when():
    waiting = Deferred("m", "backing_off", "404", retry_at=2000.0, is_failed=True)
    model = one(desired(wanted("m")), observed(), planned(deferred=[waiting]))
    assert (model.reason, model.retry_at, model.is_deferred, model.is_settled) == ("backing_off", 2000.0, True, False)


def test_a_model_that_left_the_manifest_is_unwanted_and_keeps_its_priority():
    model = one(desired(), observed(stored("m", priority=Priority.HIGH)), planned(satisfied=["m"]))
    assert (model.wanted, model.priority) == ("unwanted", "high")


def test_the_catalogue_remembers_models_that_are_gone():
    known = RememberedModel("m", "evicted", "gguf", '{"architecture": "llama"}', 7.0, 3, 100, Priority.LOW)
    model = one(desired(), observed(), planned(), remembered=Remembered(models=(known,)))
    assert (model.state, model.lifecycle, model.bytes, model.use_count) == ("absent", "evicted", 100, 3)
    assert (model.priority, model.reason, model.metadata) == ("low", "not_in_store", {"architecture": "llama"})


def test_a_model_that_is_wanted_absent_and_absent_says_so():
    model = one(desired(wanted("m", state=WantedState.ABSENT)), observed(), None)
    assert (model.wanted, model.reason) == ("absent", "absent")


def test_without_a_manifest_the_store_is_still_shown():
    seen = status(None, observed(stored("m")), None)
    assert seen.models[0].reason == "unplanned"
    assert seen.condition("ready").status == "Unknown"
    assert seen.generation == ""


def test_superseded_revisions_are_no_models_of_their_own():
    old = replace(stored("m"), is_current=False)
    assert len(status(desired(), observed(stored("m"), old), planned(satisfied=["m"])).models) == 1


def test_a_pin_of_the_manifest_or_of_the_store_shows():
    assert one(desired(wanted("m", pinned=True)), observed(), planned(action("m"))).pinned
    assert one(desired(), observed(stored("m", pinned=True)), planned(satisfied=["m"])).pinned


def test_ready_follows_the_plan():
    want = desired(wanted("m"))
    assert condition("Ready", want, observed(), planned(satisfied=["m"])) == ("True", "converged")
    assert condition("Ready", want, observed(), planned(action("m"))) == ("False", "changes_pending")
    lacking = Deferred("m", "no_room", "too big")
    assert condition("Ready", want, observed(), planned(deferred=[lacking])) == ("False", "no_room")
    failed = Deferred("m", "not_found", "404", is_failed=True)
    assert condition("Ready", want, observed(), planned(deferred=[failed])) == ("False", "not_found")
    guard = Guard("mass_eviction", "too many")
    assert condition("Ready", want, observed(), planned(guards=[guard])) == ("False", "mass_eviction")


def test_stalled_is_what_only_a_person_can_turn():
    want = desired(wanted("m"))
    assert condition("Stalled", want, observed(), None) == ("False", "no_manifest")
    retried = Deferred("m", "timeout", "slow", retry_at=5.0, is_failed=True)
    assert condition("Stalled", want, observed(), planned(deferred=[retried]))[0] == "False"
    for stuck in (Deferred("m", "not_found", "404", is_failed=True), Deferred("m", "no_room", "too big")):
        assert condition("Stalled", want, observed(), planned(deferred=[stuck])) == ("True", stuck.reason)
    assert condition("Stalled", want, observed(), planned(guards=[Guard("brake", "x")])) == ("True", "brake")


def test_reconciling_is_true_only_while_somebody_works():
    want = desired(wanted("m"))
    assert condition("Reconciling", want, observed(), planned(action("m"))) == ("False", "changes_pending")
    assert condition("Reconciling", want, observed(), planned()) == ("False", "idle")
    for running in ((), ("m",)):
        working = Remembered(is_running=True, running=running)
        assert condition("Reconciling", want, observed(), planned(), working) == ("True", "running")
    asked = planned(deferred=(Deferred("m", "waiting_for_source", "…"),))
    assert condition("Reconciling", want, observed(), asked) == ("True", "waiting_for_source")


def test_what_stands_in_the_way_is_told_and_waits_for_a_person():
    link = replace(action("m", ActionKind.LINK), spec_digest=A)
    refused = FailureFact("m", A, "refused", "unexpected_file", "cannot place m", 3, None, step="link")
    seen = observed(failures=(refused,))
    assert condition("Stalled", desired(wanted("m")), seen, planned(link)) == ("True", "unexpected_file")
    assert condition("Ready", desired(wanted("m")), seen, planned(link)) == ("False", "unexpected_file")
    told = one(desired(wanted("m")), seen, planned(link), Remembered())
    assert (told.reason, told.message, told.retry_at) == ("unexpected_file", "cannot place m", None)
    for other in (planned(), planned(replace(link, spec_digest=Digest("sha256:other"))), planned(action("m"))):
        assert condition("Stalled", desired(wanted("m")), seen, other)[0] == "False"


def test_ready_counts_the_models_of_the_manifest_and_no_others():
    made = planned(satisfied=("m", "copy"))
    ready = next(
        row for row in status(desired(wanted("m")), observed(), made, Remembered()).conditions if row.type == "Ready"
    )
    assert ready.message == "1 model as the manifest says"


def test_an_invalid_manifest_is_told_while_the_last_good_one_is_in_force():
    kept = Remembered(manifest_problem="models.yaml:3:1: …")
    assert condition("ManifestValid", desired(), observed(), planned(), kept) == ("False", "manifest_invalid")
    assert condition("ManifestValid", desired(), observed(), planned()) == ("True", "valid")
    assert condition("ManifestValid", None, observed(), None) == ("Unknown", "no_manifest")


def test_the_signature_of_the_source_is_told():
    for verdict, expected in ((None, "Unknown"), (True, "True"), (False, "False")):
        signed = Remembered(source=SourceFact("abc", is_verified=verdict))
        assert condition("SourceVerified", desired(), observed(), planned(), signed)[0] == expected


def test_disk_pressure_names_its_kind():
    lacking = Deferred("m", "no_room", "too big")
    assert condition("DiskPressure", desired(), observed(), planned()) == ("False", "room")
    assert condition("DiskPressure", desired(), observed(free=50), planned()) == ("True", "min_free_space")
    assert condition("DiskPressure", desired(), observed(used=2000), planned()) == ("True", "over_limit")
    assert condition("DiskPressure", desired(), observed(), planned(deferred=[lacking])) == ("True", "no_room")
    assert status(desired(), observed(used=1000), planned()).condition("DiskPressure").message == "the store is full"


def test_memory_pressure_has_two_levels():
    for available, expected in (
        (100, ("True", "critical")),
        (400_000_000, ("True", "warning")),
        (10**9, ("False", "enough")),
    ):
        assert condition("MemoryPressure", desired(), observed(available=available), planned()) == expected


def test_a_suspension_that_is_over_is_none():
    for until, expected in ((None, "False"), (999.0, "False"), (1001.0, "True"), (float("inf"), "True")):
        assert condition("Suspended", desired(), observed(suspended_until=until), planned())[0] == expected


def test_the_watch_tells_its_mode():
    for healthy in (True, False):
        watched = Remembered(watch=WatchFact(healthy, "heartbeat"))
        assert condition("WatchHealthy", desired(), observed(), planned(), watched) == (str(healthy), "heartbeat")
    assert condition("WatchHealthy", desired(), observed(), planned()) == ("Unknown", "no_watch")


def test_a_transition_time_moves_only_with_the_status():
    before = (ConditionStatus("Ready", "True", "x", "y", 5.0), ConditionStatus("Suspended", "True", "x", "y", 6.0))
    seen = status(desired(), observed(), planned(), Remembered(conditions=before))
    assert seen.condition("Ready").last_transition_time == 5.0
    assert seen.condition("Suspended").last_transition_time == 1000.0
    assert seen.condition("Stalled").last_transition_time == 1000.0


def test_an_unknown_condition_is_a_key_error():
    with pytest.raises(KeyError):
        status(desired(), observed(), planned()).condition("Nonsense")


def test_figures_come_from_limits_and_facts():
    want = replace(desired(), memory=MemoryPolicy(budget=Size(percent=50)))
    runtime = RuntimeFact("default", "page-cache", loaded=(("m", 70), ("n", 30)))
    seen = status(want, observed(used=400, runtimes=(runtime,)), planned())
    assert (seen.cache.limit_bytes, seen.cache.used_bytes, seen.cache.room_bytes) == (1000, 400, 600)
    assert (seen.memory.budget_bytes, seen.memory.loaded_bytes) == (8 * 10**9, 100)
    assert status(desired(), observed(), planned()).memory.budget_bytes is None


def test_the_document_has_the_keys_of_the_contract():
    known = Remembered(models=(RememberedModel("m", "ready", metadata='{"b": 1, "a": 2}'),), next_run_at=2000.0)
    seen = observed(stored("m"), suspended_until=float("inf"), overrides=(Override("m", "pin", 3.0),))
    document = status_document(status(desired(wanted("m")), seen, planned(satisfied=["m"]), known))
    assert list(document)[:2] == ["format_version", "kind"]
    assert list(document["models"][0]["metadata"]) == ["a", "b"]
    assert document["next_run_at"] == "1970-01-01T00:33:20.000Z"
    assert document["suspended_until"] is None
    assert document["overrides"] == [{"model": "m", "kind": "pin", "made_at": "1970-01-01T00:00:03.000Z"}]


def test_without_a_watch_a_status_is_dated_by_the_last_thing_done():
    """Two looks with nothing between them agree; what was recorded with the same status keeps its own time."""
    recorded = (ConditionStatus("Ready", "True", "", "", 500.0), ConditionStatus("Stalled", "True", "", "", 900.0))
    seen = status(desired(), observed(), planned(), Remembered(conditions=recorded, changed_at=700.0))
    times = {row.type: row.last_transition_time for row in seen.conditions}
    assert (times["Ready"], times["Stalled"], times["Suspended"]) == (500.0, 900.0, 700.0)


def test_a_suspension_tells_its_end_until_it_is_over():
    assert (
        "until 1970-01-01T00:33:20.000Z"
        in status(None, observed(suspended_until=2000.0), None).condition("Suspended").message
    )
    over = status(None, observed(suspended_until=900.0), None)
    assert over.suspended_until is None
    assert over.condition("Suspended").status == "False"
