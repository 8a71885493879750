"""The watch over a real smart-HTTP Git server: pushes, reverts, outages, signatures, and starts without network."""

import json
import random
import signal
import socket
import subprocess
import threading
import time

import pytest
from git_made import Remote, allowed_signers, git_server, signing_key
from sampling import others_slow
from watching import eventually, watching

from reconciler.adapters.git import GitManifest
from reconciler.core.errors import refused
from reconciler.core.git_place import GitPlace
from reconciler.watch.bell import Bell
from reconciler.watch.git_inputs import GitInputs
from reconciler.world import open_world


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(4096)


def push(machine, remote: Remote, message: str, *options: str) -> str:
    """Commit what the machine's manifest says now."""
    machine.write()
    return remote.commit(message, *options)


@pytest.fixture
def remote(machine, tmp_path):
    """A repository whose work tree holds the machine's manifest."""
    made = Remote(tmp_path / "remote")
    machine.manifest = made.work / "models.yaml"
    return made


@pytest.fixture
def server(remote):
    with git_server(remote.root) as running:
        yield running


def status(machine) -> dict:
    """As somebody sees it who names no manifest."""
    machine.folder.joinpath("empty").mkdir(exist_ok=True)
    command = [word for word in machine.command("-o", "json", "status") if word not in {"-f", str(machine.manifest)}]
    done = subprocess.run(command, cwd=machine.folder / "empty", capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def condition(seen: dict, kind: str) -> dict:
    return next(found for found in seen["conditions"] if found["type"] == kind)


def test_a_push_and_its_revert_are_followed_and_an_outage_changes_nothing(machine, remote):
    first = machine.model("one", content(1))
    push(machine, remote, "one")
    with git_server(remote.root) as server:
        arguments = ("--git", f"{server.url()}#main", "--git-interval", "1s")
        with watching(machine, *arguments, write=False) as watch:
            eventually(lambda: machine.has("one", first))
            (passed_over,) = watch.lines("manifest_passed_over")
            assert str(machine.manifest) in passed_over["path"], "a file that -f names is not in force"
            second = machine.model("one", content(2))
            pushed = push(machine, remote, "two")
            eventually(lambda: machine.has("one", second), 6)
            remote.git("revert", "--no-edit", "HEAD")
            reverted = remote.commit("revert")
            eventually(lambda: machine.has("one", first), 6)
            fetched = [line["revision"] for line in watch.lines("source_fetched")]
            assert fetched[-2:] == [pushed, reverted]
            assert status(machine)["source"]["revision"] == reverted
            told = [event["message"] for event in events(machine) if event["reason"] == "source_taken_up"]
            assert any(pushed in message for message in told)
            server.answers["/"] = (503, {})
            eventually(lambda: watch.lines("source_unreachable"), 6)
            assert condition(status(machine), "WatchHealthy")["status"] == "False"
            machine.placed("one").unlink()
            eventually(lambda: machine.has("one", first), 6)
        assert status(machine)["source"]["revision"] == reverted  # without a daemon, too
        machine.placed("one").unlink()
        with watching(machine, *arguments, write=False):
            eventually(lambda: machine.has("one", first), 8)
        server.answers.clear()
        third = machine.model("one", content(3))
        push(machine, remote, "three")
        with watching(machine, *arguments, write=False):
            eventually(lambda: machine.has("one", third), 8)


# --- the thread that fetches --------------------------------------------------------------------------------------------


def test_what_stands_in_the_way_of_the_repository_is_told_and_tried_again(machine, remote):
    first = machine.model("one", content(1))
    push(machine, remote, "one")
    machine.store.mkdir()
    (machine.store / "source.git").write_text("in the way")
    with watching(machine, "--git", remote.url, "--git-interval", "1s", write=False) as watch:
        eventually(lambda: watch.lines("source_unreachable"))
        assert watch.lines("source_unreachable")[0]["reason"] == "unexpected_file"
        (machine.store / "source.git").unlink()
        eventually(lambda: machine.has("one", first))
        assert "last asked" in condition(status(machine), "WatchHealthy")["message"]


def test_a_signal_during_a_fetch_brings_another_one(machine, remote, server):
    first = machine.model("one", content(1))
    push(machine, remote, "one")
    with watching(machine, "--git", server.url(), "--git-interval", "60s", write=False) as watch:
        eventually(lambda: machine.has("one", first))
        server.stall = threading.Event()
        server.requests.clear()
        watch.process.send_signal(signal.SIGHUP)
        eventually(lambda: asked(server) == 1)
        watch.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)  # for the loop to hear it
        server.stall.set()
        eventually(lambda: asked(server) == 2)


