"""What the planner decides, rule by rule of the contract."""

import json
from dataclasses import replace

import pytest

from reconciler.core.actions import ActionKind, Cause, Request
from reconciler.core.desired import Artifact, Selector
from reconciler.core.document import plan_document
from reconciler.core.draft import Draft
from reconciler.core.gates import window_end
from reconciler.core.inventory import Inventory
from reconciler.core.observed import DeviceFacts, FailureFact, MemoryFacts, Override, Resolution, RuntimeFact
from reconciler.core.plan import plan
from reconciler.core.policies import CachePolicy, MemoryPolicy, NetworkPolicy, Size, Window
from reconciler.core.roster import enrol
from reconciler.core.stored import BadCopy, BlobFact, LinkFact, LocalCopy, PartialFact, StoredFile, StoredModel
from reconciler.core.words import (
    Condition,
    Digest,
    DownloadPolicy,
    EvictionMode,
    EvictionPolicy,
    ExtractMode,
    NetworkRequirement,
    Priority,
    WantedState,
)
from tests.core.worlds import BLOCK, DAY, MIB, NOW, artifact, desired, digest, file_of, held, observed, wanted


def ids(made):
    return [action.id for action in made.actions]


def action(made, name):
    return next(each for each in made.actions if each.id == name)


def deferred(made, name):
    return next(each for each in made.deferred if each.model == name)


def satisfied(made, name):
    return next(each for each in made.satisfied if each.model == name)


def sized(name, blocks, **rest):
    return wanted(name, artifact(content=name, size=blocks * BLOCK), **rest)


def absent_files(model, condition, **rest):
    return replace(held(model), files=tuple(file_of(each, condition, **rest) for each in model.artifacts))


# --- what a wanted model needs ----------------------------------------------------------------------------------------


def test_a_model_that_is_not_in_the_store_is_downloaded():
    made = plan(desired(sized("a", 2)), observed())
    only = action(made, "download:a")
    assert (only.reason, only.cause, only.bytes) == ("not_in_store", Cause.INTENT, 2 * BLOCK)
    assert only.message == "download a (8.2 kB): not in the store"
    assert {(each.kind, each.value) for each in only.preconditions} == {
        ("spec", only.spec_digest),
        ("stored", "absent"),
    }


def test_a_converged_model_needs_nothing():
    model = sized("a", 1)
    made = plan(desired(model), observed(held(model)))
    assert made.actions == ()
    assert satisfied(made, "a").reason == "present"


@pytest.mark.parametrize(
    ("condition", "kind", "reason"),
    [
        (Condition.UNVERIFIED, "verify:a", "stat_changed"),
        (Condition.MISSING, "download:a", "missing"),
        (Condition.DAMAGED, "download:a", "damaged"),
        (Condition.UNPLACED, "link:a", "unplaced"),
    ],
)
def test_a_bad_file_is_drift_and_only_it_is_mended(condition, kind, reason):
    model = wanted("a", artifact("good"), artifact("bad", "bad"))
    stored = replace(
        held(model), files=(file_of(model.artifacts[0]), file_of(model.artifacts[1], condition, detail="0644"))
    )
    made = plan(desired(model), observed(stored))
    assert ids(made) == [kind]
    assert (made.actions[0].reason, made.actions[0].cause, made.actions[0].paths) == (reason, Cause.DRIFT, ("bad",))


def test_a_file_without_any_stat_has_no_proof():
    model = sized("a", 1)
    made = plan(desired(model), observed(absent_files(model, Condition.UNVERIFIED, stat=None)))
    assert action(made, "verify:a").reason == "no_proof"


def test_a_placement_that_is_wrong_says_what_is_wrong():
    model = sized("a", 1)
    made = plan(desired(model), observed(absent_files(model, Condition.UNPLACED, detail="mode 0644")))
    assert action(made, "link:a").message.endswith("mode 0644")


def test_a_changed_spec_is_downloaded_beside_the_old_revision():
    old, new = sized("a", 1), sized("a", 2)
    old = replace(old, spec_digest=digest("old"))
    made = plan(desired(replace(new, artifacts=(artifact(content="new", size=BLOCK),))), observed(held(old)))
    assert action(made, "download:a").reason == "spec_changed"
    assert [each.kind for each in made.actions] == [ActionKind.DOWNLOAD]


def test_another_spec_with_the_same_files_is_the_same_model():
    model = sized("a", 1)
    assert plan(desired(model), observed(held(model, spec=digest("other")))).actions == ()


def test_a_revision_with_files_that_are_not_asked_for_any_more_is_replaced():
    both = wanted("a", artifact("x", "x"), artifact("y", "y"))
    one = wanted("a", artifact("x", "x"))
    made = plan(desired(one), observed(held(both)))
    assert (action(made, "link:a").reason, made.summary.bytes_download) == ("spec_changed", 0)


def test_a_file_without_a_declared_digest_does_not_prove_the_same_model():
    model = wanted("a", artifact(content=None))
    made = plan(desired(model), observed(held(sized("a", 1), spec=digest("other"))))
    assert ids(made) == ["download:a"]


@pytest.mark.parametrize(
    ("stored", "is_same"),
    [
        (StoredFile("model.bin", digest("a"), BLOCK, BLOCK), True),
        (StoredFile("model.bin", digest("b"), BLOCK, BLOCK), False),
        (StoredFile("model.bin", None, BLOCK, BLOCK), True),
        (StoredFile("model.bin", None, 1, BLOCK), False),
        (StoredFile("other.bin", digest("a"), BLOCK, BLOCK), False),
    ],
)
def test_a_rebuilt_revision_satisfies_where_its_files_agree(stored, is_same):
    model = StoredModel("a", Digest(""), (stored,), installed_at=NOW)
    assert (plan(desired(sized("a", 1)), observed(model)).actions == ()) is is_same


def test_a_rebuilt_extracted_model_is_believed():
    model = wanted("a", artifact("a.tar.gz", "archive"))
    stored = StoredModel("a", Digest(""), (StoredFile("inside", digest("in"), 5, BLOCK),), installed_at=NOW)
    assert plan(desired(model), observed(stored)).actions == ()


def test_bytes_that_are_in_the_store_are_linked():
    model = sized("a", 1)
    other = wanted("b", artifact("b.bin", "a"))
    made = plan(desired(model), observed(held(other)))
    only = action(made, "link:a")
    assert (only.reason, only.cause) == ("blob_in_store", Cause.INTENT)
    assert made.summary.bytes_download == 0


def test_bytes_that_lie_elsewhere_on_the_machine_are_linked():
    model = sized("a", 1)
    made = plan(desired(model), observed(local_copies=(LocalCopy(digest("a"), "/cache/x", BLOCK),)))
    assert action(made, "link:a").reason == "local_copy"
    assert made.summary.disk_final_bytes == BLOCK


def test_a_local_copy_tells_the_size_that_nobody_declared():
    model = wanted("a", artifact(content="a", size=None))
    made = plan(desired(model), observed(local_copies=(LocalCopy(digest("a"), "/cache/x", 3 * BLOCK),)))
    assert made.summary.disk_final_bytes == 3 * BLOCK


def test_what_is_partly_here_is_downloaded_without_what_is_here():
    partial = PartialFact("k", "a", 3000, BLOCK, NOW, digest("a"), 2 * BLOCK, "model.bin")
    made = plan(desired(sized("a", 2), limit=2 * BLOCK), observed(partials=(partial,)))
    assert action(made, "download:a").bytes == 2 * BLOCK - 3000
    assert "on disk already" in action(made, "download:a").message
    assert made.summary.disk_peak_bytes == 2 * BLOCK


