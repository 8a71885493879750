"""A watch under test: the real daemon in a process of its own, looked at from outside."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import forking


def eventually(check: Callable[[], object], within_s: float = 10.0, why: str = "") -> object:
    """The first true answer of ``check``; an assertion where none comes in time."""
    end = time.monotonic() + within_s
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {within_s} s: {why or check}"
        time.sleep(0.04)


class Watch:
    """One daemon. ``lines`` are its log, as JSON objects."""

    def __init__(self, process: subprocess.Popen | forking.Forked, log: Path) -> None:
        self.process, self.log = process, log

    def lines(self, event: str | None = None) -> list[dict]:
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if event in (None, entry["event"]):
                    found.append(entry)
        return found

    def started(self) -> None:
        eventually(lambda: self.lines("watch_started") or self.process.poll() is not None, 15, "watch_started")
        assert self.process.poll() is None, self.log.read_text()

    def stop(self, number: int = signal.SIGTERM, within_s: float = 5.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)


@contextlib.contextmanager
def watching(machine, *arguments: str, env: dict[str, str] | None = None, write: bool = True) -> Iterator[Watch]:
    """A daemon over the machine's manifest for the length of a block."""
    if write:
        machine.write()
    log = machine.folder / f"watch-{time.monotonic_ns()}.log"
    with log.open("wb") as stderr:
        command = machine.command("--log-format", "json", "watch", *arguments)
        process = forking.start(command, cwd=machine.folder, env={**os.environ, **(env or {})}, log=stderr)
    watch = Watch(process, log)
    try:
        watch.started()
        yield watch
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(6)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Sample:
    """What a process takes at one moment."""

    rss_bytes: int
    files: int
    cpu_s: float

    @classmethod
    def of(cls, pid: int) -> "Sample":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd")), cpu)


def many_models(machine, count: int) -> None:
    """That many small models, from files on this machine."""
    folder = machine.folder / "files"
    folder.mkdir()
    for number in range(count):
        content = f"model {number}\n".encode() * 3
        (folder / f"{number}.bin").write_bytes(content)
        machine.models[f"model-{number:04}"] = {
            "source": f"file:files/{number}.bin",
            "sha256": hashlib.sha256(content).hexdigest(),
        }


class Counted:
    """A watch whose passes are counted through its metrics."""

    def __init__(self, watch: Watch, port: int) -> None:
        self.watch, self.pid, self._url = watch, watch.process.pid, f"http://127.0.0.1:{port}"

    def _text(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def is_ready(self) -> bool:
        return bool(self._text("/readyz"))

    def passes(self) -> int:
        lines = self._text("/metrics").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("reconciler_passes_total ")), 0)

    def run_passes(self, count: int) -> None:
        """One after the other, each asked for by SIGHUP."""
        done = self.passes()
        for _ in range(count):
            self.watch.process.send_signal(signal.SIGHUP)
            before = done
            end = time.monotonic() + 30
            while (done := self.passes()) == before:
                assert time.monotonic() < end, "a pass that was asked for does not come"
                time.sleep(0.005)


@contextlib.contextmanager
def counted(machine, *arguments: str) -> Iterator[Counted]:
    """A converged watch with counted passes."""
    port = free_port()
    with watching(machine, "--listen", f"127.0.0.1:{port}", *arguments) as watch:
        found = Counted(watch, port)
        eventually(found.is_ready, 120, "converged")
        yield found
