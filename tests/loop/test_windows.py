"""A download window that closes while a download runs; the clock of the machine under test is moved by the test."""

import random
import time

from reconciler.adapters import manifest
from reconciler.adapters.store import Store
from reconciler.reconcile import Listeners, apply_pass
from reconciler.world import World

MIB = 1 << 20
BODY = random.Random(5).randbytes(20 * MIB)


class Clock:
    def __init__(self):
        self.ahead_s = 0.0

    def now(self):
        return time.time() + self.ahead_s


def applying(machine, clock, on_progress):
    machine.write()
    world = World(Store(str(machine.store), clock.now), {}, now=clock.now)
    wanted = manifest.load([str(machine.manifest)])
    try:
        return apply_pass(world, wanted, listeners=Listeners(progress=on_progress))
    finally:
        world.close()


def window_now(ahead_minutes):
    """A window that is open for so many minutes more, local time."""
    start, end = (time.strftime("%H:%M", time.localtime(time.time() + 60 * each)) for each in (-5, ahead_minutes))
    return f"{start}-{end}"


def test_a_download_stops_when_its_window_closes_and_goes_on_from_there_when_it_opens(machine):
    digest = machine.model("m", BODY)
    machine.head["network"] = {"windows": [window_now(10)], "connections": 1}
    machine.origin.rate = 16 * MIB
    clock = Clock()

    def close(frame):
        if frame.done_bytes >= 4 * MIB:
            clock.ahead_s = 11 * 60.0

    result = applying(machine, clock, close)
    assert [(each.status, each.reason) for each in result.outcomes] == [("cancelled", "outside_window")]
    assert [each.reason for each in result.deferred] == ["outside_window"]
    assert (result.summary.deferred, result.summary.failed) == (1, 0)
    assert machine.partials()
    assert machine.origin.sent < len(BODY)
    machine.origin.forget()
    machine.origin.rate = None
    machine.apply()
    assert machine.has("m", digest)
    assert machine.origin.sent < len(BODY)


def test_a_file_of_this_machine_comes_at_any_time(machine):
    (machine.folder / "m.bin").write_bytes(BODY[:MIB])
    machine.models["m"] = {"source": f"file://{machine.folder}/m.bin"}
    machine.head["network"] = {"windows": [window_now(10)]}
    clock = Clock()
    clock.ahead_s = 11 * 60.0
    result = applying(machine, clock, lambda _: None)
    assert [each.status for each in result.outcomes] == ["done"]
