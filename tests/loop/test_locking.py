"""The lock file: written from what was resolved, honoured by plan and apply, moved on only by hand."""

import hashlib
import json
from pathlib import Path

import jsonschema
import pytest
from hubs import OTHER, WEIGHTS

HEX = hashlib.sha256(WEIGHTS).hexdigest()
SCHEMAS = Path(__file__).parents[2] / "schemas"


@pytest.fixture
def lock_file(machine):
    return machine.folder / "models.lock.json"


def move(hub, **files):
    """The branch gets a new commit."""
    hub.repo.commit = hub.repo.branches["main"] = "d" * 40
    hub.repo.files |= {name.replace("__", "/").replace("_bin", ".bin"): data for name, data in files.items()}


def test_a_lock_names_revision_digests_and_sizes_and_no_query(hub, lock_file):
    hub.want("hf://org/repo", include=["onnx/*"])
    hub.machine.origin.put("/w.bin", b"w" * 100)
    hub.machine.models["w"] = {"source": f"{hub.machine.origin.url}/w.bin?token=hush"}
    document = hub.machine.run("lock", env=hub.env)
    assert json.loads(lock_file.read_text()) == document
    assert "hush" not in lock_file.read_text()
    model = document["models"]["m"]
    assert model["revision"] == "c" * 40
    assert [(file["path"], file["size"], file["digest"]) for file in model["files"]][1] == (
        "onnx/model.bin", len(WEIGHTS), f"sha256:{HEX}",
    )  # fmt: skip
    assert document["models"]["w"]["files"][0]["size"] == 100


def test_what_is_locked_is_applied_without_asking_what_it_stands_for(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.machine.run("lock", env=hub.env)
    move(hub, onnx__model_bin=OTHER)
    hub.repo.commit = "c" * 40  # the old commit can still be read
    hub.repo.files["onnx/model.bin"] = WEIGHTS
    hub.forget()
    hub.apply()
    assert hub.placed() == {"model.bin": WEIGHTS}
    assert not [path for path in hub.asked() if path.startswith("/api")]
    assert hub.machine.status("m")["revision"] == "c" * 40
    assert hub.apply()["outcomes"] == []


def test_locking_what_is_installed_changes_nothing_and_knows_every_digest(hub):
    hub.want("hf://org/repo")
    hub.apply()
    hub.forget()
    document = hub.machine.run("lock", env=hub.env)
    assert hub.asked() == []
    assert all(file["digest"] for file in document["models"]["m"]["files"])
    assert hub.apply()["outcomes"] == []


def test_a_lock_is_kept_until_it_is_upgraded(hub, lock_file):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.apply()
    hub.machine.run("lock", env=hub.env)
    before = lock_file.read_text()
    assert hub.machine.run("outdated", env=hub.env)["models"][0]["state"] == "same"
    move(hub, onnx__model_bin=OTHER)
    hub.machine.run("lock", env=hub.env)
    assert lock_file.read_text() == before
    (entry,) = hub.machine.run("outdated", env=hub.env)["models"]
    assert (entry["state"], entry["current_revision"], entry["changed_files"]) == ("outdated", "d" * 40, ["model.bin"])
    assert hub.apply()["outcomes"] == []
    hub.machine.run("lock", "--upgrade", "m", env=hub.env)
    hub.apply()
    assert hub.placed() == {"model.bin": OTHER}
    assert hub.machine.status("m")["revision"] == "d" * 40


def test_other_bytes_than_were_locked_are_refused(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.machine.run("lock", env=hub.env)
    hub.cdn.answer = lambda seen: (200, {}, WEIGHTS[::-1])
    (failed,) = hub.apply(code=4)["outcomes"]
    assert (failed["reason"], failed["failure"]) == ("lock_mismatch", "refused")
    assert not (hub.machine.store / "models" / "m").exists()


def test_a_revision_that_holds_other_bytes_than_it_did_is_told(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.machine.run("lock", env=hub.env)
    hub.repo.files["onnx/model.bin"] = OTHER
    (entry,) = hub.machine.run("outdated", code=3, env=hub.env)["models"]
    assert entry["state"] == "contradicted"


def test_an_entry_whose_model_changed_is_passed_over_aloud(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.machine.run("lock", env=hub.env)
    hub.want("hf://org/repo/onnx/big.bin")
    plan = hub.machine.run("plan", env=hub.env)
    assert [each["reason"] for each in plan["diagnostics"]] == ["lock_stale"]
    hub.apply()
    assert hub.placed() == {"big.bin": OTHER}


ENTRY = '{"format_version": "1.0", "kind": "Lock", "models": {"m": {"spec": "SPEC", "revision": "", "files": %s}}}'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "JSON"),
        (ENTRY % "[]", "files"),
        (ENTRY % '[{"path": "../m.bin", "sources": [], "size": 1}]', ".."),
        (ENTRY % '[{"path": "x.bin", "sources": ["file:///etc/passwd"], "size": 1}]', "x.bin"),
    ],
)
def test_a_lock_that_cannot_be_trusted_changes_nothing(machine, lock_file, text, word):
    machine.model("m", WEIGHTS)
    machine.run("lock")
    spec = json.loads(lock_file.read_text())["models"]["m"]["spec"]
    lock_file.write_text(text.replace("SPEC", spec))
    problems = machine.run("apply", code=65)["problems"]
    assert "models.lock.json" in problems[0]["file"]
    assert word in problems[0]["found"]
    assert machine.origin.asked("GET") == []


def test_both_documents_are_as_their_schemas_say(hub):
    hub.want("hf://org/repo")
    for verb in ("lock", "outdated"):
        rules = json.loads((SCHEMAS / f"{verb}.v1.schema.json").read_text())
        jsonschema.Draft7Validator(rules).validate(hub.machine.run(verb, env=hub.env))
