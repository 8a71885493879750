"""What a running watch keeps in its store beside the models is taken away or harmed: it makes it anew."""

import os

import pytest
from watching import eventually, watching


@pytest.mark.slow
def test_a_database_that_is_damaged_under_the_watch_is_rebuilt(machine, origin):
    digest = machine.model("one", b"one" * 1000)
    with watching(machine, "--interval", "1h") as watch:
        eventually(lambda: machine.has("one", digest) and watch.lines("pass_finished"))
        for path in machine.store.glob("state.db*"):
            with path.open("r+b") as file:
                file.write(os.urandom(4096))
        machine.placed("one").unlink()
        eventually(lambda: machine.has("one", digest), 5)
        asked = len(origin.requests)
        new = machine.model("new", b"new" * 1000)
        machine.write()
        eventually(lambda: machine.has("new", new), 3)
        assert {path for _, path, _ in origin.requests[asked:]} == {"/new.bin"}, "what is here is not fetched again"

        # what SQLite has in memory may serve the watch for a while, and nobody else
        eventually(lambda: "ledger_rebuilt" in [reason for reason, _ in machine.told()], 15)
        assert watch.stop() == 0
    machine.manifest.unlink()
    machine.write = lambda: None
    with watching(machine, write=False):
        machine.placed("one").unlink()
        eventually(lambda: machine.has("one", digest), 5, "the last good manifest was kept again")


def test_a_socket_that_is_taken_away_is_made_again(machine):
    digest = machine.model("one", b"one" * 1000)
    with watching(machine, "--interval", "1h"):
        eventually(lambda: machine.has("one", digest))
        (machine.store / "control.sock").unlink()
        eventually((machine.store / "control.sock").exists, 3)
        assert (machine.store / "control.sock").stat().st_mode & 0o777 == 0o600
        machine.run("pin", "one")


def test_a_lock_that_is_taken_away_is_held_again(machine):
    digest = machine.model("one", b"one" * 1000)
    with watching(machine, "--interval", "1h") as watch:
        eventually(lambda: machine.has("one", digest))
        before = (machine.store / "lock").stat().st_ino
        (machine.store / "lock").unlink()
        eventually(lambda: (machine.store / "lock").exists() and (machine.store / "lock").stat().st_ino != before, 3)
        machine.apply(code=7)
        assert str(watch.process.pid) in machine.stderr
        assert watch.stop() == 0
    machine.apply()


@pytest.mark.slow
def test_what_stands_in_place_of_a_models_folder_is_told_and_once_gone_all_is_well(machine):
    digest = machine.model("one", b"one" * 1000)
    folder = machine.store / "models" / "one"

    def stalled() -> str:
        rows = machine.run("status")["conditions"]
        return next(row["reason"] for row in rows if row["type"] == "Stalled" and row["status"] == "True")

    with watching(machine, "--interval", "1h"):
        eventually(lambda: machine.has("one", digest))
        machine.placed("one").unlink()
        folder.rmdir()
        folder.write_text("in the way")
        eventually(lambda: machine.status("one")["reason"] == "unexpected_file", 5)
        assert stalled() == "unexpected_file"
        folder.unlink()
        eventually(lambda: machine.has("one", digest), 5)
        folder.rename(machine.folder / "moved")
        folder.symlink_to(machine.folder / "moved")
        eventually(lambda: machine.status("one")["reason"] == "path_escape", 5)
        assert stalled() == "path_escape"
        folder.unlink()
        eventually(lambda: machine.has("one", digest), 5)
