"""Harm to any of very many placed files is seen within two seconds, at a bounded cost."""

import os
import threading
import time

import pytest
from sampling import others_slow
from watching import eventually

from reconciler.watch.drift import Drift

MANY = 5000
LIMIT_S = 2.0


@pytest.fixture
def store(tmp_path):
    for number in range(MANY // 10):
        folder = tmp_path / "models" / f"m{number}"
        folder.mkdir(parents=True)
        for each in range(10):
            file = folder / f"f{each}.bin"
            file.write_bytes(b"whole")
            file.chmod(0o444)
    return tmp_path


def truncate(path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"")


def swap(path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"whole")
    fresh.replace(path)


HARMS = {
    "deleted": lambda path: path.unlink(),
    "truncated": truncate,
    "unreadable": lambda path: path.chmod(0),
    "writable": lambda path: path.chmod(0o644),
    "swapped": swap,
}


def looking(drift: Drift, rung: threading.Event, within_s: float) -> float | None:
    """Seconds until a loop that looks once a second, and whenever it is rung, sees a change."""
    start = time.monotonic()
    while time.monotonic() - start < within_s:
        if drift.has_changed():
            return time.monotonic() - start
        rung.wait(0.2)
        rung.clear()
    return None


@pytest.mark.parametrize("harm", others_slow(*HARMS))
def test_harm_to_one_of_five_thousand_files_is_seen_within_two_seconds(store, harm):
    rung = threading.Event()
    drift = Drift(str(store), rung.set)
    try:
        drift.rebase()
        time.sleep(0.3)  # the ears open
        assert looking(drift, rung, 0.5) is None
        HARMS[harm](store / "models" / "m17" / "f3.bin")
        took = looking(drift, rung, LIMIT_S)
        assert took is not None
    finally:
        drift.close()


def test_without_events_the_sweep_finds_it_within_two_seconds_too(store, monkeypatch):
    monkeypatch.setattr("watchfiles.watch", lambda *_, **__: (_ for _ in ()).throw(OSError("no events to be had")))
    rung = threading.Event()
    drift = Drift(str(store), rung.set)
    drift.rebase()
    eventually(lambda: drift.trouble)
    (store / "models" / "m499" / "f9.bin").chmod(0o644)
    assert looking(drift, rung, LIMIT_S) is not None


@pytest.mark.slow
def test_a_blob_that_is_changed_under_its_other_name_is_found_by_the_sweep(store):
    path = store / "models" / "m0" / "f0.bin"
    blob = store / "blob"
    os.link(path, blob)
    drift = Drift(str(store))
    try:
        drift.rebase()
        blob.chmod(0o644)
        assert looking(drift, threading.Event(), 10) is not None
    finally:
        drift.close()


@pytest.mark.slow
def test_looking_costs_a_bounded_share_of_a_core(store):
    drift = Drift(str(store))
    try:
        drift.rebase()
        time.sleep(0.5)
        before = time.process_time()
        assert looking(drift, threading.Event(), 4) is None
        assert (time.process_time() - before) / 4 < 0.02
    finally:
        drift.close()


def test_a_model_that_nobody_placed_is_seen(store):
    drift = Drift(str(store))
    try:
        drift.rebase()
        (store / "models" / "stranger").mkdir()
        assert looking(drift, threading.Event(), LIMIT_S) is not None
    finally:
        drift.close()