def test_a_partial_without_a_digest_belongs_to_the_same_place():
    partial = PartialFact("k", "a", 3000, BLOCK, NOW, None, 2 * BLOCK, "model.bin")
    other = PartialFact("l", "a", 3000, BLOCK, NOW, digest("else"), 2 * BLOCK, "model.bin")
    assert action(plan(desired(sized("a", 2)), observed(partials=(partial,))), "download:a").bytes == 2 * BLOCK - 3000
    assert action(plan(desired(sized("a", 2)), observed(partials=(other,))), "download:a").bytes == 2 * BLOCK


def test_what_a_source_resolved_replaces_what_was_declared():
    model = wanted("a", artifact("", None, None))
    files = (artifact("one", "one", BLOCK), artifact("two", "two", BLOCK))
    made = plan(desired(model), observed(resolutions=(Resolution("a", model.spec_digest, files),)))
    assert action(made, "download:a").bytes == 2 * BLOCK


def test_a_source_that_could_not_say_is_told_in_the_message():
    model = wanted("a", artifact("x", None, None))
    resolution = Resolution(
        "a", model.spec_digest, (), reason="not_found", message="origin.example answered 404", is_permanent=True
    )
    made = plan(desired(model), observed(resolutions=(resolution,)))
    assert action(made, "download:a").bytes is None
    assert "answered 404" in action(made, "download:a").message


def test_unknown_sizes_are_null_and_counted():
    made = plan(desired(wanted("a", artifact(content="a", size=None)), sized("b", 1)), observed(is_offline=True))
    assert action(made, "download:a").bytes is None
    assert (made.summary.unknown_sizes, made.summary.bytes_download) == (1, BLOCK)


@pytest.mark.parametrize(
    ("mode", "path", "is_extracted"),
    [
        (ExtractMode.AUTO, "m.tar.bz2", True),
        (ExtractMode.AUTO, "M.ZIP", True),
        (ExtractMode.AUTO, "m.gguf", False),
        (ExtractMode.NEVER, "m.zip", False),
        (ExtractMode.ALWAYS, "m.bin", True),
    ],
)
def test_an_archive_is_extracted_after_its_download(mode, path, is_extracted):
    made = plan(desired(wanted("a", artifact(path, "x"), extract=mode)), observed())
    assert ids(made) == (["download:a", "extract:a"] if is_extracted else ["download:a"])
    if is_extracted:
        assert action(made, "extract:a").depends_on == ("download:a",)
        assert (made.summary.disk_peak_bytes, made.summary.disk_final_bytes) == (2 * BLOCK, BLOCK)


def test_a_bad_member_brings_the_whole_archive_again():
    model = wanted("a", artifact("a.zip", "archive", 2 * BLOCK))
    members = (
        StoredFile("good", digest("g"), BLOCK, BLOCK),
        StoredFile("bad", digest("b"), BLOCK, 0, Condition.MISSING),
    )
    made = plan(desired(model), observed(StoredModel("a", model.spec_digest, members, installed_at=NOW)))
    assert ids(made) == ["download:a", "extract:a"]
    assert action(made, "download:a").paths == ()
    assert made.summary.disk_peak_bytes == BLOCK + BLOCK + 2 * BLOCK + BLOCK
    assert made.summary.disk_final_bytes == 2 * BLOCK


def test_a_bad_file_whose_archive_was_none_is_fetched_alone():
    model = wanted("a", artifact("a.zip", "x"))
    made = plan(desired(model), observed(absent_files(model, Condition.MISSING)))
    assert ids(made) == ["download:a"]
    assert action(made, "download:a").paths == ("a.zip",)


def test_a_bad_file_that_is_not_declared_is_repaired_by_its_digest():
    model = wanted("a", artifact("x"))
    extra = StoredFile("y", digest("y"), BLOCK, 0, Condition.MISSING)
    stored = replace(held(model), files=(*held(model).files, extra))
    copies = (LocalCopy(digest("y"), "/c", BLOCK),)
    made = plan(desired(model), observed(stored, local_copies=copies))
    assert (action(made, "link:a").reason, action(made, "link:a").paths) == ("local_copy", ("y",))


def test_placing_and_copying_at_once_are_two_actions():
    model = wanted("a", artifact("x"), artifact("y", "y"))
    files = (file_of(model.artifacts[0], Condition.UNPLACED), file_of(model.artifacts[1], Condition.MISSING))
    made = plan(
        desired(model), observed(replace(held(model), files=files), local_copies=(LocalCopy(digest("y"), "/c", BLOCK),))
    )
    assert ids(made) == ["link:a:place", "link:a"]


# --- links ------------------------------------------------------------------------------------------------------------


def test_declared_links_are_made_after_the_model_is_there():
    model = sized("a", 1, links=("/opt/a",))
    made = plan(desired(model), observed())
    assert ids(made) == ["download:a", "link:a:links"]
    assert action(made, "link:a:links").depends_on == ("download:a",)
    assert plan(desired(model), observed(held(model, links=(LinkFact("/opt/a", True),)))).actions == ()


def test_a_missing_link_alone_is_one_action():
    model = sized("a", 1, links=("/opt/a", "/opt/b"))
    made = plan(desired(model), observed(held(model, links=(LinkFact("/opt/a", True), LinkFact("/opt/b", False)))))
    assert (ids(made), made.actions[0].paths, made.actions[0].reason) == (["link:a:links"], ("/opt/b",), "link_missing")


def test_what_stands_at_a_links_place_is_never_replaced():
    model = sized("a", 1, links=("/opt/a",))
    found = observed(held(model, links=(LinkFact("/opt/a", False, is_foreign=True),)))
    made = plan(desired(model), found)
    assert made.actions == ()
    assert deferred(made, "a").reason == "link_blocked"
    assert [each.reason for each in made.diagnostics] == ["link_blocked"]


# --- who is who -------------------------------------------------------------------------------------------------------


def test_a_model_for_other_machines_is_treated_as_not_in_the_manifest():
    model = sized("a", 1, when=Selector(os=("plan9",)))
    made = plan(desired(model), observed(held(model)))
    assert satisfied(made, "a").reason == "not_selected"
    assert plan(desired(model), observed()).satisfied[0].reason == "not_selected"


def test_a_roll_out_leaves_out_the_machines_it_does_not_reach():
    model = sized("a", 1, rollout_percent=0.0)
    assert satisfied(plan(desired(model), observed()), "a").reason == "not_selected"
    assert ids(plan(desired(replace(model, rollout_percent=100.0)), observed())) == ["download:a"]


def test_an_unwanted_model_stays_as_cache():
    made = plan(desired(), observed(held(sized("a", 1))))
    assert (made.actions, satisfied(made, "a").reason) == ((), "unwanted")


def test_an_absent_model_leaves_with_all_that_is_left_of_it():
    model = sized("a", 1, state=WantedState.ABSENT)
    older = held(replace(model, artifacts=(artifact(content="older"),)), spec=digest("older"), is_current=False)
    partial = PartialFact("p", "a", 1, BLOCK, NOW, digest("p"))
    made = plan(desired(model), observed(held(model), older, partials=(partial,)))
    assert {each.reason for each in made.actions} == {"absent"}
    assert {each.subject for each in made.actions} == {"", "revision", "partial"}
    assert plan(desired(model), observed(older)).actions[0].subject == "revision"
    assert satisfied(plan(desired(model), observed()), "a").reason == "absent"


