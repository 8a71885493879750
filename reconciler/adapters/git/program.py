"""The git program: one run of it, within bounds of time and size, gone with all its children when it ends.

Git is started in a session of its own. Whatever comes first ends it: its own end, the caller's cancel token, the time
limit, more output than was asked for, or a watch on the disk that says the repository grows too large. What is left of
the process group is then killed: git's transports are processes of their own.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from reconciler.core.errors import permanent, transient
from reconciler.core.ports import CancelToken
from reconciler.core.records import dataclass

MAX_ERROR_BYTES = 64 << 10
_TICK_S = 0.1
_VERSION = re.compile(rb"git version (\d+)\.(\d+)")
OLDEST = (2, 32)  # GIT_CONFIG_COUNT and GIT_CONFIG_GLOBAL


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run came to."""

    code: int
    output: bytes
    errors: str


@dataclass(frozen=True, slots=True)
class Program:
    """Git on one bare repository.

    ``is_too_large`` is asked while git runs whether what it wrote to the disk is too much.
    """

    folder: str
    environment: Mapping[str, str]
    timeout_s: float
    cancel: CancelToken
    is_too_large: Callable[[], bool] = lambda: False

    def run(self, arguments: Sequence[str], *, max_bytes: int = 1 << 20, given: bytes = b"") -> Ran:
        """Run ``git ARGUMENTS``.

        Args:
            arguments: never a secret: other users can read them.
            max_bytes: of output that are read before git is stopped.
            given: to its standard input; below 64 KiB, what a pipe holds.

        Raises:
            Failure: transient ``cancelled``, ``git_timed_out``; permanent ``git_missing``, ``git_too_large``.
        """
        command = ["git", f"--git-dir={self.folder}", *arguments]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(self.environment),
                cwd="/",  # no repository around the caller is ever looked for
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise permanent("git_missing", "the git program is not there", hint="install git") from error
        except OSError as error:
            raise transient("git_unstartable", f"git cannot be started: {error.strerror}") from error
        try:
            return self._communicate(process, given, max_bytes)
        finally:
            _end(process)

    def _communicate(self, process: "subprocess.Popen[bytes]", given: bytes, max_bytes: int) -> Ran:
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 -- pipes were asked for
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(given)
            process.stdin.close()
        deadline = time.monotonic() + self.timeout_s
        output, errors = bytearray(), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, output)
            selector.register(process.stderr, selectors.EVENT_READ, errors)
            while selector.get_map():
                self._check(deadline)
                for key, _ in selector.select(_TICK_S):
                    piece = os.read(key.fd, 1 << 16)
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif key.data is output:
                        output += piece
                    else:
                        errors = _tail(errors, piece)
                        key.data[:] = errors
                if len(output) > max_bytes:
                    raise permanent(
                        "git_too_large", f"what is read from the repository has more than {max_bytes} bytes"
                    )
        code = self._wait(process, deadline)
        return Ran(code, bytes(output), errors.decode(errors="replace"))

    def _wait(self, process: "subprocess.Popen[bytes]", deadline: float) -> int:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_TICK_S)
            self._check(deadline)

    def _check(self, deadline: float) -> None:
        if self.cancel.is_set():
            raise transient("cancelled", "stopped while git was running")
        if time.monotonic() > deadline:
            hint = "the next try comes by itself"
            raise transient("git_timed_out", f"git was not done after {self.timeout_s:g} s", hint=hint)
        if self.is_too_large():
            hint = "keep manifests in a repository of their own"
            raise permanent(
                "git_too_large", "the repository is larger than a repository of manifests may be", hint=hint
            )


def _tail(errors: bytearray, piece: bytes) -> bytearray:
    """The last bytes only: what went wrong stands at the end."""
    return bytearray((bytes(errors) + piece)[-MAX_ERROR_BYTES:])


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of the process group, and collect the process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def check_version(program: Program) -> None:
    """Refuse a git that would not know the settings that keep it safe.

    Raises:
        Failure: permanent ``git_missing`` or ``git_too_old``.
    """
    found = _VERSION.match(program.run(["version"]).output)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise permanent("git_too_old", f"git before {wanted} cannot be confined", hint=f"install git {wanted} or later")
