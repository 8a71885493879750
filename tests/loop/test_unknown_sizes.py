"""Files whose size no origin tells: room is reckoned while they come, and what was too large is not fetched in vain."""

import os
import time

import pytest
from faulty import Faulty
from machines import kinds

MIB = 1 << 20
CHUNK = 64 << 10


class Chunked:
    """Serves bodies chunked, also parts of them; ``rate`` is bytes a second."""

    def __init__(self):
        self.bodies = {}
        self.got = []
        self.sent = 0
        self.rate = None

    def __call__(self, talk):
        body = self.bodies[talk.path]
        head = ['ETag: "one"', "Accept-Ranges: bytes", "Transfer-Encoding: chunked"]
        if talk.method == "HEAD":
            talk.head("200 OK", *head)
            return
        self.got.append(talk.path)
        start, end = talk.range or (0, None)
        end = min(end or len(body), len(body))
        part = [f"Content-Range: bytes {start}-{end - 1}/{len(body)}"] if talk.range else []
        talk.head("206 Partial Content" if part else "200 OK", *head, *part)
        for at in range(start, end, CHUNK):
            piece = body[at : min(at + CHUNK, end)]
            talk.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.sent += len(piece)
            if self.rate:
                time.sleep(len(piece) / self.rate)
        talk.send(b"0\r\n\r\n")


@pytest.fixture
def chunked(machine):
    script = Chunked()
    with Faulty(script) as server:
        machine.chunked = script
        machine.want = lambda name, content: (
            script.bodies.update({f"/{name}": content}),
            machine.models.update({name: {"source": f"{server.url}/{name}"}}),
        )
        yield machine


def used_bytes(machine):
    return machine.run("df")["used_bytes"]


def test_what_is_on_disk_already_does_not_count_against_the_file_itself(chunked):
    chunked.head["cache"]["maxSize"] = "10MiB"
    chunked.want("x", os.urandom(7 * MIB))
    chunked.chunked.rate = 10 * MIB
    running = chunked.start("apply")
    while chunked.chunked.sent < 5 * MIB:
        time.sleep(0.01)
    running.terminate()
    running.communicate()
    assert chunked.partials()
    chunked.chunked.rate = None
    chunked.apply()
    assert chunked.placed("x", "x").stat().st_size == 7 * MIB


def test_two_that_do_not_fit_together_never_pass_the_limit_nor_come_twice(chunked):
    chunked.head["cache"]["maxSize"] = "10MiB"
    chunked.want("x", os.urandom(6 * MIB))
    chunked.want("y", os.urandom(6 * MIB))
    failed = [each for each in chunked.apply(code=4)["outcomes"] if each["status"] == "failed"]
    assert [each["reason"] for each in failed] == ["no_room"]
    assert used_bytes(chunked) <= 10 * MIB
    assert chunked.partials() == []
    later = failed[0]["model"]
    chunked.chunked.got.clear()
    plan = chunked.plan()
    assert (kinds(plan), [(each["model"], each["reason"]) for each in plan["deferred"]]) == ({}, [(later, "no_room")])
    assert chunked.apply(code=3)["outcomes"] == []
    assert chunked.chunked.got == []
    chunked.head["cache"]["maxSize"] = "20MiB"
    chunked.apply()
    assert chunked.placed(later, later).stat().st_size == 6 * MIB


def test_a_size_that_was_seen_once_is_reckoned_with_after_an_eviction(chunked):
    chunked.head["cache"]["maxSize"] = "10MiB"
    chunked.head["cache"]["maxEvictions"] = "100%"
    chunked.want("x", os.urandom(6 * MIB))
    chunked.apply()
    chunked.model("first", os.urandom(6 * MIB), priority="high")
    chunked.apply(code=3)
    chunked.chunked.got.clear()
    assert chunked.apply(code=3)["outcomes"] == []
    assert chunked.chunked.got == []
