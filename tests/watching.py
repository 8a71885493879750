"""A watch under test: the real daemon in a process of its own, looked at from outside."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def eventually(check: Callable[[], object], within_s: float = 10.0, why: str = "") -> object:
    """The first true answer of ``check``; an assertion where none comes in time."""
    end = time.monotonic() + within_s
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {within_s} s: {why or check}"
        time.sleep(0.02)


class Watch:
    """One daemon. ``lines`` are its log, as JSON objects."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
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
        process = subprocess.Popen(
            machine.command("--log-format", "json", "watch", *arguments),
            cwd=machine.folder,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
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
