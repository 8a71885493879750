"""A model's folder: swapped whole, strangers' files kept, links never followed."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.adapters.store import place as place_module
from reconciler.core.errors import Failure


def test_a_placed_file_is_the_blob_itself(bench):
    digest = bench.blob(b"one")
    bench.store.place("m", [("sub/dir/f.bin", digest)], b"{}", {})
    assert bench.placed("m") == {"sub/dir/f.bin": b"one"}
    assert (bench.root / "models/m/sub/dir/f.bin").stat().st_ino == bench.store.stat_blob(digest).inode
    assert bench.files_below("partial") == []
    assert sorted(path.name for path in (bench.root / "partial").iterdir()) == []


def test_the_record_is_read_back_and_can_be_replaced(bench):
    bench.store.place("m", [("f", bench.blob(b"one"))], b'{"a":1}', {})
    assert bench.store.read_record("m") == b'{"a":1}'
    assert bench.store.write_record("m", b'{"a":2}')
    assert bench.store.read_record("m") == b'{"a":2}'
    assert bench.store.read_record("nobody") is None
    assert not bench.store.write_record("nobody", b"x")


def test_a_new_revision_replaces_exactly_the_old_files(bench):
    old, new = bench.blob(b"old"), bench.blob(b"new")
    bench.store.place("m", [("f", old), ("gone/g", old)], b"", {})
    told = bench.store.place("m", [("f", new)], b"", {"f": old, "gone/g": old})
    assert bench.placed("m") == {"f": b"new"}
    assert not (bench.root / "models/m/gone").exists()
    assert told.removed == ("f", "gone/g")
    assert Path(bench.store.blob_path(old)).read_bytes() == b"old"


def test_an_open_reader_of_the_old_revision_keeps_its_bytes(bench):
    old, new = bench.blob(b"old"), bench.blob(b"new")
    bench.store.place("m", [("f", old)], b"", {})
    with (bench.root / "models/m/f").open("rb") as reader:
        bench.store.place("m", [("f", new)], b"", {"f": old})
        bench.store.remove_blob(old)
        assert reader.read() == b"old"


def test_foreign_files_survive_a_swap_and_a_removal_unchanged(bench):
    old, new = bench.blob(b"old"), bench.blob(b"new")
    bench.store.place("m", [("f", old)], b"", {})
    note = bench.root / "models/m/notes/todo.txt"
    note.parent.mkdir()
    note.write_text("mine")
    (bench.root / "models/m/.hidden").write_text("too")
    (bench.root / "models/m/dangling").symlink_to("/nowhere")
    before = note.stat()
    told = bench.store.place("m", [("f", new)], b"", {"f": old})
    assert told.kept == (".hidden", "dangling", "notes/todo.txt")
    assert bench.placed("m") == {".hidden": b"too", "f": b"new", "notes/todo.txt": b"mine"}
    told = bench.store.unplace("m", {"f": new})
    assert (told.removed, told.kept) == (("f",), (".hidden", "dangling", "notes/todo.txt"))
    assert bench.placed("m") == {".hidden": b"too", "notes/todo.txt": b"mine"}
    assert os.readlink(bench.root / "models/m/dangling") == "/nowhere"
    after = note.stat()
    assert (before.st_ino, before.st_mode, before.st_mtime_ns) == (after.st_ino, after.st_mode, after.st_mtime_ns)
    assert after.st_nlink == 1


@pytest.mark.parametrize("path", ["f", "f/deeper", "sub"])
def test_a_foreign_file_in_the_way_refuses_and_changes_nothing(bench, path):
    folder = bench.root / "models/m"
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_text("mine")
    digest = bench.blob(b"new")
    with pytest.raises(Failure) as caught:
        bench.store.place("m", [("f", digest), ("sub/g", digest)], b"", {})
    assert caught.value.reason == "foreign_file"
    assert bench.placed("m") == {path: b"mine"}
    assert bench.files_below("partial") == []


def test_a_known_file_that_was_replaced_is_set_aside_not_lost(bench):
    digest = bench.blob(b"ours")
    bench.store.place("m", [("f", digest)], b"", {})
    placed = bench.root / "models/m/f"
    placed.unlink()
    placed.write_bytes(b"edited by hand")
    told = bench.store.place("m", [("f", digest)], b"", {"f": digest})
    assert told.set_aside == ("f",)
    assert bench.placed("m") == {"f": b"ours"}
    (copy,) = bench.files_below("quarantine")
    assert Path(bench.store.quarantine_path(copy)).read_bytes() == b"edited by hand"


def test_a_quarantined_blob_may_still_be_placed_and_is_then_replaced(bench):
    digest = bench.blob(b"ours")
    bench.store.place("m", [("f", digest)], b"", {})
    bench.store.quarantine(digest, "digest_mismatch")
    bench.blob(b"ours")
    told = bench.store.place("m", [("f", digest)], b"", {"f": digest})
    assert (told.removed, told.set_aside) == (("f",), ())
    assert len(bench.files_below("quarantine")) == 1
    assert (bench.root / "models/m/f").stat().st_ino == bench.store.stat_blob(digest).inode


def test_unplacing_leaves_the_blobs_and_no_empty_folder(bench):
    digest = bench.blob(b"x")
    bench.store.place("m", [("a/b/c", digest)], b"", {})
    assert bench.store.unplace("m", {"a/b/c": digest}).removed == ("a/b/c",)
    assert bench.store.unplace("m", {"a/b/c": digest}).removed == ()
    assert list((bench.root / "models").iterdir()) == []
    assert bench.store.stat_blob(digest) is not None


def test_our_files_are_told_without_any_ledger(bench):
    digest = bench.blob(b"x")
    bench.store.place("m", [("f", digest)], b"", {})
    assert bench.store.unplace("m", {}).removed == ("f",)


def test_a_missing_blob_places_nothing(bench):
    have = bench.blob(b"have")
    bench.store.place("m", [("f", have)], b"", {})
    with pytest.raises(Failure) as caught:
        bench.store.place("m", [("f", have), ("g", "sha256:" + "0" * 64)], b"", {"f": have})
    assert caught.value.reason == "blob_missing"
    assert bench.placed("m") == {"f": b"have"}
    assert bench.files_below("partial") == []


@pytest.mark.parametrize("path", ["../f", "/etc/f", "a/../../f", "a\x00b", "", "a//b"])
def test_a_path_that_leaves_the_model_is_refused(bench, path):
    digest = bench.blob(b"x")
    with pytest.raises(Failure) as caught:
        bench.store.place("m", [(path, digest)], b"", {})
    assert caught.value.reason == "hostile_name"


@pytest.mark.parametrize("model", ["..", "a/b", "", "."])
def test_a_model_name_that_is_no_single_folder_is_refused(bench, model):
    with pytest.raises(Failure) as caught:
        bench.store.place(model, [("f", bench.blob(b"x"))], b"", {})
    assert caught.value.reason == "hostile_name"


def test_a_link_in_place_of_a_models_folder_is_not_followed(bench, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"precious")
    (bench.root / "models/m").symlink_to(outside)
    with pytest.raises(Failure):
        bench.store.place("m", [("f", bench.blob(b"x"))], b"", {})
    with pytest.raises(Failure):
        bench.store.unplace("m", {"f": bench.blob(b"x")})
    assert (outside / "f").read_bytes() == b"precious"
    assert bench.files_below("partial") == []


def test_a_link_in_place_of_the_models_folder_is_not_followed(bench, tmp_path):
    outside = tmp_path / "outside"
    (outside / "m").mkdir(parents=True)
    (outside / "m" / "f").write_bytes(b"precious")
    (bench.root / "models").rmdir()
    (bench.root / "models").symlink_to(outside)
    with pytest.raises(Failure) as caught:
        bench.store.unplace("m", {"f": bench.blob(b"x")})
    assert caught.value.reason == "path_escape"
    assert (outside / "m" / "f").read_bytes() == b"precious"


def test_without_exchange_the_swap_still_works_and_keeps_foreign_files(bench, monkeypatch):
    old, new = bench.blob(b"old"), bench.blob(b"new")
    bench.store.place("m", [("f", old)], b"", {})
    (bench.root / "models/m/mine").write_text("mine")
    monkeypatch.setattr(place_module, "exchange", lambda *_, **__: False)
    bench.store.place("m", [("f", new)], b"", {"f": old})
    assert bench.placed("m") == {"f": b"new", "mine": b"mine"}
    assert list((bench.root / "partial").iterdir()) == []


def test_without_hard_links_relative_links_are_placed_and_known_as_ours(bench, monkeypatch):
    real = os.link

    def no_links_to_blobs(source, target, **kwargs):
        if len(source) == 64:
            raise OSError(1, "Operation not permitted")
        return real(source, target, **kwargs)

    monkeypatch.setattr(os, "link", no_links_to_blobs)
    digest = bench.blob(b"x")
    bench.store.place("m", [("f", digest), ("sub/g", digest)], b"", {})
    assert bench.placed("m") == {"f": b"x", "sub/g": b"x"}
    assert {(file.path, file.digest, file.is_link) for file in bench.store.scan().placed} == {
        ("f", digest, True),
        ("sub/g", digest, True),
    }
    assert bench.store.unplace("m", {}).removed == ("f", "sub/g")


def test_the_store_tells_its_models_without_a_ledger(bench):
    digest = bench.blob(b"x")
    bench.store.place("m", [("f", digest)], b'{"spec":1}', {})
    (bench.root / "models/m/mine").write_text("mine")
    (bench.root / "models/theirs").mkdir()
    (bench.root / "models/theirs/w").write_text("w")
    first, second = bench.store.rebuild()
    assert (first.name, first.record) == ("m", b'{"spec":1}')
    assert [(file.path, file.digest) for file in first.files] == [("f", digest), ("mine", None)]
    assert (second.name, second.record, second.files[0].digest) == ("theirs", None, None)


def test_many_models_are_placed_side_by_side(bench):
    shared = bench.blob(b"shared")
    own = [bench.blob(b"%d" % number) for number in range(24)]

    def change(number):
        model = f"m{number % 12}"
        bench.store.place(model, [("s", shared), ("o", own[number])], b"", {"s": shared, "o": own[number % 12]})

    for half in (range(12), range(12, 24)):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(change, half))
    assert {path.name for path in (bench.root / "models").iterdir()} == {f"m{number}" for number in range(12)}
    assert all(bench.placed(f"m{number}") == {"s": b"shared", "o": b"%d" % (number + 12)} for number in range(12))
    assert list((bench.root / "partial").iterdir()) == []
