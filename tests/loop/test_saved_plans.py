"""A saved plan is done as it is, action by action: what is true already is skipped, what no longer fits stops it all."""

import io
import json
import os
import subprocess
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import forking
import pytest

from reconciler import Reconciler, load_manifest


@pytest.fixture
def save(machine):
    """Saves the plan of now; its file."""

    def saved() -> str:
        path = str(machine.folder / "plan.json")
        machine.plan("--out", path)
        return path

    return saved


def outcomes(result: dict) -> dict[str, str]:
    return {outcome["id"]: outcome["status"] for outcome in result["outcomes"]}


def test_what_waits_for_an_eviction_that_is_done_already_goes_on(machine, save):
    machine.head["cache"] = {"maxSize": "300kB", "minFreeSpace": "1MB"}
    machine.model("old", b"o" * 150_000)
    machine.apply()
    machine.models.clear()
    digest = machine.model("big", b"b" * 200_000)
    plan = save()
    machine.run("evict", "old", "--yes")
    result = machine.apply(plan)
    assert list(outcomes(result).items()) == [("evict:old", "skipped"), ("download:big", "done")]
    assert result["plan_digest"] == json.loads(Path(plan).read_text())["plan_digest"]
    assert machine.has("big", digest)


def test_what_depends_on_a_model_that_is_there_already_goes_on(machine, save):
    machine.model("x", b"x" * 5000)
    machine.model("y", b"y" * 5000, dependsOn=["x"])
    plan = save()
    machine.apply("--only", "x")
    assert outcomes(machine.apply(plan)) == {"download:x": "skipped", "download:y": "done"}


def test_bytes_that_came_with_another_model_are_not_downloaded_again(machine, save):
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
        archive.writestr("model.bin", b"m" * 5000)
    machine.model("pack", packed.getvalue(), extract=True)
    plan = save()
    machine.models["raw"] = {**machine.models["pack"], "extract": False}
    machine.apply("--only", "raw")
    machine.origin.forget()
    assert outcomes(machine.apply(plan)) == {"download:pack": "done", "extract:pack": "done"}
    assert machine.placed("pack", "model.bin").read_bytes() == b"m" * 5000
    assert machine.origin.requests == []


@pytest.mark.parametrize("change", ["other revision", "evicted"])
def test_another_state_that_the_manifest_asked_for_is_not_what_the_plan_asked_for(machine, save, change):
    machine.model("alpha", b"a" * 5000)
    plan = save()
    if change == "evicted":
        machine.apply(plan)
        machine.models["alpha"] = {"state": "absent"}
    else:
        machine.model("alpha", b"other" * 1000)
    machine.apply()
    assert machine.apply(plan, code=5)["reason"] == "plan_stale"


def test_a_load_is_stale_where_the_manifest_no_longer_asks_for_it(machine, save):
    machine.model("alpha", b"a" * 5000)
    machine.apply()
    machine.models["alpha"]["state"] = "loaded"
    plan = save()
    machine.models["alpha"]["state"] = "present"
    machine.apply(plan, code=5)


def test_a_half_done_plan_is_continued(machine, save):
    link = machine.folder / "link"
    machine.model("alpha", b"a" * 5000, links=[str(link)])
    plan = save()
    assert set(outcomes(machine.apply(plan)).values()) == {"done"}
    link.unlink()
    assert outcomes(machine.apply(plan)) == {"download:alpha": "skipped", "link:alpha:links": "done"}
    assert link.exists()


def test_the_brakes_of_now_hold_a_saved_plan(machine, save):
    for name in ("a", "b", "c", "d"):
        machine.model(name, name.encode() * 5000)
    machine.apply()
    machine.models |= {"a": {"state": "absent"}, "b": {"state": "absent"}}
    plan = save()
    machine.head["cache"]["maxEvictions"] = 1
    assert [guard["reason"] for guard in machine.apply(plan, code=3)["guards"]] == ["too_many_evictions"]
    del machine.head["cache"]["maxEvictions"]
    machine.run("suspend")
    assert [guard["reason"] for guard in machine.apply(plan, code=3)["guards"]] == ["suspended"]
    suspended = save()
    machine.run("resume")
    assert outcomes(machine.apply(suspended)) == {"evict:a": "done", "evict:b": "done"}


def test_a_model_that_is_backing_off_is_listed_and_the_rest_is_done(machine, save):
    machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    plan = save()
    machine.origin.answers["/beta.bin"] = (503, {"Retry-After": "600"})
    machine.apply(plan, code=4)
    result = machine.apply(plan, code=4)
    assert outcomes(result) == {"download:alpha": "skipped"}
    assert [(each["model"], each["reason"]) for each in result["deferred"]] == [("beta", "backing_off")]
    assert result["deferred"][0]["retry_at"]


def test_a_closed_window_blocks_a_saved_plan(machine, save):
    machine.model("alpha", b"a" * 5000)
    plan = save()
    opens, closes = (time.strftime("%H:%M", time.localtime(time.time() + hours * 3600)) for hours in (2, 3))
    machine.head["network"] = {"windows": [f"{opens}-{closes}"]}
    result = machine.apply(plan, code=3)
    assert [(each["model"], each["reason"]) for each in result["deferred"]] == [("alpha", "outside_window")]


def run_without_f(machine, *arguments: str):
    command = [*forking.COMMAND, "--store", str(machine.store), *arguments]
    return forking.run(command, cwd=machine.folder, env=os.environ)


def test_a_file_that_was_added_to_the_folder_of_manifests_counts(machine):
    machine.model("alpha", b"a" * 5000)
    machine.manifest = machine.folder / "manifests" / "a.yaml"
    machine.manifest.parent.mkdir()
    machine.write()
    assert run_without_f(machine, "-f", "manifests", "plan", "--out", "plan.json").returncode == 0
    (machine.manifest.parent / "b.yaml").write_text("apiVersion: reconciler/v1\nmodels: {alpha: {state: absent}}\n")
    assert run_without_f(machine, "apply", "plan.json").returncode == 5
    assert not machine.placed("alpha").exists()


def test_a_plan_of_standard_input_asks_for_the_manifest_again(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.write()
    saving = [*forking.COMMAND, "--store", str(machine.store), "-f", "-", "plan", "--out", "plan.json"]
    subprocess.run(saving, input=machine.manifest.read_bytes(), cwd=machine.folder, check=True, capture_output=True)
    machine.manifest.rename(machine.folder / "kept.yaml")
    done = run_without_f(machine, "apply", "plan.json")
    assert done.returncode == 64
    assert "give it again with -f" in done.stderr
    assert run_without_f(machine, "-f", "kept.yaml", "apply", "plan.json").returncode == 0
    assert machine.has("alpha", digest)


def test_a_plan_whose_actions_wait_for_themselves_ends_as_an_error(machine):
    machine.model("alpha", b"a" * 5000)
    machine.write()
    wanted = load_manifest((str(machine.manifest),))
    with Reconciler(wanted, store=machine.store) as reconciler:
        plan = reconciler.plan()
        (download,) = plan.actions
        looped = replace(plan, actions=(replace(download, depends_on=("download:alpha", "load:alpha")),))
        with pytest.raises(RuntimeError, match="download:alpha waits for what never ends"):
            reconciler.apply(saved=looped)
