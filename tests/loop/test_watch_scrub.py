"""The rolling scrub of a running watch: it finds what no stat shows, and leaves everything else alone."""

import os
import random
import threading
import time

import pytest
from watching import eventually, watching

from reconciler.adapters.ledger import Ledger
from reconciler.adapters.store import Store
from reconciler.core.desired import DesiredState
from reconciler.core.policies import CachePolicy
from reconciler.core.ports import Proof
from reconciler.watch.bell import SCRUB, Bell
from reconciler.watch.scrub import LOOK_S, YIELD_S, Scrub
from reconciler.world import World

MB = 1 << 20


def flip_a_bit(path) -> None:
    """Change content without changing anything that stat tells a program to look at."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(before.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_flipped_bit_that_no_stat_shows_is_found_and_repaired(machine, origin):
    machine.head["cache"] = {"maxSize": "64MiB", "minFreeSpace": "1MB", "scrub": {"rate": "unlimited", "maxAge": "3s"}}
    digest = machine.model("one", random.Random(1).randbytes(5 * MB))
    with watching(machine, "--interval", "1h") as watch:
        eventually(lambda: machine.has("one", digest))
        flip_a_bit(machine.placed("one"))
        assert not machine.has("one", digest)
        eventually(lambda: machine.has("one", digest), 15)
        assert [line["reason"] for line in watch.lines("drift_found")] == ["scrub"]
        assert any((machine.store / "quarantine").iterdir())


@pytest.mark.slow
def test_without_a_maximum_age_nothing_is_read_again(machine):
    machine.head["cache"] = {"maxSize": "64MiB", "minFreeSpace": "1MB", "scrub": {"maxAge": "never"}}
    digest = machine.model("one", random.Random(1).randbytes(MB))
    with watching(machine, "--interval", "1h") as watch:
        eventually(lambda: machine.has("one", digest))
        time.sleep(1)
        flip_a_bit(machine.placed("one"))
        time.sleep(3)
        assert not machine.has("one", digest)
        assert not watch.lines("drift_found")


class Bench:
    """A scrub that is stepped by hand over real blobs."""

    def __init__(self, folder, ages: dict[str, float], size: int = 1000, **policy: object) -> None:
        self.now, self.is_busy = 1_800_000_000.0, False
        self.world = World(Store(str(folder), lambda: self.now), {}, now=lambda: self.now)
        self.world.store.create()
        self.ledger = Ledger.open(str(folder), now=lambda: self.now, writable=True)
        self.bell = Bell()
        self.digests = {word: self._put(word, age, size) for word, age in ages.items()}
        state = DesiredState((), cache=CachePolicy(**policy))
        self.scrub = Scrub(self.world, self.ledger, self.bell, lambda: state, lambda: self.is_busy)

    def _put(self, word: str, age: float, size: int) -> str:
        store = self.world.store
        path = os.path.join(store.root, "models", word)
        os.mkdir(path)
        with open(f"{path}/x.bin", "wb") as file:
            file.write(random.Random(word).randbytes(size))
        digest, stat = store.adopt_file(word, "x.bin", None, threading.Event())
        self.ledger.proofs.save([Proof(digest, stat, self.now - age)])
        return digest

    def age(self, word: str) -> float:
        return self.now - self.ledger.proofs.get(self.digests[word]).verified_at


def test_the_oldest_proof_comes_first_and_only_what_is_due_is_read(tmp_path):
    bench = Bench(tmp_path, {"young": 5, "old": 20, "oldest": 30}, scrub_max_age_s=10)
    order = []
    for _ in range(20):
        bench.scrub.step()
        order += [word for word in bench.digests if bench.age(word) == 0 and word not in order]
    assert order == ["oldest", "old"]
    assert bench.age("young") == 5
    assert bench.bell.wait(0) == frozenset()


def test_it_waits_between_pieces_so_that_the_rate_is_kept(tmp_path):
    bench = Bench(tmp_path, {"big": 20}, size=10 * MB, scrub_max_age_s=10, scrub_bytes_per_s=MB)
    assert sum(bench.scrub.step() for _ in range(3)) == 10.0


def test_it_gives_way_to_a_pass_and_goes_on_where_it_was(tmp_path):
    bench = Bench(tmp_path, {"big": 20}, size=10 * MB, scrub_max_age_s=10, scrub_bytes_per_s=None)
    assert bench.scrub.step() == 0.0
    bench.is_busy = True
    assert bench.scrub.step() == YIELD_S
    assert not bench.world.store.is_in_use(bench.world.store.blob_path(bench.digests["big"]))
    bench.is_busy = False
    for _ in range(3):
        bench.scrub.step()
    assert bench.age("big") == 0


def test_while_suspended_nothing_is_read(tmp_path):
    bench = Bench(tmp_path, {"old": 20}, scrub_max_age_s=10)
    bench.ledger.meta.suspend(bench.now + 100)
    assert bench.scrub.step() <= LOOK_S
    assert bench.age("old") == 20


def test_a_bad_blob_loses_its_proof_and_rings(tmp_path):
    bench = Bench(tmp_path, {"old": 20}, scrub_max_age_s=10)
    path = bench.world.store.blob_path(bench.digests["old"])
    flip_a_bit(type(tmp_path)(path))
    for _ in range(3):
        bench.scrub.step()
    assert bench.ledger.proofs.get(bench.digests["old"]) is None
    assert bench.bell.wait(0) == {SCRUB}
