"""A machine with a hub of its own: one repository, its files, and what was asked for."""

import contextlib
import hashlib
import random

from fixture_hub import Hub, Repo
from scripted import Server

WEIGHTS = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(50_000)
FILES = {"README.md": b"hello", "config.json": b"{}", "onnx/model.bin": WEIGHTS, "onnx/big.bin": OTHER}


class HubMachine:
    """A machine with a hub: the repository ``org/repo`` and what it was asked."""

    def __init__(self, machine, hub, server, cdn):
        self.machine, self.hub, self.server, self.cdn = machine, hub, server, cdn
        self.repo = hub.repos["org/repo"]
        self.env = {"HF_ENDPOINT": server.url}

    def want(self, source, **keys):
        self.machine.models["m"] = {"source": source, **keys}

    def apply(self, **given):
        return self.machine.apply(env=self.env, **given)

    def placed(self):
        folder = self.machine.store / "models" / "m"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def forget(self):
        self.server.seen.clear()
        self.cdn.seen.clear()

    def asked(self):
        return [seen.path for seen in (*self.server.seen, *self.cdn.seen)]


@contextlib.contextmanager
def hub_of(machine):
    """A hub and the origin that its large files come from, for the length of a block."""
    server, cdn = Server(), Server()
    hub = Hub({"org/repo": Repo(dict(FILES))}, cdn=cdn.url)
    server.answer = hub.answer
    cdn.answer = lambda seen: _by_digest(seen, hub.repos["org/repo"].files)
    try:
        yield HubMachine(machine, hub, server, cdn)
    finally:
        server.close()
        cdn.close()


def _by_digest(seen, files):
    by_digest = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
    data = by_digest.get(seen.path[1:].partition("?")[0])
    return (404, {}, b"") if data is None else (200, {"ETag": '"x"'}, data)