@pytest.mark.parametrize(("facts", "reason"), [({"pinned": True}, "pinned"), ({"in_use": True}, "in_use")])
def test_an_absent_model_that_must_not_leave_is_deferred(facts, reason):
    model = sized("a", 1, state=WantedState.ABSENT)
    made = plan(desired(model), observed(held(model, **facts)))
    assert (made.actions, deferred(made, "a").reason) == ((), reason)


def test_an_absent_model_whose_eviction_fails_backs_off():
    model = sized("a", 1, state=WantedState.ABSENT)
    failure = FailureFact("a", model.spec_digest, "transient", "io_error", "EIO", 1, NOW + 9, step="evict")
    made = plan(desired(model), observed(held(model), failures=(failure,)))
    assert (deferred(made, "a").reason, deferred(made, "a").is_failed) == ("backing_off", True)


def test_an_unwanted_model_whose_eviction_fails_is_not_tried():
    model = sized("a", 1)
    failure = FailureFact("a", model.spec_digest, "transient", "io_error", "EIO", 1, NOW + 9, step="evict")
    assert plan(desired(limit=0), observed(held(model), failures=(failure,))).actions == ()


def test_an_absent_model_that_is_loaded_is_unloaded_first():
    model = sized("a", 1, state=WantedState.ABSENT)
    made = plan(desired(model), observed(held(model, loaded=True)))
    assert ids(made) == ["unload:a", "evict:a"]
    assert action(made, "evict:a").depends_on == ("unload:a",)
    assert "loaded" not in {each.kind for each in action(made, "evict:a").preconditions}


def test_a_pin_outlives_its_removal_from_the_manifest():
    made = plan(desired(limit=0), observed(held(sized("a", 1), pinned=True)))
    assert (made.actions, satisfied(made, "a").reason) == ((), "pinned")


def test_a_pin_taken_off_by_hand_no_longer_holds():
    override = Override("a", "unpin", NOW)
    model = sized("a", 1, pinned=True, state=WantedState.ABSENT)
    assert ids(plan(desired(model), observed(held(model, pinned=True), overrides=(override,)))) == ["evict:a"]


def test_what_is_in_use_or_loaded_by_hand_is_kept_though_unwanted():
    made = plan(
        desired(limit=0),
        observed(
            held(sized("a", 1), in_use=True), held(sized("b", 1), loaded=True), overrides=(Override("b", "load", NOW),)
        ),
    )
    assert [(each.model, each.reason) for each in made.satisfied] == [("a", "in_use"), ("b", "loaded_by_hand")]


def test_a_model_that_the_manifest_does_not_name_is_loaded_by_hand():
    by_hand = (Override("b", "load", NOW),)
    assert ids(plan(desired(), observed(held(sized("b", 1)), overrides=by_hand))) == ["load:b"]


def test_foreign_files_are_never_touched():
    stranger = StoredModel("a", Digest(""), (StoredFile("x", None, 5, BLOCK),), is_foreign=True)
    found = observed(stranger, foreign=BLOCK)
    assert satisfied(plan(desired(limit=0), found), "a").reason == "foreign"
    made = plan(desired(sized("a", 1)), found)
    assert deferred(made, "a").reason == "foreign_files"
    assert "adopt a" in deferred(made, "a").message


# --- room -------------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_deferred_with_numbers_and_what_blocks_it():
    made = plan(desired(sized("a", 3), sized("b", 2, priority=Priority.HIGH), limit=4 * BLOCK), observed())
    assert ids(made) == ["download:b"]
    found = deferred(made, "a")
    assert (found.reason, found.needs_bytes, found.available_bytes, found.blocked_by) == (
        "no_room",
        3 * BLOCK,
        2 * BLOCK,
        ("b",),
    )


def test_foreign_files_block_too():
    made = plan(desired(sized("a", 3), limit=4 * BLOCK), observed(foreign=2 * BLOCK))
    assert deferred(made, "a").blocked_by == ("foreign files",)
    assert deferred(made, "a").blocked_by


def test_minimum_free_space_limits_like_the_maximum_size():
    cache = CachePolicy(max_size=Size(size_bytes=1 << 40), min_free=Size(size_bytes=2 * BLOCK))
    assert deferred(plan(desired(sized("a", 2), cache=cache), observed(free=3 * BLOCK)), "a").reason == "no_room"
    assert ids(plan(desired(sized("a", 1), cache=cache), observed(free=3 * BLOCK))) == ["download:a"]


def test_a_smaller_model_takes_the_room_that_a_larger_one_cannot():
    made = plan(desired(sized("a", 9), sized("b", 1), limit=2 * BLOCK), observed())
    assert (ids(made), deferred(made, "a").reason) == (["download:b"], "no_room")


def test_a_model_in_the_store_comes_before_one_that_is_not():
    inside, outside = sized("z", 2), sized("a", 2)
    made = plan(desired(inside, outside, limit=3 * BLOCK), observed(held(inside)))
    assert (made.actions, deferred(made, "a").reason) == ((), "no_room")


def test_a_higher_priority_evicts_the_lowest_wanted_one_last_name_first():
    low = [sized(name, 2, priority=Priority.LOW) for name in "ab"]
    made = plan(desired(*low, sized("z", 2), limit=4 * BLOCK), observed(*map(held, low)))
    assert ids(made) == ["evict:b", "download:z"]
    assert (action(made, "evict:b").cause, action(made, "download:z").depends_on) == (Cause.PRESSURE, ("evict:b",))
    assert "low priority" in action(made, "evict:b").message


def test_unwanted_models_leave_before_wanted_ones():
    low, cache = sized("a", 2, priority=Priority.LOW), sized("c", 2)
    made = plan(desired(low, sized("z", 2), limit=4 * BLOCK), observed(held(low), held(cache)))
    assert ids(made) == ["evict:c", "download:z"]


@pytest.mark.parametrize(
    ("policy", "first"),
    [
        (EvictionPolicy.LRU, "a"),
        (EvictionPolicy.LFU, "b"),
        (EvictionPolicy.FIFO, "c"),
        (EvictionPolicy.LARGEST_FIRST, "d"),
    ],
)
def test_the_policy_says_which_unwanted_model_goes_first(policy, first):
    facts = {
        "a": {"last_used": NOW - 5 * DAY, "use_count": 9, "installed_at": NOW - 6 * DAY},
        "b": {"last_used": NOW - 2 * DAY, "use_count": 1, "installed_at": NOW - 6 * DAY},
        "c": {"last_used": NOW - 3 * DAY, "use_count": 9, "installed_at": NOW - 9 * DAY},
        "d": {"last_used": NOW - 3 * DAY, "use_count": 9, "installed_at": NOW - 6 * DAY},
    }
    stored = [held(sized(name, 3 if name == "d" else 1), **each) for name, each in facts.items()]
    cache = CachePolicy(min_free=Size(size_bytes=0), policy=policy)
    made = plan(desired(sized("z", 1), cache=cache, limit=6 * BLOCK), observed(*stored))
    assert ids(made) == [f"evict:{first}", "download:z"]


def test_what_is_left_over_goes_before_any_model():
    orphan = BlobFact(digest("orphan"), BLOCK, BLOCK, True, None, NOW)
    stale = PartialFact("s", "gone", 1, BLOCK, NOW, digest("gone"))
    older = held(sized("a", 1), is_current=False, spec=digest("older"))
    found = observed(older, held(sized("b", 1)), blobs=(orphan,), partials=(stale,))
    made = plan(desired(sized("z", 3), limit=4 * BLOCK), found)
    assert [each.subject for each in made.actions] == ["partial", "blob", "revision", ""]
    assert made.actions[1].model == ""


