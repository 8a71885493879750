"""Verbs, the socket, systemd and HTTP against a running watch."""

import json
import os
import random
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from watching import eventually, watching

MB = 1 << 20


def content(seed: int, size: int = 4096) -> bytes:
    return random.Random(seed).randbytes(size)


def ask(machine, **request: object) -> dict:
    """One request over the socket, as any program may."""
    with socket.socket(socket.AF_UNIX) as link:
        folder = os.open(machine.store, os.O_RDONLY)
        try:
            link.connect(f"/proc/self/fd/{folder}/control.sock")
        finally:
            os.close(folder)
        link.settimeout(20)
        link.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(link.makefile().readline())


def test_the_socket_is_the_owners_alone_and_answers_in_json_lines(machine):
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: machine.has("one", digest))
        mode = (machine.store / "control.sock").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        answer = ask(machine, op="status")
        assert answer["ok"]
        assert answer["status"]["models"][0]["name"] == "one"
        assert ask(machine, op="live")["live"]["pid"] == watch.process.pid
        refused = ask(machine, op="nonsense")
        assert not refused["ok"]
        assert refused["reason"] == "bad_request"


def test_one_shot_verbs_go_through_the_running_watch(machine):
    digest = machine.model("one", content(1))
    with watching(machine):
        eventually(lambda: machine.has("one", digest))
        eventually(lambda: machine.status("one").get("settled"))
        machine.run("pin", "one")
        assert machine.status("one")["pinned"]
        machine.run("unpin", "one")
        assert not machine.status("one")["pinned"]
        machine.run("touch", "one")
        assert machine.status("one")["use_count"] == 1
        loaded = machine.run("load", "one")
        assert [outcome["status"] for outcome in loaded["outcomes"]] == ["done"]
        assert machine.status("one")["loaded"]
        machine.run("unload", "one")
        eventually(lambda: not machine.status("one")["loaded"])
        verified = machine.run("verify", "one")
        assert verified["summary"]["failed"] == 0
        machine.run("pin", "nobody", code=1)


@pytest.mark.slow
def test_a_suspended_watch_does_nothing_until_resumed(machine):
    digest = machine.model("one", content(1))
    with watching(machine):
        eventually(lambda: machine.has("one", digest))
        machine.run("suspend")
        eventually(lambda: ask(machine, op="status")["status"]["suspended_until"] is None)
        machine.placed("one").unlink()
        time.sleep(2.5)
        assert not machine.placed("one").exists()
        machine.run("resume")
        eventually(lambda: machine.has("one", digest), 3)


def test_status_of_a_running_watch_shows_progress_and_the_next_run(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.model("big", content(3, 24 * MB))
    origin.rate = 6 * MB
    with watching(machine):
        eventually(lambda: origin.sent > 8 * MB)
        seen = machine.run("status")
        rows = {row["type"]: row for row in seen["conditions"]}
        assert rows["Reconciling"]["status"] == "True"
        assert rows["WatchHealthy"]["status"] == "True"
        assert rows["WatchHealthy"]["reason"] == "events"
        assert seen["next_run_at"]
        assert 0.2 < seen["models"][0]["progress"] < 1
        assert ask(machine, op="cancel", models=["big"])["stopped"] == ["big"]
        eventually(lambda: not ask(machine, op="live")["live"]["running"], 2)
        assert machine.partials()
        before = origin.sent
        time.sleep(1.5)
        assert origin.sent - before < MB
        origin.rate = None
        assert ask(machine, op="resume", models=["big"])["ok"]
        eventually(lambda: machine.placed("big").exists(), 5)


def test_status_waits_for_ready(machine, origin):
    digest = machine.model("one", content(1, 4 * MB))
    origin.rate = 4 * MB
    with watching(machine):
        machine.run("status", "--wait", "READY", "--timeout", "0.2s", code=8)
        machine.run("status", "--wait", "READY", "--timeout", "15s")
        assert machine.has("one", digest)


def test_systemd_is_told(machine, tmp_path):
    digest = machine.model("one", content(1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(10)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        heard: list[str] = []

        def hear(word: str) -> bool:
            while not any(line.startswith(word) for line in heard):
                heard.append(end.recv(4096).decode())
            return True

        with watching(machine, env=env) as watch:
            assert hear("READY=1")
            assert hear("WATCHDOG=1")
            assert hear("STATUS=")
            eventually(lambda: machine.has("one", digest))
            heard.clear()
            watch.process.send_signal(signal.SIGHUP)
            assert hear("RELOADING=1\nMONOTONIC_USEC=")
            assert hear("READY=1")
            watch.process.terminate()
            assert hear("STOPPING=1")


def test_health_and_metrics_are_served(machine):
    digest = machine.model("one", content(1))
    with watching(machine, "--listen", "127.0.0.1:0") as watch:
        eventually(lambda: machine.has("one", digest))
        address = watch.lines("server_started")[0]["address"]

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, ""

        assert get("/healthz") == (200, "ok\n")
        eventually(lambda: get("/readyz")[0] == 200)
        text = get("/metrics")[1]
        assert 'reconciler_actions_total{kind="download",status="done"} 1' in text
        assert 'reconciler_condition{type="Ready"} 1' in text
        assert get("/etc/passwd")[0] == 404


def git(folder, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_the_manifest_comes_out_of_git_and_the_commit_is_shown(machine, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    first = machine.model("one", content(1))
    machine.manifest = repository / "models.yaml"
    machine.write()
    git(repository, "add", "models.yaml")
    git(repository, "commit", "-q", "-m", "one")
    with watching(machine, "--git", f"file://{repository}#main", "--git-interval", "1s", write=False):
        eventually(lambda: machine.has("one", first))
        before = ask(machine, op="status")["status"]["source"]["revision"]
        assert len(before) == 40
        second = machine.model("two", content(2))
        machine.write()
        git(repository, "commit", "-q", "-a", "-m", "two")
        eventually(lambda: machine.has("two", second), 6)
        assert ask(machine, op="status")["status"]["source"]["revision"] != before
        machine.manifest.write_text("models: [")
        git(repository, "commit", "-q", "-a", "-m", "broken")
        eventually(lambda: _manifest_valid(machine) == "False", 6)
        machine.placed("one").unlink()
        eventually(lambda: machine.has("one", first), 5)


def _manifest_valid(machine) -> str:
    rows = ask(machine, op="status")["status"]["conditions"]
    return next(row["status"] for row in rows if row["type"] == "ManifestValid")


def test_nonsense_on_the_socket_breaks_nothing(machine):
    digest = machine.model("one", content(1))
    with watching(machine):
        eventually(lambda: machine.has("one", digest))
        for line in (
            b"\n",
            b"[]\n",
            b"{",
            b"\xff\n",
            b'{"op": 7}\n',
            b'{"op":"pin","models":"one"}\n',
            b'{"op":"touch","models":["one"],"at":[]}\n',
        ):
            with socket.socket(socket.AF_UNIX) as link:
                folder = os.open(machine.store, os.O_RDONLY)
                link.connect(f"/proc/self/fd/{folder}/control.sock")
                os.close(folder)
                link.sendall(line)
                link.shutdown(socket.SHUT_WR)
                link.settimeout(5)
                answer = link.makefile("rb").readline()
            assert json.loads(answer)["ok"] is False, line
        assert ask(machine, op="live")["ok"]
