"""Real repositories and a real smart-HTTP server (``git http-backend``) for the tests of Git manifests."""

import base64
import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = "apiVersion: reconciler/v1\nmodels: {}\n"


def clean_environment(home: Path) -> dict[str, str]:
    """What a user's git sees in the tests: nothing of the machine's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return kept | {
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
    }


def git_after(folder: Path, line: str) -> dict[str, str]:
    """An environment whose git runs a line of shell first."""
    bin_ = folder / "bin"
    bin_.mkdir()
    (bin_ / "git").write_text(f'#!/bin/sh\n{line}\nexec {shutil.which("git")} "$@"\n')
    (bin_ / "git").chmod(0o755)
    return {"PATH": f"{bin_}:{os.environ['PATH']}"}


class Remote:
    """A bare repository that is pushed to from a work tree beside it."""

    def __init__(self, folder: Path, algorithm: str = "sha1") -> None:
        self.root, self.bare, self.work = folder, folder / "fleet.git", folder / "work"
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = clean_environment(folder)
        init = ("init", "-q", f"--object-format={algorithm}", "-b", "main")
        self.run(*init, "--bare", str(self.bare), inside=folder)
        self.run(*init, str(self.work), inside=folder)
        self.git("remote", "add", "origin", str(self.bare))

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def run(self, *arguments: str, inside: Path) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=inside, env=self.environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def git(self, *arguments: str) -> str:
        return self.run(*arguments, inside=self.work)

    def write(self, path: str, text: str | bytes = MANIFEST) -> None:
        target = self.work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self, message: str = "change", *options: str) -> str:
        """Commit everything and push the branch that is checked out; the commit's id."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, *options)
        self.git("push", "-q", "-f", "origin", "HEAD")
        return self.git("rev-parse", "HEAD")


@dataclass
class GitServer:
    """``users`` maps user names to passwords; empty lets everybody in. ``answers`` by path prefix win."""

    port: int = 0
    users: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    stall: threading.Event | None = None

    def url(self, name: str = "fleet.git") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: GitServer
    root: Path

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self._serve(self._chunks())
        else:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _serve(self, body: bytes) -> None:
        state = self.server_state
        path, _, query = self.path.partition("?")
        state.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        if state.stall is not None:
            state.stall.wait(30)
        for prefix, (status, headers) in state.answers.items():
            if path.startswith(prefix):
                moved = {k: v.replace("{rest}", self.path[len(prefix) :]) for k, v in headers.items()}
                return self._reply(status, moved, b"")
        if state.users and not self._is_known():
            return self._reply(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
        return self._reply(*self._backend(path, query, body))

    def _is_known(self) -> bool:
        kind, _, coded = self.headers.get("Authorization", "").partition(" ")
        user, _, password = base64.b64decode(coded or b"").decode().partition(":")
        return kind == "Basic" and self.server_state.users.get(user) == password

    def _backend(self, path: str, query: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        environment = clean_environment(self.root) | {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=body, capture_output=True, check=False, cwd=self.root
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        return int(headers.pop("Status", "200").split()[0]), headers, content

    def _reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@contextlib.contextmanager
def git_server(root: Path) -> Iterator[GitServer]:
    """Serve the bare repositories below ``root`` over smart HTTP on loopback."""
    state = GitServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_state": state, "root": root}))
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        if state.stall is not None:
            state.stall.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def signing_key(folder: Path, name: str = "key") -> Path:
    """An ssh key pair without passphrase; the private key's path."""
    path = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True, capture_output=True
    )
    return path


def allowed_signers(path: Path, *keys: Path) -> Path:
    """An allowed-signers file that names the public halves of ``keys``."""
    path.write_text("".join(f'ada@example.com namespaces="git" {key.with_suffix(".pub").read_text()}' for key in keys))
    return path