def test_only_blobs_that_nobody_else_uses_are_counted_as_freed():
    shared = wanted("u", artifact("u", "shared", 4 * BLOCK))
    keeper = wanted("k", artifact("k", "shared", 4 * BLOCK))
    made = plan(desired(keeper, sized("z", 1), limit=4 * BLOCK), observed(held(keeper), held(shared)))
    assert deferred(made, "z").reason == "no_room"
    assert made.actions == ()


def test_a_critical_model_is_evicted_in_aggressive_mode_only():
    model = sized("a", 2, priority=Priority.CRITICAL)
    for mode, expected in ((EvictionMode.CONSERVATIVE, []), (EvictionMode.AGGRESSIVE, ["evict:a"])):
        cache = CachePolicy(min_free=Size(size_bytes=0), mode=mode, max_evictions_percent=None)
        assert ids(plan(desired(model, cache=cache, limit=BLOCK), observed(held(model)))) == expected


def test_a_store_over_its_limit_is_relieved_by_cache_first():
    model, cache = sized("a", 1), sized("b", 2)
    made = plan(desired(model, limit=BLOCK), observed(held(model), held(cache)))
    assert (ids(made), made.actions[0].reason, made.actions[0].cause) == (["evict:b"], "over_limit", Cause.PRESSURE)


def test_the_old_revision_of_one_model_makes_room_for_the_next():
    old = held(wanted("a", artifact(content="old", size=3 * BLOCK)))
    made = plan(desired(sized("a", 1), sized("b", 3), limit=5 * BLOCK), observed(old))
    ordered = ids(made)
    assert ordered[0] == "download:a"
    assert ordered[1].startswith("evict:a:")
    assert ordered[2] == "download:b"
    assert made.actions[1].depends_on == ("download:a",)


def test_an_archive_makes_room_for_the_next_model_once_it_is_unpacked():
    made = plan(desired(wanted("a", artifact("a.zip", "x", 2 * BLOCK)), sized("b", 2), limit=4 * BLOCK), observed())
    assert ids(made) == ["download:a", "extract:a", "download:b"]
    assert action(made, "download:b").depends_on == ("extract:a",)
    assert made.summary.disk_peak_bytes == 4 * BLOCK


def test_an_update_that_no_order_leaves_room_for_is_deferred():
    old = held(wanted("a", artifact(content="old", size=3 * BLOCK)))
    made = plan(desired(sized("a", 3), limit=4 * BLOCK), observed(old))
    assert (made.actions, deferred(made, "a").reason) == ((), "no_room")


def test_an_archive_that_cannot_be_unpacked_here_says_what_unpacking_takes():
    made = plan(desired(wanted("a", artifact("a.zip", "x", 2 * BLOCK)), limit=3 * BLOCK), observed())
    assert deferred(made, "a").needs_bytes == 4 * BLOCK


@pytest.mark.parametrize(("own", "is_selected"), [({}, True), ({"site": "lab"}, True), ({"site": "shop"}, False)])
def test_the_manifests_labels_count_where_the_machine_has_no_own(own, is_selected):
    model = sized("a", 1, when=Selector(match_labels=(("site", "lab"),)))
    made = plan(desired(model, labels=(("site", "lab"),)), observed(device=DeviceFacts(labels=tuple(own.items()))))
    assert [action.id for action in made.actions] == (["download:a"] if is_selected else [])


def test_a_revision_in_use_gives_no_room_when_it_is_replaced():
    old = held(wanted("a", artifact(content="old", size=3 * BLOCK)), in_use=True)
    made = plan(desired(sized("a", 1), sized("b", 3), limit=5 * BLOCK), observed(old))
    assert (ids(made), deferred(made, "b").reason) == (["download:a"], "no_room")


# --- retention, prune, guards -----------------------------------------------------------------------------------------


def test_what_was_not_used_for_longer_than_retention_goes():
    stored = held(sized("a", 1), installed_at=NOW - 40 * DAY)
    made = plan(desired(), observed(stored))
    assert (ids(made), made.actions[0].reason, made.actions[0].cause) == (["evict:a"], "retention", Cause.RETENTION)
    for change in ({"cleanup_interval_s": 0.0}, {"retention_s": None}):
        assert plan(desired(cache=CachePolicy(**change)), observed(stored)).actions == ()
    assert plan(desired(), observed(replace(stored, last_used=NOW))).actions == ()


def test_old_leftovers_go_even_where_there_is_room():
    orphan = BlobFact(digest("orphan"), BLOCK, BLOCK, True, None, NOW - 2 * DAY)
    stale = PartialFact("s", "gone", 1, BLOCK, NOW - 8 * DAY, digest("gone"))
    made = plan(desired(), observed(blobs=(orphan,), partials=(stale,)))
    assert {(each.subject, each.reason) for each in made.actions} == {("blob", "retention"), ("partial", "given_up")}


def partial_of(key, name="", age=5.0, **rest):
    return PartialFact(key, name, 1, BLOCK, NOW - age, **rest)


def test_an_unfinished_download_that_nobody_has_use_for_goes_at_once_and_under_a_watch_after_a_while():
    found = observed(held(sized("a", 1)), partials=(partial_of("p"),))
    made = plan(desired(sized("a", 1)), found)
    assert ids(made) == ["evict::partial:p"]
    assert made.actions[0].message.startswith("evict an unfinished download of what is not wanted any more")
    watched = Request(keeps_partials=True)
    assert plan(desired(sized("a", 1)), found, watched).actions == ()
    old = observed(held(sized("a", 1)), partials=(partial_of("p", age=601),))
    assert ids(plan(desired(sized("a", 1)), old, watched)) == ["evict::partial:p"]
    assert plan(desired(sized("a", 1)), found, Request(only=("a",))).actions == ()


def test_the_unfinished_download_of_what_is_absent_or_for_other_machines_goes():
    found = observed(partials=(partial_of("p", "a"),))
    for change in ({"state": WantedState.ABSENT}, {"when": Selector(os=("plan9",))}):
        assert ids(plan(desired(sized("a", 1, **change)), found)) == ["evict:a:partial:p"]


def test_an_unfinished_download_that_is_held_back_stays():
    model = sized("a", 1)
    partial = partial_of("p", "a", digest=model.artifacts[0].digest, path="model.bin")
    for rest in (
        {"overrides": (Override("a", "pause", NOW),)},
        {"failures": (FailureFact("a", model.spec_digest, "permanent", "not_found", "gone", 1, None),)},
    ):
        made = plan(desired(model), observed(partials=(partial,), **rest))
        assert (made.actions, len(made.deferred)) == ((), 1)


def test_nothing_is_given_up_while_nobody_can_say_what_a_model_is_made_of():
    tree = wanted("t", Artifact("", ("hf://org/repo",)))
    assert ids(plan(desired(tree), observed(partials=(partial_of("p"),)))) == ["download:t"]


def test_an_older_revision_is_kept_for_as_long_as_retention_from_its_replacement():
    model = sized("a", 1)
    older = held(model, is_current=False, spec=digest("older"), installed_at=NOW - 90 * DAY)
    older = replace(older, files=(file_of(artifact(content="older")),))
    assert plan(desired(model), observed(held(model), older)).actions == ()
    late = held(model, installed_at=NOW - 31 * DAY)
    assert plan(desired(model), observed(late, older)).actions[0].subject == "revision"


