"""Holding downloads back by hand: pause, cancel, resume; with a running watch and without one."""

import random
import signal
import subprocess

import pytest
from watching import eventually, watching

MB = 1 << 20


def content(seed: int, size: int = 4096) -> bytes:
    return random.Random(seed).randbytes(size)


def deferred(machine) -> dict[str, str]:
    return {row["model"]: row["reason"] for row in machine.plan()["deferred"]}


def test_a_paused_model_is_not_downloaded_until_it_is_resumed(machine):
    one, two = machine.model("one", content(1)), machine.model("two", content(2))
    assert machine.run("pause", "one")["models"] == ["one"]
    result = machine.apply(code=3)
    assert [(row["model"], row["reason"]) for row in result["deferred"]] == [("one", "paused")]
    assert machine.has("two", two)
    assert not machine.placed("one").exists()
    assert [(row["model"], row["kind"]) for row in machine.run("status")["overrides"]] == [("one", "pause")]
    machine.model("one", content(3))
    assert deferred(machine) == {"one": "paused"}, "a changed entry does not end a pause"
    why = machine.run("why", "one")
    assert why["change"]["field"] == "resume"
    one = machine.model("one", content(1))
    machine.run("resume", "one")
    machine.apply()
    assert machine.has("one", one)


def test_what_was_cancelled_comes_when_its_entry_changes(machine):
    machine.model("one", content(1))
    machine.run("cancel", "one")
    assert deferred(machine) == {"one": "cancelled"}
    machine.apply(code=3)
    digest = machine.model("one", content(2))
    machine.apply()
    assert machine.has("one", digest)
    assert machine.run("status")["overrides"] == []


def test_a_paused_model_that_is_here_is_loaded_and_placed_all_the_same(machine):
    digest = machine.model("one", content(1))
    machine.apply()
    machine.run("pause", "one")
    machine.placed("one").unlink()
    machine.apply()
    assert machine.has("one", digest)


def test_everything_is_paused_and_resumed_at_once(machine):
    digest = machine.model("one", content(1))
    machine.run("pause")
    machine.apply(code=3)
    machine.run("resume")
    machine.run("pause", "one")
    machine.run("resume")
    machine.apply()
    assert machine.has("one", digest)


def test_a_slip_in_the_manifest_keeps_nobody_from_pausing(machine):
    digest = machine.model("one", content(1))
    with watching(machine):
        eventually(lambda: machine.has("one", digest))
        machine.head["cach"] = {}
        machine.write()
        for verb in (["pause", "one"], ["suspend"], ["resume"]):
            machine.run(*verb)


def test_a_name_that_nobody_knows_is_not_paused(machine):
    machine.model("one", content(1))
    machine.run("pause", "one", "onne", code=1)
    assert "did you mean one" in machine.stderr
    assert deferred(machine) == {}, "none is held where one name is wrong"


def test_cancel_stops_a_download_of_the_watch_and_discards_on_request(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.model("big", content(3, 24 * MB))
    origin.rate = 6 * MB
    with watching(machine):
        eventually(lambda: origin.sent > 8 * MB)
        machine.run("pause", "big")
        eventually(lambda: machine.status("big")["reason"] == "paused", 5)
        assert machine.partials()
        before = origin.sent
        machine.run("poke")
        machine.run("status", "--wait", "READY", "--timeout", "1s", code=8)
        assert origin.sent - before < MB, "poke does not end a pause"
        machine.run("resume", "big")
        eventually(lambda: origin.sent > before + MB)
        machine.run("cancel", "big", "--discard")
        assert machine.partials() == []
        origin.rate = None
        assert machine.status("big")["reason"] == "cancelled"
        machine.run("resume")
        eventually(lambda: machine.placed("big").exists(), 10)


def test_a_pause_outlives_the_watch(machine):
    machine.model("one", content(1))
    machine.run("pause", "one")
    with watching(machine):
        machine.run("status", "--wait", "READY", "--timeout", "1s", code=8)
        assert machine.status("one")["reason"] == "paused"
        assert not machine.placed("one").exists()


def test_holding_back_says_so_where_an_apply_owns_the_store(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.model("big", content(3, 24 * MB))
    origin.rate = 2 * MB
    running = machine.start("apply")
    try:
        eventually(lambda: origin.sent > MB)
        machine.run("pause", "big", code=7)
        assert str(running.pid) in machine.stderr
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=10)


@pytest.mark.slow
def test_events_that_are_followed_are_told_once_each_to_the_last(machine):
    first = machine.model("one", content(1))
    told = machine.folder / "told"
    with watching(machine) as watch, told.open("wb") as out:
        eventually(lambda: machine.has("one", first))
        command = machine.command("-o", "json", "events", "--follow")
        following = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)
        eventually(lambda: told.stat().st_size)
        for number in range(2, 6):
            digest = machine.model(f"m{number}", content(number))
            machine.write()
            eventually(lambda name=f"m{number}", digest=digest: machine.has(name, digest))
        eventually(lambda: machine.run("status", "--wait", "READY", "--timeout", "10s"))
        assert watch.stop() == 0
        _, errors = following.communicate(timeout=10)
        assert following.returncode == 0, errors
        assert "the watch stopped" in errors
    recorded = subprocess.run(
        machine.command("-o", "json", "events"), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert recorded.count("\n") > 5
    assert told.read_text() == recorded


def test_following_ends_with_a_signal_and_without_a_watch_reads_the_ledger(machine):
    machine.model("one", content(1))
    machine.apply()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        following = subprocess.Popen(
            machine.command("-o", "json", "events", "--follow"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert following.stdout is not None
        assert following.stdout.readline().startswith("{")
        following.send_signal(number)
        _, errors = following.communicate(timeout=10)
        assert following.returncode == code
        assert "Traceback" not in errors


def test_a_pause_holds_back_nothing_but_the_download(machine):
    digest = machine.model("one", content(1))
    with watching(machine, "--interval", "1h"):
        eventually(lambda: machine.has("one", digest))
        machine.run("pause", "one")
        machine.placed("one").unlink()
        eventually(lambda: machine.has("one", digest), 5, "the blob is here")
        for verb, kind in (("verify", "verify"), ("load", "load"), ("unload", "unload")):
            done = machine.run(verb, "one")["outcomes"]
            assert [(row["kind"], row["status"]) for row in done] == [(kind, "done")]
        assert machine.run("verify")["summary"]["done"] == 1
        machine.run("evict", "one", "--yes")
        eventually(lambda: machine.status("one")["reason"] == "paused", 5, "it is not fetched again")
        machine.run("resume", "one")
        eventually(lambda: machine.has("one", digest), 5)
