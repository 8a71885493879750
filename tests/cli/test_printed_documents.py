"""Every document that is printed satisfies its published schema, and says nothing that the schema does not describe."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

import reconciler

SCHEMAS = Path(reconciler.__file__).parents[1] / "schemas"
PRINTED = {
    "plan": ["plan", "-v"],
    "status": ["status"],
    "apply-result": ["apply"],
    "df": ["df"],
    "history": ["history", "small"],
    "doctor": ["doctor"],
    "validation": ["validate"],
    "version": ["version"],
    "done": ["pin", "small"],
    "snapshot": ["snapshot"],
    "why": ["why", "small"],
}


def schema(name):
    return json.loads((SCHEMAS / f"{name}.v1.schema.json").read_text())


def check(document, name):
    """Valid, and every key is described."""
    rules = schema(name)
    jsonschema.Draft7Validator(rules, format_checker=jsonschema.FormatChecker()).validate(document)
    undescribed = [path for path in keys_without_rule(document, rules) if not path.startswith("plan")]
    assert undescribed == []


def keys_without_rule(value, rules, path=""):
    if isinstance(value, dict) and "properties" in rules:
        for key, item in value.items():
            if key not in rules["properties"]:
                yield f"{path}.{key}"
            else:
                yield from keys_without_rule(item, rules["properties"][key], f"{path}.{key}")
    if isinstance(value, list) and isinstance(rules.get("items"), dict):
        for item in value:
            yield from keys_without_rule(item, rules["items"], f"{path}[]")


@pytest.mark.parametrize("name", sorted(path.name.split(".")[0] for path in SCHEMAS.glob("*.json")))
def test_every_schema_is_draft_07(name):
    rules = schema(name)
    assert rules["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert rules["$id"] == f"{name}.v1.schema.json"
    jsonschema.Draft7Validator.check_schema(rules)


@pytest.mark.parametrize("name", PRINTED)
def test_a_document_satisfies_its_schema(run, site, name):
    (site / "models.yaml").write_text("small 1000\nodd 5\nfail-a 5\ngiant 20000000000\n")
    document = json.loads(run(*PRINTED[name], "-o", "json").out)
    assert (document["format_version"], document["kind"]) == ("1.0", schema(name)["title"])
    check(document, name)


@pytest.mark.parametrize("name", PRINTED)
def test_yaml_says_the_same_as_json(run, site, name):
    if name == "apply-result":
        (site / "models.yaml").write_text("fail-a 5\n")  # fails in the same way twice
    as_json = json.loads(run(*PRINTED[name], "-o", "json").out)
    as_yaml = yaml.safe_load(run(*PRINTED[name], "-o", "yaml").out)
    assert as_yaml == as_json
    assert list(as_yaml) == list(as_json)


def test_each_event_satisfies_its_schema(run):
    for line in run("events", "-o", "json").out.splitlines():
        check(json.loads(line), "event")


def test_problems_and_errors_satisfy_their_schemas(run, site, monkeypatch):
    monkeypatch.setenv("STUB_FAULT", "busy")
    check(json.loads(run("status", "-o", "json").out), "error")
    (site / "models.yaml").write_text("bad\n")
    check(json.loads(run("plan", "-o", "json").out), "problems")


def test_several_snapshots_give_a_table(run, site):
    for host in ("a", "b"):
        (site / f"{host}.json").write_text(run("snapshot").out)
    ran = run("plan", "--observed", "a.json", "--observed", "b.json", "-o", "json", "--detailed-exitcode")
    assert ran.code == 2
    document = json.loads(ran.out)
    check(document, "plan-table")
    assert [machine["name"] for machine in document["machines"]] == ["a.json", "b.json"]  # the same host name twice
    text = run("plan", "--observed", "a.json", "--observed", "b.json").out
    assert text.count("ok, 1 change") == 2
    assert run("plan", "--observed", "a.json", "--observed", "b.json", "--out", "x").code == 64


def test_a_document_is_the_same_twice(run):
    assert run("plan", "-o", "json").out == run("plan", "-o", "json").out
