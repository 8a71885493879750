"""The manners of a service: systemd's protocol, its restrictions, its secrets; how it starts and ends."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import confined
import pytest
from watching import eventually, watching

MB = 1 << 20
ROOT = Path(__file__).parents[2]


def content(seed: int, size: int = 4096) -> bytes:
    return random.Random(seed).randbytes(size)


class Systemd:
    """Hears what the service tells."""

    def __init__(self, end: socket.socket) -> None:
        self.end, self.heard = end, []

    def listen(self, seconds: float) -> list[str]:
        """What is told in so long."""
        begun, told = time.monotonic(), []
        while (left := begun + seconds - time.monotonic()) > 0:
            self.end.settimeout(left)
            with contextlib.suppress(TimeoutError):
                told.append(self.end.recv(4096).decode())
        self.heard += told
        return told

    def until(self, word: str, seconds: float = 10.0) -> list[str]:
        end = time.monotonic() + seconds
        while not any(line.startswith(word) for line in self.heard):
            assert time.monotonic() < end, f"no {word} in {self.heard}"
            self.listen(0.1)
        return self.heard


@pytest.fixture
def systemd(tmp_path) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        yield Systemd(end)


def told_to(tmp_path, watchdog_s: float = 2.0) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}


@pytest.mark.slow
def test_a_pass_that_hangs_starves_the_watchdog_and_one_that_moves_feeds_it(machine, origin, systemd, tmp_path):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.head["network"] = {"timeout": "10m", "connections": 1}
    machine.model("big", content(3, 24 * MB))
    origin.rate = 4 * MB
    with watching(machine, env=told_to(tmp_path)) as watch:
        eventually(lambda: origin.sent > 4 * MB)
        assert "WATCHDOG=1" in systemd.listen(3.0), "a slow download is fed"
        origin.rate = 1  # not a byte any more that would be news
        systemd.listen(4.0)
        assert "WATCHDOG=1" not in systemd.listen(3.0)
        begun = time.monotonic()
        watch.stop()
        assert time.monotonic() - begun < 5


def test_ready_comes_after_the_first_observation_and_status_tells_progress(machine, origin, systemd, tmp_path):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.head["network"] = {"connections": 1}
    machine.model("big", content(3, 24 * MB))
    origin.rate = 6 * MB
    with watching(machine, env=told_to(tmp_path)) as watch:
        heard = systemd.until("STATUS=big ", 10)
        assert heard.index("READY=1") <= next(i for i, line in enumerate(heard) if line.startswith("STATUS=big "))
        eventually(lambda: any("% at " in line and "B/s" in line for line in systemd.listen(0.2)), 5)
        systemd.heard.clear()
        watch.process.send_signal(signal.SIGHUP)
        (reloading,) = [line for line in systemd.until("RELOADING=1") if line.startswith("RELOADING=1")]
        stamp = int(reloading.split("MONOTONIC_USEC=")[1])
        assert abs(time.clock_gettime(time.CLOCK_MONOTONIC) - stamp / 1e6) < 10
        systemd.until("READY=1")


def test_sigterm_keeps_partials_and_tells_whether_a_pass_was_cut_off(machine, origin, systemd, tmp_path):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    digest = machine.model("big", content(3, 24 * MB))
    origin.rate = 6 * MB
    with watching(machine, env=told_to(tmp_path)) as watch:
        eventually(lambda: origin.sent > 8 * MB)
        assert watch.stop() == 143
        systemd.until("STOPPING=1")
    assert machine.partials()
    sent = origin.sent
    origin.rate = None
    with watching(machine) as watch:
        eventually(lambda: machine.has("big", digest))
        assert origin.sent - sent < 24 * MB, "what was there is not fetched again"
        eventually(lambda: machine.status("big")["settled"])
        assert watch.stop() == 0


def test_a_second_sigterm_ends_it_at_once(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.model("big", content(3, 24 * MB))
    origin.rate = 2 * MB
    with watching(machine) as watch:
        eventually(lambda: origin.sent > MB)
        watch.process.send_signal(signal.SIGSTOP)
        watch.process.send_signal(signal.SIGTERM)
        watch.process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
        if watch.process.poll() is None:
            watch.process.send_signal(signal.SIGTERM)
        assert watch.process.wait(2) in {143, -signal.SIGTERM}, "a shell sees 143 either way"


def test_health_answers_while_the_machine_is_busy_and_readiness_is_honest(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.model("big", content(3, 16 * MB))
    origin.rate = 8 * MB
    with watching(machine, "--listen", "127.0.0.1:0") as watch:
        address = watch.lines("server_started")[0]["address"]
        codes = set()
        eventually(lambda: origin.sent > MB)
        for _ in range(20):
            begun = time.monotonic()
            with urllib.request.urlopen(f"http://{address}/healthz", timeout=5) as answer:
                assert answer.status == 200
            try:
                with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
                    codes.add((answer.status, machine.placed("big").exists()))
            except urllib.error.HTTPError as error:
                with error:
                    codes.add((error.code, False))
            assert time.monotonic() - begun < 2
        assert codes <= {(503, False), (200, True)}


CAN_CONFINE = (
    sys.platform == "linux" and os.geteuid() == 0 and os.uname().machine == "x86_64" and confined.NUMBERS.exists()
)


@pytest.mark.skipif(not CAN_CONFINE, reason="needs root on x86-64 Linux with its headers")
def test_it_works_under_the_restrictions_of_its_own_unit(machine, tmp_path, monkeypatch):
    unit = ROOT / "examples" / "systemd" / "reconciler.service"
    secrets = tmp_path / "credentials"
    secrets.mkdir()
    (secrets / "token").write_text("sesame\n")
    host = machine.origin.url.removeprefix("http://")
    machine.head["network"] = {"credentials": {host: {"bearer": {"file": "${CREDENTIALS_DIRECTORY}/token"}}}}
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    digest = machine.model("one", content(1, 6 * MB), state="loaded")
    machine.store.mkdir()
    plain = machine.command

    def command(*arguments: str) -> list[str]:
        if "watch" not in arguments:
            return plain(*arguments)
        return [sys.executable, confined.__file__, str(unit), str(machine.store), "--", *plain(*arguments)]

    monkeypatch.setattr(machine, "command", command)
    with watching(machine, "--listen", "127.0.0.1:0") as watch:
        status = Path(f"/proc/{watch.process.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        eventually(lambda: machine.has("one", digest), 20)
        eventually(lambda: machine.status("one")["loaded"], 20)
        assert any(asked[2].get("authorization") == "Bearer sesame" for asked in machine.origin.requests)
        machine.placed("one").unlink()
        eventually(lambda: machine.has("one", digest), 10)
        two = machine.model("two", content(2))
        machine.write()
        eventually(lambda: machine.has("two", two), 10)
        machine.run("evict", "two", "--yes")
        seen = {row["type"]: row for row in machine.run("status")["conditions"]}
        assert seen["WatchHealthy"]["reason"] == "events"
        assert seen["MemoryPressure"]["status"] != "Unknown"
        assert watch.stop() == 0
    troubles = [line for line in watch.lines() if line["level"] in {"warning", "error"}]
    assert troubles == []


def test_logs_are_one_json_object_a_line(machine):
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: machine.has("one", digest))
    lines = watch.log.read_text().splitlines()
    assert len(lines) > 3
    for line in lines:
        entry = json.loads(line)
        assert {"timestamp", "level", "event"} <= entry.keys()
        assert entry["timestamp"].endswith("Z")


@pytest.mark.slow
def test_whatever_ends_a_command_is_a_line_of_json_where_the_log_is(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.model("big", content(3, 24 * MB))
    origin.rate = MB

    def ended(*words: str, code: int) -> dict:
        command = machine.command("--log-format", "json", *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == code
        (line,) = done.stderr.splitlines()
        return json.loads(line)

    with watching(machine) as watch:
        eventually(lambda: origin.sent > MB)
        assert ended("watch", code=7)["reason"] == "store_busy"
        assert ended("watch", "--listen", "nonsense", code=64)["event"] == "command_failed"
        assert ended("watch", "--nonsense", code=64)["reason"] == "usage"
        machine.manifest.write_text("models: [")
        assert "models.yaml:" in ended("apply", code=65)["problems"][0]
        for _ in range(2):
            watch.process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        # while the interpreter ends, the signal itself ends the process: a shell sees 130 either way
        assert watch.process.wait(5) in {130, -signal.SIGINT}
    entries = [json.loads(line) for line in watch.log.read_text().splitlines()]
    assert "interrupted" in [entry["event"] for entry in entries]


def test_a_hang_up_while_it_starts_is_no_end(machine):
    machine.model("one", content(1))
    machine.write()
    log = machine.folder / "watch.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(machine.command("watch"), stderr=errors, stdout=errors, stdin=subprocess.DEVNULL)

    def ignored() -> bool:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return bool(int(next(line for line in lines if line.startswith("SigIgn:")).split()[1], 16) & 1)

    try:
        eventually(ignored, 10)
        assert "watch_started" not in log.read_text(), "it is asked before it can look"
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "watch_started" in log.read_text(), 10)
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(10)


def test_a_stop_when_all_is_done_is_a_clean_one(machine):
    machine.model("one", content(1, 100_000))
    with watching(machine) as watch:
        eventually(machine.placed("one").exists)
        assert watch.stop() == 0


def test_a_second_watch_is_told_who_owns_the_store(machine):
    machine.model("one", content(1))
    with watching(machine) as watch:
        done = subprocess.run(machine.command("watch"), capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 7
        assert str(watch.process.pid) in done.stderr
