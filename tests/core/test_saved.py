"""A saved plan against the world of now: already true, still to do, or stale because one fact has changed."""

from dataclasses import replace

import pytest

from reconciler.core.actions import Precondition, Request
from reconciler.core.desired import SignatureRule
from reconciler.core.observed import FailureFact, RuntimeFact
from reconciler.core.plan import plan
from reconciler.core.policies import CachePolicy, MemoryPolicy, Size
from reconciler.core.saved import left_to_do, sort_saved
from reconciler.core.stored import BadCopy, BlobFact, FileStat, LinkFact, StoredModel
from reconciler.core.words import Condition, SignatureKind, WantedState
from tests.core.worlds import BLOCK, DAY, MIB, NOW, artifact, desired, digest, file_of, held, observed, wanted

NO_REQUEST = Request()
PRUNE = Request(prune=True)
VERIFY = Request(verb="verify")


def sort(before, after, request=NO_REQUEST):
    """The plan saved in the world ``before``, sorted in the world ``after``; a world is (desired, observed)."""
    return sort_saved(plan(*before, request), *after, plan(*after, request))


def ids(actions):
    return [action.id for action in actions]


def loaded(model, **rest):
    fact = RuntimeFact("default", "page-cache", loaded=((model.name, MIB),))
    stored = held(model, loaded=True, runtime="default", memory_bytes=MIB)
    return observed(stored, runtimes=(fact,), **rest)


def test_in_the_same_world_everything_is_still_to_do():
    world = (desired(wanted("a")), observed(held(wanted("b"))))
    saved = plan(*world, PRUNE)
    verdict = sort(world, world, PRUNE)
    assert {action.id for action in saved.actions} == {"download:a", "evict:b"}
    assert verdict.todo == saved.actions
    assert verdict.already_true == verdict.stale == ()


def test_what_was_brought_meanwhile_is_already_true():
    a, b = wanted("a"), wanted("b")
    verdict = sort((desired(a, b), observed()), (desired(a, b), observed(held(a))))
    assert ids(verdict.already_true) == ["download:a"]
    assert ids(verdict.todo) == ["download:b"]
    assert verdict.stale == ()


def test_what_was_evicted_meanwhile_is_already_true():
    verdict = sort((desired(), observed(held(wanted("a")))), (desired(), observed()), PRUNE)
    assert ids(verdict.already_true) == ["evict:a"]
    assert verdict.todo == verdict.stale == ()


def test_a_bad_copy_is_evicted_already_where_it_is_gone_and_not_where_it_only_moved():
    model = wanted("a", artifact(size=3 * BLOCK))
    want, digest = desired(model, limit=4 * BLOCK), model.artifacts[0].digest
    damaged = observed(held(model, Condition.DAMAGED))
    lost = observed(held(model, Condition.MISSING))
    moved = observed(held(model, Condition.MISSING), copies=[BadCopy("q", 3 * BLOCK, NOW, digest)])
    assert ids(sort((want, damaged), (want, lost)).already_true) == [f"evict:a:quarantine:{digest}"]
    assert sort((want, damaged), (want, moved)).stale == (f"evict:a:quarantine:{digest} is not due any more",)
    assert ids(sort((want, moved), (want, moved)).todo) == ["evict:a:quarantine:q", "download:a"]


def test_an_older_revision_that_stays_behind_does_not_keep_an_eviction_from_being_true():
    stored = held(wanted("a"))
    behind = replace(stored, is_current=False, pinned=True)
    verdict = sort((desired(), observed(stored)), (desired(), observed(behind)), PRUNE)
    assert ids(verdict.already_true) == ["evict:a"]


def test_an_unload_is_already_true_once_the_memory_is_free():
    model = wanted("a")
    verdict = sort((desired(model), loaded(model)), (desired(model), observed(held(model))))
    assert ids(verdict.already_true) == ["unload:a"]
    assert verdict.stale == ()


def test_an_unrelated_change_makes_nothing_stale():
    model = wanted("a")
    verdict = sort((desired(model), observed()), (desired(model, wanted("z")), observed(held(wanted("y")))))
    assert ids(verdict.todo) == ["download:a"]
    assert verdict.stale == ()


def test_another_cache_section_makes_only_stale_what_leans_on_it():
    model = wanted("a")
    roomy = CachePolicy(max_size=Size(size_bytes=1 << 40))
    verdict = sort((desired(model), observed()), (desired(model, cache=roomy), observed()))
    assert ids(verdict.todo) == ["download:a"]


