"""Limits through the command: room, priorities, guards, pins, memory."""

import os
import threading
import time

from faulty import Faulty
from machines import kinds
from watching import eventually, watching

KB = 1000
SIZE = 1 << 20  # of each model; a multiple of the block size


def test_what_does_not_fit_is_deferred_with_numbers(machine):
    machine.head["cache"]["maxSize"] = "3MiB"
    for name in ("alpha", "beta", "gamma", "delta"):
        machine.model(name, os.urandom(SIZE))
    plan = machine.plan()
    assert kinds(plan) == {"download": ["alpha", "beta", "delta"]}
    (deferred,) = plan["deferred"]
    assert (deferred["model"], deferred["reason"]) == ("gamma", "no_room")
    assert deferred["needs_bytes"] == SIZE
    assert deferred["available_bytes"] < SIZE
    assert deferred["blocked_by"]
    machine.apply(code=3)
    again = machine.plan()
    assert kinds(again) == {}
    assert again["deferred"][0]["model"] == "gamma"


def test_a_higher_priority_takes_the_room_of_a_lower_one(machine):
    machine.head["cache"]["maxSize"] = "2MiB"
    machine.head["cache"]["maxEvictions"] = "100%"
    machine.model("alpha", os.urandom(SIZE), priority="low")
    machine.model("beta", os.urandom(SIZE), priority="normal")
    machine.apply()
    machine.model("gamma", os.urandom(SIZE), priority="high")
    plan = machine.plan()
    assert kinds(plan) == {"evict": ["alpha"], "download": ["gamma"]}
    machine.apply(code=3)
    assert not machine.placed("alpha").exists()
    assert machine.placed("gamma").exists()
    assert machine.apply(code=3)["outcomes"] == []


def test_unwanted_models_go_first_by_least_recent_use(machine):
    machine.head["cache"]["maxSize"] = "3MiB"
    for name in ("alpha", "beta", "gamma"):
        machine.model(name, os.urandom(SIZE))
    machine.apply()
    machine.run("touch", "alpha")
    machine.models.clear()
    machine.model("delta", os.urandom(SIZE))
    plan = machine.plan()
    assert kinds(plan)["download"] == ["delta"]
    assert kinds(plan)["evict"] in (["beta"], ["gamma"])  # whichever was installed first; alpha was used
    machine.apply()
    assert machine.placed("alpha").exists()


def test_too_many_evictions_are_refused_as_a_whole(machine):
    for name in ("alpha", "beta", "gamma", "delta"):
        machine.model(name, os.urandom(10_000))
    machine.apply()
    machine.models = {name: {"state": "absent"} for name in ("alpha", "beta", "gamma")}
    machine.apply(code=3)
    assert machine.placed("alpha").exists()
    machine.apply("--allow-evict", "3")
    assert not machine.placed("alpha").exists()
    assert machine.placed("delta").exists()


def test_no_models_at_all_takes_an_explicit_word_and_the_guard_asks(machine):
    machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    machine.apply()
    machine.models = {}
    machine.apply()
    machine.apply("--prune", code=3)
    assert machine.placed("alpha").exists()
    machine.apply("--prune", "--allow-evict", "2")
    assert not machine.placed("alpha").exists()
    machine.manifest.write_text("")
    for text in ("", "apiVersion: reconciler/v1\n", "apiVersion: reconciler/v1\nmodels:\n"):
        machine.manifest.write_text(text)
        machine.write = lambda: None
        machine.run("apply", code=65)


def test_a_pin_outlives_the_manifest_until_it_is_taken_back(machine):
    machine.model("alpha", b"a" * 5000, pin=True)
    machine.model("beta", b"b" * 5000)
    machine.apply()
    del machine.models["alpha"]
    machine.apply("--prune")
    assert machine.placed("alpha").exists()
    machine.run("evict", "alpha", code=3)
    machine.run("unpin", "alpha")
    machine.apply("--prune")
    assert not machine.placed("alpha").exists()


def test_retention_takes_what_nobody_wants_or_uses(machine):
    machine.head["cache"]["retention"] = "1s"
    machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    machine.apply()
    del machine.models["alpha"]
    time.sleep(1.1)
    plan = machine.plan()
    assert [(action["kind"], action["cause"]) for action in plan["actions"]] == [("evict", "retention")]
    machine.apply()
    assert not machine.placed("alpha").exists()


