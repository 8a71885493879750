"""Ten times the models cost about ten times the work; how long that takes is measured in ``benchmarks/plan.py``."""

import sys

from reconciler.core.plan import plan
from tests.core.worlds import BLOCK, artifact, desired, held, observed, wanted


def work(count):
    """Calls of functions, Python's and C's: the same in every run, on every machine."""
    models = [wanted(f"m{n:05}", artifact(f"m{n}.gguf", f"m{n}", BLOCK)) for n in range(count)]
    want, found = desired(*models), observed(*(held(model) for model in models))
    calls = 0

    def count_call(_frame, event, _argument):
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count_call)
    try:
        made = plan(want, found)
    finally:
        sys.setprofile(before)
    assert made.actions == ()
    return calls


def test_ten_times_the_models_cost_ten_times_the_work():
    hundred = work(100)
    assert hundred < 100 * 80
    assert work(1_000) < 10.5 * hundred
