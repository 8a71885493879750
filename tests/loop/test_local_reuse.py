"""What other tools keep on this machine is used without a request, through the command, and is left as it is."""

import hashlib
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

DATA = random.Random(11).randbytes((1 << 20) + 500)
HEX = hashlib.sha256(DATA).hexdigest()


def old_hub(home):
    return home / ".cache/huggingface/hub/models--o--r/blobs" / HEX, None


def new_hub(home):
    """The newer layout: one blob for all repositories, and links to it."""
    name = home / ".cache/huggingface/hub/models--o--r/blobs" / HEX
    return home / ".cache/huggingface/hub/.blobs" / HEX[:2] / HEX, name


def ollama(home):
    return home / ".ollama/models/blobs" / f"sha256-{HEX}", None


def lm_studio(home):
    return home / ".lmstudio/models/org/repo/model.gguf", None


def llama_cpp(home):
    note = home / ".cache/llama.cpp/org_repo_model.gguf.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"etag": f'"{HEX}"', "url": "https://x"}))
    return home / ".cache/llama.cpp/org_repo_model.gguf", None


def any_folder(home):
    return home / "shelf/a/model.bin", None


TOOLS = [old_hub, new_hub, ollama, lm_studio, llama_cpp, any_folder]


def put(place, link, data=DATA, mode=0o640):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    if link is not None:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(place, link.parent))
    place.chmod(mode)
    os.utime(place, ns=(10**18, 10**18))
    return place


def listing(folder):
    """Every entry but for the times of reading and the number of names, which a hard link adds to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path)] = (facts.st_mode, facts.st_mtime_ns, facts.st_uid, facts.st_ino, content)
    return found


@pytest.fixture
def home(machine, monkeypatch):
    folder = machine.folder / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("RECONCILER_CACHES", str(folder / "shelf"))
    return folder


def want(machine):
    return machine.model("m", DATA, size=len(DATA))


@pytest.mark.parametrize("tool", TOOLS)
def test_a_copy_is_taken_without_a_request_and_its_cache_is_as_it_was(machine, home, tool):
    place = put(*tool(home))
    before = listing(home)
    digest = want(machine)
    assert machine.plan()["summary"]["bytes_download"] == 0
    machine.apply()
    assert machine.has("m", digest)
    assert machine.origin.requests == []
    assert listing(home) == before
    assert place.stat().st_ino != machine.blob(HEX).stat().st_ino  # its owner may write to it
    assert machine.apply()["outcomes"] == []


@pytest.mark.parametrize("tool", TOOLS)
def test_a_copy_that_nobody_can_write_to_is_shared_and_outlives_our_eviction(machine, home, tool):
    place = put(*tool(home), mode=0o444)
    before = listing(home)
    digest = want(machine)
    machine.apply()
    assert machine.has("m", digest)
    assert machine.blob(HEX).stat().st_ino == place.stat().st_ino
    assert listing(home) == before
    machine.run("evict", "m", "--yes")
    assert not machine.blob(HEX).exists()
    assert listing(home) == before


@pytest.mark.parametrize("tool", TOOLS)
def test_a_copy_that_is_not_what_it_seems_is_passed_over(machine, home, tool):
    put(*tool(home), data=b"x" * len(DATA))
    before = listing(home)
    digest = want(machine)
    machine.apply()
    assert machine.has("m", digest)
    assert machine.origin.asked("GET")
    assert listing(home) == before


def test_a_copy_on_another_file_system_is_copied(machine, home):
    shared = Path("/dev/shm")
    assert shared.is_dir()
    folder = Path(tempfile.mkdtemp(dir=shared))
    try:
        if folder.stat().st_dev == machine.folder.stat().st_dev:
            return
        place = put(folder / "model.bin", None, mode=0o444)
        before = listing(folder)
        digest = want(machine)
        machine.apply(env={"RECONCILER_CACHES": str(folder)})
        assert machine.has("m", digest)
        assert machine.origin.requests == []
        assert (listing(folder), place.stat().st_nlink) == (before, 1)
    finally:
        shutil.rmtree(folder)


def test_a_link_that_leads_nowhere_or_to_a_pipe_is_no_copy_and_holds_nothing_up(machine, home):
    blobs = home / ".ollama/models/blobs"
    blobs.mkdir(parents=True)
    os.mkfifo(blobs / f"sha256-{HEX}")
    hub = home / ".cache/huggingface/hub/models--o--r/blobs"
    hub.mkdir(parents=True)
    (hub / HEX).symlink_to("nowhere")
    digest = want(machine)
    machine.apply()
    assert machine.has("m", digest)


@pytest.mark.parametrize("is_good", [True, False])
@pytest.mark.parametrize("harm", ["lost", "corrupt"])
def test_a_model_that_came_to_harm_is_repaired_from_a_copy_or_where_that_is_bad_from_its_source(
    machine, home, harm, is_good
):
    digest = want(machine)
    machine.apply()
    put(*ollama(home), data=DATA if is_good else b"x" * len(DATA))
    before = listing(home)
    machine.origin.forget()
    if harm == "lost":
        machine.blob(HEX).unlink()
        machine.placed("m").unlink()
    else:
        machine.blob(HEX).chmod(0o644)
        machine.blob(HEX).write_bytes(b"y" * len(DATA))
    machine.apply()
    assert machine.has("m", digest)
    assert bool(machine.origin.asked("GET")) is not is_good
    assert machine.apply()["outcomes"] == []
    assert listing(home) == before


@pytest.mark.parametrize("verb", [("apply",), ("verify", "--repair")])
def test_a_shared_copy_whose_owner_changes_its_mode_stays_as_its_owner_has_it(machine, home, verb):
    place = put(*ollama(home), mode=0o444)
    digest = want(machine)
    machine.apply()
    place.chmod(0o644)
    before = listing(home)
    machine.run(*verb)
    assert listing(home) == before
    assert machine.has("m", digest)
    assert place.stat().st_nlink == 1
    assert machine.apply()["outcomes"] == []
