"""Plans for review: what a machine's snapshot gives elsewhere is the plan that the machine itself would make."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from machines import kinds
from sampling import others_slow


class Reviewer:
    """Another machine: it has the manifest and snapshots, but no store and no network."""

    def __init__(self, machine, folder: Path) -> None:
        self.machine, self.folder, self.store = machine, folder, folder / "no-store"
        folder.mkdir()

    def snapshot(self, name="kiosk.json", env=None, **changes) -> Path:
        """The machine's snapshot as a file; ``changes`` by dotted path."""
        document = self.machine.run("snapshot", env=env)
        for path, value in changes.items():
            *heads, last = path.split("__")
            target = document
            for head in heads:
                target = target[head]
            target[last] = value
        target_file = self.folder / name
        target_file.write_text(json.dumps(document))
        return target_file

    def run(self, *arguments, output="json", code=0) -> str:
        self.machine.origin.forget()
        command = [sys.executable, "-m", "reconciler", "-f", str(self.machine.manifest), "--store", str(self.store)]
        done = subprocess.run(
            [*command, "-o", output, *map(str, arguments)], text=True, capture_output=True, timeout=60, check=False,
            cwd=self.folder, env={**os.environ, "COLUMNS": "120"},
        )  # fmt: skip
        assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
        assert not self.store.exists()
        assert self.machine.origin.requests == []
        return done.stdout

    def plan(self, *snapshots, code=0, more=()) -> dict:
        observed = [word for path in snapshots for word in ("--observed", path)]
        return json.loads(self.run("plan", *observed, *more, code=code))


@pytest.fixture
def reviewer(machine, tmp_path):
    return Reviewer(machine, tmp_path / "elsewhere")


def body(plan: dict) -> dict:
    """All but when it was seen."""
    return {key: value for key, value in plan.items() if key != "observed"}


def assert_same_plan(machine, reviewer, path=None, **run):
    path = path or reviewer.snapshot(**run)
    live = machine.run("plan", **run)
    elsewhere = reviewer.plan(path)
    assert json.dumps(body(elsewhere)) == json.dumps(body(live))
    assert elsewhere["plan_digest"] == live["plan_digest"]
    return live


def test_a_fresh_machine_is_planned_for_byte_for_byte(machine, reviewer):
    machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 70_000, state="loaded", priority="high")
    made = assert_same_plan(machine, reviewer)
    assert kinds(made) == {"download": ["beta", "alpha"], "load": ["beta"]}
    assert made["summary"]["unknown_sizes"] == 0


def test_a_converged_machine_has_nothing_to_do_elsewhere_either(machine, reviewer):
    machine.model("alpha", b"a" * 5000, pin=True)
    machine.apply()
    assert assert_same_plan(machine, reviewer)["summary"]["changes"] == 0


def test_drift_pressure_and_what_is_unwanted_are_seen_from_elsewhere(machine, reviewer):
    machine.head["cache"] = {"maxSize": "200kB", "minFreeSpace": "1MB"}
    for name in ("old", "kept", "gone"):
        machine.model(name, os.urandom(50_000))
    machine.apply()
    machine.placed("kept").unlink()
    machine.models.pop("old")
    machine.models.pop("gone")
    machine.model("new", os.urandom(120_000))
    made = assert_same_plan(machine, reviewer)
    assert {action["cause"] for action in made["actions"]} == {"drift", "pressure", "intent"}


def test_a_past_failure_and_its_retry_time_are_seen_from_elsewhere(machine, reviewer):
    machine.model("alpha", b"a" * 5000)
    machine.origin.answers["/alpha.bin"] = (503, {"Retry-After": "600"})
    machine.apply(code=4)
    made = assert_same_plan(machine, reviewer)
    assert made["deferred"][0]["retry_at"]


def test_a_rollback_by_hand_is_seen_from_elsewhere(machine, reviewer):
    machine.model("alpha", b"old" * 1000)
    machine.apply()
    machine.model("alpha", b"new" * 1000)
    machine.apply()
    machine.run("rollback", "alpha")
    assert assert_same_plan(machine, reviewer)["summary"]["changes"] == 0