def test_prune_evicts_all_that_is_unwanted():
    model = sized("a", 1)
    found = observed(held(model), held(sized("b", 1)), held(sized("c", 1), pinned=True))
    for request in (Request(prune=True), Request(verb="prune")):
        made = plan(desired(model), found, request)
        assert (ids(made), made.actions[0].cause) == (["evict:b"], Cause.REQUEST)


def test_prune_by_verb_leaves_the_rest_of_the_plan_alone():
    found = observed(held(sized("b", 1), loaded=True), held(sized("d", 1)))
    made = plan(desired(sized("a", 1), sized("d", 1, state=WantedState.ABSENT)), found, Request(verb="prune"))
    assert ids(made) == ["unload:b", "evict:d", "evict:b"]
    assert deferred(made, "a").reason == "not_selected_by_only"
    assert made.summary.deferred == 0


def test_a_plan_that_would_empty_much_of_the_store_is_refused():
    stored = [held(sized(name, 1)) for name in "abc"]
    cache = CachePolicy(min_free=Size(size_bytes=0))
    made = plan(desired(cache=cache), observed(*stored), Request(prune=True))
    assert [guard.reason for guard in made.guards] == ["too_many_evictions"]
    assert made.guards[0].hint == "--allow-evict 3"
    assert plan(desired(cache=cache), observed(*stored), Request(prune=True, allow_evict=3)).guards == ()
    counted = CachePolicy(min_free=Size(size_bytes=0), max_evictions_count=3)
    assert plan(desired(cache=counted), observed(*stored), Request(prune=True)).guards == ()
    assert plan(desired(), observed(*stored), Request(prune=True)).guards == ()
    assert plan(desired(cache=cache), observed(*stored), Request(verb="evict", models=("a", "b", "c"))).guards == ()


def test_one_model_may_always_leave():
    cache = CachePolicy(min_free=Size(size_bytes=0))
    assert plan(desired(cache=cache), observed(held(sized("a", 1))), Request(prune=True)).guards == ()


def test_a_long_list_of_names_is_cut_in_the_message():
    stored = [held(sized(f"m{n}", 1)) for n in range(12)]
    made = plan(desired(cache=CachePolicy()), observed(*stored), Request(prune=True))
    assert made.guards[0].message.endswith(", …")


def test_a_suspended_reconciler_does_only_what_a_person_typed():
    model = sized("a", 1)
    found = observed(held(model), suspended_until=float("inf"))
    assert plan(desired(model), found).guards == ()
    made = plan(desired(model, sized("b", 1)), found)
    assert (made.guards[0].reason, made.guards[0].message) == ("suspended", "suspended until resumed")
    assert plan(desired(model), found, Request(verb="evict", models=("a",))).guards == ()
    assert plan(desired(sized("b", 1)), replace(found, suspended_until=NOW - 1)).guards == ()


# --- failures, network ------------------------------------------------------------------------------------------------


def failure(model, kind="transient", retry_at=NOW + 60, **rest):
    return FailureFact(
        model.name, model.spec_digest, kind, "http_500", "origin.example answered 500.", 3, retry_at, **rest
    )


def test_a_model_that_backs_off_is_deferred_and_keeps_its_room():
    first, second = sized("a", 3), sized("b", 3)
    made = plan(desired(first, second, limit=4 * BLOCK), observed(failures=(failure(first),)))
    found = deferred(made, "a")
    assert (found.reason, found.is_failed, found.retry_at) == ("backing_off", True, NOW + 60)
    assert "after 3 tries" in found.message
    assert deferred(made, "b").reason == "no_room"
    assert made.summary.failed == 1


def test_a_reservation_never_evicts():
    low, high = sized("a", 3, priority=Priority.LOW), sized("b", 3)
    made = plan(desired(low, high, limit=4 * BLOCK), observed(held(low), failures=(failure(high),)))
    assert (made.actions, satisfied(made, "a").reason) == ((), "present")


def test_a_permanent_failure_waits_for_a_change_and_reserves_nothing():
    first, second = sized("a", 3), sized("b", 3)
    broken = failure(first, "permanent", None)
    made = plan(desired(first, second, limit=4 * BLOCK), observed(failures=(broken,)))
    assert (deferred(made, "a").reason, deferred(made, "a").is_failed) == ("http_500", True)
    assert ids(made) == ["download:b"]
    assert "waits for a changed manifest" in deferred(made, "a").message


@pytest.mark.parametrize(
    "change",
    [
        {"retry_at": NOW - 1},
        {"kind": "refused"},
        {"kind": "permanent", "source_changed": True},
        {"spec_digest": digest("another")},
        {"step": "load"},
    ],
)
def test_a_failure_that_no_longer_holds_is_tried_again(change):
    model = sized("a", 1)
    assert ids(plan(desired(model), observed(failures=(replace(failure(model), **change),)))) == ["download:a"]


def test_a_satisfied_model_is_satisfied_whatever_failed_once():
    model = sized("a", 1)
    assert plan(desired(model), observed(held(model), failures=(failure(model),))).deferred == ()


def test_what_cannot_come_now_is_still_mended_where_it_lies():
    model = wanted("a", artifact("x"), artifact("y", "y"))
    files = (file_of(model.artifacts[0], Condition.UNVERIFIED), file_of(model.artifacts[1], Condition.MISSING))
    network = NetworkPolicy(windows=(Window(60, 120),))
    made = plan(desired(model, network=network), observed(replace(held(model), files=files)))
    assert ids(made) == ["verify:a"]
    assert [each.reason for each in made.diagnostics] == ["outside_window"]


@pytest.mark.parametrize(("minute", "is_open"), [(23 * 60, True), (5 * 60, True), (12 * 60, False), (6 * 60, False)])
def test_downloads_wait_for_their_window(minute, is_open):
    network = NetworkPolicy(windows=(Window(22 * 60, 6 * 60),))
    made = plan(desired(sized("a", 1), network=network), observed(device=DeviceFacts(local_minute=minute)))
    assert bool(made.actions) is is_open
    if not is_open:
        assert deferred(made, "a").message.endswith("opens at 22:00")
        assert deferred(made, "a").retry_at == NOW + (22 * 60 - minute) * 60


def test_a_window_opens_with_its_minute_not_some_seconds_later():
    network = NetworkPolicy(windows=(Window(60, 120),))
    later = observed(device=DeviceFacts(local_minute=50), taken_at=NOW + 42.5)
    assert deferred(plan(desired(sized("a", 1), network=network), later), "a").retry_at == NOW + 10 * 60


@pytest.mark.parametrize(
    ("windows", "minute", "ahead"),
    [
        ((), 10, None),
        ((Window(60, 120),), 60, 60),
        ((Window(60, 120),), 119, 1),
        ((Window(60, 120),), 121, 0),  # closed already
        ((Window(22 * 60, 6 * 60),), 23 * 60, 7 * 60),
        ((Window(60, 120), Window(120, 180), Window(200, 220)), 100, 80),
        ((Window(60, 120), Window(90, 180)), 100, 80),
        ((Window(0, 12 * 60), Window(12 * 60, 24 * 60)), 100, None),
        ((Window(60, 60),), 30, None),
    ],
)
def test_a_window_closes_where_no_other_goes_on(windows, minute, ahead):
    end = window_end(windows, minute, NOW + 42.5)
    assert end == (None if ahead is None else NOW + ahead * 60)


