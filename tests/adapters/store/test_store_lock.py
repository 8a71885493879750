"""One owner per store."""

import os
import signal
import subprocess
import sys

import pytest

from reconciler.adapters.store import Store, StoreBusy

HOLD = """
import sys, time
from reconciler.adapters.store import Store
lock = Store(sys.argv[1], lambda: 0.0).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(bench):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, bench.store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def test_the_second_process_is_refused_at_once_and_told_who_holds_it(bench, other):
    with pytest.raises(StoreBusy) as caught:
        bench.store.acquire()
    assert (caught.value.reason, caught.value.pid) == ("store_busy", other.pid)
    assert f"process {other.pid}" in caught.value.message
    assert bench.store.owner_pid() == other.pid


def test_a_killed_owner_leaves_no_lock(bench, other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait(10)
    with bench.store.acquire() as lock:
        assert lock.is_held
    assert (bench.root / "lock").read_bytes() == b""


def test_a_second_owner_in_this_process_is_refused_too_and_harms_nothing(bench):
    with bench.store.acquire():
        with pytest.raises(StoreBusy) as caught:
            Store(bench.store.root, lambda: 0.0).acquire()
        assert caught.value.pid == os.getpid()
        assert bench.store.owner_pid() == os.getpid()
        ask = "import sys; from reconciler.adapters.store import Store; print(Store(sys.argv[1], lambda: 0.0).owner_pid())"
        answer = subprocess.run(
            [sys.executable, "-c", ask, bench.store.root], capture_output=True, text=True, check=True
        )
        assert int(answer.stdout) == os.getpid()  # the refusal did not drop the lock


def test_a_released_lock_can_be_taken_again(bench):
    lock = bench.store.acquire()
    lock.release()
    lock.release()
    assert not lock.is_held
    assert bench.store.owner_pid() is None
    bench.store.acquire().release()


def test_looking_for_the_owner_makes_no_lock_file(bench):
    assert bench.store.owner_pid() is None
    assert not (bench.root / "lock").exists()