def test_a_model_that_some_process_has_open_is_not_evicted(machine):
    machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    machine.apply()
    del machine.models["alpha"]
    with machine.placed("alpha").open("rb"):
        machine.apply("--prune", code=3)
    assert machine.placed("alpha").exists()
    machine.apply("--prune")
    assert not machine.placed("alpha").exists()


def test_foreign_files_count_against_the_limit_and_are_never_deleted(machine):
    machine.head["cache"]["maxSize"] = "2MiB"
    machine.model("alpha", os.urandom(SIZE))
    machine.model("beta", os.urandom(SIZE))
    machine.store.mkdir()
    (machine.store / "notes.txt").write_bytes(os.urandom(SIZE // 2))
    plan = machine.plan()
    assert kinds(plan) == {"download": ["alpha"]}
    assert plan["deferred"][0]["model"] == "beta"
    machine.apply(code=3)
    assert (machine.store / "notes.txt").stat().st_size == SIZE // 2


def test_the_memory_budget_admits_by_priority(machine):
    machine.head["memory"] = {"budget": "2MiB"}
    machine.model("alpha", os.urandom(SIZE), state="loaded", memory="1MiB", priority="low")
    machine.model("beta", os.urandom(SIZE), state="loaded", memory="1MiB", priority="high")
    machine.model("gamma", os.urandom(SIZE), state="loaded", memory="1MiB", priority="normal")
    wanted = ["present", "loaded", "loaded"]
    machine.apply_until(
        lambda: [machine.status(name)["state"] for name in ("alpha", "beta", "gamma")] == wanted, code=3
    )


def test_load_and_unload_by_hand_hold_and_show_in_status(machine):
    machine.model("alpha", os.urandom(SIZE))
    machine.apply()
    machine.run("load", "alpha")
    machine.apply_until(lambda: machine.status("alpha")["loaded"])
    assert [(o["model"], o["kind"]) for o in machine.run("status")["overrides"]] == [("alpha", "load")]
    machine.run("unload", "alpha")
    assert not machine.status("alpha")["loaded"]


def test_events_tell_what_came_went_and_why(machine):
    machine.model("alpha", os.urandom(SIZE), state="loaded")
    machine.apply()
    machine.models["alpha"]["state"] = "absent"
    machine.apply()
    told = machine.told()
    assert [reason for reason, _ in told] == ["installed", "loaded", "unloaded", "evicted"]
    assert "the manifest wants it" in told[1][1]
    assert "absent" in told[3][1]


def test_why_names_a_change_that_turns_the_decision(machine):
    machine.head["cache"]["maxSize"] = "1MiB"
    machine.model("alpha", os.urandom(SIZE))
    machine.model("beta", os.urandom(SIZE))
    machine.apply(code=3)
    answer = machine.run("why", "beta")
    assert (answer["decision"], answer["reason"]) == ("deferred", "no_room")
    assert answer["change"]["field"] == "cache.maxSize"
    machine.head["cache"]["maxSize"] = answer["change"]["to"]
    machine.apply()
    assert machine.placed("beta").exists()


def test_a_manifest_for_other_machines_leaves_this_one_alone(machine):
    machine.model("alpha", b"a" * 5000, when={"arch": ["no-such-arch"]})
    machine.model("beta", b"b" * 5000)
    assert kinds(machine.plan()) == {"download": ["beta"]}
    machine.apply()
    assert not machine.placed("alpha").exists()


def test_as_many_models_come_at_once_as_the_manifest_says(machine):
    body, together = os.urandom(10_000), threading.Barrier(12)

    def script(talk):
        if talk.method == "GET":
            together.wait(10)
        talk.serve(body)

    machine.head["network"] = {"models": 12}
    with Faulty(script) as server:
        for number in range(12):
            machine.models[f"m{number}"] = {"source": f"{server.url}/{number}.bin", "size": len(body)}
        machine.apply()


def test_another_bandwidth_holds_for_what_is_under_way(machine):
    machine.head["network"] = {"bandwidth": "300kB/s"}
    digest = machine.model("m", os.urandom(6_000_000))
    with watching(machine):
        eventually(lambda: machine.origin.sent > 0)
        machine.head["network"] = {"bandwidth": "100MB/s"}
        machine.write()
        eventually(lambda: machine.has("m", digest))
    assert machine.origin.asked("GET") == ["/m.bin"]
