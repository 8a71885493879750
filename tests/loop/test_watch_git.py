"""The watch over a real smart-HTTP Git server: pushes, reverts, outages, and a start without network."""

import random

from git_made import Remote, git_server
from watching import eventually, watching


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(4096)


def push(machine, remote: Remote, message: str) -> str:
    """Commit what the machine's manifest says now."""
    machine.write()
    return remote.commit(message)


def test_a_push_and_its_revert_are_followed_and_an_outage_changes_nothing(machine, tmp_path):
    remote = Remote(tmp_path / "remote")
    machine.manifest = remote.work / "models.yaml"
    first = machine.model("one", content(1))
    push(machine, remote, "one")
    with git_server(remote.root) as server:
        arguments = ("--git", f"{server.url()}#main", "--git-interval", "1s")
        with watching(machine, *arguments, write=False) as watch:
            eventually(lambda: machine.has("one", first))
            second = machine.model("one", content(2))
            pushed = push(machine, remote, "two")
            eventually(lambda: machine.has("one", second), 6)
            remote.git("revert", "--no-edit", "HEAD")
            reverted = remote.commit("revert")
            eventually(lambda: machine.has("one", first), 6)
            fetched = [line["revision"] for line in watch.lines("source_fetched")]
            assert fetched[-2:] == [pushed, reverted]
            server.answers["/"] = (503, {})
            eventually(lambda: watch.lines("source_unreachable"), 6)
            machine.placed("one").unlink()
            eventually(lambda: machine.has("one", first), 6)
        machine.placed("one").unlink()
        with watching(machine, *arguments, write=False):
            eventually(lambda: machine.has("one", first), 8)
        server.answers.clear()
        third = machine.model("one", content(3))
        push(machine, remote, "three")
        with watching(machine, *arguments, write=False):
            eventually(lambda: machine.has("one", third), 8)
