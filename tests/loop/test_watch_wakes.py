"""The kernel's own news wake the loop at once: memory stalls and network changes."""

import os
import queue
import select
import shutil
import socket
import subprocess
import sys
import time

import pytest
from watching import eventually

from reconciler import doctor
from reconciler.adapters.kernel_events import (
    TRIGGER,
    drain,
    drain_files,
    open_file_events,
    open_memory_trigger,
    open_network_events,
)
from reconciler.adapters.store import Store
from reconciler.core.observed import MemoryFacts
from reconciler.core.policies import MemoryPolicy
from reconciler.watch import surroundings, wakes
from reconciler.watch.bell import MEMORY, NETWORK
from reconciler.watch.ears import Ears
from reconciler.watch.surroundings import Surroundings
from reconciler.watch.wakes import Wakes
from reconciler.world import World

IN_A_NETWORK_OF_ITS_OWN = """
import select, subprocess, sys
from reconciler.adapters.kernel_events import drain, open_network_events
events, trouble = open_network_events()
assert events is not None, trouble
poll = select.poll()
poll.register(events, select.POLLIN)
assert not poll.poll(100)
for change in (["link", "set", "lo", "up"], ["addr", "add", "10.9.8.7/24", "dev", "lo"],
               ["route", "add", "10.1.0.0/16", "dev", "lo"], ["addr", "del", "10.9.8.7/24", "dev", "lo"]):
    subprocess.run(["ip", *change], check=True)
    assert poll.poll(2000), change
    drain(events)
assert not poll.poll(0)
"""


@pytest.mark.skipif(not (shutil.which("unshare") and shutil.which("ip")), reason="needs unshare and ip")
def test_links_addresses_and_routes_that_change_are_told():
    flags = "-n" if os.geteuid() == 0 else "-rn"
    line = ["unshare", flags, sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_where_the_kernel_gives_a_trigger_it_is_armed_and_else_it_is_said_why():
    fd, trouble = open_memory_trigger()
    assert (fd >= 0) != bool(trouble)
    if fd >= 0:
        os.close(fd)


def test_the_control_group_stands_in_where_the_machine_tells_nothing(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/app\n")
    group = tmp_path / "sys/fs/cgroup/app"
    group.mkdir(parents=True)
    (group / "memory.pressure").write_bytes(b"")
    fd, trouble = open_memory_trigger(str(tmp_path))
    os.close(fd)
    assert trouble == ""
    assert (group / "memory.pressure").read_bytes() == TRIGGER


def test_without_any_pressure_file_it_says_so(tmp_path):
    assert open_memory_trigger(str(tmp_path)) == (-1, f"{tmp_path}/proc/pressure/memory: No such file or directory")


def urgent() -> tuple[socket.socket, socket.socket]:
    """Two ends; what is sent out of band at one is POLLPRI at the other, as a trigger is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    return near, far


def test_a_memory_stall_and_a_network_change_are_told_and_a_close_ends_it(monkeypatch):
    near, far = urgent()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    monkeypatch.setattr(wakes, "open_memory_trigger", lambda: (near.detach(), ""))
    monkeypatch.setattr(wakes, "open_network_events", lambda: (ours, ""))
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    ears = Wakes(heard.put)
    ears.start()
    theirs.send(b"a route")
    assert heard.get(timeout=2) == NETWORK
    far.send(b"!", socket.MSG_OOB)
    assert heard.get(timeout=2) == MEMORY
    ears.close()
    eventually(lambda: ours.fileno() == -1, 3)
    far.close()
    theirs.close()


def test_pressure_is_looked_at_as_soon_as_it_is_told_and_told_once(tmp_path, monkeypatch):
    figures = MemoryFacts(16 << 30, 8 << 30)
    monkeypatch.setattr(surroundings, "memory_facts", lambda: figures)
    seen = Surroundings(World(Store(str(tmp_path), time.time), {"RECONCILER_NETWORK": "ethernet"}))
    policy = MemoryPolicy(warning_bytes=1 << 30, critical_bytes=1 << 20)
    seen.changes(policy)
    figures = MemoryFacts(16 << 30, 500 << 20)
    assert seen.changes(policy) == frozenset()  # its next look is seconds away
    seen.look_now()
    assert MEMORY in seen.changes(policy)
    seen.look_now()
    assert MEMORY not in seen.changes(policy)


def test_draining_ends_where_nothing_is_left():
    events, trouble = open_network_events()
    assert events is not None, trouble
    drain(events)
    events.close()


def test_a_change_in_a_folder_is_told_and_reading_there_is_not(tmp_path):
    file = tmp_path / "models.yaml"
    file.write_text("models: {}")
    fd, trouble = open_file_events([str(tmp_path), str(tmp_path / "gone")])
    assert trouble == ""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    file.read_text()
    os.listdir(tmp_path)
    assert not poll.poll(50)
    changes = (
        lambda: file.write_text("models:"),
        lambda: file.rename(tmp_path / "other.yaml"),
        lambda: os.symlink("x", tmp_path / "..data"),
        lambda: os.utime(tmp_path / "other.yaml", (1, 1)),
        lambda: (tmp_path / "other.yaml").unlink(),
    )
    for change in changes:
        change()
        assert poll.poll(2000)
        drain_files(fd)
    assert not poll.poll(0)
    os.close(fd)


def test_ears_that_are_closed_leave_no_open_file(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    heard: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
    ears = Ears(heard.put)
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        ears.listen({str(folder): (0, number)})
        (folder / "x").touch()
        heard.get(timeout=2)
    ears.close()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, 3, "closed")


def test_doctor_tells_which_news_the_kernel_gives(machine, monkeypatch):
    checks = {check["name"]: check for check in machine.run("doctor")["checks"]}
    for name in ("file events", "memory events", "network events"):
        assert checks[name]["status"] in {"ok", "warn"}
    monkeypatch.setattr(doctor, "open_memory_trigger", lambda: (-1, "no pressure file"))
    monkeypatch.setattr(doctor, "open_network_events", lambda: (None, "this system has no netlink"))
    world = World(Store(str(machine.store), time.time), {})
    found = {check.name: check for check in doctor.examine(world)}
    for name in ("memory events", "network events"):
        assert found[name].status == "warn"
        assert found[name].hint
    assert "no pressure file" in found["memory events"].message