def asked(server) -> int:
    return sum(path.endswith("info/refs") for _, path, _ in server.requests)


class Told:
    """In place of the repository: ``last`` is the last good commit, and a fetch raises ``error``."""

    label = "x"

    def __init__(self, error, last=None) -> None:
        self.error, self.last = error, last

    def offline(self, _cancel):
        return self.last

    def fetch(self, _cancel, _is_good):
        raise self.error


@pytest.fixture
def fetching(machine, remote):
    """A function that starts the thread on what it is given in place of the repository."""
    cancel, bell = threading.Event(), Bell()

    def start(source):
        inputs = GitInputs(open_world(str(machine.store), {}), GitPlace(remote.url), bell)
        inputs._source = source
        inputs.start(cancel)
        return inputs, bell

    yield start
    cancel.set()


def test_a_fault_of_the_program_in_the_thread_ends_the_loop(fetching):
    inputs, bell = fetching(Told(ZeroDivisionError()))
    assert inputs.read().digest == ""
    assert inputs.health().message == f"nothing was fetched from {inputs.label} yet"
    assert bell.wait(5) == {"git"}
    with pytest.raises(ZeroDivisionError):
        inputs.read()


def test_the_last_good_commit_is_read_before_a_newer_one_is_refused(fetching):
    last = GitManifest("a" * 40, (("models.yaml", b"models: {}\n", None),))
    inputs, bell = fetching(Told(refused("git_unsigned", "not signed"), last))
    assert bell.wait(1) == set()  # however slow the loop is
    assert inputs.read().revision == last.commit
    assert bell.wait(5) == {"git"}
    assert inputs.read().is_verified is False


def events(machine) -> list[dict]:
    done = subprocess.run(
        machine.command("-o", "json", "events"), cwd=machine.folder, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- signatures ---------------------------------------------------------------------------------------------------------


def ssh_signers(remote: Remote, folder) -> tuple[str, "callable"]:
    """(SIGNERS, a function that makes the remote sign with an allowed key or a stranger's)."""
    keys = {"allowed": signing_key(folder, "allowed"), "stranger": signing_key(folder, "stranger")}
    remote.git("config", "gpg.format", "ssh")
    signers = allowed_signers(folder / "signers", keys["allowed"])
    return str(signers), lambda who: remote.git("config", "user.signingkey", str(keys[who]))


@pytest.fixture
def gnupg(tmp_path):
    """A function that makes a GnuPG home with a key of ``name``; all agents end with the test."""
    homes = []

    def make(name):
        home = tmp_path / name
        home.mkdir(mode=0o700)
        homes.append(home)
        gpg(home, "--passphrase", "", "--pinentry-mode", "loopback", "--quick-gen-key", f"{name}@x.example", "ed25519")
        return home

    yield make
    for home in homes:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)


def gpg(home, *arguments) -> bytes:
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def gnupg_signers(remote: Remote, folder, gnupg):
    """The same with GnuPG: the ring knows one key and signs nothing itself."""
    homes = {name: gnupg(name) for name in ("allowed", "stranger")}
    ring = folder / "ring"
    ring.mkdir(mode=0o700)
    (folder / "allowed.asc").write_bytes(gpg(homes["allowed"], "--export"))
    gpg(ring, "--no-autostart", "--import", str(folder / "allowed.asc"))

    def sign_as(who):
        remote.environment["GNUPGHOME"] = str(homes[who])
        remote.git("config", "user.signingkey", f"{who}@x.example")

    return str(ring), sign_as


