"""Which blobs the rolling scrub hashes again."""

from reconciler.core.policies import CachePolicy
from reconciler.core.ports import Proof
from reconciler.core.scrub import due, pause_s
from reconciler.core.stored import FileStat
from tests.core.worlds import NOW, digest


def proof(word: str, age_s: float) -> Proof:
    return Proof(digest(word), FileStat(1, 2, 3, 4), NOW - age_s)


def test_only_proofs_that_are_too_old_are_due_oldest_first():
    proofs = [proof("young", 9), proof("old", 11), proof("oldest", 50), proof("just", 10)]
    found = due(proofs, CachePolicy(scrub_max_age_s=10), NOW)
    assert [each.digest for each in found] == [digest("oldest"), digest("old"), digest("just")]


def test_a_proof_from_the_future_is_as_good_as_none():
    assert due([proof("future", -5)], CachePolicy(), NOW)


def test_never_is_never():
    assert due([proof("old", 1e9)], CachePolicy(scrub_max_age_s=None), NOW) == ()


def test_the_rate_is_kept_by_waiting():
    assert pause_s(4_000_000, CachePolicy(scrub_bytes_per_s=20_000_000)) == 0.2
    assert pause_s(4_000_000, CachePolicy(scrub_bytes_per_s=None)) == 0.0
