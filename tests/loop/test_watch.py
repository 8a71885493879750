"""The watch from outside: it takes up, repairs, keeps the last good manifest, and stops as it should."""

import json
import os
import random
import signal
import subprocess
import sys

from watching import eventually, watching

KB = 1024


def content(seed: int, size: int = 4 * KB) -> bytes:
    return random.Random(seed).randbytes(size)


def status(machine) -> dict:
    """Without ``-f``: what the daemon has in force."""
    base = [sys.executable, "-m", "reconciler", "--store", str(machine.store), "-o", "json"]
    folder = machine.folder / "elsewhere"
    folder.mkdir(exist_ok=True)
    env = {**os.environ, "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    done = subprocess.run(
        [*base, "status"], cwd=folder, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def condition(machine, kind: str) -> dict:
    return next(row for row in status(machine)["conditions"] if row["type"] == kind)


def test_a_changed_manifest_is_taken_up_within_two_seconds(machine):
    first = machine.model("one", content(1))
    with watching(machine):
        eventually(lambda: machine.has("one", first))
        second = machine.model("two", content(2))
        machine.write()
        eventually(lambda: machine.has("two", second), 2)
        assert machine.has("one", first)


def test_harm_to_a_placed_file_is_repaired_within_seconds_whatever_the_interval(machine):
    digest = machine.model("one", content(1))
    placed = machine.placed("one")

    def truncate() -> None:
        placed.chmod(0o644)
        placed.write_bytes(b"cut")

    def replace() -> None:
        placed.unlink()
        placed.write_bytes(b"something else")

    def lose() -> None:
        machine.blob(digest).unlink()
        placed.unlink()

    harms = [placed.unlink, truncate, lambda: placed.chmod(0o666), lambda: placed.chmod(0), replace, lose]
    with watching(machine, "--interval", "1h"):
        for number, harm in enumerate(harms):
            eventually(lambda: machine.has("one", digest))
            harm()
            eventually(lambda: machine.has("one", digest), 5, f"harm {number}")


def test_an_invalid_manifest_keeps_the_last_good_one_in_force_over_a_restart(machine):
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: machine.has("one", digest))
        for number, text in enumerate(["", "models: [", "apiVersion: reconciler/v1\n", None], start=1):
            if text is None:
                machine.manifest.unlink()
            else:
                machine.manifest.write_text(text)
            eventually(lambda: len(watch.lines("manifest_rejected")) == number, 4)  # noqa: B023
            machine.placed("one").unlink()
            eventually(lambda: machine.has("one", digest), 5)
            told = condition(machine, "ManifestValid")
            assert told["status"] == "False"
            assert "last good" in told["message"]
            assert len(watch.lines("manifest_rejected")) == number  # told once, not every second
    machine.placed("one").unlink()
    with watching(machine, write=False):
        eventually(lambda: machine.has("one", digest), 8)


def test_without_any_manifest_it_waits_for_one(machine):
    machine.write()
    machine.manifest.unlink()
    with watching(machine, write=False) as watch:
        eventually(lambda: watch.lines("manifest_rejected"))
        digest = machine.model("one", content(1))
        machine.write()
        eventually(lambda: machine.has("one", digest), 3)


def test_an_idle_watch_stops_with_exit_0_and_leaves_no_socket(machine):
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: machine.has("one", digest) and status(machine)["models"][0]["settled"])
        eventually(lambda: condition(machine, "Reconciling")["status"] == "False")
        assert watch.stop() == 0
        assert not (machine.store / "control.sock").exists()


def test_a_stop_in_the_middle_of_a_download_keeps_the_partial_and_exits_143(machine, origin):
    machine.model("big", content(3, 24 << 20))
    machine.head["cache"] = {"maxSize": "100MiB", "minFreeSpace": "1MB"}
    origin.rate = 8 << 20
    with watching(machine) as watch:
        eventually(lambda: origin.sent > 4 << 20)
        assert watch.stop(within_s=5) == 143
        assert machine.partials()


