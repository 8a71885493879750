"""A network that returns un-sticks what failed for want of it, at once, however far away the next try was set.

The daemon lives in a network of its own, joined to the origin's by a cable (veth) that is not yet plugged in.
"""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime

import pytest
from sampling import others_slow
from watching import eventually, watching

from reconciler.adapters.ledger import Ledger

AT_ONCE_S = 3.0
FAR_AWAY_S = 800.0  # of the longest back-off, 900 s
NEAR, FAR = "10.213.7.1", "10.213.7.2"
SERVER = """
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer((sys.argv[1], 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"), reason="needs root, ip and unshare"
)


def ip(*words: str, name: str = "") -> None:
    subprocess.run(["ip", *(("-n", name) if name else ()), *words], check=True, capture_output=True, timeout=10)


class Cable:
    """Two networks, named for this process, and what joins them."""

    def __init__(self) -> None:
        mark = f"rc{os.getpid() % 100000}"
        self.here, self.there, self._end, self._other = f"{mark}h", f"{mark}t", f"{mark}a", f"{mark}b"

    def make(self) -> None:
        for name in (self.here, self.there):
            ip("netns", "add", name)
            ip("link", "set", "lo", "up", name=name)
        ip(
            "link",
            "add",
            self._end,
            "netns",
            self.here,
            "type",
            "veth",
            "peer",
            "name",
            self._other,
            "netns",
            self.there,
        )
        ip("addr", "add", f"{NEAR}/24", "dev", self._end, name=self.here)
        ip("addr", "add", f"{FAR}/24", "dev", self._other, name=self.there)
        ip("link", "set", self._other, "up", name=self.there)

    def plug(self, way_out: str) -> None:
        """The interface comes up, and with it the way to the origin: a default route or its own network's alone."""
        ip("link", "set", self._end, "up", name=self.here)
        if way_out == "default":
            ip("route", "replace", "default", "via", FAR, name=self.here)

    def remove(self) -> None:
        for name in (self.here, self.there):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=10)


@pytest.fixture
def cable():
    found = Cable()
    try:
        found.make()
    except subprocess.CalledProcessError as error:
        found.remove()
        pytest.skip(f"no networks of its own here: {error.stderr.decode().strip()}")
    yield found
    found.remove()


@pytest.fixture
def served(cable, tmp_path):
    """(URL, folder) of an origin at the other end of the cable."""
    folder = tmp_path / "served"
    folder.mkdir()
    line = ["ip", "netns", "exec", cable.there, sys.executable, "-c", SERVER, FAR]
    with subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://{FAR}:{server.stdout.readline().strip()}", folder
        finally:
            server.kill()


@pytest.fixture
def remote(machine, cable, served, monkeypatch):
    """A machine whose commands live at the near end, and that wants one model from the far end."""
    url, folder = served
    plain = machine.command
    monkeypatch.setattr(machine, "command", lambda *words: ["ip", "netns", "exec", cable.here, *plain(*words)])
    (folder / "one.bin").write_bytes(b"one" * 1000)
    machine.models["one"] = {"source": f"{url}/one.bin"}
    machine.head["network"] = {"timeout": "5s"}
    machine.head["cache"]["retention"] = "never"
    return machine


def put_off(machine) -> float:
    """As after hours without a network: the next try is far away; that moment."""
    at = time.time() + FAR_AWAY_S
    with contextlib.closing(Ledger.open(str(machine.store), now=time.time, writable=True)) as ledger:
        failures = ledger.failures.get_all()
        assert [row.fact.kind for row in failures] == ["transient"]
        for row in failures:
            ledger.record_failure(dataclasses.replace(row.fact, retry_at=at, attempts=12))
    return at


@pytest.mark.parametrize("way_out", others_slow("default", "10.213.7.0/24"))
def test_a_network_that_returns_is_used_at_once_although_the_next_try_is_far_away(remote, cable, way_out):
    remote.apply(code=4)
    at = put_off(remote)
    with watching(remote, "--interval", "1h"):
        eventually(lambda: remote.run("status")["next_run_at"], 10)
        found = remote.status("one")
        assert abs(datetime.fromisoformat(found["retry_at"]).timestamp() - at) < 1
        assert not remote.placed("one").exists()
        start = time.monotonic()
        cable.plug(way_out)
        eventually(remote.placed("one").exists, AT_ONCE_S, "fetched")
        print(f"placed {time.monotonic() - start:.2f} s after the cable was plugged in")
