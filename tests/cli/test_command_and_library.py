"""The command over the real library, on the quickstart: what it prints satisfies the schemas, and twice is nothing."""

import json
from pathlib import Path

import pytest
from test_printed_documents import check

import reconciler
from reconciler.cli import main

QUICKSTART = Path(reconciler.__file__).parents[1] / "examples" / "quickstart.yaml"


@pytest.fixture
def real(tmp_path, capsys):
    def call(*arguments):
        capsys.readouterr()
        code = main(["-f", str(QUICKSTART), "--store", str(tmp_path / "store"), *map(str, arguments)])
        return code, capsys.readouterr().out

    return call


def document(real, name, *arguments):
    code, out = real(*arguments, "-o", "json")
    check(json.loads(out), name)
    return code, json.loads(out)


def test_the_quickstart_from_plan_to_status(real):
    code, plan = document(real, "plan", "plan", "--detailed-exitcode")
    assert (code, plan["summary"]["download"]) == (2, 3)
    code, result = document(real, "apply-result", "apply")
    assert (code, result["summary"]["failed"]) == (0, 0)
    assert result["plan_digest"] == plan["plan_digest"]
    code, status = document(real, "status", "status")
    assert {model["state"] for model in status["models"]} <= {"present", "loaded"}
    assert all(Path(model["path"]).is_file() for model in status["models"])
    assert real("plan", "--detailed-exitcode")[0] == 0
    assert "nothing to do" in real("apply")[1]


def test_every_reading_verb_satisfies_its_schema(real):
    real("apply")
    for name, arguments in {
        "df": ["df"],
        "doctor": ["doctor"],
        "history": ["history", "tiny-llama"],
        "snapshot": ["snapshot"],
        "validation": ["validate"],
    }.items():
        document(real, name, *arguments)
    for line in real("events", "-o", "json")[1].splitlines():
        check(json.loads(line), "event")


def test_a_saved_plan_is_done_and_then_already_true(real, tmp_path):
    saved = tmp_path / "saved.plan"
    assert real("plan", "--out", saved)[0] == 0
    assert real("apply", saved)[0] == 0
    code, result = document(real, "apply-result", "apply", saved)
    assert (code, {outcome["status"] for outcome in result["outcomes"]}) == (0, {"skipped"})


def test_a_plan_of_a_snapshot_is_the_plan_of_the_machine(real, tmp_path):
    (tmp_path / "snapshot.json").write_text(real("snapshot")[1])
    here = document(real, "plan", "plan")[1]
    there = document(real, "plan", "plan", "--observed", tmp_path / "snapshot.json")[1]
    assert here["plan_digest"] == there["plan_digest"]


def test_one_thing_at_a_time(real):
    real("apply")
    assert real("pin", "tiny-llama")[0] == 0
    assert real("evict", "tiny-llama")[0] == 3
    assert real("unpin", "tiny-llama")[0] == 0
    assert real("evict", "tiny-llama")[0] == 0
    assert real("verify")[0] == 0