def other_spec():
    before, after = wanted("a", artifact(content="x")), wanted("a", artifact(content="y"))
    return (desired(before), observed()), (desired(after), observed()), NO_REQUEST


def entry_is_gone():
    return (desired(wanted("a")), observed()), (desired(), observed()), NO_REQUEST


def other_revision_stored():
    model, other = wanted("a", artifact(content="x")), wanted("a", artifact(content="y"))
    return (desired(model), observed()), (desired(model), observed(held(other))), NO_REQUEST


def revision_went():
    model = wanted("a")
    old = held(wanted("a", artifact(content="old")))
    return (desired(model), observed(old)), (desired(model), observed()), NO_REQUEST


def pinned_since():
    stored = held(wanted("a"))
    return (desired(), observed(stored)), (desired(), observed(replace(stored, pinned=True))), PRUNE


def loaded_since():
    model = wanted("a")
    return (desired(), observed(held(model))), (desired(), loaded(model)), PRUNE


def other_revision_loaded():
    """The load would be of what was just brought; what is loaded now is something else."""
    new, old = wanted("a", artifact(content="x"), state=WantedState.LOADED), wanted("a", artifact(content="y"))
    return (desired(new), observed()), (desired(old), loaded(old)), NO_REQUEST


def damaged_since():
    model = wanted("a")
    bad = observed(held(model, Condition.DAMAGED), failures=(failing(model),))
    return (desired(model), observed()), (desired(model), bad), NO_REQUEST


def replaced_by_another_revision():
    model, other = wanted("a", artifact(content="x")), wanted("a", artifact(content="y"))
    return (desired(model), observed()), (desired(other), observed(held(other))), NO_REQUEST


def other_cache():
    a, b = held(wanted("a")), wanted("b", artifact(content="b"))
    world = observed(a)
    return (desired(b, limit=BLOCK), world), (desired(b, limit=BLOCK + 1), world), NO_REQUEST


def other_memory():
    model = wanted("a", state=WantedState.LOADED, memory_bytes=MIB)
    world = observed(held(model), runtimes=(RuntimeFact("default", "page-cache"),))
    changed = MemoryPolicy(budget=Size(size_bytes=2000 * MIB))
    return (desired(model), world), (desired(model, memory=changed), world), NO_REQUEST


def other_file():
    model = wanted("a")
    stored = held(model, Condition.UNVERIFIED)
    touched = replace(stored, files=tuple(replace(file, stat=FileStat(1, 2, BLOCK, 99)) for file in stored.files))
    return (desired(model), observed(stored)), (desired(model), observed(touched)), NO_REQUEST


def file_without_a_stat():
    model = wanted("a")
    stored = held(model, Condition.UNVERIFIED)
    bare = replace(stored, files=tuple(replace(file, stat=None) for file in stored.files))
    return (desired(model), observed(stored)), (desired(model), observed(bare)), NO_REQUEST


def file_is_gone():
    model = wanted("a", artifact("one", "1"), artifact("two", "2"))
    stored = held(model, Condition.UNVERIFIED)
    fewer = replace(stored, files=stored.files[:1])
    return (desired(model), observed(stored)), (desired(model), observed(fewer)), VERIFY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_spec, "download:a: the manifest asks for something else of a"),
        (entry_is_gone, "download:a: the manifest asks for something else of a"),
        (other_revision_stored, "download:a: another revision lies in the store of a"),
        (revision_went, "download:a: another revision lies in the store of a"),
        (pinned_since, "evict:a: the pin has changed on a"),
        (loaded_since, "evict:a: it was loaded or unloaded since: a"),
        (damaged_since, "download:a: another revision lies in the store of a"),
        (replaced_by_another_revision, "download:a: the manifest asks for something else of a"),
        (other_revision_loaded, "load:a: it was loaded or unloaded since: a"),
        (other_cache, "evict:a: the manifest has changed its section cache"),
        (other_memory, "load:a: the manifest has changed its section memory"),
        (other_file, "verify:a: the file has changed: models/a/model.bin"),
        (file_without_a_stat, "verify:a: the file has changed: models/a/model.bin"),
        (file_is_gone, "verify:a: the file has changed: models/a/two"),
    ],
)
def test_a_changed_fact_makes_an_action_stale_and_is_named(change, message):
    before, after, request = change()
    action = message.partition(": ")[0]
    assert ids(sort(before, before, request).todo).count(action) == 1
    verdict = sort(before, after, request)
    assert message in verdict.stale
    assert action not in ids((*verdict.todo, *verdict.already_true))


