"""What is refused: lying headers, content that is not as declared."""

import json
import os
import struct
import time
import tracemalloc

import numpy as np
import pytest
from formats_made import field, make_gguf, make_whisper
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save

from reconciler.adapters.formats import check, inspect
from reconciler.adapters.formats.safetensors import READER as SAFETENSORS
from reconciler.adapters.formats.window import Window
from reconciler.core.errors import Failure, FailureKind


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


def test_what_cannot_be_searched_for_a_pickle_says_so(tmp_path):
    (tmp_path / "m").write_bytes(b"\x04\x22\x4d\x18" + bytes(100))
    with pytest.raises(Failure) as caught:
        check(str(tmp_path / "m"), "auto")
    assert caught.value.reason == "unsafe_pickle"
    assert caught.value.message == "m cannot be searched for pickles: lz4 is not unpacked"
    assert check(str(tmp_path / "m"), "auto", allow_unsafe=True).format == "unknown"


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
    "npy header of commas": b"\x93NUMPY\1\0\xff\xff" + b"'," * 32_767 + b"\\",
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
    "half a surrogate pair": b'{"a\\ud800":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    "lists instead of tensors": b'{"a":[' + b"[]," * 20_000 + b"[]]}",
    "a flag": b'{"a":{"dtype":"U8","shape":[true],"data_offsets":[false,true]}}',
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_safetensors_header_that_breaks_a_rule_is_refused(name):
    report = SAFETENSORS.look(Window.of_bytes(tensors_file(BAD_HEADERS[name])))
    assert report is not None
    assert report.errors


LINKS = json.dumps({"links": [[n, n + 1, 0, n + 2, 0, "M"] for n in range(3000)]})
ODD_HEADERS = {
    "metadata is null": b'{"__metadata__":null,"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    "another key": b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":[1]}}',
    "white space before": b' \n{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    "a surrogate pair": b'{"a\\ud83d\\ude00":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    "lists within a text": {"__metadata__": {"workflow": LINKS}, "a": entry(0, 16, (4,))},
}


@pytest.mark.parametrize("name", ODD_HEADERS)
def test_an_odd_safetensors_header_that_the_reference_reads_is_sound(tmp_path, name):
    data = tensors_file(ODD_HEADERS[name])
    assert len(load(data)) == 1
    (tmp_path / "m").write_bytes(data)
    assert check(str(tmp_path / "m"), "safetensors").warnings == ()


@pytest.mark.parametrize("name", ["t{}", "layers.{}.bias", "blk.{}.attn_q.weight"])
@pytest.mark.parametrize("count", [60, 1000, 19_000])
def test_many_tensors_of_short_names_are_sound(tmp_path, name, count):
    (tmp_path / "m").write_bytes(save({name.format(n): np.zeros(1, np.int8) for n in range(count)}))
    assert dict(check(str(tmp_path / "m"), "safetensors").metadata)["tensors"] == count


def test_a_dtype_newer_than_this_reader_is_told(tmp_path):
    (tmp_path / "m").write_bytes(tensors_file({"a": entry(0, 16, (4,), "Q4")}))
    assert check(str(tmp_path / "m"), "safetensors").warnings == (("warning", "m: a dtype newer than this reader: Q4"),)


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


@pytest.mark.parametrize("name", LIES)
def test_a_lying_header_is_refused_in_a_tenth_of_a_second(tmp_path, name):
    times = []
    for number in range(3):
        path = tmp_path / str(number)
        path.write_bytes(LIES[name])
        start = time.process_time()
        with pytest.raises(Failure):
            check(str(path), "auto")
        times.append(time.process_time() - start)
    assert min(times) < 0.1