def test_a_suspended_machine_is_seen_from_elsewhere(machine, reviewer):
    machine.model("alpha", b"a" * 5000)
    machine.apply()
    machine.run("suspend")
    machine.model("beta", b"b" * 5000)
    assert_same_plan(machine, reviewer)


@pytest.mark.parametrize("own", ["", "site=shop"])
def test_changed_labels_of_the_manifest_select_as_they_do_on_the_machine(machine, reviewer, own):
    env = {"RECONCILER_LABELS": own}
    machine.head["metadata"] = {"labels": {"site": "shop"}}
    machine.model("beta", b"b" * 5000, size=5000, when={"matchLabels": {"site": "lab"}})
    path = reviewer.snapshot(env=env)
    machine.head["metadata"]["labels"]["site"] = "lab"
    made = assert_same_plan(machine, reviewer, path, env=env)
    assert kinds(made) == ({} if own else {"download": ["beta"]})


def test_what_is_published_is_planned_into_the_cache_of_the_other_machine(hub, reviewer):
    hub.env["HF_HUB_CACHE"] = str(hub.machine.folder / "cache")
    hub.want("hf://org/repo", publish=["huggingface"])
    made = assert_same_plan(hub.machine, reviewer, env=hub.env)
    assert kinds(made) == {"download": ["m"], "link": ["m"]}
    hub.apply()
    (published,) = (hub.machine.folder / "cache").rglob("config.json")
    published.unlink()
    assert kinds(assert_same_plan(hub.machine, reviewer, env=hub.env)) == {"link": ["m"]}


def test_labels_and_memory_of_the_other_machine_select(machine, reviewer):
    machine.model("big", b"b" * 5000, when={"memory": ">=512GiB"})
    machine.model("alpha", b"a" * 5000, when={"arch": ["aarch64"]})
    machine.model("lab", b"l" * 5000, when={"hostname": ["lab-1"]})
    path = reviewer.snapshot(
        device__arch="aarch64", device__hostname="lab-1", memory__total_bytes=1 << 40, memory__available_bytes=1 << 39
    )
    assert kinds(reviewer.plan(path))["download"] == ["alpha", "big", "lab"]
    assert "download" not in kinds(machine.plan())


def test_the_exit_code_tells_of_changes_only_when_asked(machine, reviewer):
    machine.model("alpha", b"a" * 5000)
    path = reviewer.snapshot()
    reviewer.plan(path)
    reviewer.plan(path, more=["--detailed-exitcode"], code=2)
    machine.apply()
    reviewer.plan(reviewer.snapshot(), more=["--detailed-exitcode"])


def test_a_plan_made_elsewhere_can_be_saved_and_applied_here(machine, reviewer):
    digest = machine.model("alpha", b"a" * 5000)
    saved = reviewer.folder / "plan.json"
    reviewer.plan(reviewer.snapshot(), more=["--out", saved])
    result = machine.apply(str(saved))
    assert result["plan_digest"] == json.loads(saved.read_text())["plan_digest"]
    assert machine.has("alpha", digest)


def test_a_snapshot_holds_no_secret_and_no_query(machine, reviewer):
    machine.head["network"] = {"credentials": {"127.0.0.1": {"bearer": {"env": "TOKEN_OF_MINE"}}}}
    machine.model("alpha", b"a" * 5000)
    machine.models["alpha"]["source"] += "?signature=verysecret"
    machine.write()
    done = machine.run("snapshot", env={"TOKEN_OF_MINE": "alsosecret"})
    text = json.dumps(done)
    assert "alpha" in text
    assert "secret" not in text


# --- several machines ---------------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(machine, reviewer):
    """Four machines: converged, too small, short of room because of a pin, and one that would lose most of its models."""
    machine.head["cache"] = {"maxSize": "100%", "minFreeSpace": "1MB"}
    for name in ("one", "two", "three", "four"):
        machine.model(name, os.urandom(40_000))
    converged = machine.run("snapshot")
    machine.apply()
    paths = [reviewer.snapshot("converged.json", device__hostname="converged")]
    small = dict(converged, device=converged["device"] | {"hostname": "small"})
    small["disk"] = small["disk"] | {"total_bytes": 10_000_000, "free_bytes": 1_100_000}
    (reviewer.folder / "small.json").write_text(json.dumps(small))
    fresh = dict(converged, device=converged["device"] | {"hostname": "fresh"})
    (reviewer.folder / "fresh.json").write_text(json.dumps(fresh))
    return [*paths, reviewer.folder / "small.json", reviewer.folder / "fresh.json"]


