"""Memory runs short while a watch runs: what is idle and of low priority leaves the RAM within seconds."""

import contextlib
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from watching import eventually, watching

from reconciler import watch as watches
from reconciler import world as worlds
from reconciler.core.observed import MemoryFacts
from reconciler.watch import surroundings, wakes

SECONDS = 5.0
PLENTY, SHORT = MemoryFacts(16 << 30, 8 << 30), MemoryFacts(16 << 30, 400 << 20)


@pytest.fixture
def loaded(machine):
    """A machine with three models of different priority, which :func:`on_a_steady_machine` loads."""
    for name, priority in (("low", "low"), ("normal", "normal"), ("critical", "critical")):
        machine.model(name, os.urandom(1 << 20), state="loaded", memory="1MiB", priority=priority)
    return machine


class Emptied(Exception):  # noqa: N818 -- no error of ours
    """The kernel took a model out of the page cache that no plan ever unloads."""


def on_a_steady_machine(test: Callable[..., None]) -> Callable[..., None]:
    """Play the test again where the kernel emptied the page cache meanwhile."""

    @functools.wraps(test)
    def played(loaded, **others) -> None:
        for left in range(7, -1, -1):
            loaded.head["memory"] = {"warning": "1MB", "critical": "1kB"}
            loaded.run("poke")  # no back-off from the play before
            loaded.apply()
            try:
                test(loaded, **others)
            except Emptied:
                if not left:
                    raise
            else:
                return

    return played


def who_is_loaded(machine) -> set[str]:
    """What is in the RAM now, where nothing but the watch emptied it."""
    models = machine.run("status")["models"]
    unloaded = {model["name"] for model in models if model["reason"] == "memory_pressure"}
    found = {model["name"] for model in models if model["loaded"]}
    assert "critical" not in unloaded
    if {model["name"] for model in models} - found - unloaded:
        raise Emptied
    return found


@on_a_steady_machine
def test_a_warning_above_the_available_memory_unloads_what_is_low_and_idle(loaded):
    with watching(loaded, "--interval", "1h"):
        eventually(lambda: loaded.run("status")["next_run_at"], 10)
        eventually(lambda: who_is_loaded(loaded) == {"low", "normal", "critical"}, SECONDS, "loaded")
        loaded.head["memory"]["warning"] = "100TB"
        loaded.write()
        eventually(lambda: who_is_loaded(loaded) == {"normal", "critical"}, SECONDS, "unloaded what is low")
        loaded.head["memory"]["critical"] = "99TB"
        loaded.write()
        eventually(lambda: who_is_loaded(loaded) == {"critical"}, SECONDS, "unloaded but what is critical")
        pressure = {c["type"]: c["status"] for c in loaded.run("status")["conditions"]}
        assert pressure["MemoryPressure"] == "True"
        assert loaded.placed("low").exists()
        assert loaded.placed("normal").exists()


class Told:
    """A pressure trigger that a test pulls: what is sent out of band is POLLPRI at the other end."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.far = socket.create_connection(server.getsockname())
            near, _ = server.accept()
        self.descriptor = near.detach()

    def pull(self) -> None:
        self.far.send(b"!", socket.MSG_OOB)


@contextlib.contextmanager
def running(machine) -> Iterator[None]:
    """The watch in a thread of this process, so that the kernel's part can be played."""
    cancel = threading.Event()
    codes: list[int] = []
    options = {"files": (str(machine.manifest),), "store": str(machine.store), "cancel": cancel, "interval_s": 3600.0}
    thread = threading.Thread(target=lambda: codes.append(watches.watch(**options)), daemon=True)
    thread.start()
    try:
        eventually(lambda: (machine.store / "control.sock").exists(), 10)
        yield
    finally:
        cancel.set()
        thread.join(10)
    assert codes == [0]


@on_a_steady_machine
def test_a_memory_stall_that_the_kernel_tells_unloads_at_once(loaded, monkeypatch):
    loaded.head["memory"] = {"warning": "1GB", "critical": "1MB"}
    loaded.write()
    figures = [PLENTY]
    told = Told()
    monkeypatch.setattr(wakes, "open_memory_trigger", lambda: (told.descriptor, ""))
    for module in (surroundings, worlds):
        monkeypatch.setattr(module, "memory_facts", lambda: figures[0])
    monkeypatch.setattr(surroundings, "EVERY_S", 3600.0)  # nothing but the trigger tells
    with contextlib.closing(told.far), running(loaded):
        eventually(lambda: loaded.run("status")["next_run_at"], 10)
        figures[0] = SHORT
        told.pull()
        eventually(lambda: who_is_loaded(loaded) == {"normal", "critical"}, SECONDS, "unloaded")
