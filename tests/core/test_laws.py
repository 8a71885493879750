"""The laws of the planner, each named as the design names it. They hold for every world that can be drawn."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from reconciler.core.actions import ActionKind, Cause, Request
from reconciler.core.digests import digest_value
from reconciler.core.document import (
    observed_digest,
    observed_from_document,
    plan_document,
    plan_from_document,
    snapshot_document,
)
from reconciler.core.exits import plan_exit_code
from reconciler.core.plan import plan
from reconciler.core.policies import CachePolicy, Size
from reconciler.core.space import limit_bytes
from reconciler.core.summary import summarize
from reconciler.core.words import Condition, EvictionMode, Priority, WantedState
from tests.core.simulator import carried_out, prefixes
from tests.core.worlds import BLOCK, NAMES, desired, has_shared_arrivals, held, is_tangled, observed, wanted, worlds

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
LAW = settings(max_examples=60, deadline=None, phases=PHASES, suppress_health_check=CHECKS)
DEEP = settings(max_examples=5000, deadline=None, phases=PHASES, suppress_health_check=CHECKS)


def due(made):
    """What a plan would move: dropping the record of a leftover that frees no byte is not counted."""
    return [each for each in made.actions if not (each.kind is ActionKind.EVICT and each.subject and not each.bytes)]


def has_squeezed(made):
    return any(action.reason == "memory_pressure" for action in made.actions)


def has_relieved(made):
    """Whether a bad copy is given up because the store is over its limit, and somebody found no room.

    After a crash right there the store is within its limit: whoever would have left for the repair keeps its place.
    """
    is_given_up = any(each.subject == "quarantine" and each.reason == "over_limit" for each in made.actions)
    return is_given_up and any(each.reason == "no_room" for each in made.deferred)


def check_empty_after(world):
    want, found = world
    first = plan(want, found)
    assume(not has_squeezed(first))  # memory that comes free by pressure is another law
    assume(not has_shared_arrivals(want, first))  # a second pass links what the first brought
    assume(not is_tangled(want, found, first))  # more passes are needed: see the law of settling
    after = carried_out(want, found, first).look()
    assert due(plan(want, after)) == []


@LAW
@given(worlds())
def test_the_plan_after_applying_a_plan_is_empty(world):
    check_empty_after(world)


@pytest.mark.slow
@DEEP
@given(worlds())
def test_the_plan_after_applying_a_plan_is_empty_in_many_worlds(world):
    check_empty_after(world)


@LAW
@given(worlds())
def test_applying_again_and_again_settles(world):
    """Where room is so short that one model waits for what another leaves, one more pass uses it; two settle all."""
    want, found = world
    for _ in range(3):
        made = plan(want, found)
        if not due(made):
            return
        found = carried_out(want, found, made).look()
    raise AssertionError([action.id for action in due(made)])


def check_room(world):
    want, found = world
    made = plan(want, found)
    bound = max(limit_bytes(want.cache, found), found.store.used_bytes)
    for machine in prefixes(want, found, made):
        assert machine.most_bytes <= bound
    assert machine.most_bytes <= made.summary.disk_peak_bytes <= bound


@LAW
@given(worlds())
def test_bytes_on_disk_never_pass_the_limit_or_the_start_at_any_prefix(world):
    check_room(world)


@pytest.mark.slow
@DEEP
@given(worlds())
def test_bytes_on_disk_never_pass_the_limit_in_many_worlds(world):
    check_room(world)


@LAW
@given(worlds())
def test_dependencies_come_before_what_depends_on_them(world):
    made = plan(*world)
    done = set()
    for action in made.actions:
        assert set(action.depends_on) <= done, action
        assert action.id not in done
        done.add(action.id)


@LAW
@given(worlds(is_calm=True), st.data())
def test_a_crash_after_any_prefix_then_passes_give_the_same_end_state(world, data):
    want, found = world
    whole = plan(want, found)
    assume(not has_shared_arrivals(want, whole) and not is_tangled(want, found, whole) and not has_squeezed(whole))
    assume(not has_relieved(whole))
    end = carried_out(want, found, whole).look()
    stop = data.draw(st.integers(0, len(whole.actions)))
    machine = next(itertools.islice(prefixes(want, found, whole), stop, None))
    found = machine.look()
    for _ in range(4):
        made = plan(want, found)
        assume(not is_tangled(want, found, made))  # an archive that comes again may take the room of cache
        found = carried_out(want, found, made).look()
    assert in_force(found) == in_force(end)


def in_force(found):
    """Which revisions are placed, which are loaded."""
    placed = {(each.name, each.spec_digest) for each in found.store.models if each.is_current}
    return placed, {name for runtime in found.runtimes for name, _ in runtime.loaded}


@LAW
@given(worlds())
def test_the_same_inputs_give_the_same_bytes(world):
    first, second = (json.dumps(plan_document(plan(*world))) for _ in range(2))
    assert first == second


@LAW
@given(worlds(), st.randoms(use_true_random=False))
def test_order_in_the_manifest_is_irrelevant(world, random):
    want, found = world
    models = list(want.models)
    random.shuffle(models)
    stored = list(found.store.models)
    random.shuffle(stored)
    shuffled = replace(found, store=replace(found.store, models=tuple(stored)))
    assert plan_document(plan(replace(want, models=tuple(models)), shuffled)) == plan_document(plan(want, found))


@LAW
@given(worlds(), st.sampled_from(("", "prune", "evict")))
def test_foreign_pinned_loaded_and_in_use_are_never_evicted(world, verb):
    want, found = world
    made = plan(want, found, Request(verb=verb, models=NAMES if verb == "evict" else ()))
    pins = {model.name for model in want.models if model.pinned}
    stored = {model.name: model for model in found.store.models if model.is_current}
    unloaded = set()
    for action in made.actions:
        if action.kind is ActionKind.UNLOAD:
            unloaded.add(action.model)
        if action.kind is ActionKind.EVICT and not action.subject:
            model = stored[action.model]
            assert not any((model.pinned, model.in_use, model.is_foreign))
            assert action.model not in pins or verb == "prune" or action.model not in {m.name for m in want.models}
            assert not model.loaded or action.model in unloaded


@LAW
@given(worlds())
def test_a_critical_model_is_never_evicted_for_a_lower_one(world):
    want, found = world
    made = plan(want, found)
    priorities = {model.name: model.priority for model in want.models if model.state is not WantedState.ABSENT}
    evicted = {
        action.model
        for action in made.actions
        if action.kind is ActionKind.EVICT and not action.subject and action.cause is Cause.PRESSURE
    }
    for name in evicted & priorities.keys():
        if priorities[name] is Priority.CRITICAL:
            assert want.cache.mode is EvictionMode.AGGRESSIVE
    lower = replace(want, models=tuple(model for model in want.models if model.priority is Priority.CRITICAL))
    alone = plan(lower, found)
    lost = {action.model for action in alone.actions if action.kind is ActionKind.EVICT and not action.subject}
    critical = {name for name in evicted if priorities.get(name) is Priority.CRITICAL}
    kept_places = any(model.pinned or model.in_use or model.loaded for model in found.store.models)
    kept_places |= any(model.pinned for model in want.models)
    assert kept_places or critical <= lost  # it would have gone without the lower ones too


@LAW
@given(worlds(is_calm=True), st.integers(0, 20))
def test_raising_a_limit_never_evicts_more(world, more):
    """For the same arrivals: room for one more model may be made at the cost of a lower one, as priority demands."""
    want, found = world
    assume(all(model.spec_digest for model in want.models))
    raised = replace(
        want, cache=replace(want.cache, max_size=Size(size_bytes=want.cache.max_size.size_bytes + more * BLOCK))
    )
    low, high = plan(want, found), plan(raised, found)
    arrivals = {ActionKind.DOWNLOAD, ActionKind.LINK, ActionKind.EXTRACT}
    coming = [[each.id for each in made.actions if each.kind in arrivals] for made in (low, high)]
    assume(sorted(coming[0]) == sorted(coming[1]))
    wanted_names = {model.name for model in want.models if model.state is not WantedState.ABSENT}
    assume(
        not any(
            each.model in wanted_names and not each.subject for each in low.actions if each.kind is ActionKind.EVICT
        )
    )
    evicted = [[each for each in made.actions if each.kind is ActionKind.EVICT] for made in (low, high)]
    kept = [{each.id for each in actions if each.subject != "quarantine"} for actions in evicted]
    assert kept[1] <= kept[0]
    # Where less room is wanted, a bad copy may be enough in place of something larger.
    freed = [sum(each.bytes or 0 for each in actions) for actions in evicted]
    assert freed[1] <= freed[0]


@LAW
@given(worlds(is_calm=True))
def test_nothing_is_evicted_for_a_model_of_the_same_priority(world):
    want, found = world
    assume(found.store.used_bytes <= limit_bytes(want.cache, found))
    same = replace(want, models=tuple(replace(model, priority=Priority.NORMAL) for model in want.models))
    names = {model.name for model in same.models if model.state is not WantedState.ABSENT}
    made = plan(same, found)
    evicted = [each for each in made.actions if each.kind is ActionKind.EVICT and not each.subject]
    assert not [each for each in evicted if each.model in names]


@LAW
@given(worlds())
def test_an_empty_manifest_without_models_evicts_by_need_only(world):
    """An invalid manifest never reaches the planner; an empty one makes cache of everything and is guarded."""
    want, found = world
    calm = CachePolicy(max_size=Size(size_bytes=1 << 60), min_free=Size(size_bytes=0), retention_s=None)
    made = plan(replace(want, models=(), cache=calm), found)
    assert not [each for each in made.actions if each.kind is ActionKind.EVICT and not each.subject]


@LAW
@given(worlds(is_calm=True), worlds(is_calm=True))
def test_the_end_state_depends_on_the_last_manifest_where_room_suffices(one, other):
    roomy = CachePolicy(max_size=Size(size_bytes=1 << 60), min_free=Size(size_bytes=0), max_evictions_percent=None)
    first, second = replace(one[0], cache=roomy), replace(other[0], cache=roomy, memory=one[0].memory)
    found = replace(one[1], disk=replace(one[1].disk, free_bytes=1 << 50))
    memory = replace(found.memory, available_bytes=10**14, total_bytes=10**14)
    found = replace(found, memory=memory, overrides=())
    second = replace(second, memory=replace(second.memory, budget=None))
    first = replace(first, memory=second.memory)
    assume(not any(stored.in_use for stored in found.store.models))
    straight = settled(second, found)
    by_detour = settled(second, settled(first, found))
    assert wanted_in_force(second, by_detour) == wanted_in_force(second, straight)


def settled(want, found):
    for _ in range(5):
        found = carried_out(want, found, plan(want, found)).look()
    return found


def wanted_in_force(want, found):
    placed = {
        (each.name, frozenset((file.path, file.digest) for file in each.files))
        for each in found.store.models
        if each.is_current
    }
    names = {model.name for model in want.models if model.state is not WantedState.ABSENT}
    loaded = {name for runtime in found.runtimes for name, _ in runtime.loaded}
    return {each for each in placed if each[0] in names}, loaded


@LAW
@given(worlds())
def test_plan_of_a_snapshot_equals_the_plan_of_the_machine_itself(world):
    want, found = world
    found = replace(found, digest=observed_digest(found))
    document = json.loads(json.dumps(snapshot_document(found)))
    read = observed_from_document(document)
    assert read == found
    assert plan_document(plan(want, read)) == plan_document(plan(want, found))


@LAW
@given(worlds())
def test_a_saved_plan_is_read_back_as_it_was(world):
    made = plan(*world)
    assert plan_from_document(json.loads(json.dumps(plan_document(made)))) == made


@LAW
@given(worlds())
def test_the_exit_code_is_a_function_of_the_summary(world):
    made = plan(*world)
    assert plan_exit_code(made.summary, detailed=True) == (2 if made.actions else 0)
    assert plan_exit_code(made.summary) == 0
    parts = (made.actions, made.deferred, made.satisfied, made.guards)
    disk = (made.summary.disk_peak_bytes, made.summary.disk_final_bytes, made.summary.disk_limit_bytes)
    again = summarize(parts, disk)
    assert replace(again, failed=made.summary.failed) == made.summary


@LAW
@given(
    worlds(),
    st.sampled_from(("", "evict", "prune", "verify", "repair", "load", "unload", "adopt", "rollback")),
    st.lists(st.sampled_from(NAMES), unique=True, min_size=1),
    st.booleans(),
)
def test_every_model_is_in_exactly_one_of_action_deferred_and_satisfied(world, verb, names, is_only):
    want, found = world
    request = Request(verb=verb, models=tuple(names) if verb else (), only=tuple(names) if is_only and not verb else ())
    made = plan(want, found, request)
    own = {action.model for action in made.actions if not (action.kind is ActionKind.EVICT and action.subject)}
    acting = {action.model for action in made.actions}
    deferred = [each.model for each in made.deferred]
    satisfied = [each.model for each in made.satisfied]
    assert len(set(deferred)) == len(deferred)
    assert len(set(satisfied)) == len(satisfied)
    assert not own & set(deferred)
    assert not acting & set(satisfied)
    assert not set(deferred) & set(satisfied)
    known = {model.name for model in want.models} | {stored.name for stored in found.store.models}
    assert known <= acting | set(deferred) | set(satisfied)


@LAW
@given(worlds(), st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
def test_only_acts_on_what_was_asked_for_and_on_cache_that_makes_room(world, names):
    want, found = world
    made = plan(want, found, Request(only=tuple(names)))
    unwanted = {stored.name for stored in found.store.models} - {model.name for model in want.models}
    for action in made.actions:
        is_room = action.kind is ActionKind.EVICT and (action.model in unwanted or action.subject)
        assert action.model in names or is_room


@LAW
@given(worlds())
def test_the_digest_of_a_plan_covers_no_time(world):
    want, found = world
    later = replace(found, taken_at=found.taken_at + 1)
    calm = replace(want, cache=replace(want.cache, retention_s=None, cleanup_interval_s=0.0))
    first, second = plan(calm, found), plan(calm, later)
    assume(first.actions == second.actions)
    assert plan_document(first)["plan_digest"] == plan_document(second)["plan_digest"]


STATES = ("none", "intact", "other", "missing", "unverified", "loaded", "pinned")


def small_world(priorities, wishes, states, limit):
    models, stored = [], []
    for name, priority, wish, state in zip("abc", priorities, wishes, states, strict=True):
        model = wanted(name, priority=priority, state=wish or WantedState.PRESENT)
        if wish is not None:
            models.append(model)
        condition = {"missing": Condition.MISSING, "unverified": Condition.UNVERIFIED}.get(state, Condition.INTACT)
        lies = wanted(name, *wanted(name + "old").artifacts) if state == "other" else model
        if state != "none":
            stored.append(held(lies, condition, pinned=state == "pinned", loaded=state == "loaded"))
    return desired(*models, limit=limit * BLOCK), observed(*stored)


@pytest.mark.slow
def test_every_small_world_keeps_the_laws():
    """All combinations of three models' wishes, states and limits: a certificate, not a sample."""
    count = 0
    wishes = (None, WantedState.PRESENT, WantedState.ABSENT)
    for chosen in itertools.product(wishes, repeat=3):
        for states in itertools.product(STATES, repeat=3):
            for limit in (0, 1, 2, 4):
                want, found = small_world((Priority.LOW, Priority.NORMAL, Priority.HIGH), chosen, states, limit)
                made = plan(want, found)
                bound = max(limit_bytes(want.cache, found), found.store.used_bytes)
                assert made.summary.disk_peak_bytes <= bound
                if "loaded" not in states and not is_tangled(want, found, made):
                    machine = carried_out(want, found, made)
                    assert machine.most_bytes <= bound
                    assert due(plan(want, machine.look())) == []
                count += 1
    assert count == 27 * 343 * 4


def test_digests_of_equal_values_are_equal():
    assert digest_value({"a": 1, "b": 2}) == digest_value({"b": 2, "a": 1})
