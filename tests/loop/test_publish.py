"""``publish: [huggingface]``: the hub's own client finds the one copy, offline; eviction takes it away again."""

import hashlib
import os
import subprocess
import sys

import huggingface_hub
import pytest
from hubs import FILES, OTHER, WEIGHTS
from huggingface_hub import hf_hub_download, scan_cache_dir
from machines import kinds


@pytest.fixture
def cache(hub):
    """The client's cache; the model publishes into it."""
    hub.env["HF_HUB_CACHE"] = str(hub.machine.folder / "cache")
    hub.want("hf://org/repo", publish=["huggingface"])
    return hub.machine.folder / "cache"


def find(cache, name, **given):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        return hf_hub_download("org/repo", name, cache_dir=cache, local_files_only=True, **given)


def test_the_hubs_own_client_finds_the_one_copy_offline(hub, cache):
    hub.apply()
    for name, data in FILES.items():
        path = find(cache, name)
        with open(path, "rb") as file:
            assert file.read() == data
        assert os.stat(path).st_ino == (hub.machine.store / "models" / "m" / name).stat().st_ino
    assert find(cache, "config.json", revision="c" * 40) == find(cache, "config.json")
    (repo,) = scan_cache_dir(cache).repos
    assert (repo.repo_id, repo.refs.keys(), repo.nb_files) == ("org/repo", {"main"}, len(FILES))
    assert scan_cache_dir(cache).warnings == []
    assert hub.apply()["outcomes"] == []


def test_it_is_planned_and_what_is_taken_away_is_published_again(hub, cache):
    hub.apply()
    os.unlink(find(cache, "config.json"))
    plan = hub.machine.run("plan", env=hub.env)
    assert kinds(plan) == {"link": ["m"]}
    hub.apply()
    assert find(cache, "config.json")


def test_a_single_file_is_published_under_its_path_in_the_repository(hub, cache):
    hub.want("hf://org/repo@main/onnx/model.bin", publish=["huggingface"])
    hub.apply()
    with open(find(cache, "onnx/model.bin"), "rb") as file:
        assert file.read() == WEIGHTS


def test_eviction_leaves_no_trace_in_the_cache(hub, cache):
    hub.apply()
    hub.machine.run("evict", "m", "--yes", env=hub.env)
    assert not [path for path in cache.rglob("*") if not path.is_dir()]
    assert not hub.machine.blob("").parent.parent.joinpath("sha256").exists() or not [
        path for path in (hub.machine.store / "blobs").rglob("*") if path.is_file()
    ]


def test_a_manifest_that_no_longer_publishes_takes_it_away(hub, cache):
    hub.apply()
    hub.want("hf://org/repo")
    hub.apply()
    assert not [path for path in cache.rglob("*") if not path.is_dir()]
    assert hub.placed() == FILES


def test_what_the_client_has_itself_is_left_alone(hub, cache):
    folder = cache / "models--org--repo"
    theirs = folder / "snapshots" / ("c" * 40) / "config.json"
    theirs.parent.mkdir(parents=True)
    (folder / "blobs").mkdir()
    (folder / "blobs" / "theirs").write_bytes(b"{}")
    theirs.symlink_to("../../blobs/theirs")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("e" * 40)
    (folder / "snapshots" / ("e" * 40)).mkdir()
    hub.apply()
    assert hub.apply()["outcomes"] == []
    assert (folder / "refs" / "main").read_text() == "e" * 40
    hub.machine.run("evict", "m", "--yes", env=hub.env)
    assert theirs.read_bytes() == b"{}"
    assert (folder / "refs" / "main").read_text() == "e" * 40
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    assert left == {"blobs/theirs", f"snapshots/{'c' * 40}/config.json", "refs/main"}


def test_a_new_commit_moves_the_branch_with_it(hub, cache):
    hub.apply()
    hub.machine.run("lock", env=hub.env)
    hub.repo.commit = hub.repo.branches["main"] = "d" * 40
    hub.repo.files["onnx/model.bin"] = OTHER
    hub.machine.run("lock", "--upgrade", env=hub.env)
    hub.apply()
    with open(find(cache, "onnx/model.bin"), "rb") as file:
        assert file.read() == OTHER
    assert hub.apply()["outcomes"] == []
    (repo,) = scan_cache_dir(cache).repos
    assert [revision.commit_hash for revision in repo.revisions] == ["d" * 40]


def hf(cache, *words):
    """The client's own command."""
    program = os.path.join(os.path.dirname(sys.executable), "hf")
    done = subprocess.run(
        [program, "cache", *words, "--cache-dir", str(cache)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_clients_own_command_lists_it_and_its_prune_keeps_it(hub, cache):
    hub.apply()
    assert "org/repo" in hf(cache, "ls")
    hf(cache, "prune", "--yes")
    for name, data in FILES.items():
        with open(find(cache, name), "rb") as file:
            assert file.read() == data
    assert hub.apply()["outcomes"] == []


def test_what_the_clients_own_command_deletes_leaves_the_store_whole_and_is_published_again(hub, cache):
    hub.apply()
    hf(cache, "rm", "model/org/repo", "--yes")
    assert not (cache / "models--org--repo").exists()
    assert hub.placed() == FILES
    hub.forget()
    plan = hub.machine.run("plan", env=hub.env)
    assert kinds(plan) == {"link": ["m"]}
    hub.apply()
    assert hub.asked() == []
    assert find(cache, "onnx/model.bin")


@pytest.mark.parametrize("harm", ["lost", "corrupt"])
def test_what_is_published_is_no_copy_that_stands_in_the_way_of_a_repair(hub, cache, harm):
    hub.apply()
    name = "onnx/model.bin"
    blob = hub.machine.blob(hashlib.sha256(WEIGHTS).hexdigest())
    if harm == "lost":
        blob.unlink()
        hub.machine.placed("m", name).unlink()
    else:
        blob.chmod(0o644)
        blob.write_bytes(WEIGHTS[::-1])
    hub.apply()
    with open(find(cache, name), "rb") as file:
        assert file.read() == WEIGHTS
    assert os.stat(find(cache, name)).st_ino == hub.machine.placed("m", name).stat().st_ino == blob.stat().st_ino
    assert hub.apply()["outcomes"] == []


def test_two_models_of_one_commit_name_each_their_branch(hub, cache):
    hub.repo.branches["v1.0"] = hub.repo.commit
    source = "hf://org/repo@{}/config.json"
    for name, revision in (("a", "v1.0"), ("b", "main")):
        hub.machine.models[name] = {"source": source.format(revision), "publish": ["huggingface"]}
    del hub.machine.models["m"]
    hub.apply()
    assert find(cache, "config.json", revision="v1.0") == find(cache, "config.json", revision="main")
    assert hub.apply()["outcomes"] == []
    hub.machine.run("evict", "a", "--yes", env=hub.env)
    hub.machine.run("evict", "b", "--yes", env=hub.env)
    assert not [path for path in cache.rglob("*") if path.is_file()]
