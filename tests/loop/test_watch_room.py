"""A model without room under a watch: said so, though its size was told by the source alone; room that comes is used."""

import contextlib
import random
import threading
from collections.abc import Iterator

import pytest
from watching import eventually, watching

from reconciler import watch as watches
from reconciler import world as worlds
from reconciler.core.observed import DiskFacts

MB = 1_000_000


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def condition(machine, kind: str) -> tuple[str, str]:
    rows = machine.run("status")["conditions"]
    return next((row["status"], row["reason"]) for row in rows if row["type"] == kind)


@contextlib.contextmanager
def running(machine) -> Iterator[None]:
    """The watch in a thread of this process, so that the disk can be played."""
    machine.write()
    cancel = threading.Event()
    options = {"files": (str(machine.manifest),), "store": str(machine.store), "cancel": cancel, "interval_s": 3600.0}
    thread = threading.Thread(target=watches.watch, kwargs=options, daemon=True)
    thread.start()
    try:
        eventually((machine.store / "control.sock").exists, 10)
        yield
    finally:
        cancel.set()
        thread.join(10)


def test_what_a_source_said_of_its_size_is_kept_where_there_is_no_room(machine, origin):
    machine.head["cache"] = {"maxSize": "1MiB", "minFreeSpace": "1MB"}
    machine.model("big", content(1, 2 * MB))
    with watching(machine, "--interval", "1h"):
        eventually(lambda: condition(machine, "Stalled") == ("True", "no_room"), 5)
        assert machine.status("big")["reason"] == "no_room"
    asked = len(origin.requests)
    assert machine.apply(code=3)["deferred"][0]["reason"] == "no_room"
    assert len(origin.requests) == asked, "the second time nobody is asked"


@pytest.mark.slow
def test_room_that_comes_back_is_used_within_seconds(machine, monkeypatch):
    machine.head["cache"] = {"maxSize": "1GB", "minFreeSpace": "1MB"}
    small = machine.model("small", content(1, 1000))
    free = [2 * MB]
    monkeypatch.setattr(worlds, "disk_facts", lambda _: DiskFacts(1000 * MB, free[0]))
    with running(machine):
        eventually(lambda: machine.has("small", small))
        digest = machine.model("big", content(2, 4 * MB))
        machine.write()
        eventually(lambda: "stalled" in [reason for reason, _ in machine.told()], 10)
        free[0] = 3 * MB
        threading.Event().wait(0.5)
        assert not machine.has("big", digest)
        free[0] = 100 * MB
        eventually(lambda: machine.has("big", digest), 8)
