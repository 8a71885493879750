"""Kills and failing disks, through the command: a reason, the partial kept, no spinning, the right bytes at last. Slow."""

import json
import random
import shutil
import subprocess

import pytest
from machines import Machine
from origin import serving
from watching import eventually

from reconciler.adapters.store import partial_key

pytestmark = pytest.mark.slow

MIB = 1 << 20
BODY = random.Random(5).randbytes(60 * MIB + 99)


@pytest.fixture
def machine(tmp_path):
    with serving() as origin:
        made = Machine(tmp_path, origin)
        made.head["cache"]["maxSize"] = "300MiB"
        yield made


def until_sent(machine, process, goal):
    eventually(lambda: machine.origin.sent >= goal or process.poll() is not None, 60)


def test_fifty_kills_cost_at_most_16_mib_each_and_bring_the_right_bytes(machine):
    digest = machine.model("big", BODY)
    machine.origin.rate = 12 * MIB
    kills, chance = 0, random.Random(50)
    for _ in range(50):
        process = machine.start("apply")
        until_sent(machine, process, machine.origin.sent + chance.randrange(64 << 10, 12 * MIB))
        if process.poll() == 0:
            process.communicate()
            break
        process.kill()
        process.communicate()
        kills += 1
    machine.origin.rate = None
    machine.apply()
    assert machine.has("big", digest)
    assert kills >= 10
    assert machine.origin.sent <= len(BODY) + kills * 16 * MIB
    assert machine.partials() == []


@pytest.mark.parametrize(
    ("calls", "error", "reason"),
    [
        ("pwrite64,pwritev,pwritev2", "ENOSPC", "no_space"),
        ("pwrite64,pwritev,pwritev2", "EDQUOT", "quota"),
        ("pwrite64,pwritev,pwritev2", "EIO", "io_error"),
        ("pwrite64,pwritev,pwritev2", "EROFS", "read_only"),
        ("fdatasync", "EIO", "io_error"),
    ],
)
def test_a_failing_disk_has_its_reason_and_nobody_spins(machine, calls, error, reason):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    digest = machine.model("big", BODY)
    machine.write()
    inject = f"inject={calls}:error={error}:when=4+"
    path = str(machine.store / "partial" / partial_key("", "", f"sha256:{digest}"))
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", path, "-e", f"trace={calls}", "-e", inject]
    done = subprocess.run(
        [*trace, *machine.command("-o", "json", "apply")],
        cwd=machine.folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    (outcome,) = json.loads(done.stdout)["outcomes"]
    assert outcome["reason"] == reason
    assert outcome["retry_at"] is not None  # it backs off, by a span that full jitter may make as short as nothing
    assert len(machine.origin.asked("GET")) <= 2 * 8  # connections; a second round would be spinning
    machine.run("poke")
    machine.apply()
    assert machine.has("big", digest)


def test_a_disk_that_fills_up_keeps_the_partial_and_goes_on_later(machine, tmp_path):
    place = tmp_path / "tiny"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "none", place], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        machine.store = place / "store"
        digest = machine.model("big", BODY)
        machine.origin.rate = 10 * MIB
        process = machine.start("-o", "json", "apply")
        until_sent(machine, process, 24 * MIB)
        with pytest.raises(OSError, match="No space"):
            (place / "ballast").write_bytes(bytes(100 * MIB))
        (outcome,) = json.loads(process.communicate(timeout=60)[0])["outcomes"]
        assert (process.returncode, outcome["reason"]) == (4, "no_space")
        assert machine.partials() != []
        (place / "ballast").unlink()
        machine.origin.rate = None
        machine.run("poke")
        machine.apply()
        assert machine.has("big", digest)
        assert machine.origin.sent <= len(BODY) + 16 * MIB
    finally:
        subprocess.run(["umount", "-l", place], check=True)
