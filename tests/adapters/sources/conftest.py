"""What the tests of sources share: a context over the real HTTP client, and a small server that answers by script."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from scripted import Server

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.settings import Settings
from reconciler.core.state import Artifact, DesiredModel, Digest

MODEL = DesiredModel("m", spec_digest=Digest("sha256:" + "0" * 64))


@dataclass
class Context:
    """A SourceContext of plain values."""

    http: Client
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # host[:port]: headers
    cancel: Any = field(default_factory=threading.Event)

    def credentials(self, url: str) -> tuple[tuple[str, str], ...]:
        return self.secrets.get(url.partition("://")[2].partition("/")[0], ())


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def other() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    shared = Client(Settings())
    yield shared
    shared.close()


@pytest.fixture
def context(client: Client) -> Context:
    return Context(client, {"HOME": "/nonexistent"})


def artifact(url: str, **given: Any) -> Artifact:
    return Artifact(given.pop("path", url.rpartition("/")[2]), (url,), **given)
