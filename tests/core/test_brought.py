"""What earlier passes found out about files that nobody declared."""

import pytest
from worlds import BLOCK, NOW, artifact, desired, digest, observed, wanted

from reconciler.core.observed import BroughtFact
from reconciler.core.plan import plan
from reconciler.core.stored import BlobFact

A = digest("a")


def kinds_of(*facts: BroughtFact, size: int | None = BLOCK, limit: int = 100 * BLOCK, **rest) -> list[str]:
    model = wanted("m", artifact("a.bin", None, size), artifact("b.bin", "b"))
    made = plan(desired(model, limit=limit), observed(brought=facts, **rest))
    kinds = [f"{action.kind.value}:{action.bytes}" for action in made.actions]
    return [*kinds, *(f"{each.reason}:{each.needs_bytes}" for each in made.deferred)]


def blob(size: int = BLOCK) -> BlobFact:
    return BlobFact(A, size, size, True, None, NOW)


@pytest.mark.parametrize("size", [BLOCK, None])
def test_a_file_that_is_a_blob_already_is_not_fetched(size: int | None) -> None:
    fact = BroughtFact("m", "a.bin", BLOCK, A)
    assert kinds_of(fact, size=size, blobs=(blob(),), limit=2 * BLOCK) == [f"download:{BLOCK}"]


def test_it_is_fetched_where_the_blob_is_gone_or_the_origin_tells_another_size() -> None:
    fact = BroughtFact("m", "a.bin", BLOCK, A)
    assert kinds_of(fact) == [f"download:{2 * BLOCK}"]
    assert kinds_of(fact, size=2 * BLOCK, blobs=(blob(),)) == [f"download:{3 * BLOCK}"]


def test_a_file_that_found_no_room_is_deferred_until_there_is_more() -> None:
    fact = BroughtFact("m", "a.bin", 3 * BLOCK)
    assert kinds_of(fact, size=None, limit=3 * BLOCK) == [f"no_room:{4 * BLOCK}"]
    assert kinds_of(fact, size=None, limit=4 * BLOCK) == ["download:None"]
    assert kinds_of(size=None, limit=3 * BLOCK) == ["download:None"]
