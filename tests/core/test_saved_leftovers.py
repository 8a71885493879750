"""A saved eviction of a leftover that is gone already is true already; one that is still there is not."""

from dataclasses import replace

import pytest

from reconciler.core.actions import Action, ActionKind, Cause, Plan, Summary
from reconciler.core.desired import DesiredState
from reconciler.core.observed import DiskFacts, MemoryFacts, ObservedState
from reconciler.core.saved import sort_saved
from reconciler.core.stored import BlobFact, PartialFact, StoredModel, StoreFacts
from reconciler.core.words import Digest

SPEC = Digest("sha256:" + "c" * 64)
STORE = StoreFacts(
    models=(StoredModel("m", SPEC, (), is_current=False),),
    blobs=(BlobFact(SPEC, 1, 4096, is_verified=True),),
    partials=(PartialFact("k", "m", 1, 4096, 0.0),),
)
SUMMARY = Summary((), (), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)


def verdict(subject: str, key: str, store: StoreFacts):
    action = Action(
        f"evict:m:{subject}", ActionKind.EVICT, "m", "room_needed", "", Cause.PRESSURE, spec_digest=SPEC, paths=(key,),
        subject=subject,
    )  # fmt: skip
    plan = Plan(Digest(""), Digest(""), 0.0, (action,), (), (), SUMMARY)
    observed = ObservedState(0.0, store, DiskFacts(1, 1), MemoryFacts(1, 1))
    return sort_saved(plan, DesiredState(()), observed, replace(plan, actions=()))


@pytest.mark.parametrize(("subject", "key"), [("partial", "k"), ("blob", SPEC), ("revision", "x")])
def test_a_leftover_that_is_gone_is_already_true(subject, key):
    assert len(verdict(subject, key, StoreFacts()).already_true) == 1
    there = verdict(subject, key, STORE)
    assert there.already_true == ()
    assert there.stale
