"""``dependsOn``: a model comes only with what it depends on, and after it."""

import pytest
from machines import kinds


@pytest.fixture
def pair(machine):
    """``a`` depends on ``z``."""
    machine.digests = {"z": machine.model("z", b"z" * 50_000), "a": machine.model("a", b"a" * 50_000, dependsOn=["z"])}
    return machine


def test_what_is_depended_on_comes_first(pair):
    plan = pair.plan()
    assert [action["model"] for action in plan["actions"]] == ["z", "a"]
    assert plan["actions"][1]["depends_on"] == ["download:z"]
    pair.apply()
    assert all(pair.has(name, digest) for name, digest in pair.digests.items())
    assert pair.apply()["outcomes"] == []


def test_a_model_does_not_come_where_its_dependency_fails(pair):
    content = pair.origin.files.pop("/z.bin")
    outcomes = {each["model"]: each for each in pair.apply(code=4)["outcomes"]}
    assert (outcomes["a"]["status"], outcomes["a"]["reason"]) == ("cancelled", "dependency_failed")
    assert not pair.placed("a").exists()
    (waiting,) = [each for each in pair.plan()["deferred"] if each["model"] == "a"]
    assert (waiting["reason"], waiting["blocked_by"]) == ("dependency_missing", ["z"])
    pair.origin.files["/z.bin"] = content
    pair.run("poke")
    pair.apply()
    assert all(pair.has(name, digest) for name, digest in pair.digests.items())


def test_what_waits_for_a_dependency_that_has_no_room_takes_none(machine):
    machine.head["cache"] = {"maxSize": "1MiB", "minFreeSpace": "1MB"}
    machine.model("z", b"z" * 2_000_000, size=2_000_000)
    machine.model("a", b"a" * 50_000, size=50_000, dependsOn=["z"])
    plan = machine.plan()
    assert plan["actions"] == []
    assert {each["model"]: each["reason"] for each in plan["deferred"]} == {"a": "dependency_missing", "z": "no_room"}


def test_a_dependency_is_as_important_as_what_depends_on_it(machine):
    machine.head["cache"] = {"maxSize": "2MiB", "minFreeSpace": "1MB"}
    machine.model("z", b"z" * 900_000, size=900_000, priority="low")
    machine.model("m", b"m" * 900_000, size=900_000, priority="normal")
    machine.model("a", b"a" * 900_000, size=900_000, priority="high", dependsOn=["z"])
    plan = machine.plan()
    assert kinds(plan) == {"download": ["z", "a"]}
    assert [each["model"] for each in plan["deferred"]] == ["m"]


def test_evicting_a_model_keeps_what_it_depends_on(pair):
    pair.apply()
    pair.models["a"]["state"] = "absent"
    assert kinds(pair.plan()) == {"evict": ["a"]}
    pair.apply()
    assert pair.has("z", pair.digests["z"])


def test_a_model_is_loaded_after_what_it_depends_on(pair):
    for name in ("a", "z"):
        pair.models[name]["state"] = "loaded"
    plan = pair.plan()
    loads = [action for action in plan["actions"] if action["kind"] == "load"]
    assert [action["model"] for action in loads] == ["z", "a"]
    assert "load:z" in loads[1]["depends_on"]
    pair.apply()
    assert pair.status("a")["state"] == "loaded"