def test_several_snapshots_are_a_document_with_a_verdict_and_a_whole_plan_each(fleet, reviewer):
    document = reviewer.plan(*fleet)
    assert document["kind"] == "PlanTable"
    machines = {machine["name"]: machine for machine in document["machines"]}
    assert {name: machine["verdict"] for name, machine in machines.items()} == {
        "converged": "ok",
        "small": "deferred",
        "fresh": "changes",
    }
    assert "lacks" in machines["small"]["message"]
    for path in fleet:
        alone = reviewer.plan(path)
        name = json.loads(path.read_text())["device"]["hostname"]
        assert machines[name]["plan"] == alone


def test_several_snapshots_are_a_table_with_a_line_each(fleet, reviewer):
    arguments = [word for path in fleet for word in ("--observed", path)]
    lines = reviewer.run("plan", *arguments, output="text").splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["MACHINE", "DOWNLOAD", "EVICT", "PEAK", "LIMIT", "VERDICT"]
    by_name = {line.split()[1]: line for line in lines[1:]}
    assert "ok, nothing to do" in by_name["converged"]
    assert "lacks" in by_name["small"]
    assert "ok, 4 changes" in by_name["fresh"]


def test_machines_that_would_lose_models_are_told(machine, fleet, reviewer):
    for name in ("two", "three", "four"):
        machine.models[name] = {"state": "absent"}
    machine.write()
    refused = reviewer.plan(fleet[0], fleet[2])["machines"][0]
    assert refused["verdict"] == "refused"
    for name in ("three", "four"):
        machine.models[name] = dict(machine.models["one"])
    machine.write()
    evicts = reviewer.plan(fleet[0], fleet[2])["machines"][0]
    assert evicts["verdict"] == "changes"
    assert evicts["message"] == "would evict 1 model, 3 changes in all"


def test_two_machines_of_one_name_are_told_apart_by_their_files(fleet, reviewer):
    other = reviewer.folder / "again.json"
    other.write_text(fleet[0].read_text())
    names = [machine["name"] for machine in reviewer.plan(fleet[0], other)["machines"]]
    assert names == ["converged.json", "again.json"]
    (reviewer.folder / "sub").mkdir()
    same = reviewer.folder / "sub" / "converged.json"
    same.write_text(fleet[0].read_text())
    names = [machine["name"] for machine in reviewer.plan(fleet[0], same)["machines"]]
    assert names == [str(fleet[0]), str(same)]


@pytest.mark.parametrize("count", others_slow(2, 1))
def test_markdown_is_a_comment_that_fits(machine, reviewer, count):
    machine.head["cache"] = {"maxSize": "1GiB", "minFreeSpace": "1MB"}
    for number in range(1500):
        name = f"model-{number}-with-a-name-that-takes-some-room"
        machine.models[name] = {
            "source": f"https://models.example.com/{number}.bin",
            "sha256": f"{number:064x}",
            "size": 4096,
        }
    machine.write()
    done = json.loads(
        subprocess.run(
            machine.command("-o", "json", "snapshot"),
            capture_output=True,
            check=True,
            env={**os.environ, "https_proxy": "http://127.0.0.1:9"},
        ).stdout
    )
    path = reviewer.folder / "kiosk.json"
    path.write_text(json.dumps(done))
    text = reviewer.run("plan", *["--observed", path] * count, output="markdown")
    assert len(text) < 65_536
    assert text.startswith("## Model plan")
    if count == 1:
        assert "1,500 to download" in text
        assert "more lines do not fit" in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"kind": "Plan", "format_version": "1.0"}',
        '{"kind": "Snapshot", "format_version": "9.0"}',
        '{"kind": "Snapshot", "format_version": "1.0"}',
    ],
)
def test_what_is_no_snapshot_is_told_and_exits_1(machine, reviewer, text):
    machine.model("alpha", b"a" * 5000)
    machine.write()
    (reviewer.folder / "bad.json").write_text(text)
    document = json.loads(reviewer.run("plan", "--observed", reviewer.folder / "bad.json", code=1))
    assert document["reason"] == "document_invalid"
