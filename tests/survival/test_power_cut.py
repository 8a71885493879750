"""The power goes at any moment: what was told done is there, nothing wrong is, and little is fetched again. Slow.

``FS_IOC_SHUTDOWN`` without flushing the log stops a loop-mounted file system as a power cut does; the next mount replays
its journal. Needs root; a developer without it skips these tests, CI does not.
"""

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import subprocess
import time

import pytest
from machines import Machine
from origin import serving
from watching import eventually

pytestmark = pytest.mark.slow

MIB = 1 << 20
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
BIG = random.Random(1).randbytes(80 * MIB + 4321)


class Disk:
    """A file system in a file, whose power can be cut."""

    def __init__(self, folder, kind):
        self.image, self.place = folder / "disk.img", folder / "disk"
        with self.image.open("wb") as file:
            file.truncate(600 * MIB)
        self.place.mkdir()
        subprocess.run([f"mkfs.{kind}", "-q", str(self.image)], check=True)
        attach = ["losetup", "--find", "--show", str(self.image)]  # one device throughout: no second cache of the image
        self.device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
        self.mount()

    def mount(self):
        subprocess.run(["mount", self.device, str(self.place)], check=True)

    def unmount(self):
        subprocess.run(["umount", str(self.place)], check=True)

    def cut(self, process):
        """The power goes, and the process with it; then the machine starts again."""
        fd = os.open(self.place, os.O_RDONLY)
        fcntl.ioctl(fd, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
        os.close(fd)
        process.kill()
        process.communicate()
        self.unmount()
        self.mount()


@pytest.fixture(params=["ext4", "xfs"])
def disk(request, tmp_path):
    if os.geteuid() != 0 or shutil.which(f"mkfs.{request.param}") is None:
        pytest.skip("needs root and the tools of that file system")
    made = Disk(tmp_path, request.param)
    yield made
    subprocess.run(["umount", "-l", str(made.place)], check=True)
    subprocess.run(["losetup", "-d", made.device], check=True)


@pytest.fixture
def machine(tmp_path, disk):
    with serving() as origin:
        made = Machine(tmp_path, origin)
        made.store = disk.place / "store"
        made.head["cache"]["maxSize"] = "500MiB"
        yield made


def check(machine, digests):
    """The database opens; what is told present is whole; every placed file and every blob is what its name says."""
    told = {model["name"]: model for model in machine.run("status")["models"]}
    for name, digest in digests.items():
        if told.get(name, {}).get("state") in {"present", "loaded"}:
            assert machine.has(name, digest), name
        elif machine.placed(name).exists():
            assert hashlib.sha256(machine.placed(name).read_bytes()).hexdigest() == digest, name
    for blob in (machine.store / "blobs").rglob("*"):
        if blob.is_file():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    return {name for name in digests if told.get(name, {}).get("state") in {"present", "loaded"}}


def test_power_cuts_cost_a_big_download_at_most_16_mib_each(machine, disk):
    digest = machine.model("big", BIG)
    machine.origin.rate = 20 * MIB
    cuts, chance = 0, random.Random(7)
    for _ in range(6):
        goal = machine.origin.sent + chance.randrange(MIB, 30 * MIB)
        process = machine.start("apply")
        with contextlib.suppress(AssertionError):
            eventually(lambda goal=goal, process=process: machine.origin.sent >= goal or process.poll() is not None, 60)
        disk.cut(process)
        cuts += 1
        check(machine, {"big": digest})
    machine.origin.rate = None
    machine.run("poke")
    machine.apply()
    assert machine.has("big", digest)
    assert machine.origin.sent <= len(BIG) + cuts * 16 * MIB + 8 * MIB  # what was on its way in the last sockets


def test_after_a_power_cut_nothing_is_told_present_that_is_not(machine, disk):
    digests = {f"m{n}": machine.model(f"m{n}", random.Random(n).randbytes(n * 700_000 + 9)) for n in range(8)}
    total = sum(len(content) for content in machine.origin.files.values())
    before = set()
    for share in (0.02, 0.2, 0.45, 0.7, 0.95, 1.0):
        machine.origin.rate = 6 * MIB
        process = machine.start("apply")
        goal = share * total
        eventually(lambda goal=goal, process=process: machine.origin.sent >= goal or process.poll() is not None, 60)
        time.sleep(0.05)
        disk.cut(process)
        present = check(machine, digests)
        assert before <= present  # what was there stays
        before = present
        machine.run("poke")
    machine.apply()
    assert check(machine, digests) == set(digests)
    machine.run("verify")


def test_what_apply_told_done_outlives_a_power_cut(machine, disk):
    digests = {name: machine.model(name, random.Random(name).randbytes(2_500_000)) for name in ("one", "two", "three")}
    process = machine.start("apply")
    assert process.wait(60) == 0
    disk.cut(process)
    assert check(machine, digests) == set(digests)
    machine.origin.forget()
    machine.apply()
    machine.run("verify")
    assert machine.origin.sent == 0


def test_power_cuts_while_a_blob_is_repaired(machine, disk):
    digest = machine.model("big", BIG)
    machine.apply()
    with machine.placed("big").open("r+b") as file:
        for number in range(0, 40, 2):
            file.seek(number * MIB + 5)
            file.write(b"damage")
    machine.origin.forget()
    machine.origin.rate = 8 * MIB
    for _ in range(2):
        goal = machine.origin.sent + 6 * MIB
        process = machine.start("apply")
        eventually(lambda goal=goal, process=process: machine.origin.sent >= goal or process.poll() is not None, 60)
        disk.cut(process)
        check(machine, {"big": digest})
    machine.origin.rate = None
    machine.run("poke")
    machine.apply()
    assert machine.has("big", digest)
    assert machine.origin.sent <= 20 * MIB + 2 * 16 * MIB
