"""What the tests of sources share: small servers that answer by script, and the real HTTP client."""

from collections.abc import Iterator

import pytest
from asking import Context
from scripted import Server

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.settings import Settings


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
