"""Pickles are found wherever they hide, and nothing else is taken for one."""

import bz2
import gzip
import io
import lzma
import os
import pathlib
import pickle
import pickletools
import random
import struct
import sys
import tarfile
import zipfile
import zlib

import joblib
import numpy as np
import pytest
import zstandard
from safetensors.numpy import save_file

from reconciler.adapters.formats import check, inspect, pickles
from reconciler.adapters.formats.unsafe import holds_pickle
from reconciler.adapters.formats.window import Window
from reconciler.core.errors import Failure, FailureKind


class Evil:
    def __reduce__(self):
        return (os.system, ("true",))


OBJECTS = [Evil(), {"weights": [1.5, 2], "name": "x"}, {"w": np.arange(5)}, os.system, [b"x" * 300] * 3]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def is_pickle(data):
    return holds_pickle(Window.of_bytes(data))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("number", range(len(OBJECTS)))
def test_a_pickle_of_any_protocol_is_found(protocol, number):
    data = pickle.dumps(OBJECTS[number], protocol)
    assert is_pickle(data)
    assert is_pickle(pickletools.optimize(data))


def test_what_a_program_registered_by_number_is_an_import_where_the_pickle_is_whole():
    assert is_pickle(b"\x82\x01)R.")
    assert is_pickle(b"\x80\x02\x82\x01)R\xff")
    assert not is_pickle(b"\x82\x01." + bytes(100))  # so begins one in twenty thousand files of random bytes
    assert not is_pickle(b"\x83\xcaz\x8cYR\xff" + bytes(100))


def test_no_random_bytes_are_taken_for_a_pickle():
    made = random.Random(11)
    assert not any(is_pickle(made.randbytes(64) + bytes(8)) for _ in range(20_000))


def test_the_table_of_opcodes_is_the_standard_librarys():
    lengths = {
        pickletools.TAKEN_FROM_ARGUMENT1: -11,
        pickletools.TAKEN_FROM_ARGUMENT4: -14,
        pickletools.TAKEN_FROM_ARGUMENT4U: -14,
        pickletools.TAKEN_FROM_ARGUMENT8U: -18,
    }
    for entry in pickletools.opcodes:
        ours, size = pickles.opcodes()[ord(entry.code)], entry.arg.n if entry.arg else 0
        to_mark = pickletools.markobject in entry.stack_before
        pops = entry.stack_before.index(pickletools.markobject) if to_mark else len(entry.stack_before)
        width = -3 if entry.name in {"GLOBAL", "INST"} else lengths.get(size, size)
        assert ours == (entry.name, width, pops, len(entry.stack_after), to_mark)
    assert len(pickles.opcodes()) == len(pickletools.opcodes)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_breaks_after_its_call_is_found(protocol):
    data = pickle.dumps(Evil(), protocol)
    assert is_pickle(data[:-1] + b"\xff\xff")
    assert is_pickle(data + b"trailing bytes")


def test_a_pickle_without_its_protocol_mark_is_found():
    assert is_pickle(b"\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.")
    assert is_pickle(b"cposix\nsystem\n(S'true'\ntR.")
    assert is_pickle(b"(S'true'\niposix\nsystem\n.")


@pytest.mark.parametrize("line", [b"S'%s'\n", b"V%s\n", b"L%sL\n", b"I%s\n"])
def test_a_pickle_behind_a_long_line_is_found(line):
    assert is_pickle(line % (b"1" * 70_000) + b"0" + pickle.dumps(Evil(), 0))
    assert not is_pickle(line % (b"1" * 70_000) + b"\xff" * 9)


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_behind_harmless_ones_is_found(protocol):
    harmless = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    data = b"".join(pickle.dumps(value, protocol) for value in harmless)
    assert is_pickle(data + pickle.dumps(Evil(), protocol))
    assert not is_pickle(data + b"\xff\xfftext")


