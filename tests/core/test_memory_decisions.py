"""Who stays in memory, who comes and who goes."""

import pytest

from reconciler.core.memory import Load, decide
from reconciler.core.observed import MemoryFacts
from reconciler.core.policies import MemoryPolicy, Size
from reconciler.core.words import Priority

GB = 10**9
POLICY = MemoryPolicy(warning_bytes=2 * GB, critical_bytes=GB)
LOW, NORMAL, HIGH, CRITICAL = Priority


def decided(*loads, available, budget=None):
    policy = MemoryPolicy(budget and Size(size_bytes=budget), POLICY.warning_bytes, POLICY.critical_bytes)
    return decide(loads, MemoryFacts(64 * GB, available), policy)


def test_nothing_to_load_is_no_decision():
    verdict = decided(available=GB)
    assert (verdict.stay, verdict.load, verdict.unload, verdict.refused) == (frozenset(), (), (), ())


def test_what_fits_is_loaded_by_priority_then_by_name():
    loads = (Load("b", NORMAL, GB), Load("a", NORMAL, GB), Load("z", HIGH, GB))
    assert decided(*loads, available=32 * GB).load == ("z", "a", "b")


def test_what_does_not_fit_is_passed_over_for_what_does():
    verdict = decided(Load("big", HIGH, 9 * GB), Load("small", NORMAL, GB), available=8 * GB)
    assert verdict.load == ("small",)
    assert verdict.refused == (("big", "no_memory", 8 * GB - int(1.1 * GB)),)


def test_among_equals_what_is_loaded_stays():
    loads = (Load("a", NORMAL, 3 * GB), Load("z", NORMAL, 3 * GB, is_loaded=True))
    verdict = decided(*loads, available=8 * GB, budget=4 * GB)
    assert verdict.stay == {"z"}
    assert verdict.refused == (("a", "no_memory", GB),)


def test_a_higher_priority_takes_the_memory_of_a_lower_one():
    loads = (Load("low", NORMAL, 3 * GB, is_loaded=True), Load("high", HIGH, 3 * GB))
    verdict = decided(*loads, available=8 * GB, budget=4 * GB)
    assert verdict.load == ("high",)
    assert verdict.unload == (("low", "memory_needed"),)


def test_what_nobody_wants_loaded_goes_and_its_memory_counts():
    loads = (Load("old", HIGH, 3 * GB, is_loaded=True, is_leaving=True), Load("new", NORMAL, 3 * GB))
    verdict = decided(*loads, available=2 * GB)
    assert verdict.unload == (("old", "not_wanted_loaded"),)
    assert verdict.load == ("new",)


def test_what_is_in_use_stays_whatever_else_is_asked():
    loads = (
        Load("used", LOW, 3 * GB, is_loaded=True, is_in_use=True, is_leaving=True),
        Load("high", HIGH, 3 * GB),
    )
    verdict = decided(*loads, available=GB // 2, budget=3 * GB)
    assert verdict.stay == {"used"}
    assert verdict.unload == ()
    assert verdict.refused == (("high", "memory_pressure", 0),)


@pytest.mark.parametrize(
    ("available", "priority", "goes"),
    [
        (2 * GB - 1, LOW, True),
        (2 * GB, LOW, False),
        (2 * GB - 1, NORMAL, False),
        (GB - 1, NORMAL, True),
        (GB - 1, HIGH, True),
        (GB, HIGH, False),
        (GB - 1, CRITICAL, False),
    ],
)
def test_short_memory_unloads_low_ones_first_and_critical_ones_never(available, priority, goes):
    verdict = decided(Load("a", priority, GB, is_loaded=True), available=available)
    assert verdict.unload == ((("a", "memory_pressure"),) if goes else ())
    assert verdict.stay == (frozenset() if goes else {"a"})


@pytest.mark.parametrize(("available", "is_squeezed"), [(int(1.1 * GB) - 1, True), (int(1.2 * GB), False)])
def test_what_comes_must_clear_the_threshold_by_a_tenth(available, is_squeezed):
    verdict = decided(Load("a", NORMAL, 1), available=available)
    assert verdict.load == (() if is_squeezed else ("a",))
    assert [reason for _, reason, _ in verdict.refused] == (["memory_pressure"] if is_squeezed else [])


def test_memory_freed_for_what_comes_first_relieves_what_comes_after():
    """The loaded one goes for want of budget; its memory is then no longer short for the next."""
    loads = (
        Load("first", CRITICAL, 4 * GB),
        Load("middle", HIGH, 5 * GB, is_loaded=True),
        Load("last", LOW, GB // 2),
    )
    verdict = decided(*loads, available=2 * GB, budget=5 * GB)
    assert verdict.unload == (("middle", "memory_needed"),)
    assert verdict.load == ("first", "last")


def test_what_is_unloaded_is_told_by_name():
    loads = (Load("z", HIGH, GB, is_loaded=True), Load("a", NORMAL, GB, is_loaded=True))
    assert [name for name, _ in decided(*loads, available=0).unload] == ["a", "z"]
