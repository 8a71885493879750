"""Since when a condition has been as it is: over looks, over a stop, over a restart; with and without a watch."""

import time

import pytest
from watching import eventually, watching


def rows(machine, *arguments: str) -> dict[str, dict]:
    return {row["type"]: row for row in machine.run("status", *arguments)["conditions"]}


def times(found: dict[str, dict], *kinds: str) -> list[str]:
    return [found[kind]["last_transition_time"] for kind in kinds or found]


def is_at_rest(machine) -> bool:
    """Ready in the watch's own eyes: until it has looked again, whoever asks may see the files sooner than the watch."""
    found = rows(machine)
    if (found["Ready"]["status"], found["Reconciling"]["status"]) != ("True", "False"):
        return False
    time.sleep(0.5)
    return times(rows(machine), "Ready") == times(found, "Ready")


def test_two_looks_without_a_watch_tell_the_same_times(machine):
    machine.model("one", b"one" * 1000)
    machine.apply()
    before = rows(machine)
    time.sleep(0.02)
    assert times(rows(machine)) == times(before)


@pytest.mark.slow
def test_the_times_stand_while_nothing_turns_over_a_restart_too(machine):
    machine.model("one", b"one" * 1000)
    steady = ("Ready", "Stalled", "ManifestValid", "DiskPressure", "Suspended")
    with watching(machine) as watch:
        eventually(lambda: is_at_rest(machine))
        before = times(rows(machine), *steady)
        time.sleep(1.1)
        assert times(rows(machine), *steady) == before
        assert watch.stop() == 0
    assert times(rows(machine), *steady) == before
    with watching(machine):
        eventually(lambda: rows(machine)["WatchHealthy"]["status"] == "True")
        assert times(rows(machine), *steady) == before


def test_a_rejected_manifest_is_dated_once_and_outlives_the_watch(machine):
    machine.manifest = machine.folder / "fleet.yaml"  # none that is found without -f
    machine.model("one", b"one" * 1000)
    with watching(machine) as watch:
        eventually(lambda: rows(machine)["Ready"]["status"] == "True")
        machine.write = lambda: None
        machine.manifest.write_text("models: [")
        command = machine.command
        machine.command = lambda *words: [word for word in command(*words) if word not in ("-f", str(machine.manifest))]
        eventually(lambda: rows(machine)["ManifestValid"]["status"] == "False")
        since = rows(machine)["ManifestValid"]["last_transition_time"]
        time.sleep(0.05)
        assert rows(machine)["ManifestValid"]["last_transition_time"] == since
        assert watch.stop() == 0
    after = rows(machine)
    assert after["ManifestValid"]["status"] == "False"
    assert "last good one stays in force" in after["ManifestValid"]["message"]
    assert after["ManifestValid"]["last_transition_time"] == since
    assert after["Ready"]["status"] == "True"


def test_what_is_being_downloaded_says_so(machine, origin):
    machine.model("big", bytes(range(256)) * 4 * 8192)
    origin.rate = 2 << 20
    with watching(machine):
        eventually(lambda: origin.sent > 1 << 20)
        assert machine.status("big")["lifecycle"] == "downloading"
        origin.rate = None
        eventually(lambda: machine.status("big")["state"] == "present")


@pytest.mark.parametrize(
    "words",
    [
        ("watch", "--interval", "0"),
        ("watch", "--git", "https://h.example/r", "--git-interval", "0s"),
        ("watch", "--git", "git://h.example/r"),
        ("watch", "--git=-uhooks"),
        ("watch", "--git", "https://h.example/r#-x"),
        ("watch", "--git", "https://h.example/r#\udcff"),
        ("watch", "--git", "https://h.example/r", "--git-path", "../out.yaml"),
        ("watch", "--git", "https://h.example/r", "--git-path", "\udcff.yaml"),
        ("watch", "--git", "file:///srv/\udcff.git"),
        ("suspend", "--until", "2020-01-01T00:00:00Z"),
        ("suspend", "--until", "0s"),
    ],
    ids=lambda words: ascii(" ".join(words)),
)
def test_what_can_never_work_is_a_usage_error(machine, words):
    document = machine.run(*words, code=64)
    assert document["kind"] == "Error"
    assert words[0] != "watch" or not machine.store.exists()