SMALL_WINDOW = [{"id": lzma.FILTER_LZMA1, "dict_size": 4096}]
PACKED = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "lzma of a small window": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, filters=SMALL_WINDOW),
    "zlib": zlib.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_compressed_pickle_is_found(pack):
    assert is_pickle(pack(pickle.dumps(Evil())))
    assert not is_pickle(pack(b"plain text, not a pickle" * 100))


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_pickle_behind_other_streams_is_found(pack):
    assert is_pickle(pack(b"") + pack(pickle.dumps(Evil())))
    assert not is_pickle(pack(b"") + pack(b"plain text"))


def test_a_pickle_behind_a_long_gzip_comment_is_found():
    data = gzip.compress(pickle.dumps(Evil()))
    assert is_pickle(data[:3] + b"\x10" + data[4:10] + b"c" * 70_000 + b"\0" + data[10:])


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_compressed_pickle_that_begins_with_long_text_is_found(pack):
    for start in (b"X" + struct.pack("<I", 400_000) + b"a" * 400_000 + b"0", b"V" + b"a" * 400_000 + b"\n0"):
        assert is_pickle(pack(start + pickle.dumps(Evil(), 0)))
    assert not is_pickle(pack(b"The text starts as a pickle of 1.8 GB would. " * 20_000))
    assert is_pickle(pack(pickle.dumps(["x" * 60_000 + str(n) for n in range(8)] + [Evil()], 0)))


