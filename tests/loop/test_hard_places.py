"""The command where the machine is not well: a read-only store, a full disk, a clock that was never set."""

import json
import os
import shutil
import subprocess

import pytest

CLOCK = """
import sys, time
import reconciler.world as world
world.time.time = lambda: 86400.0
from reconciler.cli import main
sys.exit(main(sys.argv[1:]))
"""


def in_namespace(machine, script, *arguments):
    """Run the command in a mount namespace of its own, after ``script``; the exit code, its document, its errors."""
    machine.write()
    line = ["unshare", "-rm", "sh", "-c", f'{script} && exec "$@"', "sh", *machine.command("-o", "json", *arguments)]
    done = subprocess.run(line, check=False, capture_output=True, text=True, cwd=machine.folder)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr


def read_only(machine):
    return f"mount --bind {machine.store} {machine.store} && mount -o remount,ro,bind {machine.store}"


needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="this machine gives nobody a mount namespace",
)


@pytest.fixture
def settled(machine):
    machine.model("alpha", b"a" * 5000)
    machine.apply()
    return machine


@needs_namespaces
@pytest.mark.parametrize("verb", ["apply", "plan", "status", "why alpha", "df", "history alpha", "snapshot"])
def test_a_read_only_store_with_nothing_to_do_is_no_error(settled, verb):
    code, document, errors = in_namespace(settled, read_only(settled), *verb.split())
    assert (code, "error" in errors) == (0, False), errors
    assert document["kind"]


@needs_namespaces
def test_a_read_only_store_that_lacks_something_says_so_and_what_to_do(settled):
    digest = settled.model("beta", b"b" * 5000)
    code, document, errors = in_namespace(settled, read_only(settled), "apply")
    assert (code, document["kind"], document["reason"]) == (3, "Error", "ledger_read_only"), errors
    assert "read-write" in document["hint"]
    settled.apply()
    assert settled.has("beta", digest)


@needs_namespaces
def test_a_full_disk_can_be_read_and_converges_once_there_is_room(machine):
    machine.store.mkdir()
    roomy = f"mount -t tmpfs -o size=16m tmpfs {machine.store}"
    fill = f"{roomy} && head -c 15500000 /dev/zero > {machine.store}/foreign"
    machine.head["cache"]["minFreeSpace"] = 0
    machine.model("alpha", b"a" * 2_000_000)
    code, document, errors = in_namespace(machine, fill, "apply")
    assert code in {3, 4}, errors
    reasons = {entry["reason"] for entry in (*document["deferred"], *document["outcomes"])}
    assert reasons & {"no_room", "no_space"}
    assert in_namespace(machine, fill, "plan")[0] == 0
    assert in_namespace(machine, fill, "status")[0] == 0
    code, document, errors = in_namespace(machine, roomy, "apply")
    assert (code, document["summary"]["done"]) == (0, 1), errors


@pytest.mark.slow
def test_a_clock_of_1970_plans_applies_and_tells(machine):
    digest = machine.model("alpha", b"a" * 5000)
    script = machine.folder / "clock.py"
    script.write_text(CLOCK)
    machine.write()
    base = machine.command("-o", "json")
    for verb, code in (("apply", 0), ("apply", 0), ("plan", 0), ("status", 0), ("why alpha", 0), ("events", 0)):
        line = [base[0], str(script), *base[3:], *verb.split()]
        done = subprocess.run(line, check=False, capture_output=True, text=True, env=dict(os.environ))
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        if verb != "events":
            assert json.loads(done.stdout)
    assert machine.has("alpha", digest)
    machine.apply()  # the clock was set: half a century passes at once
    assert machine.has("alpha", digest)
    assert machine.plan()["summary"]["changes"] == 0