def test_a_window_within_the_day_is_open_from_start_to_end():
    network = NetworkPolicy(windows=(Window(60, 120),))
    assert plan(desired(sized("a", 1), network=network), observed(device=DeviceFacts(local_minute=60))).actions


@pytest.mark.parametrize(
    ("require", "policy", "device", "reason"),
    [
        (NetworkRequirement.UNMETERED, DownloadPolicy.AUTOMATIC, DeviceFacts(is_metered=True), "network_metered"),
        (NetworkRequirement.UNMETERED, DownloadPolicy.AUTOMATIC, DeviceFacts(), None),
        (NetworkRequirement.WIFI, DownloadPolicy.AUTOMATIC, DeviceFacts(network="ethernet"), "network_unmet"),
        (NetworkRequirement.WIFI, DownloadPolicy.AUTOMATIC, DeviceFacts(network="wifi"), None),
        (NetworkRequirement.ANY, DownloadPolicy.UNMETERED, DeviceFacts(is_metered=True), "network_metered"),
        (NetworkRequirement.ANY, DownloadPolicy.UNMETERED, DeviceFacts(), None),
        (NetworkRequirement.ANY, DownloadPolicy.MANUAL, DeviceFacts(), "download_manual"),
        (NetworkRequirement.ANY, DownloadPolicy.NEVER, DeviceFacts(), "download_never"),
    ],
)
def test_the_network_and_the_models_policy_must_allow_a_download(require, policy, device, reason):
    want = desired(sized("a", 1, download=policy), network=NetworkPolicy(require=require))
    made = plan(want, observed(device=device))
    assert [each.reason for each in made.deferred] == ([reason] if reason else [])


def test_a_model_whose_source_has_not_answered_waits_alone_and_what_is_here_is_mended():
    silent = wanted("a", artifact("x"), artifact("y", "y"))
    files = (file_of(silent.artifacts[0], Condition.UNVERIFIED), file_of(silent.artifacts[1], Condition.MISSING))
    here = replace(held(silent), files=files)
    made = plan(desired(silent, sized("b", 1)), observed(here, unanswered=("a",)))
    assert ids(made) == ["verify:a", "download:b"]
    assert [each.reason for each in made.diagnostics] == ["waiting_for_source"]
    assert deferred(plan(desired(silent), observed(unanswered=("a",))), "a").reason == "waiting_for_source"


def test_a_manual_model_comes_when_it_is_asked_for():
    want = desired(sized("a", 1, download=DownloadPolicy.MANUAL))
    assert ids(plan(want, observed(), Request(only=("a",)))) == ["download:a"]
    assert ids(plan(want, observed(), Request(verb="load", models=("a",)))) == ["download:a", "load:a"]


def test_a_file_of_this_machine_needs_no_network():
    model = wanted("a", Artifact("x", ("file:///srv/x",), digest("x"), BLOCK))
    network = NetworkPolicy(windows=(Window(60, 120),), require=NetworkRequirement.WIFI)
    assert ids(plan(desired(model, network=network), observed())) == ["download:a"]


# --- memory -----------------------------------------------------------------------------------------------------------


def loaded(model, **rest):
    return replace(model, state=WantedState.LOADED, **rest)


def test_a_model_that_is_to_be_loaded_is_loaded_once_it_is_there():
    made = plan(desired(loaded(sized("a", 1), memory_bytes=MIB)), observed())
    assert ids(made) == ["download:a", "load:a"]
    assert (action(made, "load:a").depends_on, action(made, "load:a").bytes) == (("download:a",), MIB)


def test_a_loaded_model_is_satisfied_and_one_that_should_only_be_present_is_unloaded():
    model = sized("a", 1)
    found = observed(held(model, loaded=True), runtimes=(RuntimeFact("default", "page-cache", loaded=(("a", MIB),)),))
    assert satisfied(plan(desired(loaded(model)), found), "a").reason == "loaded"
    made = plan(desired(model), found)
    assert (ids(made), made.actions[0].cause, made.actions[0].bytes) == (["unload:a"], Cause.INTENT, MIB)


def test_what_a_runtime_holds_without_any_file_is_unloaded():
    made = plan(desired(), observed(runtimes=(RuntimeFact("default", "page-cache", loaded=(("ghost", MIB),)),)))
    assert ids(made) == ["unload:ghost"]


def test_what_was_done_by_hand_wins_over_the_manifest():
    model = sized("a", 1)
    by_hand = (Override("a", "unload", NOW - 1), Override("a", "load", NOW))
    assert ids(plan(desired(model), observed(held(model), overrides=by_hand))) == ["load:a"]
    assert plan(desired(loaded(model)), observed(held(model), overrides=by_hand[:1])).actions == ()


def test_a_budget_admits_by_priority_and_unloads_what_comes_after():
    low, high = (
        loaded(sized("a", 1, priority=Priority.LOW), memory_bytes=2 * MIB),
        loaded(sized("b", 1), memory_bytes=2 * MIB),
    )
    found = observed(
        held(low, loaded=True), held(high), runtimes=(RuntimeFact("default", "page-cache", loaded=(("a", 2 * MIB),)),)
    )
    made = plan(desired(low, high, memory=MemoryPolicy(budget=Size(size_bytes=3 * MIB))), found)
    assert ids(made) == ["unload:a", "load:b"]
    assert action(made, "load:b").depends_on == ("unload:a",)
    assert action(made, "unload:a").reason == "memory_needed"


def test_a_load_that_does_not_fit_is_deferred_with_numbers():
    model = loaded(sized("a", 1), memory_bytes=5 * MIB)
    made = plan(desired(model, memory=MemoryPolicy(budget=Size(size_bytes=3 * MIB))), observed(held(model)))
    found = deferred(made, "a")
    assert (found.reason, found.needs_bytes, found.available_bytes) == ("no_memory", 5 * MIB, 3 * MIB)


def test_a_download_whose_load_does_not_fit_is_still_made():
    model = loaded(sized("a", 1), memory_bytes=5 * MIB)
    made = plan(desired(model, memory=MemoryPolicy(budget=Size(size_bytes=3 * MIB))), observed())
    assert (ids(made), [each.reason for each in made.diagnostics]) == (["download:a"], ["load_deferred"])


@pytest.mark.parametrize(
    ("available", "gone"), [(450, ["unload:low"]), (100, ["unload:low", "unload:normal"]), (900, [])]
)
def test_short_memory_unloads_what_matters_least(available, gone):
    models = [
        loaded(sized(name, 1, priority=priority), memory_bytes=MIB)
        for name, priority in (("low", Priority.LOW), ("normal", Priority.NORMAL), ("vital", Priority.CRITICAL))
    ]
    runtime = RuntimeFact("default", "page-cache", loaded=tuple((model.name, MIB) for model in models))
    memory = MemoryFacts(8000 * MIB, available * MIB)
    made = plan(
        desired(*models), observed(*(held(each, loaded=True) for each in models), runtimes=(runtime,), memory=memory)
    )
    assert ids(made) == gone
    assert all(each.cause is Cause.PRESSURE and each.reason == "memory_pressure" for each in made.actions)


def test_what_pressure_unloaded_is_not_loaded_again_at_once():
    model = loaded(sized("a", 1), memory_bytes=MIB)
    again = FailureFact(
        "a", model.spec_digest, "transient", "memory_pressure", "memory is short", 1, NOW + 60, step="load"
    )
    made = plan(desired(model), observed(held(model), failures=(again,)))
    assert (deferred(made, "a").reason, deferred(made, "a").is_failed) == ("memory_pressure", False)
    short = observed(held(model), memory=MemoryFacts(8000 * MIB, 150 * MIB))
    assert deferred(plan(desired(model), short), "a").reason == "memory_pressure"


