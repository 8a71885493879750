"""Planning is quick, and ten times the models cost about ten times the time."""

import gc
import time

import pytest

from reconciler.core.plan import plan
from tests.core.worlds import BLOCK, artifact, desired, held, observed, wanted


def seconds(count):
    models = [wanted(f"m{n:05}", artifact(f"m{n}.gguf", f"m{n}", BLOCK)) for n in range(count)]
    want, found = desired(*models), observed(*(held(model) for model in models))
    gc.collect()
    best = min(_timed(want, found) for _ in range(5))
    assert plan(want, found).actions == ()
    return best


def _timed(want, found):
    started = time.perf_counter()
    plan(want, found)
    return time.perf_counter() - started


@pytest.mark.slow
def test_a_thousand_converged_models_are_planned_in_milliseconds():
    thousand = seconds(1_000)
    assert thousand < 0.040
    assert seconds(10_000) < 13 * max(thousand, 0.004)
