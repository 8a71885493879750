"""The command in a process of its own, without paying for its imports every time.

One server per test worker imports the command once. For every run it forks; the fork takes the caller's folder,
environment and outputs and calls :func:`reconciler.cli.main` as ``python -m reconciler`` does. Nothing but imported
modules is shared, so a run sees what a user's would. What depends on the start itself (speed, ``PYTHON*`` variables,
strace, kills) starts an interpreter of its own.
"""

import atexit
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

COMMAND = (sys.executable, "-m", "reconciler")

_TIMEOUT_S = 100.0
_LIBRARIES = ("httpx", "jsonschema", "structlog", "rich.console", "yaml", "sqlite3", "psutil")
_PACKAGES = (
    "cli", "core", "execute", "observe", "library", "adapters.fetch", "adapters.formats", "adapters.store",
    "adapters.ledger", "adapters.manifest", "adapters.archives", "adapters.runtimes",
)  # fmt: skip


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """``COMMAND ARGUMENTS`` in a fork of the process that has imported it, or afresh where the start is another one."""
    if tuple(command[: len(COMMAND)]) != COMMAND or _of_python(env) != _PYTHON:
        return subprocess.run(
            command, check=False, text=True, cwd=cwd, capture_output=True, timeout=_TIMEOUT_S, env=env
        )
    arguments = command[len(COMMAND) :]
    request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as order,
        socket.socket(socket.AF_UNIX) as line,
    ):
        order.write(request)
        order.flush()
        line.settimeout(_TIMEOUT_S)
        line.connect(_server())
        socket.send_fds(line, [b"!"], [order.fileno(), out.fileno(), err.fileno()])
        answer = line.recv(16)
        assert answer, "the fork vanished"
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, int(answer), out.read().decode(), err.read().decode())


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


def _serve(address: str) -> tuple[socket.socket, list[int]]:
    """Fork for every caller; returns in a fork only, with its caller's line and files."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        listener.listen(64)
        os.write(1, b"!")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what is forked here
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if 0 in ready:  # the worker is gone
                os._exit(0)
            line, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return line, socket.recv_fds(line, 1, 3)[1]
            line.close()


def _tell_exit_code(line: socket.socket) -> None:
    """Fork once more, for the command; tell the caller its code. Returns in the new process only."""
    pid = os.fork()
    if pid == 0:
        line.close()
        return
    _, status = os.waitpid(pid, 0)
    line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


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
    its_line, its_files = _serve(sys.argv[1])
    _tell_exit_code(its_line)
    _become_the_command(*its_files)
    from reconciler.cli import main

    sys.exit(main())
