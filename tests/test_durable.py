"""A file is written whole or not at all."""

import os

import pytest

from reconciler import durable


def test_it_stands_there_with_its_mode_and_nothing_beside_it(tmp_path):
    place = tmp_path / "plan.json"
    place.write_text("old")
    durable.write_whole(place, b"new", durable.PUBLIC)
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (b"new", 0o644)
    durable.write_whole(place, b"own")
    assert place.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["plan.json"]


def test_what_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    place = tmp_path / "plan.json"
    place.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write_whole(place, b"new")
    assert (place.read_text(), os.listdir(tmp_path)) == ("old", ["plan.json"])
