"""Blobs: commit, import, adopt, set aside, remove."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from reconciler.core.errors import Failure, FailureKind
from tests.adapters.store.conftest import NOW


def sha(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_a_committed_blob_is_read_only_under_its_digest_and_its_partial_is_gone(bench):
    digest = bench.blob(b"weights")
    path = Path(bench.store.blob_path(digest))
    assert path.read_bytes() == b"weights"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert path.relative_to(bench.root) == Path(f"blobs/sha256/{digest[7:9]}/{digest[7:]}")
    assert bench.files_below("partial") == []


def test_committing_content_that_is_there_keeps_the_first_blob_and_drops_the_partial(bench):
    digest = bench.blob(b"same")
    inode = bench.store.stat_blob(digest).inode
    assert bench.blob(b"same") == digest
    assert bench.store.stat_blob(digest).inode == inode
    assert bench.files_below("partial") == []


def test_a_truncated_blob_is_set_aside_for_the_verified_one(bench):
    digest = bench.blob(b"whole content")
    path = Path(bench.store.blob_path(digest))
    path.chmod(0o644)
    path.write_bytes(b"who")
    bench.blob(b"whole content")
    assert path.read_bytes() == b"whole content"
    assert len(bench.files_below("quarantine")) == 1


def test_a_partial_of_another_length_than_verified_is_not_committed(bench):
    partial = Path(bench.store.partial_path("m", "f", "x"))
    partial.write_bytes(b"short")
    with pytest.raises(Failure) as caught:
        bench.store.commit(str(partial), sha(b"longer"), 6)
    assert caught.value.reason == "size_mismatch"
    assert partial.read_bytes() == b"short"
    assert bench.files_below("blobs") == []


def test_many_commits_give_stats_in_the_order_asked(bench):
    finished = []
    for number in range(20):
        content = b"%d" % number * (number + 1)
        path = Path(bench.store.partial_path("m", str(number), "x"))
        path.write_bytes(content)
        finished.append((str(path), sha(content), len(content)))
    stats = bench.store.commit_many(finished)
    assert [found.size_bytes for found in stats] == [size for _, _, size in finished]
    assert all(bench.store.stat_blob(digest) == found for (_, digest, _), found in zip(finished, stats, strict=True))


def test_a_partial_that_is_a_link_is_refused(bench, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    partial = Path(bench.store.partial_path("m", "f", "x"))
    partial.symlink_to(outside)
    with pytest.raises(Failure) as caught:
        bench.store.commit(str(partial), sha(b"secret"), 6)
    assert caught.value.reason == "path_escape"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_a_path_outside_the_store_is_never_committed(bench, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    with pytest.raises(Failure) as caught:
        bench.store.commit(str(outside), sha(b"mine"), 4)
    assert caught.value.reason == "outside_store"
    assert outside.read_bytes() == b"mine"


def test_a_planted_link_in_place_of_a_blob_folder_is_refused(bench, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    digest = sha(b"x")
    (bench.root / "blobs" / "sha256").mkdir()
    (bench.root / "blobs" / "sha256" / digest[7:9]).symlink_to(elsewhere)
    with pytest.raises(Failure) as caught:
        bench.blob(b"x")
    assert (caught.value.kind, caught.value.reason) == (FailureKind.REFUSED, "path_escape")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:", "md5:" + "0" * 32, "sha256:" + "g" * 64])
def test_what_is_no_digest_never_becomes_a_path(bench, digest):
    with pytest.raises(Failure) as caught:
        bench.store.blob_path(digest)
    assert caught.value.reason == "bad_digest"


def test_a_foreign_writable_file_is_copied_in_and_stays_as_it_is(bench, tmp_path):
    source = tmp_path / "cache.bin"
    source.write_bytes(b"z" * 100_000)
    os.utime(source, ns=(1_000_000_000, 2_000_000_000))
    before = source.stat()
    found = bench.store.import_file(str(source), sha(b"z" * 100_000))
    after = source.stat()
    assert found.inode != before.st_ino
    same = ("st_ino", "st_mode", "st_mtime_ns", "st_atime_ns", "st_nlink", "st_size")
    assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]
    assert Path(bench.store.blob_path(sha(b"z" * 100_000))).stat().st_mode & 0o777 == 0o444
    assert bench.files_below("partial") == []


def test_a_foreign_read_only_file_of_ours_is_linked(bench, tmp_path):
    source = tmp_path / "cache.bin"
    source.write_bytes(b"linked")
    source.chmod(0o444)
    assert bench.store.import_file(str(source), sha(b"linked")).inode == source.stat().st_ino


def test_a_foreign_file_behind_a_link_is_brought_in_itself(bench, tmp_path):
    source = tmp_path / "blob"
    source.write_bytes(b"real")
    source.chmod(0o444)
    (tmp_path / "snapshot").symlink_to("blob")
    assert bench.store.import_file(str(tmp_path / "snapshot"), sha(b"real")).inode == source.stat().st_ino


@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_a_foreign_file_with_other_content_is_not_taken(bench, tmp_path, mode):
    source = tmp_path / "cache.bin"
    source.write_bytes(b"something else")
    source.chmod(mode)
    with pytest.raises(Failure) as caught:
        bench.store.import_file(str(source), sha(b"expected"))
    assert caught.value.reason == "digest_mismatch"
    assert bench.files_below("blobs") == []
    assert bench.files_below("partial") == []


def test_adopting_makes_the_file_a_blob_where_it_lies(bench):
    folder = bench.root / "models" / "mine" / "sub"
    folder.mkdir(parents=True)
    (folder / "w.bin").write_bytes(b"by hand")
    inode = (folder / "w.bin").stat().st_ino
    digest, found = bench.store.adopt_file("mine", "sub/w.bin")
    assert digest == sha(b"by hand")
    assert found.inode == inode == (folder / "w.bin").stat().st_ino
    assert [file.digest for file in bench.store.scan().placed] == [digest]


def test_adopting_content_that_is_a_blob_already_ends_as_one_copy(bench):
    digest = bench.blob(b"twice")
    folder = bench.root / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "w.bin").write_bytes(b"twice")
    adopted, found = bench.store.adopt_file("mine", "w.bin")
    assert adopted == digest
    assert found.inode == (folder / "w.bin").stat().st_ino == bench.store.stat_blob(digest).inode
    assert bench.placed("mine") == {"w.bin": b"twice"}


def test_adopting_a_file_that_has_another_name_outside_leaves_that_inode_alone(bench, tmp_path):
    folder = bench.root / "models" / "mine"
    folder.mkdir(parents=True)
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"shared")
    os.link(outside, folder / "w.bin")
    bench.store.adopt_file("mine", "w.bin")
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644
    assert (folder / "w.bin").stat().st_ino != outside.stat().st_ino


def test_a_file_that_is_still_written_is_not_adopted(bench):
    folder = bench.root / "models" / "mine"
    folder.mkdir(parents=True)
    with (folder / "w.bin").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        with pytest.raises(Failure) as caught:
            bench.store.adopt_file("mine", "w.bin")
    assert caught.value.reason == "in_use"


def test_removing_a_blob_tells_what_was_freed_and_a_second_time_nothing(bench):
    digest = bench.blob(b"x" * 5000)
    assert bench.store.remove_blob(digest) == 8192
    assert bench.store.remove_blob(digest) == 0
    assert bench.store.stat_blob(digest) is None


def test_sealing_gives_a_blob_its_mode_back(bench):
    digest = bench.blob(b"x")
    Path(bench.store.blob_path(digest)).chmod(0o666)
    assert bench.store.seal_blob(digest).mode == 0o444


def test_a_quarantined_blob_keeps_its_bytes_and_tells_when_and_why(bench):
    digest = bench.blob(b"rotten")
    name = bench.store.quarantine(digest, "Digest mismatch!")
    assert Path(bench.store.quarantine_path(name)).read_bytes() == b"rotten"
    (copy,) = bench.store.scan().quarantined
    assert (copy.name, copy.since, copy.reason, copy.digest) == (name, NOW, "digest_mismatch_", digest)
    assert bench.store.stat_blob(digest) is None


def test_the_quarantine_is_cleaned_by_age(bench):
    bench.store.quarantine(bench.blob(b"old"), "bad")
    assert bench.store.clean_quarantine(older_than=NOW) == 0
    assert bench.store.clean_quarantine(older_than=NOW + 1) == 4096
    assert bench.files_below("quarantine") == []


def test_removing_a_partial_takes_the_notes_on_it_too(bench):
    path = Path(bench.store.partial_path("m", "f", "x"))
    path.write_bytes(b"half")
    path.with_name(path.name + ".json").write_text("{}")
    bench.store.remove_partial(path.name)
    bench.store.remove_partial(path.name)
    assert bench.files_below("partial") == []


def test_a_stage_is_made_fresh_and_dropped_whole(bench):
    stage = Path(bench.store.make_stage())
    (stage / "a").mkdir()
    (stage / "a" / "b").write_bytes(b"x")
    assert Path(bench.store.make_stage()) != stage
    bench.store.drop_stage(str(stage))
    bench.store.drop_stage(str(stage))
    assert not stage.exists()


def test_dropping_a_stage_follows_no_link(bench, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    stage = Path(bench.store.make_stage())
    (stage / "trap").symlink_to(outside)
    bench.store.drop_stage(str(stage))
    assert (outside / "precious").exists()


def test_sealing_leaves_a_strangers_name_of_the_same_file_as_it_is(bench, tmp_path):
    digest = bench.blob(b"x" * 5000)
    bench.store.place("m", [("a/b.bin", digest)], b"{}", {})
    blob, placed, foreign = (
        Path(bench.store.blob_path(digest)),
        Path(bench.store.placed_path("m", "a/b.bin")),
        tmp_path / "foreign.bin",
    )
    foreign.hardlink_to(blob)
    foreign.chmod(0o644)
    assert bench.store.seal_blob(digest, [("m", "a/b.bin")]).mode == 0o444
    assert (foreign.stat().st_mode & 0o777, foreign.stat().st_nlink) == (0o644, 1)
    assert placed.samefile(blob)
    assert placed.read_bytes() == b"x" * 5000
    blob.chmod(0o600)
    inode = blob.stat().st_ino
    assert bench.store.seal_blob(digest, [("m", "a/b.bin")]).inode == inode
