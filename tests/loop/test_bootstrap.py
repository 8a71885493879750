"""A bootstrap file in place of a manifest: every verb does what its user expects, with the server and without."""

import hashlib
import json
import os
import random
import threading
import time

import pytest
import yaml
from git_made import Remote, allowed_signers, git_server, signing_key
from machines import kinds
from watching import eventually, watching


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(4096)


class Fleet:
    """A machine whose ``-f`` is a bootstrap file, and the repository that it names."""

    def __init__(self, machine, folder) -> None:
        self.machine, self.remote = machine, Remote(folder / "remote")
        self.bootstrap = machine.folder / "bootstrap.yaml"
        machine.manifest = self.bootstrap
        machine.write = lambda: None  # what stands there is not its own

    def push(self, *options: str) -> str:
        text = yaml.safe_dump({**self.machine.head, "models": self.machine.models})
        self.remote.write("models.yaml", text)
        return self.remote.commit("change", *options)

    def say(self, url: str, **keys: object) -> None:
        document = {"apiVersion": "reconciler/v1", "source": {"git": {"url": url, "ref": "main", **keys}}}
        self.bootstrap.write_text(yaml.safe_dump(document))


@pytest.fixture
def fleet(machine, tmp_path):
    return Fleet(machine, tmp_path)


def files_below(folder) -> set[str]:
    return {str(path) for path in folder.rglob("*")} if folder.exists() else set()


def test_plan_fetches_and_leaves_nothing_apply_keeps_and_status_tells_the_commit(fleet):
    machine = fleet.machine
    digest = machine.model("one", content(1))
    commit = fleet.push()
    with git_server(fleet.remote.root) as server:
        fleet.say(server.url())
        assert machine.run("validate")["files"] == [str(fleet.bootstrap)]
        assert server.requests == []
        assert machine.run("status")["source"]["revision"] is None
        assert kinds(machine.plan())["download"] == ["one"]
        assert not machine.store.exists()
        assert machine.run("plan", "--offline", code=1)["reason"] == "source_never_fetched"
        machine.apply()
        assert machine.has("one", digest)
        before = files_below(machine.store)
        second = machine.model("two", content(2))
        newer = fleet.push()
        assert kinds(machine.plan())["download"] == ["two"]
        assert files_below(machine.store) == before
        assert machine.run("status")["source"]["revision"] == commit
        machine.apply()
        assert machine.has("two", second)
        assert machine.run("status")["source"]["revision"] == newer
        asked = len(server.requests)
        machine.run("status")
        machine.run("plan", "--offline")
        assert len(server.requests) == asked
    machine.placed("one").unlink()  # and now the server is gone
    assert kinds(machine.plan())
    machine.apply()
    assert machine.has("one", digest)
    assert "cannot fetch" in machine.stderr


def test_a_commit_whose_manifest_is_invalid_leaves_every_verb_the_last_good_one(fleet):
    machine = fleet.machine
    machine.model("one", content(1))
    fleet.push()
    with git_server(fleet.remote.root) as server:
        fleet.say(server.url())
        machine.apply()
        fleet.remote.write("models.yaml", "apiVersion: reconciler/v1\nmodels: {one: {sorce: x}}\n")
        fleet.remote.commit("invalid")
        machine.apply(code=65)
        assert not kinds(machine.plan("--offline"))
        machine.run("evict", "one")
        assert not machine.placed("one").exists()
    machine.apply()  # nobody answers: what was good last
    assert machine.placed("one").exists()


def test_the_time_of_an_apply_bounds_its_fetch_too(fleet):
    fleet.push()
    with git_server(fleet.remote.root) as server:
        server.stall = threading.Event()
        fleet.say(server.url())
        started = time.monotonic()
        document = fleet.machine.apply("--timeout", "1s", code=8)
        assert document["reason"] == "timed_out"
        assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_saved_plan_reads_the_repository_again(fleet, tmp_path):
    machine = fleet.machine
    digest = machine.model("one", content(1))
    fleet.push()
    with git_server(fleet.remote.root) as server:
        fleet.say(server.url())
        saved = tmp_path / "plan.json"
        machine.run("plan", "--out", str(saved))
        machine.apply(str(saved))
        assert machine.has("one", digest)
        machine.model("two", content(2))
        fleet.push()
        machine.run("plan", "--out", str(saved))
        machine.model("two", content(3))
        fleet.push()
        machine.apply(str(saved), code=5)


