"""The rolling scrub: which blobs are hashed again because their last proof is too old, oldest first."""

from collections.abc import Iterable

from reconciler.core.policies import CachePolicy
from reconciler.core.ports import Proof


def due(proofs: Iterable[Proof], policy: CachePolicy, now: float) -> tuple[Proof, ...]:
    """The proofs that are older than the manifest allows, oldest first; a proof from the future is as good as none."""
    if policy.scrub_max_age_s is None:
        return ()
    oldest = now - policy.scrub_max_age_s
    found = (proof for proof in proofs if proof.verified_at <= oldest or proof.verified_at > now)
    return tuple(sorted(found, key=lambda proof: (proof.verified_at, proof.digest)))


def pause_s(done_bytes: int, policy: CachePolicy) -> float:
    """Seconds to wait after so many bytes, so that the rate is kept."""
    rate = policy.scrub_bytes_per_s
    return done_bytes / rate if rate else 0.0