def test_a_second_watch_and_apply_exit_7_and_name_the_owner(machine):
    machine.model("one", content(1))
    with watching(machine) as watch:
        for verb in ("watch", "apply"):
            done = subprocess.run(machine.command(verb), capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 7
            assert str(watch.process.pid) in done.stderr


def test_a_killed_watch_goes_on_where_it_was(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    size = 40 << 20
    digests = {name: machine.model(name, content(seed, size)) for seed, name in enumerate(["a", "b", "c"])}
    origin.rate = 20 << 20
    with watching(machine) as watch:
        eventually(lambda: origin.sent > 3 * (20 << 20), 20)
        watch.kill()
    origin.rate = None
    origin.forget()
    with watching(machine):
        eventually(lambda: all(machine.has(name, digest) for name, digest in digests.items()), 20)
        assert origin.sent < 3 * (size - (18 << 20) + (16 << 20))
        assert not machine.partials()


def test_sighup_and_poke_look_again_now(machine, origin):
    origin.answers["/one.bin"] = (503, {"Retry-After": "600"})
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: watch.lines("action_failed"))
        del origin.answers["/one.bin"]
        machine.run("poke")
        eventually(lambda: machine.has("one", digest), 3)
        before = len(watch.lines())
        watch.process.send_signal(signal.SIGHUP)
        machine.placed("one").unlink()
        eventually(lambda: machine.has("one", digest) and len(watch.lines()) > before, 3)


def test_a_failing_source_is_not_asked_in_a_loop(machine, origin):
    origin.answers["/one.bin"] = (404, {})
    machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: watch.lines("action_failed"))
        asked = len(origin.requests)
        watch.process.send_signal(signal.SIGHUP)
        eventually(lambda: condition(machine, "Stalled")["status"] == "True")
        eventually(lambda: len(watch.lines()) and True)
        assert len(watch.lines("action_failed")) == 1
        assert len(origin.requests) - asked <= 3  # looking whether the source changed, once a look


def test_reading_verbs_need_no_manifest_where_a_watch_has_one(machine):
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: machine.has("one", digest))
        eventually(lambda: condition(machine, "Ready")["status"] == "True")
        assert watch.stop() == 0
    folder = machine.folder / "elsewhere"
    env = {**os.environ, "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    for verb in (["plan"], ["why", "one"], ["df"], ["status"]):
        line = [sys.executable, "-m", "reconciler", "--store", str(machine.store), "-o", "json", *verb]
        done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, (verb, done.stderr)
        assert "one" in done.stdout


def test_the_last_good_manifest_means_what_it_meant_though_its_variables_are_gone(machine):
    digest = machine.model("one", content(1))
    machine.model("two", content(2))
    machine.models["two"]["source"] += "?key=${DEMO_KEY}"
    machine.head["metadata"] = {"name": "${DEMO_NAME}"}
    with watching(machine, env={"DEMO_NAME": "kiosk", "DEMO_KEY": "hush-hush"}) as watch:
        eventually(lambda: machine.has("one", digest))
        assert watch.stop() in {0, 143}
    kept = b"".join(path.read_bytes() for path in machine.store.glob("state.db*"))
    assert b"hush-hush" not in kept, "what stands in the query of a URL is not kept"
    machine.models["two"]["source"] = machine.models["two"]["source"].partition("?")[0]
    with watching(machine, env={"DEMO_NAME": "kiosk"}) as watch:
        eventually(lambda: condition(machine, "Ready")["status"] == "True")
        assert status(machine)["observed_generation"] == status(machine)["generation"]
        assert watch.stop() == 0
    machine.placed("one").unlink()
    with watching(machine, write=False) as watch:
        eventually(lambda: machine.has("one", digest), 5)
        assert "DEMO_NAME" in condition(machine, "ManifestValid")["message"]
        assert condition(machine, "Ready")["status"] == "True"