@pytest.mark.slow
def test_a_plan_for_other_machines_reads_their_own_files_of_one_commit(fleet, tmp_path):
    machine, remote = fleet.machine, fleet.remote
    machine.model("one", content(1))
    remote.write("devices/kiosk-7.yaml", "apiVersion: reconciler/v1\nmodels: {one: {state: loaded}}\n")
    remote.write(f"devices/{os.uname().nodename}.yaml", "apiVersion: reconciler/v1\nmodels: {one: {state: absent}}\n")
    fleet.push()
    with git_server(remote.root) as server:
        fleet.say(server.url())
        snapshot = machine.run("snapshot")
        arguments = []
        for host in ("kiosk-7", "kiosk-8"):
            (tmp_path / host).write_text(json.dumps({**snapshot, "device": {**snapshot["device"], "hostname": host}}))
            arguments += ["--observed", str(tmp_path / host)]
        machine.apply()
        asked = len(server.requests)
        kiosks = [{"download": ["one"], "load": ["one"]}, {"download": ["one"]}]
        assert [kinds(each["plan"]) for each in machine.plan(*arguments)["machines"]] == kiosks
        once = len(server.requests) - asked
        assert kinds(machine.plan()) == {}
        assert len(server.requests) - asked == 2 * once  # one question, however many machines
    assert [kinds(each["plan"]) for each in machine.plan(*arguments)["machines"]] == kiosks  # of the last good commit


def test_a_commit_that_is_not_signed_is_refused_by_plan_and_apply_too(fleet, tmp_path):
    machine, remote = fleet.machine, fleet.remote
    key = signing_key(tmp_path, "allowed")
    remote.git("config", "gpg.format", "ssh")
    remote.git("config", "user.signingkey", str(key))
    allowed_signers(tmp_path / "signers", key)
    digest = machine.model("one", content(1))
    signed = fleet.push("-S")
    fleet.say(remote.url, verify={"signers": "signers"})
    machine.apply()
    verified = next(c for c in machine.run("status")["conditions"] if c["type"] == "SourceVerified")
    assert (verified["status"], signed in verified["message"]) == ("True", True)
    machine.model("one", content(2))
    unsigned = fleet.push("--no-gpg-sign")
    for verb in ("plan", "apply"):
        refused = machine.run(verb, code=3)
        assert refused["reason"] == "git_unsigned"
        assert unsigned in refused["message"]
    assert machine.has("one", digest)


def test_watch_takes_a_bootstrap_as_apply_does(fleet):
    machine = fleet.machine
    first = machine.model("one", content(1))
    fleet.push()
    with git_server(fleet.remote.root) as server:
        server.users = {"x-access-token": "very-secret-token"}
        fleet.say(server.url(), interval="1s", credentials={"token": {"env": "GIT_TOKEN"}})
        with watching(machine, env={"GIT_TOKEN": "very-secret-token"}) as watch:
            eventually(lambda: machine.has("one", first))
            second = machine.model("two", content(2))
            commit = fleet.push()
            eventually(lambda: machine.has("two", second), 8)
            assert machine.run("status")["source"]["revision"] == commit
            assert machine.apply(code=7)["reason"] == "store_busy"
        assert "very-secret" not in watch.log.read_text()


def test_a_bootstrap_that_is_wrong_is_told_with_its_place_by_every_verb(fleet):
    fleet.bootstrap.write_text("apiVersion: reconciler/v1\nsource:\n  git: {url: 'ext::sh -c x', pth: a}\n")
    for verb in ("validate", "plan", "apply", "watch"):
        document = fleet.machine.run(verb, code=65)
        places = [(problem["line"], problem["column"]) for problem in document["problems"]]
        assert places == [(3, 14), (3, 30)]


def test_a_lock_cannot_be_written_for_a_manifest_that_lies_elsewhere(fleet):
    fleet.push()
    fleet.say(fleet.remote.url)
    assert fleet.machine.run("lock", code=1)["reason"] == "manifest_in_git"


def test_a_lock_file_in_the_repository_is_honoured(fleet):
    """A model without a digest gets the one that is locked: other bytes are refused."""
    machine = fleet.machine
    locked = hashlib.sha256(content(7)).hexdigest()
    machine.origin.put("/one.bin", content(7))
    machine.models["one"] = {"source": f"{machine.origin.url}/one.bin"}
    fleet.push()
    own = machine.folder / "own"
    fleet.remote.run("clone", "-q", fleet.remote.url, str(own), inside=machine.folder)
    machine.manifest = own / "models.yaml"
    machine.apply()  # so that the digest is known
    machine.run("lock")
    lock = (own / "models.lock.json").read_text()
    assert locked in lock
    fleet.remote.write("models.lock.json", lock)
    fleet.remote.commit("lock")
    machine.manifest, machine.store = fleet.bootstrap, machine.folder / "fresh"
    fleet.say(fleet.remote.url)
    machine.origin.put("/one.bin", content(8))
    failed = machine.apply(code=4)["outcomes"][0]
    assert failed["reason"] == "lock_mismatch"
    machine.origin.put("/one.bin", content(7))
    machine.run("poke")
    machine.apply()
    assert machine.has("one", locked)
    assert json.loads(lock)["models"]["one"]["files"]