def test_a_model_in_use_is_never_unloaded():
    model = sized("a", 1)
    found = observed(held(model, loaded=True, in_use=True), memory=MemoryFacts(8000 * MIB, 1))
    assert plan(desired(model), found).actions == ()


def test_an_unload_that_fails_backs_off():
    model = sized("a", 1)
    found = observed(held(model, loaded=True), failures=(failure(model, step="unload"),))
    assert plan(desired(model), found).actions == ()


def test_a_runtime_that_does_not_answer_defers_the_load():
    model = loaded(sized("a", 1))
    found = observed(
        held(model), runtimes=(RuntimeFact("default", "page-cache", is_reachable=False, message="refused"),)
    )
    assert deferred(plan(desired(model), found), "a").reason == "runtime_unreachable"


def test_a_changed_spec_of_a_loaded_model_is_loaded_anew_once_it_is_placed():
    old, new = wanted("a", artifact(content="old")), loaded(sized("a", 1))
    made = plan(desired(new), observed(held(old, loaded=True, spec=digest("old"))))
    assert ids(made) == ["download:a", "unload:a", "load:a"]
    assert action(made, "unload:a").depends_on == ("download:a",)
    assert "unload:a" in action(made, "load:a").depends_on


def test_a_loaded_model_in_use_is_not_replaced_under_its_user():
    old, new = wanted("a", artifact(content="old")), loaded(sized("a", 1))
    made = plan(desired(new), observed(held(old, loaded=True, in_use=True, spec=digest("old"))))
    assert (made.actions, deferred(made, "a").reason) == ((), "in_use")


@pytest.mark.parametrize(
    ("path", "format_name", "factor"),
    [("m.gguf", "auto", 1.0), ("m.safetensors", "auto", 1.2), ("m.bin", "auto", 1.5), ("m.bin", "gguf", 1.0)],
)
def test_memory_is_estimated_by_format_where_nobody_tells(path, format_name, factor):
    model = wanted("a", artifact(path, "x", 10 * MIB), state=WantedState.LOADED, format=format_name)
    assert action(plan(desired(model), observed()), "load:a").bytes == int(10 * MIB * factor)


def test_memory_is_what_was_measured_where_nobody_declared_it():
    model = loaded(sized("a", 1))
    assert action(plan(desired(model), observed(held(model, memory_bytes=7))), "load:a").bytes == 7
    assert action(plan(desired(model), observed(held(model, format="gguf"))), "load:a").bytes == BLOCK


# --- requests ---------------------------------------------------------------------------------------------------------


def test_only_leaves_the_others_as_they_are():
    first, second = sized("a", 1), sized("b", 1)
    away = sized("c", 1, state=WantedState.ABSENT)
    made = plan(
        desired(first, second, away), observed(held(away), held(sized("d", 1), loaded=True)), Request(only=("a",))
    )
    assert ids(made) == ["download:a"]
    assert [(each.model, each.reason) for each in made.deferred] == [
        ("b", "not_selected_by_only"),
        ("c", "not_selected_by_only"),
    ]
    assert made.summary.deferred == 0


def test_evict_by_name_takes_all_of_it_and_spares_what_must_stay():
    old = held(wanted("a", artifact(content="old")), spec=digest("old"), is_current=False)
    partial = PartialFact("p", "a", 1, BLOCK, NOW, digest("p"))
    stranger = StoredModel("f", Digest(""), (), is_foreign=True)
    found = observed(
        held(sized("a", 1), loaded=True),
        old,
        held(sized("b", 1), pinned=True),
        held(sized("c", 1), in_use=True),
        stranger,
        partials=(partial,),
    )
    names = ("a", "b", "c", "f", "g", "nobody")
    made = plan(desired(sized("a", 1), sized("g", 1)), found, Request(verb="evict", models=names))
    assert ids(made)[:2] == ["unload:a", "evict:a"]
    assert len(made.actions) == 4
    assert all(each.cause is Cause.REQUEST for each in made.actions)
    reasons = {each.model: each.reason for each in made.deferred}
    assert reasons == {
        "b": "pinned",
        "c": "in_use",
        "f": "foreign_files",
        "g": "not_selected_by_only",
        "nobody": "unknown_model",
    }


def test_evict_without_names_is_for_all_in_the_store():
    assert ids(plan(desired(), observed(held(sized("a", 1))), Request(verb="evict"))) == ["evict:a"]


def test_a_known_model_that_is_not_in_the_store_is_no_error_to_evict():
    want = desired(sized("a", 1, state=WantedState.ABSENT))
    assert satisfied(plan(want, observed(), Request(verb="evict", models=("a",))), "a").reason == "absent"
    later = desired(sized("a", 1, when=Selector(os=("plan9",))))
    assert satisfied(plan(later, observed(), Request(verb="unload", models=("a",))), "a").reason == "not_selected"


def test_verify_hashes_every_file_of_these():
    model = wanted("a", artifact("x"), artifact("y", "y"))
    found = observed(held(model), held(sized("b", 1)))
    made = plan(desired(model), found, Request(verb="verify", models=("a",)))
    assert (ids(made), made.actions[0].paths, made.actions[0].reason) == (["verify:a"], ("x", "y"), "requested")
    assert ids(plan(desired(model), found, Request(verb="verify"))) == ["verify:a", "verify:b"]
    unknown = plan(desired(), observed(), Request(verb="verify", models=("z",)))
    assert deferred(unknown, "z").reason == "unknown_model"


def bad_copy(key, blocks, since=NOW - 5.0, content=None):
    return BadCopy(key, blocks * BLOCK, since, content)


def test_bad_copies_leave_before_all_else_the_oldest_first():
    model, unwanted = sized("a", 2), held(sized("u", 2))
    copies = [bad_copy("q1", 2, content=model.artifacts[0].digest), bad_copy("q2", 1, NOW - 50), bad_copy("q3", 1)]
    found = observed(unwanted, held(model, Condition.MISSING), copies=copies)
    made = plan(desired(model, limit=6 * BLOCK), found)
    assert ids(made) == ["evict::quarantine:q2", "evict:a:quarantine:q1", "download:a"]
    assert "a bad copy of a file that no model has" in action(made, "evict::quarantine:q2").message
    assert ids(plan(desired(limit=5 * BLOCK), found)) == ["evict::quarantine:q2"]
    assert ids(plan(desired(limit=60 * BLOCK), found, Request(verb="prune"))) == ["evict:a", "evict:u"]


def test_a_damaged_file_gives_way_to_its_own_repair_only_where_room_is_short():
    model = sized("a", 3)
    found = observed(held(model, Condition.DAMAGED))
    short = plan(desired(model, limit=4 * BLOCK), found)
    key = model.artifacts[0].digest
    assert ids(short) == [f"evict:a:quarantine:{key}", "download:a"]
    assert action(short, "download:a").depends_on == (f"evict:a:quarantine:{key}",)
    assert short.summary.disk_peak_bytes == 3 * BLOCK
    assert ids(plan(desired(model, limit=6 * BLOCK), found)) == ["download:a"]


