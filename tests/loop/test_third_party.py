"""A third party's installed package brings a source, a format, an archive and a runtime; the command uses them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sampling import others_slow

PROJECT = Path(__file__).parent.parent / "plugin_project"
PACKAGE = "acme-models 1.2.3"
WEIGHTS = b"ACME" + (7_000_000).to_bytes(4, "little") + b"w" * 4000


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The project, built and installed by pip into a folder of its own, with its entry points."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*command, str(folder), str(PROJECT)], check=True, capture_output=True)
    return folder


@pytest.fixture
def acme(machine, package, tmp_path, monkeypatch):
    """The machine, with the package on its path, a shelf and a memory."""
    (tmp_path / "memory").mkdir()
    path = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("ACME_SHELF", machine.origin.url)
    monkeypatch.setenv("ACME_MEMORY", str(tmp_path / "memory"))
    return machine


def crate(**files):
    return b"CRATE\n" + b"".join(json.dumps([name, len(data)]).encode() + b"\n" + data for name, data in files.items())


def checks(machine):
    return {check["name"]: check for check in machine.run("doctor")["checks"]}


def test_a_model_of_its_own_scheme_and_format_converges_and_is_known_for_what_it_is(acme):
    acme.origin.put("/m.bin", WEIGHTS)
    acme.models["m"] = {"source": "acme://shelf/m.bin", "format": "acme-weights"}
    assert acme.run("validate")
    acme.apply()
    status = acme.status("m")
    assert (status["format"], status["metadata"]) == ("acme-weights", {"architecture": "acme", "parameters": 7_000_000})
    assert status["revision"] == "shelf-7"
    assert acme.placed("m").read_bytes() == WEIGHTS
    acme.origin.forget()
    assert acme.apply()["outcomes"] == []
    assert acme.origin.requests == []


def test_its_failures_are_told_like_ours(acme):
    acme.models["m"] = {"source": "acme://shelf/m.bin"}
    (failed,) = acme.apply(code=4)["outcomes"]
    assert (failed["reason"], failed["failure"]) == ("not_on_the_shelf", "permanent")


def test_the_newest_that_can_handle_a_model_wins_and_the_built_in_has_the_rest(acme):
    acme.origin.put("/taken.bin", WEIGHTS)
    acme.model("ours", b"plain" * 9)
    acme.models["taken"] = {"source": "https://shelf.acme.test/taken.bin"}
    acme.apply()
    assert acme.placed("taken").read_bytes() == WEIGHTS
    assert acme.status("taken")["format"] == "acme-weights"
    assert acme.placed("ours").read_bytes() == b"plain" * 9


def test_an_archive_of_its_own_kind_is_unpacked(acme):
    acme.origin.put("/m.bin", crate(**{"weights.acme": WEIGHTS, "notes/read.me": b"hello"}))
    acme.models["m"] = {"source": f"{acme.origin.url}/m.bin"}
    acme.apply()
    folder = acme.store / "models" / "m"
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {
        "weights.acme": WEIGHTS,
        "notes/read.me": b"hello",
    }
    assert acme.status("m")["format"] == "acme-weights"
    assert acme.apply()["outcomes"] == []


def test_a_runtime_of_its_own_loads_and_unloads(acme, tmp_path):
    acme.head["runtimes"] = {"fast": {"type": "acme-memory"}}
    acme.model("m", WEIGHTS, state="loaded", runtime="fast")
    acme.apply()
    assert (tmp_path / "memory" / "m").exists()
    assert acme.status("m")["state"] == "loaded"
    acme.models["m"]["state"] = "present"
    acme.apply()
    assert not (tmp_path / "memory" / "m").exists()


def test_doctor_names_the_package_of_each_and_what_cannot_be_loaded(acme):
    told = checks(acme)
    for name in ("source shelf", "format acme-weights", "archive crate", "runtime acme-memory"):
        assert (told[name]["status"], told[name]["message"]) == ("ok", f"from {PACKAGE}")
    assert told["source gone"]["status"] == told["source shapeless"]["status"] == "warn"
    assert told["source gone"]["message"].startswith(f"{PACKAGE}: ModuleNotFoundError")
    assert told["source shapeless"]["message"] == f"{PACKAGE}: it has no method needs_resolving, resolve, locate"
    assert told["source hub"]["message"] == "from reconciler"
    assert told["format gguf"]["message"] == told["archive zip"]["message"] == "from reconciler"
    assert told["runtime page-cache"]["message"] == "from reconciler"


@pytest.mark.parametrize("name", ["x.bin", "garbage.bin"])
def test_a_source_that_is_wrong_fails_its_own_model_alone_and_tells_no_secret(acme, name):
    acme.models["bad"] = {"source": f"clumsy://h/{name}"}
    digest = acme.model("good", b"good" * 9)
    result = acme.apply(code=4, env={"ACME_SECRET": "hush"})
    (failed,) = [outcome for outcome in result["outcomes"] if outcome["status"] == "failed"]
    assert (failed["model"], failed["reason"], failed["failure"]) == ("bad", "plugin_failed", "permanent")
    assert failed["message"].startswith(f"{PACKAGE}: clumsy: resolve ")
    assert "hush" not in json.dumps(result) + acme.stderr
    assert acme.has("good", digest)


def test_a_format_reader_that_is_wrong_fails_its_own_model_alone(acme):
    acme.model("bad", b"CLUMSY" * 9)
    digest = acme.model("good", b"good" * 9)
    result = acme.apply(code=4)
    (failed,) = [outcome for outcome in result["outcomes"] if outcome["status"] == "failed"]
    assert (failed["model"], failed["reason"]) == ("bad", "plugin_failed")
    assert acme.has("good", digest)
    assert acme.partials() == []


@pytest.mark.parametrize(
    ("trick", "reason"),
    others_slow(
        ("outside", "hostile_name"), ("link", "plugin_failed"), ("digest", "plugin_failed"), ("raise", "plugin_failed")
    ),
)
def test_an_extractor_that_is_wrong_leaves_nothing_of_it_in_the_store(acme, trick, reason):
    acme.model("bad", f"TRICK {trick}".encode())
    before = os.listdir(acme.folder)
    result = acme.apply(code=4)
    (failed,) = [outcome for outcome in result["outcomes"] if outcome["status"] == "failed"]
    assert (failed["model"], failed["reason"]) == ("bad", reason)
    assert not (acme.store / "models" / "bad").exists()
    assert not (acme.store / "blobs" / "sha256" / "00" / ("0" * 64)).exists()
    assert acme.partials() == []
    assert set(os.listdir(acme.folder)) <= {*before, "models.yaml", "store"}


def test_code_that_registers_comes_before_packages(acme):
    script = """
import sys
from reconciler import Reconciler, load_manifest
from acme_models.shelf import Shelf
class Mine(Shelf):
    name, schemes = "mine", ("mine", "acme")
    def handles(self, url): return url.startswith(("mine:", "acme:"))
with Reconciler(store=sys.argv[1]) as reconciler:
    reconciler.register(Mine())
    reconciler.desired = load_manifest(sys.argv[2], extensions=reconciler.extensions)
    reconciler.apply()
    print(reconciler.world.sources.for_url("acme://shelf/m.bin").name)
"""
    acme.origin.put("/m.bin", WEIGHTS)
    acme.models["m"] = {"source": "mine://shelf/m.bin"}
    acme.write()
    done = subprocess.run(
        [sys.executable, "-c", script, str(acme.store), str(acme.manifest)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip().splitlines()[-1] == "mine"
    assert acme.placed("m").read_bytes() == WEIGHTS