@pytest.mark.parametrize("kind", ["ssh", pytest.param("gnupg", marks=pytest.mark.slow)])
def test_a_commit_that_no_allowed_signer_signed_is_refused_and_the_last_good_one_stays(
    machine, remote, server, tmp_path, gnupg, kind
):
    signers, sign_as = ssh_signers(remote, tmp_path) if kind == "ssh" else gnupg_signers(remote, tmp_path, gnupg)
    sign_as("allowed")
    good = machine.model("one", content(1))
    signed = push(machine, remote, "signed", "-S")
    arguments = ("--git", f"{server.url()}#main", "--git-interval", "1s", "--verify", signers)
    with watching(machine, *arguments, write=False) as watch:
        eventually(lambda: machine.has("one", good))
        seen = condition(status(machine), "SourceVerified")
        assert (seen["status"], seen["reason"]) == ("True", "signature_good")
        assert signed in seen["message"]
        machine.model("one", content(2))
        unsigned = push(machine, remote, "unsigned", "--no-gpg-sign")
        eventually(lambda: watch.lines("source_refused"), 8)
        seen = status(machine)
        assert seen["source"]["revision"] == signed
        verified = condition(seen, "SourceVerified")
        assert (verified["status"], verified["reason"]) == ("False", "signature_bad")
        assert unsigned in verified["message"]
        assert signed in verified["message"]
        assert condition(seen, "ManifestValid")["status"] == "True"
        sign_as("stranger")
        stranger = push(machine, remote, "stranger", "-S")
        eventually(lambda: stranger in condition(status(machine), "SourceVerified")["message"], 8)
        assert machine.has("one", good)
        assert any(unsigned in event["message"] for event in events(machine) if event["reason"] == "signature_bad")
    machine.placed("one").unlink()
    with watching(machine, *arguments, write=False):  # a restart with the bad commit still there
        eventually(lambda: machine.has("one", good), 8)
        eventually(lambda: condition(status(machine), "SourceVerified")["status"] == "False", 8)
        sign_as("allowed")
        third = machine.model("one", content(3))
        last = push(machine, remote, "signed again", "-S")
        eventually(lambda: machine.has("one", third), 8)
        assert last in condition(status(machine), "SourceVerified")["message"]


def test_what_was_kept_unverified_does_not_count_once_signatures_are_asked_for(machine, remote, server, tmp_path):
    machine.model("one", content(1))
    commit = push(machine, remote, "unsigned")
    place = ("--git", f"{server.url()}#main", "--git-interval", "1s")
    with watching(machine, *place, write=False):
        eventually(lambda: machine.placed("one").exists())
    signers, _ = ssh_signers(remote, tmp_path)
    machine.placed("one").unlink()
    with watching(machine, *place, "--git-signers", signers, write=False) as watch:
        eventually(lambda: [line for line in watch.lines("source_refused") if commit in line["message"]], 8)
        assert not machine.placed("one").exists()
        assert not watch.lines("manifest_loaded")


def test_a_start_without_network_goes_on_with_the_last_good_commit(machine, remote, tmp_path):
    signers, sign_as = ssh_signers(remote, tmp_path)
    sign_as("allowed")
    first = machine.model("one", content(1))
    commit = push(machine, remote, "signed", "-S")
    with git_server(remote.root) as server:
        arguments = ("--git", f"{server.url()}#main", "--git-interval", "1s", "--verify", signers)
        with watching(machine, *arguments, write=False):
            eventually(lambda: machine.has("one", first))
    (machine.store / "state.db").unlink()  # also without what the ledger kept
    machine.placed("one").unlink()
    with watching(machine, *arguments, write=False) as watch:
        eventually(lambda: machine.has("one", first), 8)
        eventually(lambda: watch.lines("source_unreachable"), 8)
        seen = status(machine)
        assert seen["source"]["revision"] == commit
        assert condition(seen, "SourceVerified")["status"] == "True"
        healthy = condition(seen, "WatchHealthy")
        assert healthy["status"] == "False"
        assert "127.0.0.1" in healthy["message"]


@pytest.mark.slow
def test_a_signed_commit_whose_manifest_is_invalid_does_not_cost_the_last_good_one(machine, remote, server, tmp_path):
    signers, sign_as = ssh_signers(remote, tmp_path)
    sign_as("allowed")
    good = machine.model("one", content(1))
    commit = push(machine, remote, "signed", "-S")
    arguments = ("--git", f"{server.url()}#main", "--git-interval", "1s", "--verify", signers)
    with watching(machine, *arguments, write=False) as watch:
        eventually(lambda: machine.has("one", good))
        remote.write("models.yaml", "apiVersion: reconciler/v1\nmodels: {one: {sorce: x}}\n")
        remote.commit("invalid", "-S")
        eventually(lambda: watch.lines("manifest_rejected"), 8)
    machine.placed("one").unlink()
    with watching(machine, *arguments, write=False) as watch:
        eventually(lambda: machine.has("one", good), 8)
        eventually(lambda: watch.lines("manifest_rejected"), 8)
        seen = status(machine)
        assert seen["source"]["revision"] == commit
        assert "the last good one stays in force" in condition(seen, "ManifestValid")["message"]


# --- what is read -------------------------------------------------------------------------------------------------------


