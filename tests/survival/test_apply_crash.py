"""A kill at any change that an apply makes to the disk, then one pass: the same end, and nothing is done twice over."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from machines import Machine
from origin import serving

pytestmark = pytest.mark.slow

# Every kind of call by which an apply changes what is on disk.
CALLS = ("renameat2", "linkat", "unlinkat", "mkdirat", "fchmod", "fsync", "fdatasync", "unlink", "rmdir", "setxattr")
MAX_POINTS = 6  # of each kind


@pytest.fixture(scope="module")
def origin():
    with serving() as server:
        yield server


def prepared(folder: Path, origin) -> Machine:
    """A converged machine whose new manifest asks for one of each: a download, a new revision, an eviction, a repair."""
    machine = Machine(folder, origin)
    machine.head["cache"]["maxEvictions"] = "100%"
    machine.model("gone", b"g" * 9000)
    machine.model("kept", b"k" * 9000)
    machine.model("moved", b"old" * 3000)
    machine.apply()
    machine.models["gone"] = {"state": "absent"}
    machine.model("moved", b"new" * 3000)
    machine.model("fresh", b"f" * 70_000)
    machine.placed("kept").unlink()
    machine.write()
    return machine


def end_state(machine: Machine) -> dict:
    """What is placed, by content, and whether anything is left to do or lying about."""
    placed = {
        str(path.relative_to(machine.store)): path.read_bytes()
        for path in (machine.store / "models").rglob("*")
        if path.is_file()
    }
    blobs = sorted(path.name for path in (machine.store / "blobs").rglob("*") if path.is_file())
    plan = machine.plan()
    return {"placed": placed, "blobs": blobs, "changes": plan["summary"]["changes"], "partial": machine.partials()}


def occurrences(machine: Machine) -> dict[str, int]:
    """How often an undisturbed apply makes each call (in all its threads)."""
    log = machine.folder / "count.txt"
    calls = ["strace", "-f", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *machine.command("apply")]
    subprocess.run(calls, check=True, capture_output=True, cwd=machine.folder)
    text = log.read_text()
    return {name: len(re.findall(rf"^\d+ +{name}\(", text, re.MULTILINE)) for name in CALLS}


def test_a_kill_between_any_two_effects_changes_nothing_but_the_time(tmp_path, origin):
    (tmp_path / "start").mkdir()
    start = prepared(tmp_path / "start", origin)
    undisturbed = copy_of(start, tmp_path / "undisturbed")
    counts = occurrences(undisturbed)
    expected = end_state(undisturbed)
    assert expected["changes"] == 0
    assert expected["partial"] == []
    assert sum(counts.values()) > 30, counts
    killed = 0
    for name, count in counts.items():
        for occurrence in range(1, min(count, MAX_POINTS) + 1):  # strace counts for each thread apart
            machine = copy_of(start, tmp_path / f"{name}-{occurrence}")
            origin.forget()
            inject = f"inject={name}:signal=KILL:when={occurrence}"
            run = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={name}", "-e", inject, *machine.command("apply")]
            killed += subprocess.run(run, check=False, capture_output=True, cwd=machine.folder).returncode != 0
            machine.run("apply")
            assert end_state(machine) == expected, (name, occurrence)
            asked = origin.asked("GET")
            assert all(asked.count(path) <= 2 for path in set(asked)), (name, occurrence, asked)
            shutil.rmtree(machine.folder)
    assert killed > 10


def copy_of(machine: Machine, folder: Path) -> Machine:
    """The same machine in another folder: hard links within the store stay hard links."""
    subprocess.run(["cp", "-a", str(machine.folder), str(folder)], check=True)
    other = Machine(folder, machine.origin)
    other.head, other.models = machine.head, machine.models
    other.write()
    return other