def test_files_that_are_not_ours_do_not_count_as_a_stored_revision():
    model = wanted("a")
    foreign = StoredModel("a", model.spec_digest, (file_of(artifact(content="a")),), is_foreign=True)
    verdict = sort((desired(model), observed()), (desired(model), observed(foreign)))
    assert ids(verdict.held_back) == ["download:a"]
    assert verdict.todo == verdict.already_true == verdict.stale == ()


def failing(model):
    return FailureFact(model.name, model.spec_digest, "transient", "broken", "it broke", 1, NOW + 60)


def test_what_may_not_be_done_now_is_held_back_and_the_rest_is_done():
    a, b = wanted("a", state=WantedState.LOADED, memory_bytes=MIB), wanted("b")
    runtimes = (RuntimeFact("default", "page-cache"),)
    before = (desired(a, b), observed(runtimes=runtimes))
    after = (desired(a, b), observed(runtimes=runtimes, failures=(failing(a),)))
    verdict = sort(before, after)
    assert ids(verdict.held_back) == ["download:a", "load:a"]
    assert ids(verdict.todo) == ["download:b"]
    assert verdict.already_true == verdict.stale == ()
    left = left_to_do(plan(*before), verdict, plan(*after))
    assert ids(left.actions) == ["download:b"]
    assert [(each.model, each.reason, each.retry_at) for each in left.deferred] == [("a", "backing_off", NOW + 60)]


def test_room_is_not_made_for_what_is_held_back():
    old, big = held(wanted("old")), wanted("big", artifact(content="big", size=2 * BLOCK))
    wish = desired(big, limit=2 * BLOCK)
    verdict = sort((wish, observed(old)), (wish, observed(old, failures=(failing(big),))))
    assert ids(verdict.held_back) == ["evict:old", "download:big"]
    assert verdict.todo == verdict.stale == ()


def test_an_eviction_that_nobody_waits_for_any_more_is_stale():
    old = held(wanted("old"), last_used=NOW - 90 * DAY, installed_at=NOW - 90 * DAY)
    used = replace(old, last_used=NOW)
    wish = desired(cache=CachePolicy(retention_s=30 * DAY, max_evictions_percent=None))
    assert sort((wish, observed(old)), (wish, observed(used))).stale == ("evict:old is not due any more",)


def test_a_half_done_plan_goes_on_from_where_it_is():
    model = wanted("a", state=WantedState.LOADED, memory_bytes=MIB)
    runtimes = (RuntimeFact("default", "page-cache"),)
    before = (desired(model), observed(runtimes=runtimes))
    after = (desired(model), observed(held(model), runtimes=runtimes))
    verdict = sort(before, after)
    assert ids(verdict.already_true) == ["download:a"]
    assert ids(verdict.todo) == ["load:a"]
    assert verdict.stale == ()
    (load,) = left_to_do(plan(*before), verdict, plan(*after)).actions
    assert load.depends_on == ()  # nothing waits for what is not done any more


def test_a_download_is_still_to_do_where_its_bytes_came_meanwhile():
    model, same = wanted("a", artifact(content="x")), wanted("z", artifact(content="x"))
    after = (desired(model, same), observed(held(same)))
    assert [action.id for action in plan(*after).actions] == ["link:a"]
    verdict = sort((desired(model), observed()), after)
    assert ids(verdict.todo) == ["download:a"]
    assert verdict.stale == ()


@pytest.mark.parametrize("is_right", [True, False])
def test_links_are_already_true_where_they_are_there(is_right):
    model = wanted("a", links=("/opt/a",))
    stored = held(model, links=(LinkFact("/opt/a", is_right=is_right),))
    verdict = sort((desired(model), observed()), (desired(model), observed(stored)))
    assert ids(verdict.already_true) == (["download:a", "link:a:links"] if is_right else ["download:a"])
    assert ids(verdict.todo) == ([] if is_right else ["link:a:links"])
    assert verdict.stale == ()


def test_a_reload_is_already_true_once_the_new_revision_is_loaded():
    old = wanted("a", artifact(content="old"), state=WantedState.LOADED, memory_bytes=MIB)
    new = wanted("a", artifact(content="new"), state=WantedState.LOADED, memory_bytes=MIB)
    before = (desired(new), loaded(old))
    assert {action.id for action in plan(*before).actions} >= {"download:a", "unload:a", "load:a"}
    verdict = sort(before, (desired(new), loaded(new)))
    assert {"download:a", "unload:a", "load:a"} <= set(ids(verdict.already_true))
    assert verdict.todo == verdict.stale == ()


