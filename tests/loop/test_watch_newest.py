"""A newer manifest during a pass: newest wins, and nothing that is still wanted is disturbed."""

import random
import time

import pytest
from watching import eventually, watching

from reconciler import load_manifest
from reconciler.core.actions import Request
from reconciler.execute import run
from reconciler.execute.claims import Claims
from reconciler.reconcile import Deadline, Listeners, run_pass
from reconciler.resolve import NEVER
from reconciler.world import open_world

MB = 1 << 20


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def slow(machine, origin):
    """Two long downloads of about ten seconds each."""
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    origin.rate = 4 * MB
    return {name: machine.model(name, content(seed, 24 * MB)) for seed, name in enumerate(["gone", "kept"])}


def gets(origin, path: str) -> int:
    return sum(1 for verb, asked, _ in origin.requests if verb == "GET" and asked == path)


def test_what_is_no_longer_wanted_stops_what_is_still_wanted_goes_on_and_new_ones_start(machine, origin, slow):
    with watching(machine):
        eventually(lambda: gets(origin, "/gone.bin") and gets(origin, "/kept.bin"))
        eventually(lambda: origin.sent > 4 * MB)
        asked_for_kept = gets(origin, "/kept.bin")
        del machine.models["gone"]
        new = machine.model("new", content(9, MB))
        machine.write()
        eventually(lambda: gets(origin, "/new.bin"), 2, "the new model is asked for")
        origin.rate = None
        eventually(lambda: machine.has("new", new), 6)
        eventually(lambda: machine.has("kept", slow["kept"]), 12)
        assert machine.partials(), "the partial of what was given up is kept"
        assert not machine.placed("gone").exists()
        assert gets(origin, "/kept.bin") <= asked_for_kept + 8  # segments of the same download, never from the start
        starts = [h.get("range", "bytes=0-") for v, p, h in origin.requests if v == "GET" and p == "/kept.bin"]
        assert sum(start.startswith("bytes=0-") for start in starts) == 1


def test_a_cancelled_download_stops_within_a_second(machine, origin, slow):
    with watching(machine):
        eventually(lambda: origin.sent > 4 * MB)
        machine.models.clear()
        machine.write()
        time.sleep(1.5)  # 0.3 s to take it up, 1 s to stop
        before = origin.sent
        time.sleep(0.5)
        assert origin.sent - before < MB


@pytest.mark.slow
def test_a_new_target_replaces_one_that_is_on_its_way(machine, origin, slow):
    with watching(machine):
        eventually(lambda: origin.sent > 4 * MB)
        digest = origin.put("/better.bin", content(7, MB))
        machine.models["gone"] = {"source": f"{origin.url}/better.bin", "sha256": digest}
        machine.write()
        eventually(lambda: gets(origin, "/better.bin"), 2)
        origin.rate = None
        eventually(lambda: (machine.store / "models/gone/better.bin").exists(), 6)


def test_a_retry_never_blocks_a_new_target(machine, origin):
    origin.answers["/one.bin"] = (404, {})
    machine.model("one", content(1, 4096))
    with watching(machine) as watch:
        eventually(lambda: watch.lines("action_failed"))
        digest = origin.put("/right.bin", content(2, 4096))
        machine.models["one"] = {"source": f"{origin.url}/right.bin", "sha256": digest}
        machine.write()
        eventually(lambda: (machine.store / "models/one/right.bin").exists(), 3)


@pytest.mark.slow
def test_drift_is_repaired_while_a_long_download_runs(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    small = machine.model("small", content(1, 4096))
    with watching(machine):
        eventually(lambda: machine.has("small", small))
        origin.rate = 2 * MB
        machine.model("long", content(2, 24 * MB))
        machine.write()
        eventually(lambda: gets(origin, "/long.bin"))
        machine.placed("small").unlink()
        eventually(lambda: machine.has("small", small), 5)
        assert gets(origin, "/small.bin") == 1
        origin.rate = None


def test_a_pass_whose_downloads_must_wait_for_those_of_another_waits_quietly(machine, monkeypatch):
    digest = machine.model("alpha", b"a" * 5000)
    machine.write()
    world, claims, looks = open_world(str(machine.store)), Claims(), []
    look = run._next

    def counting(*arguments):
        looks.append(time.monotonic())
        claims.downloading = 0 if looks[-1] - looks[0] > 0.5 else 99
        return look(*arguments)

    monkeypatch.setattr(run, "_next", counting)
    world.store.create()
    with world.store.acquire(), world.ledger() as ledger:
        desired = load_manifest(str(machine.manifest))
        share = claims.open(NEVER)
        run_pass(world, ledger, desired, Request(), deadline=Deadline(NEVER), listeners=Listeners(), share=share)
    world.close()
    assert machine.has("alpha", digest)
    assert len(looks) < 50
