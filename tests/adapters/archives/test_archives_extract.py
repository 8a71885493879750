"""What comes out of a sound archive, and in which shape."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import pathlib
import tarfile
import threading
import zipfile

import pytest
import zstandard
from archives_made import BIG, SKIPPED, TREE, make_tar, make_zip, unpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sampling import others_slow

from reconciler.adapters.archives import BUILTIN, is_archive_name, recognise
from reconciler.core.errors import Failure, FailureKind


def on_disk(into):
    return {
        os.path.relpath(os.path.join(place, name), into): pathlib.Path(place, name).read_bytes()
        for place, _, names in os.walk(into)
        for name in names
    }


def check(members, into, tree):
    assert on_disk(into) == tree
    assert {m.path: (m.size_bytes, m.digest) for m in members} == {
        path: (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}") for path, data in tree.items()
    }
    assert [m.path for m in members] == sorted(m.path for m in members)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, *others_slow(zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)])
def test_a_zip_gives_its_members_with_their_digests(tmp_path, method):
    make_zip(tmp_path / "m.zip", TREE, method)
    check(unpack(tmp_path / "m.zip", tmp_path / "out"), tmp_path / "out", TREE)


@pytest.mark.parametrize("mode", ["w", *others_slow("w:gz", "w:bz2", "w:xz")])
@pytest.mark.parametrize("tar_format", others_slow(tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
def test_a_tar_gives_its_members_with_their_digests(tmp_path, mode, tar_format):
    tree = {"a/b.bin": BIG[: 3 << 20], "c": b"c", "d/empty": b""}
    make_tar(tmp_path / "m.tar", tree, mode, tar_format=tar_format)
    check(unpack(tmp_path / "m.tar", tmp_path / "out"), tmp_path / "out", tree)


def test_a_tar_in_zstd_is_unpacked(tmp_path):
    make_tar(tmp_path / "m.tar", TREE)
    (tmp_path / "m.tar.zst").write_bytes(zstandard.compress((tmp_path / "m.tar").read_bytes()))
    check(unpack(tmp_path / "m.tar.zst", tmp_path / "out"), tmp_path / "out", TREE)


@pytest.mark.parametrize("shape", ["sz", "zs", "sszsz"])
def test_frames_that_zstd_steps_over_are_stepped_over(tmp_path, shape):
    parts = {"s": SKIPPED, "z": zstandard.compress(b"word")}
    (tmp_path / "m.txt.zst").write_bytes(b"".join(parts[key] for key in shape))
    tree = {"m.txt": b"word" * shape.count("z")}
    check(unpack(tmp_path / "m.txt.zst", tmp_path / "out"), tmp_path / "out", tree)


def test_a_tar_behind_a_frame_that_zstd_steps_over_is_known_without_its_ending(tmp_path):
    make_tar(tmp_path / "plain", TREE)
    (tmp_path / "m").write_bytes(SKIPPED + zstandard.compress((tmp_path / "plain").read_bytes()))
    check(unpack(tmp_path / "m", tmp_path / "out"), tmp_path / "out", TREE)


@pytest.mark.parametrize("past", [1, 5, 100, 257, 258])
def test_a_match_that_crosses_a_piece_after_the_last_input_is_unpacked_whole(tmp_path, past):
    tree = {"a.dat": bytes((1 << 20) + past)}
    make_zip(tmp_path / "m.zip", tree)
    check(unpack(tmp_path / "m.zip", tmp_path / "z"), tmp_path / "z", tree)
    for ending, pack in {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.items():
        (tmp_path / f"a.dat.{ending}").write_bytes(pack(tree["a.dat"]))
        check(unpack(tmp_path / f"a.dat.{ending}", tmp_path / ending), tmp_path / ending, tree)


def test_zstd_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "m.tar.zst").write_bytes(zstandard.compress(b"x"))
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(Failure) as caught:
        unpack(tmp_path / "m.tar.zst", tmp_path / "out")
    assert (caught.value.reason, caught.value.kind) == ("zstd_missing", FailureKind.PERMANENT)
    assert "reconciler[zstd]" in caught.value.hint


@pytest.mark.parametrize(
    ("ending", "pack"),
    others_slow(("zst", zstandard.compress), ("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)),
)
def test_one_compressed_file_becomes_that_file_under_its_own_name(tmp_path, ending, pack):
    blob = tmp_path / "0123abcd"  # the store calls content by its digest
    blob.write_bytes(pack(BIG))
    members = unpack(blob, tmp_path / "out", name=f"model.onnx.{ending}")
    check(members, tmp_path / "out", {"model.onnx": BIG})


def test_concatenated_gzip_streams_are_one_file(tmp_path):
    (tmp_path / "m.txt.gz").write_bytes(gzip.compress(b"one") + gzip.compress(b"two") + bytes(512))
    check(unpack(tmp_path / "m.txt.gz", tmp_path / "out"), tmp_path / "out", {"m.txt": b"onetwo"})


def test_a_single_root_folder_is_collapsed_also_where_a_child_has_its_name(tmp_path):
    tree = {"bert/vocab.txt": b"v", "config.json": b"{}"}
    make_zip(tmp_path / "m.zip", tree, root="bert/")
    check(unpack(tmp_path / "m.zip", tmp_path / "out"), tmp_path / "out", tree)


@pytest.mark.parametrize("root", ["Model.mlpackage/", "Model.mlmodelc/"])
def test_a_root_folder_that_is_itself_the_model_keeps_its_name(tmp_path, root):
    make_zip(tmp_path / "m.zip", {"Manifest.json": b"{}", "Data/m": b"1"}, root=root)
    members = unpack(tmp_path / "m.zip", tmp_path / "out")
    assert [m.path for m in members] == [f"{root}Data/m", f"{root}Manifest.json"]


def test_two_roots_stay_as_they_are(tmp_path):
    tree = {"a/x": b"1", "b/y": b"2"}
    make_tar(tmp_path / "m.tar", tree)
    check(unpack(tmp_path / "m.tar", tmp_path / "out"), tmp_path / "out", tree)


def test_what_macos_leaves_behind_is_left_out_and_does_not_stop_the_collapse(tmp_path):
    tree = {"m/a": b"1", "__MACOSX/m/._a": b"x", "m/._b": b"x", "m/.DS_Store": b"x"}
    make_zip(tmp_path / "z.zip", tree)
    make_tar(tmp_path / "t.tar", tree)
    for name in ("z.zip", "t.tar"):
        out = tmp_path / f"out-{name}"
        check(unpack(tmp_path / name, out), out, {"a": b"1"})


def test_long_and_non_ascii_names_survive(tmp_path):
    tree = {"ü" * 60 + "/" + "日" * 60: b"1", "x" * 200 + "/" + "y" * 200: b"2"}
    for tar_format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        make_tar(tmp_path / f"{tar_format}.tar", tree, tar_format=tar_format)
        out = tmp_path / f"o{tar_format}"
        check(unpack(tmp_path / f"{tar_format}.tar", out), out, tree)
    make_zip(tmp_path / "m.zip", tree)
    check(unpack(tmp_path / "m.zip", tmp_path / "oz"), tmp_path / "oz", tree)


def test_a_dot_prefix_and_folder_entries_are_fine(tmp_path):
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        for name in (".", "./a", "./a/b"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name != "./a/b" else tarfile.REGTYPE
            archive.addfile(info)
        info = tarfile.TarInfo("./c")
        archive.addfile(info)
    members = unpack(tmp_path / "m.tar", tmp_path / "out")
    assert [m.path for m in members] == ["a/b", "c"]


def test_a_streamed_zip_with_sizes_after_the_data_is_read(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bin", BIG[:100_000])
        archive.writestr("b.bin", b"b")
    (tmp_path / "m.zip").write_bytes(pipe.data)
    check(unpack(tmp_path / "m.zip", tmp_path / "out"), tmp_path / "out", {"a.bin": BIG[:100_000], "b.bin": b"b"})


def test_a_zip64_archive_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(b"wide")
    check(unpack(tmp_path / "m.zip", tmp_path / "out"), tmp_path / "out", {"a": b"wide"})


def test_many_small_members_are_unpacked(tmp_path):
    tree = {f"d{n % 7}/f{n}": b"%d" % n for n in range(600)}
    make_zip(tmp_path / "m.zip", tree)
    check(unpack(tmp_path / "m.zip", tmp_path / "out"), tmp_path / "out", tree)


def test_measure_tells_what_the_tree_takes_on_disk(tmp_path):
    make_zip(tmp_path / "m.zip", TREE)
    make_tar(tmp_path / "m.tar", TREE)
    make_tar(tmp_path / "m.tgz", TREE, "w:gz")
    expected = sum(-(-len(data) // 4096) * 4096 for data in TREE.values())
    measured = {
        name: recognise(str(tmp_path / name), name).measure(str(tmp_path / name))
        for name in ("m.zip", "m.tar", "m.tgz")
    }
    assert measured == {"m.zip": expected, "m.tar": expected, "m.tgz": None}


def test_progress_rises_to_the_sum_of_bytes(tmp_path):
    make_zip(tmp_path / "m.zip", TREE, zipfile.ZIP_STORED)
    seen = []
    unpack(tmp_path / "m.zip", tmp_path / "out", progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert seen[-1] == sum(map(len, TREE.values()))


@pytest.mark.parametrize("name", ["m.zip", "m.tar"])
def test_cancel_stops_and_leaves_nothing(tmp_path, name):
    (make_zip if name == "m.zip" else make_tar)(tmp_path / name, TREE)
    cancel = threading.Event()
    with pytest.raises(Failure) as caught:
        unpack(tmp_path / name, tmp_path / "out", progress=lambda _: cancel.set(), cancel=cancel)
    assert (caught.value.reason, caught.value.kind) == ("cancelled", FailureKind.TRANSIENT)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_cannot_be_written_is_environmental(tmp_path):
    make_zip(tmp_path / "m.zip", {"a": b"1"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"in the way")
    with pytest.raises(Failure) as caught:
        unpack(tmp_path / "m.zip", tmp_path / "out")
    assert caught.value.kind is FailureKind.TRANSIENT


TABLE = [
    ("model.zip", "zip", False, "zip"),
    ("model.pt", "zip", False, None),
    ("model.npz", "zip", False, None),
    ("model.pt", "zip", True, "zip"),
    ("model.whl", "zip", False, "zip"),
    ("model", "zip", False, "zip"),
    ("model", "torch", False, None),
    ("model", "npz", False, None),
    ("model.zip", "torch", False, "zip"),
    ("model", "keras", False, None),
    ("model.tar.gz", "tgz", False, "tar"),
    ("model.TGZ", "tgz", False, "tar"),
    ("model.zip", "tgz", False, "tar"),
    ("model.tgz", "zip", False, "zip"),
    ("model", "tgz", False, "tar"),
    ("model.nemo", "tar", False, None),
    ("model.bin", "tgz", False, None),
    ("model.onnx.gz", "gz", False, "single"),
    ("model.onnx", "gz", False, None),
    ("model", "gz", False, None),
    ("model", "gz", True, "single"),
    ("model.gguf", "text", False, None),
    ("model.txt", "text", False, None),
    ("model.zip", "text", False, "zip"),
    ("model.tar", "text", False, "tar"),
]


@pytest.mark.parametrize(("name", "content", "is_forced", "expected"), TABLE)
def test_the_table_of_what_is_an_archive_holds(tmp_path, name, content, is_forced, expected):
    path = tmp_path / "blob"
    match content:
        case "zip":
            make_zip(path, {"a": b"1"})
        case "torch":
            make_zip(path, {"archive/data.pkl": b"1", "archive/data/0": b"1"})
        case "npz":
            make_zip(path, {"a.npy": b"1"})
        case "keras":
            make_zip(path, {"config.json": b"1", "model.weights.h5": b"1"})
        case "tar":
            make_tar(path, {"a": b"1"})
        case "tgz":
            make_tar(path, {"a": b"1"}, "w:gz")
        case "gz":
            path.write_bytes(gzip.compress(b"plain"))
        case _:
            path.write_bytes(b"just text, longer than a tar block? no")
    found = recognise(str(path), name, is_forced=is_forced)
    assert (found.name if found else None) == expected
    if expected and not is_forced and content == name.rpartition(".")[2]:
        assert is_archive_name(name)


def test_a_registered_extractor_is_asked_first(tmp_path):
    class Mine:
        name = "mine"

        def recognises(self, path, name):
            return name.endswith(".mine")

    make_zip(tmp_path / "a.mine", {"a": b"1"})
    mine = Mine()
    assert recognise(str(tmp_path / "a.mine"), "a.mine", extractors=(mine, *BUILTIN)) is mine


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}", fullmatch=True), st.binary(max_size=3000), min_size=1, max_size=6
    ),
    st.sampled_from(["zip", "tar", "tgz"]),
)
def test_any_tree_without_conflicts_comes_back_as_it_was(tmp_path_factory, tree, kind):
    names = sorted(tree)
    if any(b.startswith(f"{a}/") for a in names for b in names) or len({name.split("/")[0] for name in names}) == 1:
        return
    folder = tmp_path_factory.mktemp("law")
    path = folder / f"m.{kind}"
    if kind == "zip":
        make_zip(path, tree)
    else:
        make_tar(path, tree, "w" if kind == "tar" else "w:gz")
    check(unpack(path, folder / "out"), folder / "out", tree)