def test_an_unload_is_already_true_though_the_files_are_bad():
    model = wanted("a")
    verdict = sort((desired(model), loaded(model)), (desired(model), observed(held(model, Condition.DAMAGED))))
    assert ids(verdict.already_true) == ["unload:a"]


def test_what_was_verified_or_adopted_meanwhile_is_already_true():
    model = wanted("a")
    doubtful = (desired(model), observed(held(model, Condition.UNVERIFIED)))
    assert ids(sort(doubtful, (desired(model), observed(held(model)))).already_true) == ["verify:a"]
    foreign = StoredModel("a", digest("whatever"), (file_of(artifact()),), is_foreign=True)
    adopt = Request(verb="adopt")
    before = (desired(), observed(foreign))
    saved = plan(*before, adopt)
    assert ids(saved.actions) == ["adopt:a"]
    after = (desired(), observed(held(model)))
    assert ids(sort_saved(saved, *after, plan(*after)).already_true) == ["adopt:a"]


def test_what_is_not_vouched_for_is_not_brought():
    model = wanted("a", signature=SignatureRule(SignatureKind.MINISIGN, ("RWkey",)))
    gated = observed(held(model), failures=(replace(failing(model), kind="permanent"),))
    verdict = sort((desired(model), observed()), (desired(model), gated))
    assert verdict.already_true == ()
    assert verdict.stale == ("download:a: another revision lies in the store of a",)


def test_that_all_is_as_the_manifest_says_does_not_make_an_action_true():
    gone = wanted("a", state=WantedState.ABSENT)
    verdict = sort((desired(wanted("a")), observed()), (desired(gone), observed()))
    assert verdict.already_true == ()
    assert verdict.stale == ("download:a is not due any more",)


def test_brakes_are_those_of_now_and_of_what_is_left():
    stored = [held(wanted(name)) for name in ("a", "b")]
    tight = CachePolicy(min_free=Size(size_bytes=0), max_evictions_count=1)
    before = (desired(), observed(*stored))
    assert [guard.reason for guard in sort(before, (desired(cache=tight), observed(*stored)), PRUNE).guards] == [
        "too_many_evictions"
    ]
    assert sort(before, (desired(cache=tight), observed(stored[0])), PRUNE).guards == ()
    later = NOW + 60
    asleep = (desired(), observed(*stored, suspended_until=later))
    assert [guard.reason for guard in sort(before, asleep, PRUNE).guards] == ["suspended"]
    assert plan(*asleep, PRUNE).guards
    assert sort(asleep, before, PRUNE).guards == ()


BLOB = digest("blob")
BLOB_PATH = f"blobs/sha256/{BLOB[7:9]}/{BLOB[7:]}"
STAT = FileStat(1, 2, BLOCK, 3)


@pytest.mark.parametrize(
    ("blobs", "word", "is_fitting"),
    [
        ((BlobFact(BLOB, BLOCK, BLOCK, True, STAT, NOW),), STAT.word, True),
        ((BlobFact(BLOB, BLOCK, BLOCK, True, replace(STAT, mtime_ns=4), NOW),), STAT.word, False),
        ((BlobFact(BLOB, BLOCK, BLOCK, True, None, NOW),), "absent", True),
        ((BlobFact(digest("other"), BLOCK, BLOCK, True, STAT, NOW),), STAT.word, False),
        ((), "absent", True),
    ],
)
def test_a_blob_is_a_file_like_any_other(blobs, word, is_fitting):
    world = (desired(wanted("a")), observed(blobs=blobs))
    assert fits(world, Precondition("file", BLOB_PATH, word)) is is_fitting


def test_a_precondition_of_an_unknown_kind_never_holds():
    world = (desired(wanted("a")), observed())
    assert not fits(world, Precondition("weather", "a", "fine"))
    assert not fits(world, Precondition("weather", "a", "absent"))


def fits(world, precondition):
    """Whether the download of ``a`` is still to do where it also leans on this; else it must be named as stale."""
    saved = plan(*world)
    (download,) = (action for action in saved.actions if action.id == "download:a")
    leaning = replace(saved, actions=(replace(download, preconditions=(precondition,)),))
    verdict = sort_saved(leaning, *world, saved)
    assert len(verdict.todo) + len(verdict.stale) == 1
    assert all(precondition.subject in line for line in verdict.stale)
    return bool(verdict.todo)
