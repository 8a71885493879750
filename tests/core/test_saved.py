"""A saved plan against the world of now: already true, still to do, or stale because one fact has changed."""

from dataclasses import replace

import pytest

from reconciler.core.actions import Precondition, Request
from reconciler.core.plan import plan
from reconciler.core.saved import sort_saved
from reconciler.core.state import (
    BlobFact,
    CachePolicy,
    Condition,
    FailureFact,
    FileStat,
    MemoryPolicy,
    RuntimeFact,
    Size,
    StoredModel,
    WantedState,
)
from tests.core.worlds import BLOCK, MIB, NOW, artifact, desired, digest, file_of, held, observed, wanted

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


def unloaded_since():
    """Not wanted loaded, and the bytes are not right either: so the model is not settled."""
    model = wanted("a")
    gone = observed(held(model, Condition.DAMAGED))
    return (desired(model), loaded(model)), (desired(model), gone), NO_REQUEST


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
        (unloaded_since, "unload:a: it was loaded or unloaded since: a"),
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
    foreign = StoredModel("a", digest("whatever"), (file_of(artifact()),), is_foreign=True)
    verdict = sort((desired(model), observed()), (desired(model), observed(foreign)))
    assert verdict.stale == ("download:a is not due any more",)


def test_what_may_not_be_done_now_is_stale_though_its_facts_hold():
    model = wanted("a")
    failure = FailureFact("a", model.spec_digest, "transient", "broken", "it broke", 1, NOW + 60)
    verdict = sort((desired(model), observed()), (desired(model), observed(failures=(failure,))))
    assert verdict.stale == ("download:a is not due any more",)
    assert verdict.todo == verdict.already_true == ()


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
