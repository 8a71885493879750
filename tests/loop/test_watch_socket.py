"""The control socket among clients that mean no good, or are many, or leave."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from watching import eventually, watching

MB = 1 << 20


def content(seed: int, size: int = 4096) -> bytes:
    return random.Random(seed).randbytes(size)


@contextlib.contextmanager
def connected(machine):
    link = socket.socket(socket.AF_UNIX)
    folder = os.open(machine.store, os.O_RDONLY)
    try:
        link.settimeout(20)
        link.connect(f"/proc/self/fd/{folder}/control.sock")
    finally:
        os.close(folder)
    with link:
        yield link


def ask(machine, **request: object) -> dict:
    with connected(machine) as link:
        link.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(link.makefile().readline())


def test_a_line_without_end_is_refused_and_hung_up_on(machine):
    machine.model("one", content(1))
    with watching(machine), connected(machine) as link:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                link.sendall(b"x" * MB)
        with contextlib.suppress(ConnectionResetError):
            answer = link.makefile("rb").readline()
            assert json.loads(answer)["reason"] == "bad_request"
        assert ask(machine, op="live")["ok"]


@pytest.mark.slow
def test_two_hundred_clients_that_say_nothing_do_not_keep_others_out(machine):
    machine.model("one", content(1))
    with watching(machine), contextlib.ExitStack() as idle:
        for number in range(200):
            link = idle.enter_context(connected(machine))
            if number % 2:
                link.sendall(b'{"op": "sta')  # half a line
        start = time.monotonic()
        assert ask(machine, op="live")["ok"]
        assert machine.run("status")["models"]
        assert time.monotonic() - start < 20


def test_two_hundred_clients_at_once_are_all_answered(machine):
    machine.model("one", content(1))
    answers: list[bool] = []
    with watching(machine):
        threads = [threading.Thread(target=lambda: answers.append(ask(machine, op="live")["ok"])) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert answers == [True] * 200


def test_one_that_does_not_read_holds_up_nobody(machine):
    machine.model("one", content(1))
    with watching(machine), connected(machine) as link:
        with contextlib.suppress(TimeoutError):
            link.settimeout(1)
            for _ in range(2000):
                link.sendall(b'{"op": "status"}\n')
        digest = machine.model("two", content(2))
        machine.write()
        eventually(lambda: machine.has("two", digest))
        assert ask(machine, op="live")["ok"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_another_user_is_refused_whatever_the_mode_of_the_socket(machine):
    machine.model("one", content(1))
    script = (
        "import os, socket, sys\n"
        "os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "link = socket.socket(socket.AF_UNIX); link.settimeout(10); link.connect('control.sock')\n"
        'try:\n    link.sendall(b\'{"op": "live"}\\n\'); print(len(link.recv(100)))\n'
        "except OSError:\n    print(0)\n"
    )
    with watching(machine):
        eventually((machine.store / "control.sock").exists)
        (machine.store / "control.sock").chmod(0o666)
        done = subprocess.run(
            [sys.executable, "-c", script, str(machine.store)], check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == "0"


def test_a_store_at_the_end_of_a_long_path_is_watched_too(machine):
    machine.store = machine.folder / ("long" * 20) / ("path" * 20) / "store"
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: machine.has("one", digest))
        assert machine.run("pin", "one")
        assert ask(machine, op="live")["live"]["pid"] == watch.process.pid


def test_a_socket_that_a_killed_watch_left_is_nobody(machine):
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: machine.has("one", digest))
        watch.kill()
        assert (machine.store / "control.sock").exists()
        conditions = {row["type"]: row["reason"] for row in machine.run("status")["conditions"]}
        assert conditions["WatchHealthy"] == "no_watch"
        machine.run("pin", "one")
        machine.apply()
        with watching(machine) as second:
            assert ask(machine, op="live")["live"]["pid"] == second.process.pid


def test_a_second_watch_and_an_apply_name_the_owner(machine):
    digest = machine.model("one", content(1))
    with watching(machine) as watch:
        eventually(lambda: machine.has("one", digest))
        for verb in (["apply"], ["watch"]):
            machine.run(*verb, code=7)
            assert f"{watch.process.pid}" in machine.stderr


def test_a_verb_that_the_watch_carries_out_tells_the_same_as_without_one(machine):
    machine.model("one", content(1))
    machine.apply()

    def walk() -> list[tuple[dict, str]]:
        verbs = (("load", "one"), ("unload", "one"), ("verify", "one"), ("evict", "one"))
        return [(machine.run(*verb), machine.stderr) for verb in verbs]

    alone = walk()
    machine.apply()
    machine.run("suspend")
    with watching(machine):
        beside = walk()
    for (left, errors), (right, others) in zip(alone, beside, strict=True):
        assert shape(left) == shape(right)
        assert [(row["kind"], row["status"], row["reason"]) for row in left["outcomes"]] == [
            (row["kind"], row["status"], row["reason"]) for row in right["outcomes"]
        ]
        assert [line.split(",")[0] for line in errors.splitlines()] == [
            line.split(",")[0] for line in others.splitlines()
        ]


def shape(value: object) -> object:
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def test_who_stops_a_verb_stops_it_in_the_watch(machine, origin):
    machine.head["cache"] = {"maxSize": "200MiB", "minFreeSpace": "1MB"}
    machine.model("big", content(3, 24 * MB), download="manual", state="loaded")
    origin.rate = 4 * MB
    with watching(machine):
        running = machine.start("-o", "json", "load", "big")
        eventually(lambda: origin.sent > 4 * MB)
        row = machine.status("big")["transfer"]
        assert row["total_bytes"] == 24 * MB
        assert 0 < row["done_bytes"] < 24 * MB
        assert row["rate"] > 0
        assert row["seconds_left"] > 0
        assert (row["file"], row["files_done"], row["files_total"], row["attempt"]) == ("big.bin", 0, 1, 1)
        running.send_signal(signal.SIGINT)
        out, errors = running.communicate(timeout=10)
        assert running.returncode == 130, errors
        assert {row["status"] for row in json.loads(out)["outcomes"]} == {"cancelled"}
        eventually(lambda: not ask(machine, op="live")["live"]["running"], 3)
        assert machine.partials()
