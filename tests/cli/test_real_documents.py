"""Every verb, once, through the real command over a real store: what it prints is one document, and its schema holds.

The walk runs in order, in one process, on a few small models beside an origin that lacks one; each test looks at one
of its steps. Steps that go wrong are part of it: a failure is a document too.
"""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import yaml
from origin import serving

import reconciler
from reconciler.cli import main

SCHEMAS = Path(reconciler.__file__).parents[1] / "schemas"


@dataclass(frozen=True)
class Step:
    """``line`` gives exit ``code`` and a document of that schema."""

    name: str
    line: str
    schema: str
    code: int = 0


STEPS = (
    Step("status before anything", "status", "status"),
    Step("doctor before anything", "doctor", "doctor"),
    Step("df before anything", "df", "df"),
    Step("snapshot before anything", "snapshot", "snapshot"),
    Step("validate", "validate", "validation"),
    Step("init", "init fresh.yaml", "done"),
    Step("init again", "init fresh.yaml", "error", 3),
    Step("plan with changes", "plan --detailed-exitcode", "plan", 2),
    Step("plan of one model", "plan --only alpha", "plan"),
    Step("plan offline", "plan --offline", "plan"),
    Step("plan saved", "plan --only alpha --out saved.plan", "plan"),
    Step("apply of a saved plan", "apply saved.plan", "apply-result"),
    Step("apply of a stale plan", "apply stale.plan", "error", 5),
    Step("apply of what is no plan", "apply models.yaml", "error", 1),
    Step("apply with a failure", "apply", "apply-result", 4),
    Step("apply again", "apply", "apply-result", 4),
    Step("plan with a deferred model", "plan", "plan"),
    Step("status", "status", "status"),
    Step("status of one model", "status alpha", "status"),
    Step("status of nobody", "status nobody", "error", 1),
    Step("status never ready", "status --wait Ready --timeout 0.2s", "status", 8),
    Step("why satisfied", "why alpha", "why"),
    Step("why failed", "why missing", "why"),
    Step("why deferred", "why giant", "why"),
    Step("why nobody", "why alfa", "error", 1),
    Step("show", "show alpha", "show"),
    Step("show nobody", "show nobody", "error", 1),
    Step("history", "history alpha", "history"),
    Step("history of nobody", "history nobody", "error", 1),
    Step("df", "df", "df"),
    Step("doctor", "doctor", "doctor"),
    Step("snapshot", "snapshot", "snapshot"),
    Step("plan for two machines", "plan --observed snap.json --observed snap.json", "plan-table"),
    Step("plan for no machine", "plan --observed models.yaml", "error", 1),
    Step("verify", "verify", "apply-result"),
    Step("verify finds harm", "verify alpha", "apply-result", 4),
    Step("repair", "verify --repair alpha", "apply-result"),
    Step("load", "load beta", "apply-result"),
    Step("unload", "unload beta", "apply-result"),
    Step("pin", "pin beta", "done"),
    Step("evict what is pinned", "evict beta", "apply-result", 3),
    Step("unpin", "unpin beta", "done"),
    Step("evict", "evict beta", "apply-result"),
    Step("evict nobody", "evict nobody", "error", 1),
    Step("touch", "touch alpha", "done"),
    Step("adopt", "adopt", "apply-result"),
    Step("prune", "prune", "apply-result"),
    Step("rollback", "rollback alpha", "apply-result", 3),
    Step("suspend", "suspend", "done"),
    Step("apply while suspended", "apply", "apply-result", 4),
    Step("resume", "resume", "done"),
    Step("pause", "pause alpha", "done"),
    Step("cancel", "cancel alpha --discard", "done"),
    Step("resume alpha", "resume alpha", "done"),
    Step("poke", "poke", "done"),
    Step("version", "version", "version"),
    Step("an invalid manifest", "-f bad.yaml plan", "problems", 65),
    Step("no such manifest", "-f none.yaml apply", "problems", 65),
    Step("no store", "--store models.yaml apply", "error", 1),
)


def run(line):
    """The exit code and what was printed, without what was told."""
    out, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
        code = main(line.split())
    assert "unexpected" not in told.getvalue()
    return code, out.getvalue()


def harm(folder):
    """Swap other bytes in for a placed file, and for the blob behind it."""
    placed = folder / "store" / "models" / "alpha" / "alpha.bin"
    placed.chmod(0o644)
    placed.write_bytes(b"x" * 5000)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """All steps in order: (exit code, text) by name, and the folder."""
    folder = tmp_path_factory.mktemp("walk")
    with serving() as origin, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RECONCILER_STORE", str(folder / "store"))
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        patch.setenv("HF_HUB_CACHE", str(folder / "hub"))
        patch.setenv("OLLAMA_MODELS", str(folder / "ollama"))
        models = {
            name: {"source": f"{origin.url}/{name}.bin?sig=hush", "sha256": origin.put(f"/{name}.bin", content)}
            for name, content in (("alpha", b"a" * 5000), ("beta", b"b" * 7000))
        }
        models["missing"] = {"source": f"{origin.url}/missing.bin?sig=hush"}
        models["giant"] = {"source": f"{origin.url}/giant.bin", "size": "4GB", "priority": "low"}
        head = {"apiVersion": "reconciler/v1", "cache": {"maxSize": "64MiB", "minFreeSpace": "1MB"}}
        (folder / "models.yaml").write_text(yaml.safe_dump(head | {"models": models}))
        (folder / "bad.yaml").write_text("apiVersion: reconciler/v9\nmodels: {a: {sorce: x}}\n")
        yield {step.name: _taken(step, folder) for step in STEPS}, folder


def _taken(step, folder):
    if step.name == "verify finds harm":
        harm(folder)
    if step.name == "apply of a stale plan":
        run("plan --only beta --out stale.plan")
        manifest = (folder / "models.yaml").read_text()
        (folder / "models.yaml").write_text(manifest.replace("/beta.bin", "/other.bin"))
    code, text = run(f"{step.line} -o json")
    if step.name == "apply of a stale plan":
        (folder / "models.yaml").write_text(manifest)
    if step.name == "snapshot":
        (folder / "snap.json").write_text(text)
    return code, text


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name.replace(" ", "-"))
def test_a_verb_prints_one_document_that_its_schema_describes(walk, step):
    code, text = walk[0][step.name]
    assert code == step.code, text
    document = json.loads(text)
    rules = json.loads((SCHEMAS / f"{step.schema}.v1.schema.json").read_text())
    jsonschema.Draft7Validator(rules, format_checker=jsonschema.FormatChecker()).validate(document)
    assert (document["format_version"], document["kind"]) == ("1.0", rules["title"])
    assert "hush" not in text


def test_events_are_one_document_a_line(walk):
    rules = json.loads((SCHEMAS / "event.v1.schema.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILER_STORE", str(walk[1] / "store"))
        code, text = run("events -o json")
    assert code == 0
    assert len(text.splitlines()) > 3
    for line in text.splitlines():
        jsonschema.Draft7Validator(rules, format_checker=jsonschema.FormatChecker()).validate(json.loads(line))


def test_the_walk_takes_every_verb_that_prints_a_document():
    from reconciler.cli.run import SECTIONS  # noqa: PLC0415 -- only here

    taken = {word for step in STEPS for word in step.line.split()}
    others = {
        "watch",
        "events",
        "schema",
        "completion",
        "lock",
        "outdated",
        "bundle",
    }  # go on, lines, scripts, suites of their own
    assert {verb for verbs in SECTIONS.values() for verb in verbs} - others <= taken
