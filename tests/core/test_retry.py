"""After a failure: how long to wait."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.observed import FailureFact
from reconciler.core.retry import CAP_DELAY_S, blocking_failure, delay_s, failure_message
from tests.core.worlds import NOW, digest


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.none() | st.floats(-1, 10**9))
def test_a_delay_is_never_beyond_the_cap_and_never_below_what_was_asked_for(attempts, jitter, retry_after):
    found = delay_s(attempts, jitter, retry_after)
    assert 0 <= found <= CAP_DELAY_S
    assert found >= min(retry_after or 0, CAP_DELAY_S)


def test_the_span_doubles():
    assert [delay_s(attempts, 0.5) for attempts in (1, 2, 3, 20)] == [1.0, 2.0, 4.0, 450.0]


def test_the_gravest_failure_is_told():
    spec = digest("s")
    soon = FailureFact("a", spec, "transient", "soon", "", 1, NOW + 1)
    later = FailureFact("a", spec, "transient", "later", "", 1, NOW + 2)
    broken = FailureFact("a", spec, "permanent", "broken", "", 1, None)
    assert blocking_failure((later, soon), spec, NOW, ("download",)).reason == "soon"
    assert blocking_failure((later, broken), spec, NOW, ("download",)).reason == "broken"
    assert failure_message(soon).startswith("soon; after 1 try")