def test_what_a_repair_set_aside_makes_room_for_what_comes_after_it():
    model, later = sized("a", 3), sized("b", 3, priority=Priority.LOW)
    found = observed(held(model, Condition.DAMAGED))
    made = plan(desired(model, later, limit=6 * BLOCK), found)
    key = model.artifacts[0].digest
    assert ids(made) == ["download:a", f"evict:a:quarantine:{key}", "download:b"]
    assert action(made, f"evict:a:quarantine:{key}").depends_on == ("download:a",)
    assert action(made, "download:b").depends_on == (f"evict:a:quarantine:{key}",)


def test_verify_asks_for_what_is_gone_too_and_repair_only_where_it_does_not_come_again():
    model = wanted("a", artifact("x"), artifact("y", "y"))
    files = (file_of(model.artifacts[0]), file_of(model.artifacts[1], Condition.MISSING))
    found = observed(replace(held(model), files=files))
    made = plan(desired(model), found, Request(verb="verify"))
    assert action(made, "verify:a").paths == ("x", "y")
    repaired = plan(desired(model), found, Request(verb="repair"))
    assert (ids(repaired), action(repaired, "verify:a").paths) == (["verify:a", "download:a"], ("x",))
    assert action(plan(desired(), found, Request(verb="repair")), "verify:a").paths == ("x", "y")


def test_repair_verifies_and_fetches_what_is_known_bad():
    model = wanted("a", artifact("x"), artifact("y", "y"))
    files = (file_of(model.artifacts[0], Condition.UNVERIFIED), file_of(model.artifacts[1], Condition.DAMAGED))
    found = observed(replace(held(model), files=files), held(sized("b", 1)))
    made = plan(desired(model, sized("c", 1)), found, Request(verb="repair", models=("a",)))
    assert ids(made) == ["verify:a", "download:a"]
    assert action(made, "download:a").paths == ("y",)
    assert ids(plan(desired(model), found, Request(verb="repair"))) == ["verify:a", "verify:b", "download:a"]
    assert plan(desired(sized("c", 1)), observed(), Request(verb="repair")).actions == ()


def test_load_and_unload_by_hand():
    model = sized("a", 1)
    made = plan(desired(model), observed(held(model)), Request(verb="load", models=("a",)))
    assert (ids(made), made.actions[0].cause) == (["load:a"], Cause.REQUEST)
    found = observed(held(model, loaded=True), held(sized("b", 1), loaded=True, in_use=True), held(sized("c", 1)))
    request = Request(verb="unload", models=("a", "b", "c", "nobody"))
    made = plan(desired(loaded(model)), found, request)
    assert (ids(made), made.actions[0].cause) == (["unload:a"], Cause.REQUEST)
    assert (deferred(made, "b").reason, deferred(made, "nobody").reason) == ("in_use", "unknown_model")
    assert ids(plan(desired(model), found, Request(verb="unload"))) == ["unload:a"]


def test_who_asks_to_load_what_is_not_there_is_told():
    stranger = StoredModel("s", Digest(""), (StoredFile("x", None, 5, BLOCK),), is_foreign=True)
    made = plan(desired(sized("a", 1)), observed(stranger), Request(verb="load", models=("nobody", "s")))
    assert (deferred(made, "nobody").reason, deferred(made, "s").reason) == ("unknown_model", "foreign_files")


def test_adopt_takes_over_foreign_files():
    stranger = StoredModel("a", Digest(""), (StoredFile("x", None, 5, BLOCK),), is_foreign=True)
    model = sized("a", 1)
    request = Request(verb="adopt", models=("a", "b", "nobody"))
    made = plan(desired(model), observed(stranger, held(sized("b", 1))), request)
    assert (ids(made), made.actions[0].spec_digest) == (["adopt:a"], model.spec_digest)
    assert deferred(made, "nobody").reason == "unknown_model"
    assert ids(plan(desired(), observed(stranger), Request(verb="adopt"))) == ["adopt:a"]


def test_rollback_places_the_newest_older_revision():
    model = sized("a", 1)
    older = [held(model, spec=digest(f"old{age}"), is_current=False, installed_at=NOW - age * DAY) for age in (3, 2, 5)]
    made = plan(desired(model), observed(held(model), *older), Request(verb="rollback", models=("a",)))
    assert (ids(made), made.actions[0].spec_digest, made.actions[0].reason) == (["link:a"], digest("old2"), "rollback")
    running = plan(desired(model), observed(held(model, loaded=True), *older), Request(verb="rollback", models=("a",)))
    assert ids(running) == ["link:a", "unload:a", "load:a"]
    gone = plan(desired(), observed(*older), Request(verb="rollback", models=("a",)))
    assert gone.actions[0].preconditions[0].value == "absent"


def test_there_is_nothing_to_roll_back_to():
    made = plan(desired(), observed(held(sized("a", 1))), Request(verb="rollback", models=("a", "nobody")))
    assert (deferred(made, "a").reason, deferred(made, "nobody").reason) == ("no_previous_revision", "unknown_model")


def test_an_unknown_verb_is_a_bug():
    with pytest.raises(ValueError, match="unknown verb"):
        plan(desired(), observed(), Request(verb="dance"))


# --- what is said -----------------------------------------------------------------------------------------------------


def test_downloads_come_by_priority_then_by_name():
    models = [
        sized("a", 1),
        sized("b", 1, priority=Priority.CRITICAL),
        sized("c", 1, priority=Priority.LOW),
        sized("d", 1),
    ]
    assert ids(plan(desired(*models), observed())) == ["download:b", "download:a", "download:d", "download:c"]


def test_the_summary_adds_up():
    made = plan(desired(sized("a", 2), sized("b", 1)), observed(throughput_bytes_per_s=float(BLOCK)))
    assert dict(made.summary.counts)["download"] == 2
    assert dict(made.summary.causes)["intent"] == 2
    assert (made.summary.changes, made.summary.bytes_download, made.summary.estimated_seconds) == (2, 3 * BLOCK, 3.0)


def test_no_query_of_a_url_is_in_a_plan():
    model = wanted("a", Artifact("x", ("https://h/x?token=secret",), digest("x"), BLOCK))
    assert "secret" not in json.dumps(plan_document(plan(desired(model), observed())))


def test_evictions_lean_on_the_files_and_the_policy():
    stored = held(sized("a", 1), installed_at=NOW - 40 * DAY)
    only = plan(desired(), observed(stored)).actions[0]
    assert {each.kind for each in only.preconditions} == {"policy", "stored", "pinned", "loaded", "file"}
    assert only.score == 0.0


def test_prune_says_what_it_must_leave():
    made = plan(desired(), observed(held(sized("a", 1), in_use=True)), Request(prune=True))
    assert deferred(made, "a").reason == "in_use"


def test_a_blocked_link_of_a_model_that_cannot_come_is_told_too():
    model = sized("a", 1, links=("/opt/a",))
    stored = replace(absent_files(model, Condition.MISSING), links=(LinkFact("/opt/a", False, is_foreign=True),))
    made = plan(desired(model), observed(stored, failures=(failure(model),)))
    assert deferred(made, "a").reason == "backing_off"
    assert [each.reason for each in made.diagnostics] == ["link_blocked"]


def test_an_action_waits_only_for_actions_of_its_plan():
    want, found = desired(), observed()
    inventory = Inventory(found)
    draft = Draft(want, inventory, enrol(want, inventory, Request()))
    lone = plan(desired(sized("a", 1)), found).actions[0]
    draft.actions.append(replace(lone, depends_on=("unload:nobody",)))
    assert draft.finish(found, Request()).actions == (lone,)
