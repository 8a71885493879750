"""Whatever bytes come: every parser of formats and archives ends with a report or our own failure, soon and small.

Two kinds of bytes: chance ones behind each format's magic, and real files with some bytes changed, cut or repeated.
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
import shutil
import struct
import tarfile
import threading
import time
import zipfile

import gguf
import numpy as np
import onnx.helper
import onnx.numpy_helper
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from reconciler.adapters.archives import recognise
from reconciler.adapters.formats import BUILTIN, check
from reconciler.adapters.formats.unsafe import holds_pickle
from reconciler.adapters.formats.window import MAX_READ_BYTES, Window
from reconciler.core.errors import Failure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FUZZ = settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
DEADLINE_S = 2.0  # generous for a busy machine; alone it is 0.1


def sample_gguf(folder):
    writer = gguf.GGUFWriter(str(folder / "m.gguf"), "llama")
    writer.add_context_length(128)
    writer.add_token_list([f"t{n}" for n in range(1500)])
    writer.add_tensor("x", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "m.gguf").read_bytes()


def sample_onnx():
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 3])],
        [onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )
    return onnx.helper.make_model(graph, producer_name="p").SerializeToString()


def sample_zip(method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name in ("a/x.bin", "a/y.txt", "b"):
            archive.writestr(name, name.encode() * 90)
    return out.getvalue()


def sample_tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a/x.bin", "ü" * 80, "b"):
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(bytes(700)))
    return out.getvalue()


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    npz = io.BytesIO()
    np.savez_compressed(npz, a=np.arange(9), b=np.array([{}], object))
    tar = sample_tar()
    return {
        "gguf": sample_gguf(tmp_path_factory.mktemp("fuzz")),
        "safetensors": save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(5, np.int8)}, {"format": "pt"}),
        "onnx": sample_onnx(),
        "pickle": pickle.dumps({"a": [1, (2, "x")], "b": pickle.PickleBuffer, "c": b"y" * 400}),
        "pickle0": pickle.dumps({"a": [1, (2, "x")], "b": pickle.PickleBuffer}, 0),
        "npz": npz.getvalue(),
        "tflite": struct.pack("<I4sHHI", 12, b"TFL3", 4, 4, 4) + bytes(64),
        "ct2": struct.pack("<IH", 6, 9) + b"TinySpec\0" + struct.pack("<III", 1, 1, 0),
        "openvino": b'<?xml version="1.0"?><net name="a" version="11"></net>',
        "ggml": b"lmgg" + struct.pack("<13i", 51865, 1500, 1, 1, 4, 448, 1, 1, 4, 80, 1, 80, 201),
        "zip": sample_zip(zipfile.ZIP_STORED),
        "deflated": sample_zip(zipfile.ZIP_DEFLATED),
        "tar": tar,
        "tgz": gzip.compress(tar),
        "tbz2": bz2.compress(tar),
        "txz": lzma.compress(tar),
        "tzst": zstandard.compress(tar),
        "json": json.dumps({"version": "1.0", "truncation": None}).encode(),
    }


@st.composite
def harm(draw):
    """A change to bytes: flips, numbers written over, a cut, a piece repeated."""
    changes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["flip", "number", "cut", "repeat", "insert"]),
                st.floats(0, 1, exclude_max=True),
                st.integers(0, 255),
                st.sampled_from([0, 1, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]),
            ),
            min_size=1,
            max_size=5,
        )
    )
    return lambda data: _harm(bytearray(data), changes)


def _harm(data, changes):
    for kind, place, byte, number in changes:
        at = int(place * len(data)) if place > 0.5 else int(place * min(len(data), 400))
        if kind == "flip" and data:
            data[min(at, len(data) - 1)] ^= byte
        elif kind == "number":
            data[at : at + 8] = struct.pack("<Q", number)[: 4 if byte % 2 else 8]
        elif kind == "cut":
            del data[at:]
        elif kind == "repeat":
            data[at:at] = data[at : at + byte]
        else:
            data[at:at] = bytes([byte]) * (byte % 9)
    return bytes(data)


def look(data):
    start = time.process_time()
    for reader in BUILTIN:
        window = Window.of_bytes(data)
        reader.look(window)
        assert window.budget.bytes_left > -MAX_READ_BYTES
    holds_pickle(Window.of_bytes(data))
    assert time.process_time() - start < DEADLINE_S


MAGICS = [b"GGUF\3\0\0\0", b"GGUF\0\0\0\3", b"lmgg", b"\x08\x07\x12\x01p", b"\0\0\0\0TFL3", b"\0\0\0\0ORTM", b"\0\0\0\0ET12", b"PK\3\4",
          b"PK\5\6", b"\x93NUMPY\1\0", b"\x80\4", b"\x80\2", b"(", b"c", b"\x89HDF\r\n\x1a\n", b"\x0a\x0e\x0a\x05<unk>", b"\6\0\0\0\t\0TinySpec\0",
          b"<net ", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"x\x9c", b"\x28\xb5\x2f\xfd", b"]\0\0", b"\x50\x2a\x4d\x18\0\0\0\0\x28\xb5\x2f\xfd"]  # fmt: skip


@FUZZ
@given(st.sampled_from(MAGICS), st.binary(max_size=600))
def test_chance_bytes_behind_a_magic_give_a_report_or_nothing(magic, data):
    look(magic + data)


@FUZZ
@given(st.data(), harm())
def test_harmed_files_give_a_report_or_nothing(samples, data, change):
    look(change(samples[data.draw(st.sampled_from(sorted(samples)))]))


@FUZZ
@given(st.data(), harm(), st.sampled_from(["auto", "gguf", "safetensors", "onnx", "pytorch", "mlx"]))
def test_check_raises_nothing_but_our_failure(samples, tmp_path, data, change, declared):
    path = tmp_path / "m"
    path.write_bytes(change(samples[data.draw(st.sampled_from(sorted(samples)))]))
    failure = None
    try:
        check(str(path), declared)
    except Failure as caught:
        failure = caught
    if failure:
        assert failure.reason in {"wrong_format", "unsafe_pickle", "model_incomplete"}
        assert failure.message.isprintable()


ARCHIVES = {
    "zip": "m.zip",
    "deflated": "m.zip",
    "tar": "m.tar",
    "tgz": "m.tgz",
    "tbz2": "m.tbz2",
    "txz": "m.txz",
    "tzst": "m.tzst",
}


@FUZZ
@given(st.sampled_from(sorted(ARCHIVES)), harm())
def test_harmed_archives_are_unpacked_inside_or_refused_and_leave_nothing(samples, tmp_path, kind, change):
    path = tmp_path / "blob"
    path.write_bytes(change(samples[kind]))
    into = tmp_path / "out"
    into.mkdir()
    extractor = recognise(str(path), ARCHIVES[kind])
    if extractor is not None:
        extractor.measure(str(path))
        members, failure = None, None
        try:
            members = extractor.extract(
                str(path), str(into), limit_bytes=1 << 20, progress=lambda _: None, cancel=threading.Event()
            )
        except Failure as caught:
            failure = caught
        if failure:
            assert failure.reason.startswith("archive_")
            assert list(into.iterdir()) == []
        else:
            assert sum(m.size_bytes for m in members) <= 1 << 20
            assert {m.path for m in members} == {str(f.relative_to(into)) for f in into.rglob("*") if f.is_file()}
    assert {entry.name for entry in tmp_path.iterdir()} <= {"blob", "out", "m"}
    shutil.rmtree(into)