def test_what_cannot_be_unpacked_here_counts_as_unsafe(monkeypatch):
    assert is_pickle(b"\x04\x22\x4d\x18" + bytes(100))
    assert is_pickle(b"\x50\x2a\x4d\x18\4\0\0\0skip" + b"\x04\x22\x4d\x18" + bytes(100))
    assert is_pickle(b"\x50\x2a\x4d\x18\0\0\0\0" * 1000 + b"\x04\x22\x4d\x18")
    assert is_pickle(gzip.compress(b"") * 40_000 + gzip.compress(pickle.dumps(Evil())))
    skipped = b"\x50\x2a\x4d\x18\4\0\0\0skip"
    assert is_pickle(skipped + zstandard.compress(pickle.dumps(Evil())))
    assert not is_pickle(skipped + zstandard.compress(b"text"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert is_pickle(zstandard.compress(b"text"))


def zipped(members, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]


@pytest.mark.parametrize("method", METHODS)
def test_a_pickle_in_a_zip_is_found_whatever_its_name(method):
    assert is_pickle(zipped({"a.txt": b"text", "innocent.bin": pickle.dumps(Evil())}, method))
    assert is_pickle(zipped({"archive/data.pkl": b""}, method))
    assert not is_pickle(zipped({"a.txt": b"text", "b.json": b"{}"}, method))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_member_that_no_framework_packs_so_counts_as_unsafe(method):
    assert is_pickle(zipped({"a.txt": b"text"}, method))


@pytest.mark.slow
def test_a_packed_pickle_that_begins_with_much_data_is_found():
    late = pickle.dumps([os.urandom(3_000_000), Evil()])
    for pack in PACKED.values():
        assert is_pickle(pack(late))
    assert is_pickle(zipped({"x": late}, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("method", METHODS)
def test_a_pickle_in_a_zip_in_a_zip_is_found(method):
    assert is_pickle(zipped({"inner": zipped({"x": pickle.dumps(Evil())})}, method))
    assert is_pickle(zipped({"inner": zipped({"big": os.urandom(100_000), "x": pickle.dumps(Evil())}, method)}, method))
    assert not is_pickle(zipped({"inner": zipped({"big": os.urandom(100_000)}, method)}, method))


def test_a_zip_hidden_behind_other_bytes_is_found():
    assert is_pickle(b"GGUF" + bytes(100) + zipped({"x": pickle.dumps(Evil())}))


@pytest.mark.parametrize("behind", [b"PK\5\6", b"PK\5\6" + bytes(18), b"PK\5\6" * 5])
def test_a_zip_with_another_mark_of_a_directory_behind_it_is_looked_into(behind):
    torch = zipped({"archive/data.pkl": pickle.dumps(Evil()), "archive/version": b"3"})
    comment = bytearray(torch)
    comment[-2:] = struct.pack("<H", len(behind))
    assert is_pickle(bytes(comment) + behind)
    assert is_pickle(torch + behind)


def directory_of(name, data):
    """(local header and content, directory) of a zip of one member."""
    zip_ = zipped({name: data})
    at = zip_.find(b"PK\1\2")
    return zip_[:at], zip_[at : zip_.find(b"PK\5\6")]


def end_of(size, offset):
    return b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, size, offset, 0)


def test_a_directory_that_counts_from_before_the_file_is_looked_into():
    bad, entries = directory_of("x", pickle.dumps(Evil()))
    entries = bytearray(entries)
    struct.pack_into("<L", entries, 42, 1000)
    data = bad + bytes(entries) + end_of(len(entries), len(bad) + 1000)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("x") == pickle.dumps(Evil())
    assert is_pickle(data)


def test_both_directories_are_looked_into_where_one_stands_by_its_offset_and_one_before_the_end():
    bad, bad_entries = directory_of("x", pickle.dumps(Evil()))
    good, good_entries = directory_of("x", b"t" * len(pickle.dumps(Evil())))
    for first, second in (((bad, bad_entries), (good, good_entries)), ((good, good_entries), (bad, bad_entries))):
        shifted = bytearray(second[1])
        struct.pack_into("<L", shifted, 42, len(first[0] + first[1]) - (len(second[0]) + len(second[1])))
        data = first[0] + first[1] + second[0] + bytes(shifted)
        assert is_pickle(data + end_of(len(shifted), len(first[0])))


@pytest.mark.parametrize("named", ["bad", "good"])
def test_the_zip64_record_that_is_named_and_the_one_before_its_locator_are_both_looked_into(named):
    parts = {
        "bad": directory_of("x", pickle.dumps(Evil())),
        "good": directory_of("x", b"t" * len(pickle.dumps(Evil()))),
    }
    data, records = b"", {}
    for key, (content, entries) in parts.items():
        moved = bytearray(entries)
        struct.pack_into("<L", moved, 42, len(data))
        start = len(data) + len(content)
        records[key] = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, 1, 1, len(moved), start)
        data += content + bytes(moved)
    other = "good" if named == "bad" else "bad"
    locator = b"PK\6\7" + struct.pack("<LQL", 0, len(data), 1)
    assert is_pickle(data + records[named] + records[other] + locator + end_of(0xFFFF_FFFF, 0xFFFF_FFFF))


def test_a_zip_of_many_arrays_is_no_pickle(tmp_path):
    np.savez(tmp_path / "m.npz", **{f"a{n}": np.zeros(1) for n in range(5000)})
    assert dict(check(str(tmp_path / "m.npz"), "npz").metadata) == {"arrays": 5000}


@pytest.mark.parametrize("name", ["archive/data.pkl", "a.npy"])
def test_a_model_zip_that_is_cut_off_is_broken_and_still_no_safe_thing(tmp_path, name):
    (tmp_path / "m").write_bytes(zipped({name: bytes(1000), "z.npy": b"1"})[:900])
    for declared in ("auto", "npz" if name == "a.npy" else "pytorch"):
        with pytest.raises(Failure) as caught:
            check(str(tmp_path / "m"), declared, allow_unsafe=True)
        assert caught.value.reason == "wrong_format"
    assert is_pickle((tmp_path / "m").read_bytes()) == (name != "a.npy")


def tarred(members, tar_format=tarfile.PAX_FORMAT, **headers):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), headers
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def resummed(header):
    """A tar header with the checksum of what stands in it."""
    total = sum(header[:148]) + sum(header[156:512]) + 256
    return header[:148] + b"%06o\0 " % total + header[156:]


TORCH = zipped({"archive/data.pkl": pickle.dumps({"w": 1}), "archive/data/0": bytes(64)})
WITH_PICKLE = {"config": b"text", "weights": pickle.dumps(Evil())}
PLAIN = {"config": b"text" * 200, "labels.txt": b"cat\ndog\n"}
LAST = {"big": bytes(200_000), "weights": pickle.dumps(Evil())}


def old_tar(members):
    """Before there was a magic."""
    data = bytearray(tarred(members, tarfile.USTAR_FORMAT))
    for at in range(0, len(data) - 512, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 257 : at + 265] = bytes(8)
            data[at : at + 512] = resummed(bytes(data[at : at + 512]))
    return bytes(data)


def sized_tar(members):
    """The true size of each member stands in a pax header alone."""
    data = tarred(members, size="PLACED")
    for member in members.values():
        record = b"15 size=PLACED\n"
        size = b"%d size=%06d\n" % (len(record), len(member))
        at = data.find(record)
        data = data[:at] + size + data[at + len(record) :]
        at = -(-(at + 1) // 512) * 512
        data = (
            data[:at] + resummed(data[at : at + 124] + b"00000000000\0" + data[at + 136 : at + 512]) + data[at + 512 :]
        )
    return data


def test_the_tars_made_here_are_tars():
    for data in (old_tar(LAST), sized_tar(LAST)):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert {m.name: archive.extractfile(m).read() for m in archive} == LAST


@pytest.mark.parametrize("make", [tarred, old_tar, sized_tar])
def test_a_pickle_in_a_tar_is_found(make):
    assert is_pickle(make(WITH_PICKLE))
    assert is_pickle(make(LAST))
    assert is_pickle(make({"model_weights.ckpt": TORCH, "tokenizer.model": os.urandom(100_000)}))
    assert not is_pickle(make(PLAIN))


def test_a_folder_in_a_tar_hides_nothing_however_large_it_says_it_is():
    info = tarfile.TarInfo("d")
    info.type, info.size = tarfile.DIRTYPE, 10_000
    assert is_pickle(info.tobuf() + tarred(WITH_PICKLE))


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_pickle_in_a_compressed_tar_is_found_also_within_a_zip(pack):
    for members in (WITH_PICKLE, LAST, {"model_weights.ckpt": TORCH}):
        assert is_pickle(pack(tarred(members)))
    assert is_pickle(pack(TORCH))
    assert is_pickle(zipped({"inner": pack(tarred(WITH_PICKLE))}, zipfile.ZIP_DEFLATED))
    assert not is_pickle(pack(tarred(PLAIN)))
    assert not is_pickle(zipped({"inner": pack(tarred({"b.zip": zipped(PLAIN)}))}))


def test_what_is_nested_deeper_than_anybody_loads_counts_as_unsafe():
    data = b"text"
    for _ in range(5):
        data = zipped({"inner": data}, zipfile.ZIP_DEFLATED)
    assert is_pickle(data)


def test_numpy_objects_are_found_and_numbers_are_not(tmp_path):
    def saved(array):
        out = io.BytesIO()
        np.save(out, array, allow_pickle=True)
        return out.getvalue()

    assert is_pickle(saved(np.array([Evil()], object)))
    assert is_pickle(saved(np.zeros(2, [("a", "<f4"), ("b", object)])))
    assert not is_pickle(saved(np.zeros(2, [("Offset", "<f4"), ("b", "<i8")])))
    assert not is_pickle(saved(np.zeros((4, 5))))
    np.savez(tmp_path / "bad.npz", a=np.zeros(2), b=np.array([Evil()], object))
    np.savez_compressed(tmp_path / "bad2.npz", a=np.zeros(2), b=np.array([Evil()], object))
    np.savez_compressed(tmp_path / "good.npz", a=np.zeros(2))
    assert inspect(str(tmp_path / "bad.npz")).is_unsafe
    assert inspect(str(tmp_path / "bad2.npz")).is_unsafe
    assert inspect(str(tmp_path / "good.npz")).format == "npz"
    assert not inspect(str(tmp_path / "good.npz")).is_unsafe


def npy(descr, filling=b""):
    header = b"{'descr': " + descr + b", 'fortran_order': False, 'shape': (1,), }" + filling + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(8)


OBJECT_TYPES = [
    b"'|O'", b"'\\x4f'", b"'|\\117'", b"'" + b"f4," * 70 + b"O'", b"'O," + b" " * 250 + b"'", b"'obj' 'ect'",
    b"# '\n'O'", b"b'O'", b'"""O"""', b"[('a', '<f4'), ('b', '(2,3)O')]", b"'3O8'", b"'object'",
]  # fmt: skip


@pytest.mark.parametrize("descr", OBJECT_TYPES)
def test_a_numpy_header_that_could_mean_objects_is_found(descr):
    assert is_pickle(npy(descr))
    assert is_pickle(zipped({"a.npy": npy(descr, b" " * 6000)}, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    "descr", [b"'<f4'", b"[('Offset', '<f4'), ('two words', '<i8', (2,))]", b"[((\"it's\", 'b'), '|S20')]"]
)
def test_a_numpy_header_of_numbers_is_none(descr):
    assert not is_pickle(npy(descr, b" " * 50))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib_files_are_found(tmp_path, compress):
    joblib.dump({"w": np.zeros(100)}, tmp_path / "m", compress=compress)
    assert inspect(str(tmp_path / "m")).is_unsafe


def test_torch_files_are_named_and_need_allow_unsafe(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(
        zipped({"archive/data.pkl": pickle.dumps({}), "archive/data/0": bytes(64), "archive/version": b"3"})
    )
    for declared in ("auto", "pytorch", "bin"):
        with pytest.raises(Failure) as caught:
            check(str(path), declared)
        assert (caught.value.reason, caught.value.kind) == ("unsafe_pickle", FailureKind.REFUSED)
        assert "allowUnsafe" in caught.value.hint
        assert check(str(path), declared, allow_unsafe=True).format == "pytorch"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    assert inspect(str(path)).format == "pytorch"
    assert inspect(str(path)).is_unsafe


def test_one_pickle_among_the_files_of_a_model_refuses_it_by_name(tmp_path):
    save_file({"w": np.zeros(3)}, tmp_path / "model.safetensors")
    (tmp_path / "training_args.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(Failure) as caught:
        check(str(tmp_path), "safetensors")
    assert caught.value.reason == "unsafe_pickle"
    assert "training_args.bin" in caught.value.message


# --- what must not be taken for a pickle ----------------------------------------------------------------------------


def test_noise_of_any_first_byte_is_no_pickle():
    rng = random.Random(3)
    flagged = sum(is_pickle(bytes([n % 256]) + rng.randbytes(2000)) for n in range(20_000))
    assert flagged <= 2


def test_weights_of_any_type_are_no_pickle():
    rng = np.random.default_rng(4)
    for kind in (np.float16, np.float32, np.int8):
        for _ in range(200):
            assert not is_pickle((rng.standard_normal(500) * 20).astype(kind).tobytes())


TEXTS = [
    "cat\ndog\nbird\n", "import os\nimport sys\n", "class\nfoo\n", "(a b c)\n", "{}", "[1, 2]\n", "c\nb\na\n", "N\n",
    "#version: 0.2\nG t\n", "[PAD]\n[unused0]\n", "int main() { return 0; }\n", "}", "]", ".", "I", "The quick brown fox.\n",
    "name: x\nversion: 1\n", "i\nam\ntext\n", "q\x00r\n", "",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_no_pickle(text):
    assert not is_pickle(text.encode())


@pytest.mark.parametrize("folder", ["reconciler", "examples", "schemas"])
def test_this_checkout_holds_no_pickle(folder):
    root = pathlib.Path(__file__).parents[3] / folder
    files = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert files
    assert [path.name for path in files if inspect(str(path)).is_unsafe] == []


def test_a_large_packed_tar_is_looked_into_as_far_as_the_budget_reaches():
    blank = b"\0" * (33 << 20)
    assert not is_pickle(gzip.compress(tarred({"model.onnx": blank, "labels.txt": b"cat"}), 1))
    assert is_pickle(gzip.compress(tarred({"w.pkl": pickle.dumps(Evil()), "model.onnx": blank}), 1))
