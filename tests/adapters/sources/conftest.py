"""What the tests of sources share: a context over the real HTTP client, and a small server that answers by script."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.settings import Settings
from reconciler.core.state import Artifact, DesiredModel, Digest

MODEL = DesiredModel("m", spec_digest=Digest("sha256:" + "0" * 64))
Answer = tuple[int, Mapping[str, str], bytes]


@dataclass
class Context:
    """A SourceContext of plain values."""

    http: Client
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # host[:port]: headers
    cancel: Any = field(default_factory=threading.Event)

    def credentials(self, url: str) -> tuple[tuple[str, str], ...]:
        return self.secrets.get(url.partition("://")[2].partition("/")[0], ())


@dataclass
class Seen:
    """One request as a server saw it; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class QuietServer(ThreadingHTTPServer):
    """Says nothing when a client hangs up."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


class Server:
    """Answers every request by calling ``answer(seen)`` and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answer: Callable[[Seen], Answer] = lambda _: (404, {}, b"")
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # header and body in one segment

            def _any(self) -> None:
                request = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
                owner.seen.append(request)
                status, headers, body = owner.answer(request)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = _any  # noqa: N815 -- the names that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self.netloc = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.netloc}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


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
