"""A machine under test: a manifest, a store, an origin, and the real command in a process of its own."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import forking
import yaml
from origin import Origin


class Machine:
    """Runs the command in a process of its own, as a user does."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.folder, self.origin, self.store = folder, origin, folder / "store"
        self.manifest = folder / "models.yaml"
        self.head: dict = {"apiVersion": "reconciler/v1", "cache": {"maxSize": "64MiB", "minFreeSpace": "1MB"}}
        self.models: dict[str, dict] = {}

    def model(self, name: str, content: bytes, **keys: object) -> str:
        """Serve ``content`` and want it as a model of one file, ``<name>.bin``."""
        digest = self.origin.put(f"/{name}.bin", content)
        self.models[name] = {"source": f"{self.origin.url}/{name}.bin", "sha256": digest, **keys}
        return digest

    def write(self) -> None:
        self.manifest.write_text(yaml.safe_dump({**self.head, "models": self.models}))

    def command(self, *arguments: str) -> list[str]:
        base = [*forking.COMMAND, "-f", str(self.manifest), "--store", str(self.store)]
        return [*base, *arguments]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        self.write()
        return subprocess.Popen(
            self.command(*arguments), text=True, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *arguments: str, code: int = 0, env: dict[str, str] | None = None) -> dict:
        """Run with ``-o json``; its document. ``code`` is the exit code that must come."""
        self.write()
        done = forking.run(self.command("-o", "json", *arguments), cwd=self.folder, env={**os.environ, **(env or {})})
        assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        self.stderr = done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def apply(self, *arguments: str, code: int = 0, env: dict[str, str] | None = None) -> dict:
        return self.run("apply", *arguments, code=code, env=env)

    def apply_until(self, is_so: Callable[[], bool], code: int = 0) -> None:
        """Apply again while it is not so: whoever empties the machine's page cache takes loaded models away as well."""
        for _ in range(5):
            self.apply(code=code)
            if is_so():
                return
        raise AssertionError(self.run("status")["models"])

    def plan(self, *arguments: str, code: int = 0) -> dict:
        return self.run("plan", *arguments, code=code)

    def status(self, name: str) -> dict:
        found = [model for model in self.run("status")["models"] if model["name"] == name]
        return found[0] if found else {}

    def told(self) -> list[tuple[str, str]]:
        """(reason, message) of every event."""
        done = forking.run(self.command("-o", "json", "events"), cwd=self.folder, env=os.environ)
        done.check_returncode()
        return [(event["reason"], event["message"]) for event in map(json.loads, done.stdout.splitlines())]

    def placed(self, name: str, path: str | None = None) -> Path:
        return self.store / "models" / name / (path or f"{name}.bin")

    def blob(self, digest: str) -> Path:
        return self.store / "blobs" / "sha256" / digest[:2] / digest

    def has(self, name: str, digest: str) -> bool:
        """The placed file is there, right, and read-only."""
        path = self.placed(name)
        if not path.is_file():
            return False
        is_sealed = path.stat().st_mode & 0o777 == 0o444
        return is_sealed and hashlib.sha256(path.read_bytes()).hexdigest() == digest

    def partials(self) -> list[str]:
        return [path.name for path in (self.store / "partial").rglob("*") if path.is_file()]


def kinds(plan: dict) -> dict[str, list[str]]:
    """Model names by kind of action."""
    found: dict[str, list[str]] = {}
    for action in plan["actions"]:
        found.setdefault(action["kind"], []).append(action["model"])
    return found
