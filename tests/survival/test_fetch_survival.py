"""The engine over killed processes, full disks and two processes at once. Slow."""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from fetching import Case, digest_of, make_bytes
from servers import nginx

pytestmark = pytest.mark.slow

SIZE = 160_000_000
WORKER = """
import sys, threading
from reconciler.adapters.fetch import Engine, Settings
from reconciler.core.errors import Failure
from reconciler.core.ports import FetchRequest, Location
url, target, digest, connections = sys.argv[1:]
request = FetchRequest("m", "a.gguf", (Location(url, url),), target, digest=digest or None, connections=int(connections))
try:
    print(Engine(Settings()).fetch(request, lambda frame: None, threading.Event()).received_bytes)
except Failure as failure:
    print(failure.reason)
"""


def start(url, target, digest, connections=8):
    command = [sys.executable, "-c", WORKER, url, str(target), digest, str(connections)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def site(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    body = make_bytes(SIZE)
    (root / "a").write_bytes(body)
    (tmp_path / "partial").mkdir()
    return root, digest_of(body)


def sent_bytes(server):
    time.sleep(0.2)
    return sum(int(re.search(r'" \d{3} (\d+) "', line)[1]) for line in server.requests())


@pytest.mark.parametrize("connections", [1, 8])
def test_ten_kills_cost_at_most_16_mib_each(tmp_path, site, connections):
    """Measured by the finished chunks that a fresh process finds, not by what the kernel had buffered in flight."""
    root, digest = site
    target, chance = tmp_path / "partial" / "file", random.Random(5)
    with nginx(root, tmp_path / "nginx", limit_rate="12m") as server:
        kills = 0
        for _ in range(10):
            process = start(f"{server.url}/a", target, digest, connections)
            try:
                process.communicate(timeout=chance.uniform(0.5, 1.4))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
        process = start(f"{server.url}/a", target, digest, connections)
        said = process.communicate(timeout=90)[0].strip()
        total = sent_bytes(server)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest[7:]
    assert said.isdigit()
    assert kills >= 2
    assert total <= SIZE + (kills + 1) * (16 << 20) + kills * connections * (4 << 20)
    assert os.listdir(tmp_path / "partial") == ["file"]


def test_two_processes_on_one_target_download_it_once(tmp_path, site):
    root, digest = site
    target = tmp_path / "partial" / "file"
    with nginx(root, tmp_path / "nginx", limit_rate="60m") as server:
        processes = [start(f"{server.url}/a", target, digest) for _ in range(2)]
        said = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
        total = sent_bytes(server)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest[7:]
    assert total < SIZE + (16 << 20)
    assert said[0] in {"0", "fetched_elsewhere"} or said[1] in {"0", "fetched_elsewhere"}


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 24 MiB without direct I/O or room for the file."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_has_its_reason_and_keeps_the_partial(tmp_path, site, tiny_disk):
    root, digest = site
    (tiny_disk / "ballast").write_bytes(bytes(12 << 20))
    (root / "a").write_bytes((root / "a").read_bytes()[: 20 << 20])
    digest = digest_of((root / "a").read_bytes())
    (tiny_disk / "p").mkdir()
    case = Case(tiny_disk / "p")
    with nginx(root, tmp_path / "nginx", extra="chunked_transfer_encoding on;") as server:
        failure = case.fail(f"{server.url}/a", digest=digest)
        assert failure.reason == "no_space"
        (tiny_disk / "ballast").unlink()
        case.restart()
        case.get(f"{server.url}/a", digest=digest)
        case.engine.close()
    assert digest_of(case.target.read_bytes()) == digest


@pytest.mark.parametrize(
    ("error", "calls", "reason"),
    [
        ("ENOSPC", "pwrite64", "no_space"),
        ("EDQUOT", "pwrite64", "quota"),
        ("EIO", "pwrite64", "io_error"),
        ("EROFS", "pwrite64", "read_only"),
        ("EIO", "fdatasync", "io_error"),
        ("ENOSPC", "fallocate", "no_space"),
    ],
)
def test_local_faults_become_reasons(tmp_path, site, error, calls, reason):
    root, digest = site
    target = tmp_path / "partial" / "file"
    with nginx(root, tmp_path / "nginx") as server:
        url = f"{server.url}/a"
        code = [sys.executable, "-c", WORKER, url, str(target), digest, "8"]
        trace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={calls}",
            "-e",
            f"inject={calls}:error={error}:when=2+",
        ]
        if calls == "fallocate":
            trace[-1] = f"inject={calls}:error={error}"
        try:
            found = subprocess.run([*trace, *code], capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError:
            pytest.skip("strace is not installed")
        assert found.stdout.strip() == reason, found.stderr
        if calls == "fdatasync":
            assert os.listdir(tmp_path / "partial") == []  # a file whose sync failed is never used again
        process = start(url, target, digest)
        assert process.communicate(timeout=60)[0].strip().isdigit()
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest[7:]


def test_memory_and_threads_stay_bounded(tmp_path, site):
    root, digest = site
    with nginx(root, tmp_path / "nginx") as server:
        case = Case(tmp_path / "partial")
        before = threading.active_count()
        for _ in range(5):
            case.get(f"{server.url}/a", digest=digest)
            case.target.unlink()
        assert threading.active_count() <= before
        open_files = len(os.listdir("/proc/self/fd"))
        case.get(f"{server.url}/a", digest=digest)
        assert len(os.listdir("/proc/self/fd")) <= open_files
        case.engine.close()
