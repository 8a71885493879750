"""A size that somebody measured is an estimate: what the bytes turn out to be decides, and a newer object is taken."""

import contextlib
import gzip
import hashlib
import random
import sqlite3

import pytest
from faulty import Faulty

SMALL = random.Random(31).randbytes(300_000)
BIG = random.Random(32).randbytes(3_000_000)
NEW = random.Random(33).randbytes(3_500_000)
PAGE = b"<!doctype html><html><body>please log in</body></html>"


def sha(data):
    return hashlib.sha256(data).hexdigest()


def placed(machine):
    path = machine.placed("m")
    return path.read_bytes() if path.is_file() else None


class Origin:
    """Serves ``body`` by GET; ``says`` is what a HEAD tells of its length, where that is something else."""

    def __init__(self, body=SMALL, says=None):
        self.body, self.etag, self.says, self.cut_at = body, '"one"', says, None
        self.heads = 0

    def __call__(self, talk):
        self.heads += talk.method == "HEAD"
        if talk.method == "HEAD" and self.says is not None:
            talk.head("200 OK", f"Content-Length: {self.says}")
        elif talk.method == "GET" and self.cut_at is not None:
            talk.head("200 OK", f"ETag: {self.etag}", "Accept-Ranges: bytes", f"Content-Length: {len(self.body)}")
            talk.send(self.body[: self.cut_at])
            self.body, self.etag, self.cut_at = NEW, '"two"', None
        else:
            talk.serve(self.body, etag=self.etag)


@pytest.mark.parametrize("second", ["source", "mirror"])
@pytest.mark.parametrize("first", [BIG, PAGE], ids=["other bytes", "a page"])
def test_a_wrong_object_at_the_first_place_does_not_bind_the_second(machine, first, second):
    def wrong(talk):
        kind = "text/html" if first is PAGE else "application/octet-stream"
        talk.serve(first, f"Content-Type: {kind}")

    with Faulty(wrong) as bad, Faulty(Origin()) as good:
        machine.models["m"] = {"source": [f"{bad.url}/m.bin"], "sha256": sha(SMALL)}
        if second == "source":
            machine.models["m"]["source"].append(f"{good.url}/m.bin")
        else:
            machine.head["network"] = {"mirrors": [f"{good.url}/{{sha256}}"]}
        machine.apply()
    assert placed(machine) == SMALL


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize("says", [1000, 2_999_999])
def test_what_a_head_says_wrongly_does_not_count(machine, says, is_declared):
    with Faulty(Origin(BIG, says)) as server:
        machine.models["m"] = {"source": f"{server.url}/m.bin", **({"sha256": sha(BIG)} if is_declared else {})}
        machine.apply()
    assert placed(machine) == BIG


def questions(machine, script):
    """How often an apply that finds no room asks for the size."""
    before = script.heads
    machine.apply(code=3)
    return script.heads - before


def make_old(machine):
    with contextlib.closing(sqlite3.connect(machine.store / "state.db")) as ledger, ledger:
        ledger.execute("UPDATE resolutions SET resolved_at = resolved_at - 1000")


def test_an_object_that_was_too_large_by_mistake_is_asked_about_again(machine):
    script = Origin(SMALL, says=100_000_000_000)
    with Faulty(script) as server:
        machine.model("other", BIG)  # its pass remembers what was told
        machine.models["m"] = {"source": f"{server.url}/m.bin"}
        machine.apply(code=3)
        assert questions(machine, script) == 0  # nobody is asked each time
        make_old(machine)
        assert (questions(machine, script), questions(machine, script)) == (1, 0)
        script.says = None
        make_old(machine)
        machine.apply()
    assert placed(machine) == SMALL


def test_an_object_larger_than_the_store_is_deferred_once_it_is_known(machine):
    machine.head["cache"] = {"maxSize": "2MiB", "minFreeSpace": "1MB"}
    script = Origin(BIG, says=1000)
    with Faulty(script) as server:
        machine.models["m"] = {"source": f"{server.url}/m.bin"}
        failed = machine.apply(code=4)["outcomes"][0]
        assert failed["reason"] == "too_large"
        assert machine.status("m")["retry_at"] is not None
        script.says = None
        machine.run("poke")
        machine.apply(code=3)
        assert machine.plan()["deferred"][0]["reason"] == "no_room"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_newer_object_of_another_size_is_taken_where_nothing_is_declared(machine, at_once):
    script = Origin(BIG)
    with Faulty(script) as server:
        machine.models["m"] = {"source": f"{server.url}/m.bin"}
        if at_once:
            script.cut_at = 2_000_000
        else:
            machine.plan()
            machine.apply()
            machine.placed("m").chmod(0o644)
            machine.placed("m").write_bytes(b"damaged")
            script.body, script.etag = NEW, '"two"'
        machine.apply()
    assert placed(machine) == NEW


def test_right_bytes_of_another_size_come_at_last(machine):
    script = Origin(BIG)
    with Faulty(script) as server:
        machine.models["m"] = {"source": f"{server.url}/m.bin", "sha256": sha(SMALL)}
        assert machine.apply(code=4)["outcomes"][0]["reason"] == "digest_mismatch"
        script.body, script.etag = SMALL, '"two"'
        machine.apply()
    assert placed(machine) == SMALL


def test_coded_bytes_that_match_are_taken_as_they_are_sent(machine):
    coded = gzip.compress(SMALL, mtime=0)

    def script(talk):
        if talk.method == "HEAD":
            talk.serve(SMALL)
        else:
            talk.serve(coded, "Content-Encoding: gzip")

    with Faulty(script) as server:
        machine.models["m"] = {"source": f"{server.url}/m.bin", "sha256": sha(coded)}
        machine.apply()
    assert placed(machine) == coded


@pytest.mark.parametrize("is_declared", [True, False])
def test_what_a_network_that_wants_a_log_in_said_is_forgotten_with_it(machine, is_declared):
    portal = [True]

    def script(talk):
        if not portal:
            talk.serve(SMALL)
        elif talk.path == "/login":
            talk.serve(PAGE, "Content-Type: text/html")
        else:
            port = talk.sock.getsockname()[1]
            talk.head("302 Found", f"Location: http://localhost:{port}/login", "Content-Length: 0")

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Faulty(script))
        machine.models["m"] = {"source": f"{server.url}/m.bin", **({"sha256": sha(SMALL)} if is_declared else {})}
        assert machine.apply(code=4)["outcomes"][0]["reason"] == "captive_portal"
        portal.clear()
        machine.run("poke")
        machine.apply()
    assert placed(machine) == SMALL
