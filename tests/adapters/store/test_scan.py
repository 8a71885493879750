"""Looking at the store changes nothing and counts every inode once."""

import os
import time
from pathlib import Path

import pytest

from reconciler.adapters.store import Store
from reconciler.core.errors import Failure
from tests.adapters.store.conftest import NOW, allocated


def test_a_store_that_is_not_there_is_empty_and_stays_away(tmp_path):
    store = Store(str(tmp_path / "none"), lambda: NOW)
    assert not store.scan().exists
    assert store.rebuild() == ()
    assert store.read_record("m") is None
    assert store.owner_pid() is None
    assert not (tmp_path / "none").exists()


def test_one_blob_under_many_names_is_counted_once(bench):
    digest = bench.blob(b"x" * 10_000)
    for name in ("a", "b", "c"):
        bench.store.place(name, [("f", digest), ("g", digest)], b"", {})
    found = bench.store.scan()
    assert len(found.placed) == 6
    assert found.used_bytes == allocated(bench.store.blob_path(digest)) == 12_288


def test_everything_in_the_store_counts_but_the_database_and_the_lock(bench):
    bench.blob(b"blob")
    files = [
        "models/m/foreign",
        "models/stray",
        "partial/abc",
        "quarantine/1-ab-bad",
        "top",
        "deep/er/.hidden",
        "blobs/x",
    ]
    for name in files:
        path = bench.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"y" * 5000)
    for name in ("state.db", "state.db-wal", "state.db-shm", "lock"):
        (bench.root / name).write_bytes(b"z" * 50_000)
    found = bench.store.scan()
    assert found.used_bytes == 4096 + len(files) * 8192
    assert found.foreign == ("blobs/x", "deep/er/.hidden", "models/stray", "top")
    assert found.foreign_bytes == 4 * 8192
    assert found.quarantine_bytes == 8192
    assert [(file.model, file.path, file.digest) for file in found.placed] == [("m", "foreign", None)]


def test_a_sparse_file_counts_what_it_takes(bench):
    path = bench.root / "partial" / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    (partial,) = bench.store.scan().partials
    assert partial.size_bytes == 1 << 30
    assert partial.allocated_bytes == 0


def test_a_partial_comes_with_the_notes_on_it(bench):
    (bench.root / "partial/k1").write_bytes(b"half")
    (bench.root / "partial/k1.json").write_text('{"url": "u"}\n["p", 0, "ab"]\n["p", 1, "cd"]\n["p", 2, "to')
    (bench.root / "partial/k2").write_bytes(b"half")
    (bench.root / "partial/k2.json").write_text("no json")
    (bench.root / "partial/k3").write_bytes(b"half")
    assert [(each.name, each.sidecar, each.notes) for each in bench.store.scan().partials] == [
        ("k1", {"url": "u"}, 2),
        ("k2", None, 0),
        ("k3", None, 0),
    ]


def test_a_partial_that_lost_its_write_bit_is_a_leftover_that_the_sweep_mends(bench):
    path = bench.root / "partial/k1"
    path.write_bytes(b"whole")
    path.chmod(0o444)
    assert bench.store.scan().leftovers == ("partial/k1",)
    bench.store.sweep()
    assert path.stat().st_mode & 0o777 == 0o644
    assert bench.store.scan().leftovers == ()


def test_links_are_not_followed(bench, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "big").write_bytes(b"x" * 100_000)
    (bench.root / "models/m").symlink_to(outside)
    (bench.root / "models/n").mkdir()
    (bench.root / "models/n/link").symlink_to(outside / "big")
    found = bench.store.scan()
    assert found.used_bytes <= 8192  # a long link takes a block of its own
    assert found.foreign == ("models/m",)
    assert [(file.path, file.digest, file.is_link) for file in found.placed] == [("link", None, True)]


def test_a_replaced_placed_file_is_no_blobs(bench):
    digest = bench.blob(b"x")
    bench.store.place("m", [("f", digest)], b"", {})
    (bench.root / "models/m/f").unlink()
    (bench.root / "models/m/f").write_bytes(b"other")
    (file,) = bench.store.scan().placed
    assert file.digest is None
    assert file.stat.size_bytes == 5


def test_a_mode_that_changed_shows_in_the_stat(bench):
    digest = bench.blob(b"x")
    bench.store.place("m", [("f", digest)], b"", {})
    (bench.root / "models/m/f").chmod(0o644)
    assert bench.store.scan().placed[0].stat.mode == 0o644


def test_reading_writes_nothing_below_the_store(bench):
    digest = bench.blob(b"x")
    bench.store.place("m", [("f", digest)], b"r", {})
    before = {path: os.lstat(path) for path in [bench.root, *bench.root.rglob("*")]}
    bench.store.scan()
    bench.store.rebuild()
    bench.store.sweep()
    bench.store.is_in_use(bench.store.blob_path(digest))
    after = {path: os.lstat(path) for path in [bench.root, *bench.root.rglob("*")]}
    assert {path: (found.st_mtime_ns, found.st_ctime_ns) for path, found in before.items()} == {
        path: (found.st_mtime_ns, found.st_ctime_ns) for path, found in after.items()
    }


def test_a_thousand_models_are_looked_at_in_an_instant(bench):
    for number in range(1000):
        name = f"{number:064x}"[::-1]
        shard = bench.root / "blobs/sha256" / name[:2]
        shard.mkdir(parents=True, exist_ok=True)
        (shard / name).write_bytes(b"x")
        model = bench.root / "models" / f"m{number}"
        model.mkdir()
        os.link(shard / name, model / "f")
    best = min(_timed(bench.store.scan) for _ in range(5))
    assert len(bench.store.scan().placed) == 1000
    assert best < 0.1  # 14 ms here; the rest is for a busy machine


def _timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_a_store_that_is_a_file_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Failure) as caught:
        Store(str(tmp_path / "file"), lambda: NOW).create()
    assert caught.value.reason == "store_not_a_folder"
    assert caught.value.hint


def test_the_folders_have_their_modes_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        Store(str(tmp_path / "a" / "store"), lambda: NOW).create()
    finally:
        os.umask(before)
    root = tmp_path / "a" / "store"
    assert {path.name: path.stat().st_mode & 0o777 for path in root.iterdir()} == dict.fromkeys(
        ("blobs", "models", "partial", "quarantine"), 0o755
    )
    assert root.stat().st_mode & 0o777 == 0o755


def test_a_relative_root_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(Store("store", lambda: NOW).root) == tmp_path / "store"


def test_a_second_name_of_a_bad_copy_is_no_placed_file(bench):
    """A power cut may keep the name below ``models/`` of what was set aside: nobody shall take it for the model."""
    digest = bench.blob(b"rotten")
    bench.store.place("m", [("f", digest)], b"", {})
    bench.store.quarantine(digest, "bad")
    found = bench.store.scan()
    assert [copy.digest for copy in found.quarantined] == [digest]
    assert found.placed == ()
