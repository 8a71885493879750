"""What is refused: pickles wherever they hide, lying headers, content that is not as declared."""

import bz2
import gzip
import io
import json
import lzma
import os
import pathlib
import pickle
import pickletools
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import joblib
import numpy as np
import pytest
import zstandard
from formats_made import field, make_gguf, make_whisper
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save, save_file

from reconciler.adapters.formats import check, inspect
from reconciler.adapters.formats.safetensors import READER as SAFETENSORS
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


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_breaks_after_its_call_is_found(protocol):
    data = pickle.dumps(Evil(), protocol)
    assert is_pickle(data[:-1] + b"\xff\xff")
    assert is_pickle(data + b"trailing bytes")


def test_a_pickle_without_its_protocol_mark_is_found():
    assert is_pickle(b"\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.")
    assert is_pickle(b"cposix\nsystem\n(S'true'\ntR.")
    assert is_pickle(b"(S'true'\niposix\nsystem\n.")


PACKED = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_compressed_pickle_is_found(pack):
    assert is_pickle(pack(pickle.dumps(Evil())))
    assert not is_pickle(pack(b"plain text, not a pickle" * 100))


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


def test_a_packed_pickle_that_begins_with_much_data_is_found():
    late = pickle.dumps([os.urandom(3_000_000), Evil()])
    for pack in PACKED.values():
        assert is_pickle(pack(late))
    assert is_pickle(zipped({"x": late}, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("method", METHODS)
def test_a_pickle_in_a_zip_in_a_zip_is_found(method):
    assert is_pickle(zipped({"inner": zipped({"x": pickle.dumps(Evil())})}, method))


def test_a_zip_hidden_behind_other_bytes_is_found():
    assert is_pickle(b"GGUF" + bytes(100) + zipped({"x": pickle.dumps(Evil())}))


def test_a_pickle_in_a_tar_is_found():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in {"config": b"text", "weights": pickle.dumps(Evil())}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert is_pickle(out.getvalue())


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


# --- declared words -------------------------------------------------------------------------------------------------


def test_content_that_is_not_as_declared_is_refused_and_named(tmp_path):
    path = tmp_path / "m"
    make_gguf(path)
    with pytest.raises(Failure) as caught:
        check(str(path), "safetensors")
    assert (caught.value.reason, caught.value.kind) == ("wrong_format", FailureKind.PERMANENT)
    assert "declared safetensors, content is gguf" in caught.value.message


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"<!DOCTYPE html><html>", "an HTML page"), (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
     (b"", "empty"), (b"PK\3\4 no", "a zip archive"), (b"\x1f\x8b", "gzip")],
)  # fmt: skip
def test_the_message_says_what_stands_there_instead(tmp_path, content, word):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(Failure) as caught:
        check(str(tmp_path / "m"), "gguf")
    assert word in caught.value.message


@pytest.mark.parametrize("declared", ["auto", "unknown", "bin", "weights", "checkpoint", "folder"])
def test_open_words_accept_anything_safe(tmp_path, declared):
    (tmp_path / "m").write_bytes(os.urandom(100))
    assert check(str(tmp_path / "m"), declared).errors == ()


def test_a_word_that_nobody_knows_is_refused(tmp_path):
    make_gguf(tmp_path / "m")
    with pytest.raises(Failure, match="declared nonsense, content is gguf"):
        check(str(tmp_path / "m"), "nonsense")


def test_a_vanished_file_is_transient(tmp_path):
    with pytest.raises(Failure) as caught:
        inspect(str(tmp_path / "gone"))
    assert caught.value.kind is FailureKind.TRANSIENT


# --- headers that lie -----------------------------------------------------------------------------------------------


