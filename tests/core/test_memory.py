"""How short memory is, and what it takes to be loaded."""

import pytest

from reconciler.core.memory import Load, Pressure, decide, estimate_bytes, pressure, to_free_bytes
from reconciler.core.observed import MemoryFacts
from reconciler.core.policies import MemoryPolicy, Size
from reconciler.core.words import Priority

GB = 10**9


@pytest.mark.parametrize(
    ("available", "level"),
    [(9.9, "CRITICAL"), (14.9, "WARNING"), (19.9, "HIGH"), (39.9, "MEDIUM"), (40, "LOW"), (100, "LOW")],
)
def test_levels_go_by_the_share_that_is_available(available, level):
    assert pressure(MemoryFacts(100 * GB, int(available * GB)), MemoryPolicy()) is Pressure[level]


def test_the_manifests_thresholds_win_where_they_are_stricter():
    assert pressure(MemoryFacts(GB, 190_000_000), MemoryPolicy()) is Pressure.CRITICAL
    assert pressure(MemoryFacts(GB, 490_000_000), MemoryPolicy()) is Pressure.WARNING


def test_a_level_clears_a_tenth_above_its_threshold():
    facts = MemoryFacts(100 * GB, int(10.5 * GB))
    assert pressure(facts, MemoryPolicy()) is Pressure.WARNING
    assert pressure(facts, MemoryPolicy(), before=Pressure.CRITICAL) is Pressure.CRITICAL
    assert pressure(MemoryFacts(100 * GB, 11 * GB), MemoryPolicy(), before=Pressure.CRITICAL) is Pressure.WARNING


def test_each_level_asks_for_its_share():
    asked = [to_free_bytes(level, MemoryPolicy(warning_bytes=7)) for level in Pressure]
    assert asked == [0, 0, 7, 14, 21]


def test_an_estimate_goes_by_format():
    assert [estimate_bytes(name, 100) for name in ("gguf", "safetensors", "coreml")] == [100, 120, 150]


def test_two_loads_cannot_both_take_the_same_memory():
    loads = [Load(name, Priority.NORMAL, 3 * GB) for name in "ab"]
    verdict = decide(loads, MemoryFacts(8 * GB, 4 * GB), MemoryPolicy())
    assert verdict.load == ("a",)
    assert [(name, reason) for name, reason, _ in verdict.refused] == [("b", "no_memory")]


def test_a_budget_of_a_share_counts_of_the_total():
    verdict = decide(
        [Load("a", Priority.NORMAL, 5 * GB)], MemoryFacts(8 * GB, 8 * GB), MemoryPolicy(budget=Size(percent=50))
    )
    assert verdict.load == ()


def test_a_critical_model_over_the_budget_is_unloaded():
    load = Load("a", Priority.CRITICAL, 5 * GB, is_loaded=True)
    verdict = decide([load], MemoryFacts(8 * GB, GB), MemoryPolicy(budget=Size(size_bytes=GB)))
    assert verdict.unload == (("a", "memory_needed"),)
