"""The command in a process of its own, without paying for its imports every time.

One server per test worker imports the command once. For every run it forks; the fork takes the caller's folder,
environment and outputs and calls :func:`reconciler.cli.main` as ``python -m reconciler`` does. Nothing but imported
modules is shared, so a run sees what a user's would. What depends on the start itself (speed, ``PYTHON*`` variables,
strace, kills) starts an interpreter of its own.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

COMMAND = (sys.executable, "-m", "reconciler")

_TIMEOUT_S = 100.0
_LIBRARIES = ("difflib", "pickletools", "httpx", "jsonschema", "structlog", "rich.console", "yaml", "sqlite3", "psutil")
_PACKAGES = (
    "cli", "core", "execute", "observe", "library", "adapters.fetch", "adapters.formats", "adapters.store",
    "adapters.ledger", "adapters.manifest", "adapters.archives", "adapters.runtimes", "adapters.sources", "watch",
)  # fmt: skip


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """``COMMAND ARGUMENTS`` in a fork of the process that has imported it, or afresh where the start is another one."""
    if tuple(command[: len(COMMAND)]) != COMMAND or _of_python(env) != _PYTHON:
        return subprocess.run(
            command, check=False, text=True, cwd=cwd, capture_output=True, timeout=_TIMEOUT_S, env=env
        )
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = _ask(command, cwd, env, out.fileno(), err.fileno())
        code = process.wait(_TIMEOUT_S)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(process.args, code, out.read().decode(), err.read().decode())


def start(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: IO[bytes]) -> "subprocess.Popen | Forked":
    """The same for a command that goes on: its standard error is ``log``."""
    if tuple(command[: len(COMMAND)]) != COMMAND or _of_python(env) != _PYTHON:
        null = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=cwd, stdout=null, stderr=log, stdin=null, env=env)
    with open(os.devnull, "wb") as null:
        return _ask(command, cwd, env, null.fileno(), log.fileno())


class Forked:
    """A process of the server's, with what tests use of ``subprocess.Popen``."""

    def __init__(self, args: Sequence[str], line: socket.socket) -> None:
        self.args, self.returncode = args, None
        self._line = line
        self.pid = int(line.recv(16))

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            answer = self._line.recv(16)
            self._line.close()
            assert answer, "the fork vanished"
            self.returncode = int(answer)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code, once there is one."""
        if self.returncode is None and not select.select([self._line], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ends right now
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _ask(command: Sequence[str], cwd: Path, env: Mapping[str, str], out: int, err: int) -> Forked:
    arguments = command[len(COMMAND) :]
    request = json.dumps({"arguments": [*map(str, arguments)], "cwd": str(cwd), "env": dict(env)}).encode()
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with tempfile.TemporaryFile() as order:
        order.write(request)
        order.flush()
        line.settimeout(_TIMEOUT_S)
        line.connect(_server())
        socket.send_fds(line, [b"!"], [order.fileno(), out, err])
        return Forked(arguments, line)


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that the interpreter itself reads at its start."""
    return {key: value for key, value in env.items() if key.startswith(("PYTHON", "LD_"))}


_PYTHON = _of_python(os.environ)


@functools.cache
def _server() -> str:
    """The abstract address of this worker's server, which ends with the worker."""
    address = f"\0reconciler-tests-{uuid.uuid4()}"
    process = subprocess.Popen(
        [sys.executable, __file__, address[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    assert process.stdout.read(1) == b"!", "the server did not start"
    atexit.register(_end, process)
    return address


def _end(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.stdout.close()
    process.wait()


# --- in the server --------------------------------------------------------------------------------------------------


def _import_all() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for package in _PACKAGES:
        module = importlib.import_module(f"reconciler.{package}")
        for info in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
            importlib.import_module(info.name)


def _serve(address: str) -> tuple[int, ...]:
    """Fork for every caller, and tell each its pid, then its exit code; returns in a fork only, with its files."""
    lines: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: those under way
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{address}")
        listener.listen(64)
        os.write(1, b"!")
        while True:
            ready, _, _ = select.select([listener, 0, *lines], [], [])
            if 0 in ready:  # the worker is gone
                os._exit(0)
            for pidfd in lines.keys() & {*ready}:
                _end_one(pidfd, *lines.pop(pidfd))
            if listener not in ready:
                continue
            line, _ = listener.accept()
            files = socket.recv_fds(line, 1, 3)[1]
            pid = os.fork()
            if pid == 0:
                for pidfd, (_, other) in lines.items():
                    os.close(pidfd)
                    other.close()
                line.close()
                return tuple(files)
            for file in files:
                os.close(file)
            lines[os.pidfd_open(pid)] = pid, line
            line.sendall(str(pid).encode())


def _end_one(pidfd: int, pid: int, line: socket.socket) -> None:
    os.close(pidfd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError), line:  # the caller may be gone
        line.sendall(str(code).encode())


def _become_the_command(order: int, out: int, err: int) -> None:
    request = json.loads(os.pread(order, os.fstat(order).st_size, 0))
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    for used in (order, out, err, null):
        os.close(used)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv[1:] = request["arguments"]
    time.tzset()
    random.seed()  # forks must not draw the same jitter


if __name__ == "__main__":
    _import_all()
    gc.freeze()
    _become_the_command(*_serve(sys.argv[1]))
    from reconciler.cli import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking an interpreter apart that holds every module takes longer than most commands