def gguf_head(tensors, keys, body=b"", version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body


def string(text):
    return struct.pack("<Q", len(text)) + text


HUGE = 1 << 60
U64 = struct.Struct("<Q").pack
LIES = {
    "gguf tensor count": gguf_head(HUGE, 0),
    "gguf key count": gguf_head(0, HUGE),
    "gguf key length": gguf_head(0, 1, U64(HUGE) + b"x" * 30),
    "gguf array of strings": gguf_head(0, 1, string(b"k") + struct.pack("<IIQ", 9, 8, HUGE)),
    "gguf array of numbers": gguf_head(0, 1, string(b"k") + struct.pack("<IIQ", 9, 0, HUGE)),
    "gguf array of arrays": gguf_head(0, 1, string(b"k") + struct.pack("<IIQ", 9, 9, 4) * 20),
    "gguf array of empty strings": gguf_head(0, 1, string(b"k") + struct.pack("<IIQ", 9, 8, HUGE // 2) + bytes(4000)),
    "gguf unknown type": gguf_head(0, 1, string(b"k") + struct.pack("<I", 77) + bytes(20)),
    "gguf version": gguf_head(0, 0, version=9),
    "gguf cut off": b"GGUF\3\0",
    "gguf alignment": gguf_head(0, 1, string(b"general.alignment") + struct.pack("<II", 4, 0)),
    "gguf dimensions": gguf_head(1, 0, string(b"t") + struct.pack("<I", 99) + bytes(100)),
    "gguf shape": gguf_head(1, 0, string(b"t") + struct.pack("<IQQIQ", 2, HUGE, HUGE, 0, 0) + bytes(64)),
    "gguf offset": gguf_head(1, 0, string(b"t") + struct.pack("<IQIQ", 1, 4, 0, 1 << 40) + bytes(64)),
    "gguf key twice": gguf_head(0, 2, (string(b"k") + struct.pack("<IB", 0, 1)) * 2),
    "gguf overlap": gguf_head(
        2, 0, b"".join(string(n) + struct.pack("<IQIQ", 1, 16, 0, 0) for n in (b"a", b"b")) + bytes(200)
    ),
    "safetensors length": U64(HUGE) + b'{"a":1}',
    "safetensors all ones": b"\xff" * 8 + b'{"a":1}',
    "safetensors over the limit": U64(50) + b'{"',
    "onnx graph length": field(1, 8) + field(2, b"pytorch") + b"\x3a\xff\xff\xff\xff\x7f" + bytes(50),
    "tflite root": U64(HUGE)[:4] + b"TFL3" + bytes(40),
    "tflite root far": b"\xff\xff\xff\x7fTFL3" + bytes(40),
    "ort root": b"\xf0\xff\xff\xffORTM" + bytes(40),
    "executorch root": b"\x08\0\0\0ET12" + b"\xff" * 40,
    "hdf5 version": b"\x89HDF\r\n\x1a\n\x77" + bytes(8),
    "npy header": b"\x93NUMPY\2\0\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_header_is_refused_in_little_memory(tmp_path, name):
    path = tmp_path / "m"
    path.write_bytes(LIES[name])
    inspect(str(path))  # once, so that what is imported late does not count
    path.write_bytes(LIES[name] + b"\n" if name == "gguf array of empty strings" else LIES[name])
    tracemalloc.start()
    try:
        with pytest.raises(Failure) as caught:
            check(str(path), "auto")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason in {"wrong_format", "unsafe_pickle"}
    assert peak < 4 << 20


def test_a_truncated_model_is_refused_at_any_length(tmp_path):
    whole = make_gguf(tmp_path / "g").read_bytes()
    tensors = save({"a": np.zeros((30, 4), np.float32), "b": np.zeros(7, np.int8)})
    whisper = make_whisper(tmp_path / "w", filters=1 << 28).read_bytes()
    assert whisper[:4] == b"lmgg"
    for data, word in ((whole, "gguf"), (tensors, "safetensors")):
        for length in [*range(12, len(data) - 40, 97), len(data) - 40]:
            (tmp_path / "m").write_bytes(data[:length])
            with pytest.raises(Failure) as caught:
                check(str(tmp_path / "m"), word)
            assert caught.value.reason == "wrong_format"
    (tmp_path / "m").write_bytes(whisper)
    with pytest.raises(Failure, match="mel filters"):
        check(str(tmp_path / "m"), "ggml")


def tensors_file(header, data=b"\0" * 16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return U64(len(text)) + text + data


def entry(start, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


BAD_HEADERS = {
    "overlap": {"a": entry(0, 8), "b": entry(4, 12)},
    "hole": {"a": entry(0, 4, (1,)), "b": entry(8, 16)},
    "past the end": {"a": entry(0, 8), "b": entry(8, 24, (4,))},
    "short of the end": {"a": entry(0, 8)},
    "reversed": {"a": entry(8, 0)},
    "negative": {"a": entry(-8, 0)},
    "shape and bytes differ": {"a": entry(0, 16, (3,))},
    "shape overflows": {"a": entry(0, 16, (1 << 40, 1 << 40))},
    "metadata is no text": {"__metadata__": {"a": 1}, "w": entry(0, 16, (4,))},
    "no entry": {"a": [1, 2]},
    "key twice": b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    "not JSON": b'{"a": ',
    "NaN": b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}',
    "deep": b'{"a":' + b"[" * 100_000,
    "giant number": b'{"a":{"dtype":"F32","shape":[' + b"9" * 6000 + b'],"data_offsets":[0,16]}}',
    "a float": b'{"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}}',
    "a flag": b'{"a":{"dtype":"U8","shape":[true],"data_offsets":[false,true]}}',
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_safetensors_header_that_breaks_a_rule_is_refused(name):
    report = SAFETENSORS.look(Window.of_bytes(tensors_file(BAD_HEADERS[name])))
    assert report is not None
    assert report.errors


DTYPES = {"F32": 4, "F16": 2, "I8": 1, "F64": 8}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)), max_size=4),
    st.integers(-3, 3),
    st.integers(-1, 1),
)
def test_we_accept_what_the_reference_implementation_accepts_and_refuse_what_it_refuses(tensors, trail, shift):
    header, at = {}, 0
    for number, (dtype, shape) in enumerate(tensors):
        size = int(np.prod(shape, dtype=int)) * DTYPES[dtype]
        header[f"t{number}"] = entry(at, at + size, shape, dtype)
        at += size
    if header:
        header["t0"]["data_offsets"][1] = max(0, header["t0"]["data_offsets"][1] + shift)
    data = tensors_file(header, bytes(max(0, at + trail)))
    try:
        load(data)
        accepted = True
    except SafetensorError:
        accepted = False
    report = SAFETENSORS.look(Window.of_bytes(data))
    assert (report is not None and not report.errors) == accepted
