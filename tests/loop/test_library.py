"""The library inside an application: paths, observers, what it never does unasked."""

import os
from pathlib import Path

import forking
import pytest

from reconciler import Reconciler, load_manifest
from reconciler.core.actions import Request
from reconciler.core.errors import ManifestInvalid


def test_a_manifest_may_be_named_by_a_path_object(machine):
    machine.model("alpha", b"a" * 5000)
    machine.write()
    names = [model.name for model in load_manifest(machine.manifest).models]
    assert names == [model.name for model in load_manifest([machine.manifest]).models] == ["alpha"]


def test_an_observer_that_raises_stops_nothing(machine):
    machine.model("alpha", b"a" * 5000)
    machine.write()
    told = []
    with Reconciler(load_manifest(machine.manifest), store=machine.store) as reconciler:
        reconciler.on_progress(lambda frame: told.append(frame.model) or 1 / 0)
        reconciler.on_lifecycle(lambda *_: 1 / 0)
        assert reconciler.apply().summary.failed == 0
    assert set(told) == {"alpha"}
    assert machine.placed("alpha").exists()


@pytest.mark.parametrize(
    "request_", [Request(), Request(prune=True, allow_evict=9), Request(verb="prune", allow_evict=9)]
)
def test_no_manifest_is_no_wish_for_an_empty_store(machine, request_):
    machine.model("alpha", b"a" * 5000)
    machine.apply()
    with Reconciler(store=machine.store) as reconciler, pytest.raises(ManifestInvalid) as caught:
        reconciler.apply(request_)
    assert caught.value.reason == "manifest_missing"
    assert machine.placed("alpha").exists()


@pytest.mark.parametrize("nothing", [None, object(), "source", dict])
def test_what_is_no_extension_is_not_registered(machine, nothing):
    with Reconciler(store=machine.store) as reconciler, pytest.raises(TypeError, match="is no source"):
        reconciler.register(nothing)


def test_prune_without_a_manifest_is_refused_by_the_command(machine, tmp_path):
    machine.model("alpha", b"a" * 5000)
    machine.apply()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [*machine.command()[:-4], "--store", str(machine.store), "prune", "--yes"]
    done = forking.run(command, cwd=elsewhere, env=os.environ)
    assert done.returncode == 65
    assert "there is no manifest" in done.stderr
    assert machine.placed("alpha").exists()


def test_evict_by_name_takes_back_what_was_loaded_by_hand(machine):
    machine.model("alpha", b"a" * 70_000)
    machine.apply()
    machine.run("load", "alpha")
    machine.run("evict", "alpha", "--yes")
    assert [action["kind"] for action in machine.plan()["actions"]] == ["download"]


def test_a_link_that_somebody_put_in_the_place_of_ours_is_theirs(machine, tmp_path):
    link = Path(tmp_path / "link.bin")
    machine.model("alpha", b"a" * 5000, links=[str(link)])
    machine.apply()
    link.unlink()
    link.symlink_to("/etc/hostname")
    assert [deferred["reason"] for deferred in machine.apply(code=3)["deferred"]] == ["link_blocked"]
    assert os.readlink(link) == "/etc/hostname"


@pytest.mark.parametrize("place", ["store", "models", "lock"])
def test_doctor_tells_what_stands_in_the_place_of_the_store(machine, place):
    if place == "store":
        machine.store.touch()
    else:
        machine.store.mkdir()
        (machine.store / place).mkdir() if place == "lock" else (machine.store / place).touch()
    checks = {check["name"]: check for check in machine.run("doctor", code=1)["checks"]}
    assert checks["store"]["status"] == "fail"
    assert "move it away" in checks["store"]["hint"]


def test_a_model_is_pinned_before_it_ever_came(machine):
    machine.model("alpha", b"a" * 5000)
    machine.run("pin", "alpha")
    assert machine.status("alpha")["pinned"]
    machine.apply()
    machine.run("unpin", "alpha")
    assert not machine.status("alpha")["pinned"]
    machine.run("pin", "alhpa", code=1)
    assert "did you mean alpha?" in machine.stderr


def test_unpinned_by_hand_wins_over_the_manifest_and_says_so(machine):
    machine.model("alpha", b"a" * 5000, pin=True)
    machine.apply()
    assert "by hand wins" in machine.run("unpin", "alpha")["message"]
    assert not machine.status("alpha")["pinned"]


@pytest.mark.parametrize(
    "verb", [["resume", "alhpa"], ["events", "--model", "alhpa"], ["history", "alhpa"], ["show", "alhpa"]]
)
def test_a_slip_in_a_name_is_told_with_the_nearest(machine, verb):
    machine.model("alpha", b"a" * 5000)
    machine.apply()
    machine.run(*verb, code=1)
    assert "did you mean alpha?" in machine.stderr


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_why_knows_the_size_that_only_the_origin_tells(machine, tmp_path, scheme):
    machine.head["cache"]["maxSize"] = "1MiB"
    machine.model("big", b"b" * (2 << 20))
    del machine.models["big"]["sha256"]
    if scheme == "file":
        (tmp_path / "big.bin").write_bytes(b"b" * (2 << 20))
        machine.models["big"]["source"] = f"file://{tmp_path}/big.bin"
    answer = machine.run("why", "big")
    assert (answer["decision"], answer["reason"]) == ("deferred", "no_room")
    machine.head["cache"]["maxSize"] = answer["change"]["to"]
    machine.apply()
