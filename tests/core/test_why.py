"""Why: the chain of facts, and a change that is held to its word."""

import json
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings

from reconciler.core.changed import apply_change
from reconciler.core.desired import DesiredModel, Selector
from reconciler.core.document import why_document
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.observed import DeviceFacts, FailureFact, MemoryFacts, Override, RuntimeFact
from reconciler.core.plan import plan
from reconciler.core.policies import CachePolicy, MemoryPolicy, NetworkPolicy, Size, Window
from reconciler.core.stored import LinkFact, StoredFile, StoredModel
from reconciler.core.why import verdict, why
from reconciler.core.words import Condition, Digest, DownloadPolicy, NetworkRequirement, Priority, WantedState
from tests.core.test_laws import LAW
from tests.core.worlds import BLOCK, DAY, MIB, NOW, artifact, desired, digest, held, observed, wanted, worlds


def sized(name, blocks, **rest):
    return wanted(name, artifact(content=name, size=blocks * BLOCK), **rest)


def turned_to(want, found, name):
    """The decision once the change is made."""
    answer = why(want, found, name)
    assert answer.change is not None
    return answer, verdict(plan(*apply_change(want, found, answer.change, name)), name)[:2]


@settings(LAW, max_examples=60)
@given(worlds())
def test_the_change_turns_the_decision(world):
    want, found = world
    names = {model.name for model in want.models} | {stored.name for stored in found.store.models}
    for name in sorted(names)[:2]:
        answer = why(want, found, name)
        if answer.change is not None:
            after = verdict(plan(*apply_change(want, found, answer.change, name)), name)
            assert after[:2] != (answer.decision, answer.reason)
        json.dumps(why_document(answer))


@settings(LAW, max_examples=60)
@given(worlds(is_calm=True))
def test_the_size_that_is_named_is_exact(world):
    want, found = world
    lacking = [each.model for each in plan(want, found).deferred if each.reason == "no_room"]
    assume(lacking)
    change = why(want, found, lacking[0]).change
    if change is not None and change.field == "cache.maxSize":
        less = replace(change, to=change.to - 1)
        assert verdict(plan(*apply_change(want, found, less, lacking[0])), lacking[0])[1] == "no_room"


def test_a_model_without_room_is_told_the_exact_size():
    want = desired(sized("a", 3), sized("b", 2, priority=Priority.HIGH), limit=4 * BLOCK)
    answer, after = turned_to(want, observed(), "a")
    assert (answer.decision, answer.reason) == ("deferred", "no_room")
    assert (answer.change.field, answer.change.from_, answer.change.to) == ("cache.maxSize", 4 * BLOCK, 5 * BLOCK)
    assert after == ("download", "not_in_store")
    assert [link.fact for link in answer.chain] == ["manifest", "store", "room", "blocked_by", "no_room"]


def test_where_free_space_is_short_the_answer_is_the_free_space():
    cache = CachePolicy(max_size=Size(percent=50.0), min_free=Size(size_bytes=2 * BLOCK), max_evictions_percent=None)
    answer, after = turned_to(desired(sized("a", 2), cache=cache), observed(free=3 * BLOCK), "a")
    assert (answer.change.field, answer.change.from_, answer.change.to) == ("cache.minFreeSpace", 2 * BLOCK, BLOCK)
    assert after[0] == "download"


def test_where_no_room_can_be_made_at_all_priority_is_tried():
    cache = CachePolicy(max_size=Size(percent=50.0), min_free=Size(size_bytes=0), max_evictions_percent=None)
    low, high = sized("a", 2, priority=Priority.LOW), sized("b", 2)
    answer, after = turned_to(desired(low, high, cache=cache), observed(held(high), free=0), "a")
    assert (answer.change.field, answer.change.to, after[0]) == ("models.a.priority", "high", "download")


def test_a_full_disk_leaves_nothing_to_change():
    cache = CachePolicy(max_size=Size(percent=50.0), min_free=Size(size_bytes=0))
    assert why(desired(sized("a", 2, priority=Priority.CRITICAL), cache=cache), observed(free=0), "a").change is None


