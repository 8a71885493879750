"""``partial/`` holds no file once nothing is unfinished, whatever the manifest asks for by then."""

import random

import pytest
from faulty import Faulty
from sampling import others_slow
from watching import eventually

MB = 1 << 20
BODY = random.Random(8).randbytes(16 * MB)


@pytest.fixture
def cut_off(machine):
    """A download of ``big`` that was killed in the middle."""
    machine.model("big", BODY)
    machine.head["network"] = {"connections": 1}
    machine.origin.rate = 16 * MB
    process = machine.start("apply")
    eventually(lambda: machine.origin.sent > 4 * MB, 20)
    process.kill()
    process.communicate(timeout=10)
    machine.origin.rate = None
    assert machine.partials()
    return machine


def absent(machine):
    machine.models["big"] = {"state": "absent"}


def removed(machine):
    del machine.models["big"]


def replaced(machine):
    machine.model("big", BODY[::-1][: 2 * MB])


def for_other_machines(machine):
    machine.models["big"]["when"] = {"arch": ["mips"]}


@pytest.mark.parametrize("change", others_slow(removed, absent, replaced, for_other_machines))
def test_what_nobody_wants_any_more_leaves_nothing_unfinished_behind(cut_off, change):
    change(cut_off)
    assert cut_off.run("status")["models"] is not None
    assert cut_off.partials(), "looking changes nothing"
    planned = [action for action in cut_off.plan()["actions"] if action["subject"] == "partial"]
    assert [action["reason"] for action in planned] in (["given_up"], ["absent"])
    cut_off.apply()
    assert cut_off.partials() == []
    assert cut_off.plan()["summary"]["changes"] == 0


def test_under_another_name_the_same_bytes_go_on_where_they_were(cut_off):
    cut_off.models["other"] = cut_off.models.pop("big")
    assert [action["kind"] for action in cut_off.plan()["actions"]] == ["download"]
    cut_off.apply()
    assert cut_off.partials() == []


def test_what_is_longer_than_declared_leaves_nothing_behind(machine):
    def answer(talk):
        if talk.method == "HEAD":
            talk.head("405 No", "Content-Length: 0")
            return
        talk.head("200 OK", 'ETag: "c"', "Transfer-Encoding: chunked")
        for start in range(0, len(BODY), 65536):
            part = BODY[start : start + 65536]
            try:
                talk.sock.sendall(b"%x\r\n" % len(part) + part + b"\r\n")
            except OSError:
                return

    with Faulty(answer) as site:
        machine.models["big"] = {"source": f"{site.url}/big.bin", "size": "5MB"}
        outcome = machine.apply(code=4)["outcomes"][0]
    assert (outcome["reason"], outcome["failure"]) == ("size_mismatch", "permanent")
    assert machine.partials() == []
