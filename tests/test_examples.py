"""The examples run as they stand, give the plans recorded beside them, and their units and manifests are sound."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

EXAMPLES = Path(__file__).parent.parent / "examples"
MANIFESTS = sorted(path for path in EXAMPLES.glob("*.yaml"))


def module(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


RECORDED = module("record_plans")


def reconciler(*arguments, store, code=0):
    command = [sys.executable, "-m", "reconciler", "--store", str(store), "-o", "json", *map(str, arguments)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=100, check=False, cwd=EXAMPLES)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def test_every_manifest_has_its_plan_beside_it():
    assert MANIFESTS
    assert {path.with_suffix(".plan.txt").name for path in MANIFESTS} <= set(RECORDED.PLANS)
    assert all((EXAMPLES / name).exists() for name in RECORDED.PLANS)


@pytest.mark.parametrize("name", RECORDED.PLANS)
def test_an_example_gives_the_plan_recorded_beside_it(name, tmp_path):
    store = tmp_path / "store"
    assert RECORDED.planned(RECORDED.PLANS[name], str(store)) == (EXAMPLES / name).read_text()
    assert not store.exists()


@pytest.mark.parametrize("path", [*MANIFESTS, EXAMPLES / "gitops" / "models.yaml"], ids=lambda path: path.name)
def test_a_manifest_is_valid_without_a_note_and_names_the_schema(path, tmp_path):
    document = reconciler("validate", path, store=tmp_path / "store")
    assert document["diagnostics"] == []
    schema = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())[1]
    assert (path.parent / schema).resolve() == EXAMPLES.parent / "schemas" / "manifest.v1.schema.json"


def test_the_quickstart_is_applied_verified_and_then_done(tmp_path):
    store = tmp_path / "store"
    manifest = EXAMPLES / "quickstart.yaml"
    summary = reconciler("-f", manifest, "apply", store=store)["summary"]
    assert (summary["failed"], summary["deferred"]) == (0, 0)
    wanted = yaml.safe_load(manifest.read_text())["models"]
    status = {model["name"]: model for model in reconciler("-f", manifest, "status", store=store)["models"]}
    assert status.keys() == wanted.keys()
    for name, model in wanted.items():
        assert status[name]["state"] == model.get("state", "present")
        assert hashlib.sha256(Path(status[name]["path"]).read_bytes()).hexdigest() == model["sha256"]
    assert reconciler("-f", manifest, "plan", "--detailed-exitcode", store=store)["summary"]["changes"] == 0


def test_with_limits_who_matters_more_is_there_and_a_second_apply_changes_nothing(tmp_path):
    store = tmp_path / "store"
    first = reconciler("-f", EXAMPLES / "limits.yaml", "apply", store=store, code=3)
    assert {outcome["status"] for outcome in first["outcomes"]} == {"done"}
    names = sorted(path.name for path in (store / "models").iterdir())
    assert names == ["digits-classifier", "digits-network"]
    again = reconciler("-f", EXAMPLES / "limits.yaml", "plan", store=store)
    assert again["summary"]["changes"] == 0
    assert {deferred["model"]: deferred["reason"] for deferred in again["deferred"]}["tiny-llama"] == "no_room"


def test_the_snapshots_are_what_their_script_makes():
    made = module("make_snapshots")
    for machine in made.MACHINES:
        text = (made.FOLDER / f"{machine.device.hostname}.json").read_text()
        assert json.loads(text) == made.snapshot_document(machine)


# --- Git ----------------------------------------------------------------------------------------------------------------


def test_the_comment_of_the_workflow_plans_for_every_machine(tmp_path):
    folder = tmp_path / "fleet"
    shutil.copytree(EXAMPLES / "gitops", folder)
    program = tmp_path / "bin" / "reconciler"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler --store "{tmp_path}/store" "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run([folder / "plan.sh"], env=environment, text=True, capture_output=True, check=True)
    assert len(done.stdout) < 65_536
    for name in ("kiosk-7", "kiosk-8", "lab-1"):
        assert name in done.stdout
    assert "| kiosk-8 |" in done.stdout
    assert "| download | whisper-tiny |" in done.stdout


def test_the_workflow_calls_what_is_there():
    workflow = yaml.safe_load((EXAMPLES / "gitops" / ".github" / "workflows" / "model-plan.yml").read_text())
    assert "**/models.lock.json" in workflow[True]["pull_request"]["paths"]  # `on`, as YAML 1.1 reads it
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    commands = [step["run"] for step in workflow["jobs"]["plan"]["steps"] if "run" in step]
    assert "./plan.sh > comment.md" in commands
    assert os.access(EXAMPLES / "gitops" / "plan.sh", os.X_OK)


def test_the_bootstrap_of_a_machine_is_valid_and_names_its_schema(tmp_path):
    path = EXAMPLES / "gitops" / "bootstrap.yaml"
    assert reconciler("validate", path, store=tmp_path / "store")["files"] == [str(path)]
    schema = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())[1]
    assert (path.parent / schema).resolve() == EXAMPLES.parent / "schemas" / "bootstrap.v1.schema.json"


# --- services -----------------------------------------------------------------------------------------------------------


def options_of(unit):
    """Verbs and their options as a unit's ExecStart writes them."""
    lines = re.findall(r"^#?ExecStart=/usr/bin/reconciler (.*)$", unit, re.MULTILINE)
    return [line.split() for line in lines]


