"""What a crash left is finished or undone, and nobody's bytes go with it."""

import os
from pathlib import Path


def test_a_folder_that_was_being_prepared_goes_and_its_blobs_stay(bench):
    digest = bench.blob(b"x")
    staged = bench.root / "partial/.place-ab/m"
    staged.mkdir(parents=True)
    os.link(bench.store.blob_path(digest), staged / "f")
    assert bench.store.scan().leftovers == ("partial/.place-ab",)
    assert bench.store.sweep() == (".place-ab",)
    assert list((bench.root / "partial").iterdir()) == []
    assert Path(bench.store.blob_path(digest)).read_bytes() == b"x"
    assert not (bench.root / "models/m").exists()


def test_a_strangers_file_in_an_old_folder_comes_back(bench):
    old = bench.root / "partial/.place-ab/m/sub"
    old.mkdir(parents=True)
    (old / "mine").write_bytes(b"precious")
    bench.store.sweep()
    assert bench.placed("m") == {"sub/mine": b"precious"}


def test_a_strangers_file_whose_place_is_taken_goes_to_quarantine(bench):
    bench.store.place("m", [("f", bench.blob(b"x"))], b"", {})
    old = bench.root / "partial/.place-ab/m"
    old.mkdir(parents=True)
    (old / "f").write_bytes(b"precious")
    bench.store.sweep()
    assert bench.placed("m") == {"f": b"x"}
    (name,) = bench.files_below("quarantine")
    assert Path(bench.store.quarantine_path(name)).read_bytes() == b"precious"


def test_an_old_folder_of_a_swap_in_two_steps_goes_back_where_the_new_one_never_came(bench):
    digest = bench.blob(b"x")
    bench.store.place("m", [("f", digest)], b"record", {})
    (bench.root / "partial/.swap-ab").mkdir()
    (bench.root / "models/m").rename(bench.root / "partial/.swap-ab/m")
    staged = bench.root / "partial/.place-cd/m"
    staged.mkdir(parents=True)
    (staged / "half").symlink_to("../../../blobs/sha256/00/" + "0" * 64)
    bench.store.sweep()
    assert bench.placed("m") == {"f": b"x"}
    assert bench.store.read_record("m") == b"record"
    assert list((bench.root / "partial").iterdir()) == []


def test_stages_and_imports_go_and_unfinished_downloads_stay(bench):
    (bench.root / "partial/.stage-ab/deep").mkdir(parents=True)
    (bench.root / "partial/.stage-ab/deep/member").write_bytes(b"x")
    (bench.root / "partial/.import-cd").write_bytes(b"half")
    (bench.root / "partial/key").write_bytes(b"half")
    (bench.root / "partial/key.json").write_text("{}")
    assert bench.store.sweep() == (".stage-ab", ".import-cd")
    assert bench.files_below("partial") == ["key", "key.json"]


def test_a_link_planted_as_a_leftover_leads_nowhere(bench, tmp_path):
    outside = tmp_path / "outside"
    (outside / "m").mkdir(parents=True)
    (outside / "m" / "f").write_bytes(b"precious")
    (bench.root / "partial/.stage-ab").symlink_to(outside)
    bench.store.sweep()
    assert (outside / "m" / "f").read_bytes() == b"precious"
    assert not (bench.root / "partial/.stage-ab").is_symlink()