def test_cache_that_makes_room_would_stay_with_a_larger_limit():
    answer, after = turned_to(desired(sized("z", 2), limit=2 * BLOCK), observed(held(sized("a", 2))), "a")
    assert (answer.decision, answer.change.field, answer.change.to) == ("evict", "cache.maxSize", 4 * BLOCK)
    assert after == ("satisfied", "unwanted")


def test_cache_that_goes_because_the_disk_is_full_can_be_pinned():
    cache = CachePolicy(max_size=Size(percent=50.0), min_free=Size(size_bytes=0), max_evictions_percent=None)
    answer, after = turned_to(desired(sized("z", 2), cache=cache), observed(held(sized("a", 2)), free=0), "a")
    assert (answer.change.field, answer.change.to, after) == ("pin", True, ("satisfied", "pinned"))


CASES = {
    "unwanted": (desired(), observed(held(sized("a", 1))), "pin"),
    "retention": (desired(), observed(held(sized("a", 1), installed_at=NOW - 40 * DAY)), "pin"),
    "absent": (desired(sized("a", 1, state=WantedState.ABSENT)), observed(held(sized("a", 1))), "models.a.state"),
    "present": (desired(sized("a", 1)), observed(held(sized("a", 1))), "models.a.state"),
    "not_in_store": (desired(sized("a", 1)), observed(), "models.a.state"),
    "wanted_loaded": (
        desired(sized("a", 1, state=WantedState.LOADED)),
        observed(held(sized("a", 1))),
        "models.a.state",
    ),
    "pinned": (
        desired(sized("a", 1, state=WantedState.ABSENT, pinned=True)),
        observed(held(sized("a", 1), pinned=True)),
        "models.a.pin",
    ),
    "pinned by hand": (
        desired(sized("a", 1, state=WantedState.ABSENT)),
        observed(held(sized("a", 1), pinned=True), overrides=(Override("a", "pin", NOW),)),
        "unpin",
    ),
    "absent without a source": (
        desired(DesiredModel("a", artifacts=(), state=WantedState.ABSENT)),
        observed(),
        None,
    ),
    "in_use": (desired(sized("a", 1, state=WantedState.ABSENT)), observed(held(sized("a", 1), in_use=True)), "in_use"),
    "not_selected": (desired(sized("a", 1, when=Selector(os=("plan9",)))), observed(), "models.a.when"),
    "rollout": (desired(sized("a", 1, rollout_percent=0.0)), observed(), "models.a.rollout"),
    "backing_off": (
        desired(sized("a", 1)),
        observed(failures=(FailureFact("a", sized("a", 1).spec_digest, "transient", "x", "m", 1, NOW + 5),)),
        "poke",
    ),
    "permanent": (
        desired(sized("a", 1)),
        observed(failures=(FailureFact("a", sized("a", 1).spec_digest, "permanent", "not_found", "m", 1, None),)),
        "poke",
    ),
    "foreign_files": (
        desired(sized("a", 1)),
        observed(StoredModel("a", Digest(""), (StoredFile("model.bin", digest("a"), BLOCK, BLOCK),), is_foreign=True)),
        "adopt",
    ),
    "link_blocked": (
        desired(sized("a", 1, links=("/opt/a",))),
        observed(held(sized("a", 1), links=(LinkFact("/opt/a", is_right=False, is_foreign=True),))),
        "links",
    ),
    "outside_window": (
        desired(sized("a", 1), network=NetworkPolicy(windows=(Window(60, 120),))),
        observed(),
        "network.windows",
    ),
    "network_unmet": (
        desired(sized("a", 1), network=NetworkPolicy(require=NetworkRequirement.WIFI)),
        observed(device=DeviceFacts(network="ethernet")),
        "network.require",
    ),
    "download_manual": (desired(sized("a", 1, download=DownloadPolicy.MANUAL)), observed(), "models.a.download"),
    "suspended": (desired(sized("a", 1)), observed(suspended_until=NOW + 5), "resume"),
    "no_memory": (
        desired(
            sized("a", 1, state=WantedState.LOADED, memory_bytes=5 * MIB),
            memory=MemoryPolicy(budget=Size(size_bytes=3 * MIB)),
        ),
        observed(held(sized("a", 1))),
        "memory.budget",
    ),
    "memory_pressure": (
        desired(sized("a", 1, state=WantedState.LOADED, memory_bytes=1)),
        observed(held(sized("a", 1)), memory=MemoryFacts(8000 * MIB, 150 * MIB)),
        None,
    ),
    "guard": (
        desired(cache=CachePolicy(min_free=Size(size_bytes=0), retention_s=DAY)),
        observed(*(held(sized(name, 1), installed_at=NOW - 9 * DAY) for name in "abc")),
        "cache.maxEvictions",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_reason_has_its_change(case):
    want, found, field = CASES[case]
    if field is None:
        assert why(want, found, "a").change is None
        return
    answer, after = turned_to(want, found, "a")
    assert answer.change.field == field
    assert after != (answer.decision, answer.reason)


def test_a_roll_out_is_told_in_the_manifests_words():
    want, found, _ = CASES["rollout"]
    change = why(want, found, "a").change
    assert (change.from_, change.to) == ("0%", "100%")


def test_the_guard_is_the_decision_where_it_holds_the_plan():
    want, found, _ = CASES["guard"]
    answer = why(want, found, "a")
    assert (answer.decision, answer.reason, answer.change.from_, answer.change.to) == (
        "guarded",
        "too_many_evictions",
        "50%",
        3,
    )
    counted = replace(want, cache=replace(want.cache, max_evictions_count=1))
    assert why(counted, found, "a").change.from_ == 1


def test_an_unlimited_budget_leaves_only_priority_to_change():
    model = sized("a", 1, state=WantedState.LOADED, memory_bytes=10**15, priority=Priority.CRITICAL)
    answer = why(desired(model), observed(held(model)), "a")
    assert (answer.reason, answer.change) == ("no_memory", None)


def test_a_budget_that_cannot_grow_enough_is_not_the_answer():
    model = sized("a", 1, state=WantedState.LOADED, memory_bytes=10**15)
    want = desired(model, memory=MemoryPolicy(budget=Size(percent=10.0)))
    assert why(want, observed(held(model)), "a").change is None


def test_the_chain_tells_all_that_mattered():
    model = sized("a", 1, pinned=True)
    stored = replace(held(model, loaded=True, in_use=True, spec=digest("old")))
    bad = tuple(
        replace(file, digest=digest("q"), condition=Condition.UNVERIFIED, detail="its time changed")
        for file in stored.files
    )
    failure = FailureFact("a", model.spec_digest, "transient", "http_500", "m", 2, NOW + 5)
    found = observed(
        replace(stored, files=bad),
        failures=(failure,),
        overrides=(Override("a", "unload", NOW),),
        runtimes=(RuntimeFact("default", "page-cache", loaded=(("a", 5),)),),
    )
    facts = [link.fact for link in why(desired(model), found, "a").chain]
    assert facts[:8] == ["manifest", "store", "file", "pinned", "loaded", "in_use", "by_hand", "failure"]


def test_what_is_left_over_of_an_unwanted_model_is_no_model():
    older = held(sized("a", 1), is_current=False, installed_at=NOW - 90 * DAY)
    assert why(desired(), observed(older), "a").reason == "leftovers"


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(Failure) as caught:
        why(desired(sized("whisper", 1)), observed(), "wisper")
    assert (caught.value.kind, caught.value.reason) == (FailureKind.PERMANENT, "unknown_model")
    assert caught.value.hint == "did you mean whisper?"
    with pytest.raises(Failure) as caught:
        why(desired(), observed(), "x")
    assert "neither" in caught.value.hint


def test_where_one_change_is_not_enough_there_is_none():
    network = NetworkPolicy(require=NetworkRequirement.UNMETERED)
    want = desired(sized("a", 2, download=DownloadPolicy.UNMETERED), network=network, limit=BLOCK)
    assert why(want, observed(device=DeviceFacts(is_metered=True)), "a").change is None
    selected_twice = sized("a", 1, when=Selector(os=("plan9",)), rollout_percent=0.0)
    assert why(desired(selected_twice), observed(), "a").change is None