def test_a_folder_its_overlay_and_its_lock_file_are_the_manifest(machine, remote, server):
    """The lock is honoured: other bytes than the locked ones are refused, whatever stands at the URL by now."""
    other = machine.model("other", content(6))
    locked = machine.origin.put("/pinned.bin", content(7))
    machine.models["pinned"] = {"source": f"{machine.origin.url}/pinned.bin"}
    machine.manifest = remote.work / "fleet" / "b.yaml"
    remote.write("fleet/a.yaml", "apiVersion: reconciler/v1\nmodels: {other: {priority: low}}\n")
    machine.apply()  # so that the digest is known to the lock
    machine.run("lock")
    lock = remote.work / "fleet" / "models.lock.json"
    assert locked in lock.read_text()
    remote.write(
        f"fleet/devices/{socket.gethostname()}.yaml",
        "apiVersion: reconciler/v1\nmodels: {pinned: {priority: high}}\n",
    )
    remote.commit("locked")
    machine.origin.put("/pinned.bin", content(8))
    machine.store = machine.folder / "fresh"
    with watching(machine, "--git", f"{server.url()}#main", "--git-path", "fleet", write=False) as watch:
        eventually(lambda: machine.has("other", other))  # b.yaml came after a.yaml
        eventually(lambda: [line for line in watch.lines("action_failed") if line["reason"] == "lock_mismatch"])
        assert not machine.placed("pinned").exists()
        assert status_of(machine, "pinned")["priority"] == "high"


def status_of(machine, name: str) -> dict | None:
    return next((model for model in status(machine)["models"] if model["name"] == name), None)


@pytest.mark.slow
def test_a_force_push_is_followed_and_a_deleted_branch_leaves_the_last_good_in_force(machine, remote, server):
    machine.model("one", content(1))
    push(machine, remote, "one")
    second = machine.model("one", content(2))
    push(machine, remote, "two")
    with watching(machine, "--git", f"{server.url()}#main", "--git-interval", "1s", write=False) as watch:
        eventually(lambda: machine.has("one", second))
        remote.git("reset", "-q", "--hard", "HEAD~1")
        third = machine.model("one", content(3))
        forced = push(machine, remote, "other history")
        eventually(lambda: machine.has("one", third), 8)
        remote.run("update-ref", "-d", "refs/heads/main", inside=remote.bare)
        eventually(lambda: [line for line in watch.lines("source_unreachable") if line["reason"] == "git_ref_missing"])
        machine.placed("one").unlink()
        eventually(lambda: machine.has("one", third), 8)
        assert status(machine)["source"]["revision"] == forced


@pytest.mark.parametrize("ref", others_slow("annotated", "tag", "commit"))
def test_a_tag_or_a_commit_stays_where_it_is_until_it_is_moved(machine, remote, server, ref):
    first = machine.model("one", content(1))
    commit = push(machine, remote, "one")
    remote.git("tag", *(["-a", "-m", "one"] if ref == "annotated" else []), "v1")
    remote.git("push", "-q", "origin", "v1")
    second = machine.model("two", content(2))
    newer = push(machine, remote, "two")
    name = commit if ref == "commit" else "v1"
    with watching(machine, "--git", f"{server.url()}#{name}", "--interval", "1s", write=False):
        eventually(lambda: machine.has("one", first))
        assert status(machine)["source"]["revision"] == commit
        if ref == "commit":
            return
        remote.git("tag", "-f", *(["-a", "-m", "two"] if ref == "annotated" else []), "v1")
        remote.git("push", "-q", "-f", "origin", "v1")
        eventually(lambda: machine.has("two", second), 8)
        assert status(machine)["source"]["revision"] == newer


def test_a_token_is_read_by_reference_and_stands_nowhere_else(machine, remote, server, tmp_path):
    server.users = {"x-access-token": "very-secret-token"}
    first = machine.model("one", content(1))
    push(machine, remote, "one")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "git").write_text("very-secret-token\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    arguments = ("--git", f"{server.url()}#main", "--git-token", "credential:git")
    with watching(machine, *arguments, env=environment, write=False) as watch:
        eventually(lambda: machine.has("one", first))
        command = (tmp_path / "x", f"/proc/{watch.process.pid}/cmdline")[1]
        with open(command, "rb") as file:
            assert b"very-secret" not in file.read()
        log = watch.log
    assert "very-secret" not in log.read_text()
    for path in machine.store.rglob("*"):
        if path.is_file():
            assert b"very-secret-token" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--verify", "signers"], "--git URL"),
        (["--git", "https://x.example/r.git", "--git-token", "ghp_abcdef"], "never the token"),
        (["--git", "https://x.example/r.git", "--verify"], "--verify needs SIGNERS"),
    ],
)
def test_options_that_cannot_be_meant_are_a_usage_error(machine, tmp_path, arguments, word):
    machine.write()
    done = subprocess.run(
        machine.command("watch", *arguments), capture_output=True, text=True, check=False, timeout=30,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 64
    assert word in done.stderr
    assert "ghp_abcdef" not in done.stderr
