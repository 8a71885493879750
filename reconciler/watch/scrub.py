"""The rolling scrub: what lies in the store is hashed again, oldest proof first, slowly and beside everything else.

It finds what no ``stat`` shows: a bit that flipped on the disk, a file that was changed and given its old time back. A
bad blob merely loses its proof here and the bell rings: to the planner it is then unverified like any other, is hashed
once more, set aside and repaired. While a pass has work in hand, or the watch is suspended, nothing is read.
"""

import threading
from collections.abc import Callable

from reconciler.adapters.ledger import Ledger
from reconciler.adapters.store.rehash import Rehash
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure
from reconciler.core.policies import CachePolicy
from reconciler.core.ports import CancelToken, Proof
from reconciler.core.scrub import due, pause_s
from reconciler.log import get_log
from reconciler.watch.bell import SCRUB, Bell
from reconciler.world import World

YIELD_S = 1.0  # until it looks again whether others still work
LOOK_S = 30.0  # until it looks again what has grown old
SHORT_S = 1.0


class Scrub:
    """``desired`` is the manifest in force, ``is_busy`` whether a pass has something in hand."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        bell: Bell,
        desired: Callable[[], DesiredState | None],
        is_busy: Callable[[], bool],
    ) -> None:
        self._world, self._ledger, self._bell = world, ledger, bell
        self._desired, self._is_busy = desired, is_busy
        self._waiting: list[Proof] = []  # the oldest last
        self._proof: Proof | None = None
        self._hash: Rehash | None = None

    def start(self, cancel: CancelToken) -> None:
        """Until cancelled, in a thread of its own."""
        threading.Thread(target=self._run, args=(cancel,), name="scrub", daemon=True).start()

    def step(self) -> float:
        """A piece of work; seconds until the next."""
        desired = self._desired()
        if desired is None or self._is_busy():
            return YIELD_S
        if self._hash is None and not self._next(desired.cache):
            age_s = desired.cache.scrub_max_age_s
            return LOOK_S if age_s is None else max(SHORT_S, min(LOOK_S, age_s))
        return self._read(desired.cache)

    def _run(self, cancel: CancelToken) -> None:
        while not cancel.is_set():
            try:
                wait_s = self.step()
            except Failure as failure:  # a ledger that cannot be read or written now
                get_log().warning("ledger_unwritable", error=failure.message, path=self._ledger.path)
                self._hash, wait_s = None, LOOK_S
            cancel.wait(wait_s)

    def _next(self, policy: CachePolicy) -> bool:
        """Take the blob whose proof is oldest; False where none is due."""
        if not self._waiting:
            until = self._ledger.meta.get().suspended_until
            if until is not None and until > self._world.now():
                return False
            self._waiting = list(reversed(due(self._ledger.proofs.get_all().values(), policy, self._world.now())))
        while self._waiting:
            proof = self._waiting.pop()
            if self._world.store.stat_blob(proof.digest) is not None:  # what is gone or changed is seen elsewhere
                self._proof, self._hash = proof, Rehash(self._world.store.blob_path(proof.digest))
                return True
        return False

    def _read(self, policy: CachePolicy) -> float:
        proof, rehash = self._proof, self._hash
        if proof is None or rehash is None:
            return SHORT_S
        try:
            count = rehash.step()
        except Failure as failure:
            self._hash = None
            self._doubt(proof, failure.message)
            return SHORT_S
        if count:
            return pause_s(count, policy)
        self._hash = None
        if rehash.has_changed or rehash.stat != proof.stat or self._is_forgotten(proof):
            return SHORT_S
        if rehash.digest == proof.digest:
            self._ledger.record_verified_blob(proof.digest, proof.stat)
        else:
            self._doubt(proof, "its bytes are not what they were")
        return 0.0

    def _is_forgotten(self, proof: Proof) -> bool:
        """Whether a pass has verified or removed it meanwhile."""
        return self._ledger.proofs.get(proof.digest) != proof

    def _doubt(self, proof: Proof, message: str) -> None:
        path = self._world.store.blob_path(proof.digest)
        get_log().warning("drift_found", path=path, reason="scrub", message=message)
        self._ledger.proofs.forget([proof.digest])
        self._bell.ring(SCRUB)
