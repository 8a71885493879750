"""A source that says nothing holds up nobody but its own model; one that failed for good is not asked all the time."""

import pytest
from faulty import Faulty
from watching import eventually, watching


class Moody:
    """An origin of one file: ``mood`` is silent, gone or good."""

    def __init__(self, body: bytes) -> None:
        self.body, self.mood = body, "silent"

    def __call__(self, talk) -> None:
        while self.mood == "silent" and not talk.is_over.is_set():
            talk.hang(0.05)
        if self.mood == "gone":
            talk.head("404 Not Found", "Content-Length: 0")
        else:
            talk.serve(self.body)


@pytest.fixture
def moody():
    return Moody(b"slow" * 1000)


@pytest.fixture
def far(moody):
    with Faulty(moody) as server:
        yield server


def condition(machine, kind: str) -> tuple[str, str]:
    rows = machine.run("status")["conditions"]
    return next((row["status"], row["reason"]) for row in rows if row["type"] == kind)


def test_others_come_are_mended_and_are_loaded_while_a_source_is_silent(machine, far):
    digest = machine.model("good", b"good" * 1000)
    machine.models["silent"] = {"source": f"{far.url}/silent.bin", "sha256": "0" * 64}
    with watching(machine, "--interval", "1h") as watch:
        eventually(lambda: machine.has("good", digest), 3, "placed")
        eventually(lambda: machine.status("silent")["reason"] == "waiting_for_source", 3)
        assert condition(machine, "Reconciling") == ("True", "waiting_for_source")
        machine.placed("good").unlink()
        eventually(lambda: machine.has("good", digest), 3, "mended")
        new = machine.model("new", b"new" * 1000)
        machine.write()
        eventually(lambda: machine.has("new", new), 2, "a new one")
        machine.run("load", "good")
        assert machine.status("good")["state"] == "loaded"
        assert len(far.seen) == 1, "a question that is open is not asked again"
        assert watch.stop(within_s=3) == 0


def test_an_answer_that_comes_late_is_taken_up(machine, far, moody):
    machine.models["late"] = {"source": f"{far.url}/late.bin"}
    with watching(machine, "--interval", "1h"):
        eventually(lambda: machine.status("late").get("reason") == "waiting_for_source", 5)
        moody.mood = "good"
        eventually(lambda: machine.placed("late", "late.bin").exists(), 5)


def test_what_failed_for_good_is_looked_at_when_somebody_asks_and_not_for_others(machine, far, moody):
    moody.mood = "gone"
    digest = machine.model("good", b"good" * 1000)
    machine.models["lost"] = {"source": f"{far.url}/lost.bin", "size": len(moody.body)}
    with watching(machine, "--interval", "1h") as watch:
        eventually(lambda: machine.has("good", digest) and machine.status("lost")["reason"] == "not_found", 5)
        eventually(lambda: condition(machine, "Reconciling")[0] == "False")
        moody.mood = "silent"
        asked = len(far.seen)
        machine.placed("good").unlink()
        eventually(lambda: machine.has("good", digest), 3, "mended at once")
        machine.run("load", "good")
        assert len(far.seen) == asked
        moody.mood = "good"
        watch.process.send_signal(1)
        eventually(lambda: machine.placed("lost").exists(), 5, "it answers otherwise now")