@pytest.mark.parametrize("name", ["reconciler.service", "reconciler-apply.service"])
def test_a_unit_is_hardened_and_calls_options_that_are_there(name):
    path = EXAMPLES / "systemd" / name
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(path)], text=True, capture_output=True, check=True
    )
    level = float(re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)[1])
    assert level <= 1.5
    verbs = {"watch", "apply"}
    for words in options_of(path.read_text()):
        verb = next(word for word in words if word in verbs)
        usage = subprocess.run(
            [sys.executable, "-m", "reconciler", verb, "--help"], text=True, capture_output=True, check=True
        ).stdout
        after = words[words.index(verb) + 1 :]
        assert all(word in usage for word in after if word.startswith("--"))


def test_the_units_have_no_key_that_systemd_does_not_know():
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    units = [str(path) for path in sorted((EXAMPLES / "systemd").iterdir())]
    done = subprocess.run([analyze, "verify", "--man=no", *units], text=True, capture_output=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if line and "is not executable" not in line]
    assert [line for line in complaints if "examples/systemd" in line or "reconciler" in line] == []


def kubernetes_objects():
    text = (EXAMPLES / "kubernetes" / "daemonset.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_the_daemonset_is_valid_kubernetes():
    for document in kubernetes_objects().values():
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_manifest_of_the_configmap_is_valid_and_mounted_as_a_folder(tmp_path):
    objects = kubernetes_objects()
    path = tmp_path / "models.yaml"
    path.write_text(objects["ConfigMap"]["data"]["models.yaml"])
    assert len(reconciler("validate", path, store=tmp_path / "store")["models"]) == 2
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mount = next(mount for mount in container["volumeMounts"] if mount["name"] == "manifest")
    assert "subPath" not in mount
    assert container["args"][container["args"].index("-f") + 1] == mount["mountPath"]


# --- the starter ----------------------------------------------------------------------------------------------------------


def test_init_writes_a_manifest_that_validates_plans_nothing_and_tells_what_to_type_next(tmp_path):
    command = [sys.executable, "-m", "reconciler", "--store", str(tmp_path / "store")]
    done = subprocess.run([*command, "init"], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert "models.yaml" in done.stdout
    assert "plan" in done.stderr
    text = (tmp_path / "models.yaml").read_text()
    for word in ("maxSize", "sha256", "priority", "retention", "absent", "reconciler apply"):
        assert word in text
    plan = subprocess.run([*command, "-o", "json", "plan"], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert json.loads(plan.stdout)["summary"]["changes"] == 0
    again = subprocess.run([*command, "init"], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert again.returncode == 3
    assert (tmp_path / "models.yaml").read_text() == text
