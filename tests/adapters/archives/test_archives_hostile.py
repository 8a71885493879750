"""One bad member refuses the whole archive, with its own reason, and leaves nothing anywhere."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile

import pytest
import zstandard
from archives_made import SKIPPED, make_tar, make_zip, unpack
from sampling import others_slow

from reconciler.core.errors import Failure, FailureKind

NAMES = [
    "../escape", "a/../../escape", "/etc/passwd", "//server/share", "C:/windows", "c:evil", "a\\b", "..\\x", "a\nb",
    "a\x1b[2Jb", "a\x7f", "a/\u202egpj", "x" * 256, "é" * 128, "d/" * 1100 + "f", "a//b", "a/..",
]  # fmt: skip


def refuse(tmp_path, path, reason, **options):
    before = {entry: os.lstat(entry).st_size for entry in tmp_path.rglob("*") if entry.is_file()}
    with pytest.raises(Failure) as caught:
        unpack(path, tmp_path / "out", **options)
    assert (caught.value.reason, caught.value.kind) == (reason, FailureKind.PERMANENT)
    assert caught.value.message.isprintable()
    assert list((tmp_path / "out").iterdir()) == []
    assert {entry: os.lstat(entry).st_size for entry in tmp_path.rglob("*") if entry.is_file()} == before


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_in_a_zip_is_refused(tmp_path, name):
    make_zip(tmp_path / "m.zip", {"good": b"1", name: b"2"})
    refuse(tmp_path, tmp_path / "m.zip", "archive_unsafe")


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_in_a_tar_is_refused(tmp_path, name):
    make_tar(tmp_path / "m.tar", {"good": b"1", name: b"2"})
    refuse(tmp_path, tmp_path / "m.tar", "archive_unsafe")


def test_a_nul_in_a_zip_name_is_refused(tmp_path):
    make_zip(tmp_path / "m.zip", {"good": b"1", "aXb": b"2"})
    data = (tmp_path / "m.zip").read_bytes().replace(b"aXb", b"a\0b")
    (tmp_path / "m.zip").write_bytes(data)
    refuse(tmp_path, tmp_path / "m.zip", "archive_unsafe")


@pytest.mark.parametrize("pair", [("a", "A"), ("é", "e\u0301"), ("a", "a."), ("ß", "ss"), ("d/x", "D/y")])
def test_names_that_collide_on_some_file_system_are_refused(tmp_path, pair):
    make_zip(tmp_path / "m.zip", dict.fromkeys(pair, b"1"))
    refuse(tmp_path, tmp_path / "m.zip", "archive_unsafe")
    make_tar(tmp_path / "m.tar", dict.fromkeys(pair, b"1"))
    refuse(tmp_path, tmp_path / "m.tar", "archive_unsafe")


@pytest.mark.parametrize("pair", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a")])
def test_a_member_that_stands_twice_or_is_also_a_folder_is_refused(tmp_path, pair):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive, tarfile.open(tmp_path / "m.tar", "w") as tar:
        for name in pair:
            if name == "a" and pair == ("a", "a"):
                with pytest.warns(UserWarning, match="Duplicate") if archive.namelist() else open(os.devnull):
                    archive.writestr(name, b"1")
            else:
                archive.writestr(name, b"1")
            tar.addfile(tarfile.TarInfo(name))
    refuse(tmp_path, tmp_path / "m.zip", "archive_unsafe")
    refuse(tmp_path, tmp_path / "m.tar", "archive_unsafe")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V", b"M"]
)
def test_a_tar_member_that_is_no_file_is_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("good"))
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "good"
        archive.addfile(info)
    refuse(tmp_path, tmp_path / "m.tar", "archive_unsafe")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_zip_member_that_is_no_file_is_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refuse(tmp_path, tmp_path / "m.zip", "archive_unsafe")


def test_a_link_then_a_file_through_it_writes_nothing_outside(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        info = tarfile.TarInfo("d")
        info.type, info.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(info)
        archive.addfile(tarfile.TarInfo("d/x"))
    refuse(tmp_path, tmp_path / "m.tar", "archive_unsafe")
    assert list(outside.iterdir()) == []


def test_a_sparse_tar_member_is_refused(tmp_path):
    with tarfile.open(tmp_path / "m.tar", "w", pax_headers={}) as archive:
        info = tarfile.TarInfo("s")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999"}
        archive.addfile(info)
    refuse(tmp_path, tmp_path / "m.tar", "archive_unsupported")


# --- zip: sizes, headers, overlaps ---------------------------------------------------------------------------------


def patched(tmp_path, change, method=zipfile.ZIP_DEFLATED, tree=None):
    """A zip whose bytes ``change(bytearray, local offset, central offset)`` altered at its last member."""
    path = tmp_path / "m.zip"
    make_zip(path, tree or {"a": b"a" * 1000, "b": b"b" * 1000}, method)
    data = bytearray(path.read_bytes())
    change(data, data.rfind(b"PK\3\4"), data.rfind(b"PK\1\2"))
    path.write_bytes(data)
    return path


def put(data, at, layout, value):
    struct.pack_into(layout, data, at, value)


def test_a_wrong_checksum_is_damage(tmp_path):
    def change(data, local, central):
        put(data, local + 14, "<I", 1)
        put(data, central + 16, "<I", 1)

    refuse(tmp_path, patched(tmp_path, change), "archive_damaged")


@pytest.mark.parametrize("size", [10, 999, 1001, 100_000])
def test_a_size_that_lies_is_damage(tmp_path, size):
    def change(data, local, central):
        put(data, local + 22, "<I", size)
        put(data, central + 24, "<I", size)

    refuse(tmp_path, patched(tmp_path, change), "archive_damaged")


def test_changed_content_is_damage(tmp_path):
    def change(data, local, central):
        data[local + 40] ^= 0xFF

    refuse(tmp_path, patched(tmp_path, change, zipfile.ZIP_STORED), "archive_damaged")


def test_a_header_that_tells_another_name_than_the_directory_is_refused(tmp_path):
    def change(data, local, central):
        data[local + 30] = ord("x")

    refuse(tmp_path, patched(tmp_path, change), "archive_unsafe")


def test_a_header_that_tells_another_size_than_the_directory_is_refused(tmp_path):
    refuse(tmp_path, patched(tmp_path, lambda data, local, _: put(data, local + 22, "<I", 7)), "archive_unsafe")


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """The core of the quadratic zip bomb: many directory entries, one local header."""

    def change(data, local, central):
        data[central + 46] = ord("a")
        first = data.find(b"PK\1\2")
        data[central : central + 46] = data[first : first + 46]

    refuse(tmp_path, patched(tmp_path, change), "archive_unsafe")


def test_a_member_that_reaches_into_the_next_is_refused(tmp_path):
    def change(data, local, central):
        first = data.find(b"PK\1\2")
        length = local - data.find(b"PK\3\4") - 31 + 20
        for at in (18, 22):
            put(data, at, "<I", length)
        for at in (20, 24):
            put(data, first + at, "<I", length)

    refuse(tmp_path, patched(tmp_path, change, zipfile.ZIP_STORED), "archive_unsafe")


def test_bytes_before_the_first_member_are_refused(tmp_path):
    make_zip(tmp_path / "m.zip", {"a": b"1"})
    (tmp_path / "m.zip").write_bytes(b"#!/bin/sh\n" + (tmp_path / "m.zip").read_bytes())
    refuse(tmp_path, tmp_path / "m.zip", "archive_damaged")


@pytest.mark.parametrize("name", ["m.zip", "m"])
@pytest.mark.parametrize(
    ("packed", "offset"), [(None, 1 << 63), (None, (1 << 64) - 1), ((1 << 64) - 1, 0), (None, 5000)]
)
def test_a_member_that_lies_outside_the_archive_is_damage(tmp_path, name, packed, offset):
    """Also where zip64 gives a number that no file offset can be."""
    make_zip(tmp_path / name, {"a": b"hello" * 100})
    data = bytearray((tmp_path / name).read_bytes())
    central = data.find(b"PK\1\2")
    numbers = ([] if packed is None else [packed]) + [offset]
    extra = struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)
    if packed is not None:
        put(data, central + 20, "<I", 0xFFFF_FFFF)
    put(data, central + 42, "<I", 0xFFFF_FFFF)
    put(data, central + 30, "<H", len(extra))
    data[central + 47 : central + 47] = extra
    end = data.rfind(b"PK\5\6")
    put(data, end + 12, "<I", struct.unpack_from("<I", data, end + 12)[0] + len(extra))
    (tmp_path / name).write_bytes(data)
    refuse(tmp_path, tmp_path / name, "archive_damaged")


def test_an_encrypted_member_says_so(tmp_path):
    def change(data, local, central):
        data[local + 6] |= 1
        data[central + 8] |= 1

    refuse(tmp_path, patched(tmp_path, change), "archive_encrypted")


def test_an_unknown_method_says_so(tmp_path):
    def change(data, local, central):
        put(data, local + 8, "<H", 95)
        put(data, central + 10, "<H", 95)

    refuse(tmp_path, patched(tmp_path, change), "archive_unsupported")


def test_one_part_of_several_says_so(tmp_path):
    refuse(
        tmp_path,
        patched(tmp_path, lambda data, *_: put(data, data.rfind(b"PK\5\6") + 4, "<H", 3)),
        "archive_unsupported",
    )


def test_a_directory_count_that_lies_is_damage(tmp_path):
    def change(data, *_):
        end = data.rfind(b"PK\5\6")
        put(data, end + 8, "<H", 60_000)
        put(data, end + 10, "<H", 60_000)

    refuse(tmp_path, patched(tmp_path, change), "archive_damaged")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_zip_that_is_cut_off_says_so(tmp_path, share):
    make_zip(tmp_path / "m.zip", {f"f{n}": os.urandom(500) for n in range(20)})
    data = (tmp_path / "m.zip").read_bytes()
    (tmp_path / "m.zip").write_bytes(data[: int(len(data) * share)])
    refuse(tmp_path, tmp_path / "m.zip", "archive_truncated")


# --- tar and streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_tar_that_is_cut_off_says_so(tmp_path, mode, share):
    make_tar(tmp_path / "m.tar", {f"f{n}": os.urandom(30_000) for n in range(20)}, mode)
    data = (tmp_path / "m.tar").read_bytes()
    (tmp_path / "m.tar").write_bytes(data[: int(len(data) * share)])
    refuse(tmp_path, tmp_path / "m.tar", "archive_truncated")


@pytest.mark.parametrize("name", ["m", "m.whl", "m.zip"])
def test_a_broken_zip_is_refused_whatever_its_name(tmp_path, name):
    make_zip(tmp_path / "good", {"a.bin": b"A" * 5000, "b.txt": b"hello"})
    good = (tmp_path / "good").read_bytes()
    secret, overlap = bytearray(good), bytearray(good)
    secret[6] |= 1
    secret[good.find(b"PK\1\2") + 8] |= 1
    put(overlap, good.rfind(b"PK\1\2") + 42, "<I", 0)
    broken = {
        "archive_truncated": good[: len(good) // 2], "archive_encrypted": bytes(secret), "archive_unsafe": bytes(overlap),
        "archive_damaged": b"PK\5\6" + bytes(18),
    }  # fmt: skip
    for reason, data in broken.items():
        (tmp_path / name).write_bytes(data)
        refuse(tmp_path, tmp_path / name, reason)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "zst"])
@pytest.mark.parametrize("name", ["m", "m.tar"])
def test_a_stream_that_breaks_before_it_tells_what_it_holds_is_refused(tmp_path, mode, name):
    make_tar(tmp_path / "good", {"a": os.urandom(5000)}, "w" if mode == "zst" else mode)
    data = (tmp_path / "good").read_bytes()
    (tmp_path / name).write_bytes((zstandard.compress(data) if mode == "zst" else data)[:60])
    refuse(tmp_path, tmp_path / name, "archive_truncated")


def test_a_second_tar_behind_the_first_is_damage(tmp_path):
    for name in ("a", "b"):
        make_tar(tmp_path / name, {name: b"1"})
    (tmp_path / "m.tar").write_bytes((tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes())
    refuse(tmp_path, tmp_path / "m.tar", "archive_damaged")


def test_a_tar_cut_off_between_two_members_says_so(tmp_path):
    make_tar(tmp_path / "m.tar", {"a": bytes(512), "b": bytes(512)})
    (tmp_path / "m.tar").write_bytes((tmp_path / "m.tar").read_bytes()[:1024])
    refuse(tmp_path, tmp_path / "m.tar", "archive_truncated")


def test_a_flipped_bit_in_a_tar_header_is_damage(tmp_path):
    make_tar(tmp_path / "m.tar", {"a": bytes(512), "b": bytes(512)})
    data = bytearray((tmp_path / "m.tar").read_bytes())
    data[1024 + 3] ^= 1
    (tmp_path / "m.tar").write_bytes(data)
    refuse(tmp_path, tmp_path / "m.tar", "archive_damaged")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_flipped_bit_in_a_compressed_stream_is_damage(tmp_path, pack):
    make_tar(tmp_path / "plain", {"a": os.urandom(100_000)})
    data = bytearray(pack((tmp_path / "plain").read_bytes()))
    data[len(data) // 2] ^= 0x10
    (tmp_path / "m.tar.gz").write_bytes(data)
    refuse(tmp_path, tmp_path / "m.tar.gz", "archive_damaged")


def test_other_bytes_behind_a_stream_are_damage(tmp_path):
    (tmp_path / "m.txt.gz").write_bytes(gzip.compress(b"x") + b"and more")
    refuse(tmp_path, tmp_path / "m.txt.gz", "archive_damaged")


@pytest.mark.parametrize("length", [2, 6, 12])
def test_a_skippable_frame_that_is_cut_off_says_so(tmp_path, length):
    (tmp_path / "m.txt.zst").write_bytes(zstandard.compress(b"x") + SKIPPED[:length])
    reason = "archive_truncated" if length > 3 else "archive_damaged"
    refuse(tmp_path, tmp_path / "m.txt.zst", reason)


@pytest.mark.parametrize("name", ["m.zip", "m.tar", "m.tar.gz"])
@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>", bytes(2048), b"PK"])
def test_what_is_no_archive_under_an_archive_name_is_damage(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path, tmp_path / name, "archive_damaged")


def test_an_archive_without_a_file_is_damage(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w"):
        pass
    refuse(tmp_path, tmp_path / "m.zip", "archive_damaged")


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.zip", "m.tar", "m.tar.gz"])
def test_more_than_there_is_room_for_is_refused(tmp_path, name):
    tree = {"a": bytes(60_000), "b": bytes(60_000)}
    if name == "m.zip":
        make_zip(tmp_path / name, tree)
    else:
        make_tar(tmp_path / name, tree, "w:gz" if name.endswith("gz") else "w")
    refuse(tmp_path, tmp_path / name, "archive_too_large", limit=100_000)
    unpack(tmp_path / name, tmp_path / "out", limit=131_072)


def test_one_file_that_unpacks_beyond_the_room_is_refused(tmp_path):
    (tmp_path / "m.bin.gz").write_bytes(gzip.compress(bytes(5 << 20)))
    refuse(tmp_path, tmp_path / "m.bin.gz", "archive_too_large", limit=4 << 20)


def fast_xz(data):
    return lzma.compress(data, preset=0)


@pytest.mark.parametrize("pack", others_slow(fast_xz, bz2.compress))
def test_an_implausible_ratio_is_refused_and_deflate_never_is(tmp_path, pack):
    zeros = bytes(130 << 20)
    (tmp_path / "m.bin.xz").write_bytes(pack(zeros))
    refuse(tmp_path, tmp_path / "m.bin.xz", "archive_too_large")
    (tmp_path / "n.bin.gz").write_bytes(gzip.compress(zeros, 1))
    assert unpack(tmp_path / "n.bin.gz", tmp_path / "out")[0].size_bytes == len(zeros)


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("reconciler.adapters.archives.tree.MAX_ENTRIES", 10)
    monkeypatch.setattr("reconciler.adapters.archives.directory.MAX_ENTRIES", 10)
    tree = {f"f{n}": b"" for n in range(11)}
    make_zip(tmp_path / "m.zip", tree)
    make_tar(tmp_path / "m.tar", tree)
    refuse(tmp_path, tmp_path / "m.zip", "archive_too_large")
    refuse(tmp_path, tmp_path / "m.tar", "archive_too_large")


def test_a_giant_extended_header_is_refused(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2 << 20
    (tmp_path / "m.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(3 << 20))
    refuse(tmp_path, tmp_path / "m.tar", "archive_unsafe")


def test_an_archive_within_an_archive_stays_a_file(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../evil", b"1")
    make_zip(tmp_path / "m.zip", {"inner.zip": inner.getvalue(), "b": b"2"})
    assert [m.path for m in unpack(tmp_path / "m.zip", tmp_path / "out")] == ["b", "inner.zip"]
