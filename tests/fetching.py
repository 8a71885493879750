"""One engine and one target, for tests of the download engine."""

import hashlib
import random
import threading
from pathlib import Path

import pytest

from reconciler.adapters.fetch import Engine, Settings
from reconciler.core.errors import Failure
from reconciler.core.ports import FetchRequest, Location


def make_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Case:
    """One engine and one target; ``get`` fetches, ``reason`` fetches and tells the failure's reason."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "file"
        self.frames = []
        self.cancel = threading.Event()
        self.settings = {"random": lambda: 0.0, "breaker_failures": 1000}
        self.engine = None

    def get(self, *urls, headers=(), **more):
        if self.engine is None:
            self.engine = Engine(Settings(**self.settings))
        locations = tuple(Location(url, url.partition("?")[0], tuple(headers)) for url in urls)
        more = {"timeout_s": 5.0, "path": "model.gguf", **more}
        request = FetchRequest("m", locations=locations, target=str(self.target), **more)
        return self.engine.fetch(request, self.frames.append, self.cancel)

    def fail(self, *urls, **more) -> Failure:
        with pytest.raises(Failure) as caught:
            self.get(*urls, **more)
        return caught.value

    def restart(self, **settings) -> None:
        """As a new process would."""
        if self.engine is not None:
            self.engine.close()
        self.engine = None
        self.settings |= settings

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())
