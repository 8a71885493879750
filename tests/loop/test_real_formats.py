"""Models written by their formats' own libraries are known for what they are, in the document that status prints."""

import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile

import gguf
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from safetensors.numpy import save


def write_gguf(folder):
    writer = gguf.GGUFWriter(folder / "m", "qwen2")
    writer.add_context_length(32768)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_name("Tiny Qwen")
    writer.add_license("apache-2.0")
    data = gguf.quants.quantize(np.ones((64, 256), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"m.gguf": (folder / "m").read_bytes()}


def write_onnx(folder):
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 40])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 30])],
        [onnx.numpy_helper.from_array(np.ones((40, 30), np.float32), "w")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return {"m.onnx": onnx.helper.make_model(graph, producer_name="tests", opset_imports=opset).SerializeToString()}


def write_safetensors(folder):
    first = save({"a": np.ones((30, 20), np.float16)}, {"format": "pt"})
    second = save({"b": np.ones((10, 20), np.float16)}, {"format": "pt"})
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"metadata": {"total_size": 1600}, "weight_map": {"a": names[0], "b": names[1]}}
    config = {"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 512}
    card = b"---\nlicense: mit\n---\nA card.\n"
    return {
        names[0]: first, names[1]: second, "model.safetensors.index.json": json.dumps(index).encode(),
        "config.json": json.dumps(config).encode(), "README.md": card,
    }  # fmt: skip


def write_ctranslate2(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ctranslate2.specs import model_spec  # noqa: PLC0415 -- it warns while it is imported

        class Layer(model_spec.LayerSpec):
            def __init__(self):
                self.weight, self.bias = np.ones((40, 80), np.float32), np.ones(80, np.float32)

        class Spec(model_spec.ModelSpec):
            name = property(lambda self: "WhisperSpec")
            revision = property(lambda self: 3)

            def __init__(self):
                self.layer = Layer()

        spec = Spec()
        spec.validate()
        spec.optimize(quantization="float16")
        spec._serialize(str(folder / "m"))
    return {"model.bin": (folder / "m").read_bytes()}


REAL = [
    (write_gguf, "gguf", {"architecture": "qwen2", "contextLength": 32768, "quantization": "Q8_0", "parameters": 16384, "license": "apache-2.0"}),
    (write_onnx, "onnx", {"opset": 17, "producer": "tests", "parameters": 1200}),
    (write_safetensors, "safetensors", {"parameters": 800, "architecture": "bert", "contextLength": 512, "license": "mit", "dtype": "F16"}),
    (write_ctranslate2, "ctranslate2", {"architecture": "WhisperSpec", "revision": 3, "quantization": "fp16", "parameters": 3280}),
]  # fmt: skip


@pytest.mark.parametrize(("write", "format_", "facts"), REAL, ids=[case[1] for case in REAL])
def test_a_model_is_known_for_what_it_is(machine, tmp_path, write, format_, facts):
    (tmp_path / "made").mkdir()
    files = write(tmp_path / "made")
    for path, data in files.items():
        machine.origin.put(f"/{path}", data)
    machine.models["m"] = {"files": [{"path": path, "source": f"{machine.origin.url}/{path}"} for path in files]}
    machine.apply()
    told = machine.status("m")
    assert told["format"] == format_
    assert told["metadata"] | facts == told["metadata"]


@pytest.mark.parametrize(("write", "format_", "facts"), REAL, ids=[case[1] for case in REAL])
def test_a_model_that_is_cut_off_or_another_is_refused(machine, tmp_path, write, format_, facts):
    (tmp_path / "made").mkdir()
    files = write(tmp_path / "made")
    name = next(iter(files))
    wrong = "tflite" if format_ != "tflite" else "onnx"
    cut = {"onnx": files[name][:-200]}.get(format_, files[name][:-30])
    machine.origin.put("/cut", cut)
    machine.origin.put("/whole", files[name])
    machine.models = {
        "cut": {"files": [{"path": name, "source": f"{machine.origin.url}/cut"}]},
        "other": {"files": [{"path": name, "source": f"{machine.origin.url}/whole"}], "format": wrong},
    }
    result = machine.apply(code=4)
    reasons = {out["model"]: out["reason"] for out in result["outcomes"] if out["status"] == "failed"}
    assert reasons == {"cut": "wrong_format", "other": "wrong_format"}
    assert machine.status("cut")["state"] == "absent"


def tar_gz(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def outside(data):
    """A zip whose one member begins where no file offset can be."""
    data, extra = bytearray(data), struct.pack("<2HQ", 1, 8, 1 << 63)
    central = data.find(b"PK\1\2")
    data[central + 42 : central + 46] = b"\xff" * 4
    data[central + 30 : central + 32] = struct.pack("<H", len(extra))
    data[central + 47 : central + 47] = extra
    end = data.rfind(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<L", struct.unpack_from("<L", data, end + 12)[0] + len(extra))
    return bytes(data)


ARCHIVES = {
    "damaged": ("outside", outside(zipped({"a": b"hello" * 100})), "auto", "archive_damaged"),
    "named": ("outside.zip", outside(zipped({"a": b"hello" * 100})), "auto", "archive_damaged"),
    "cut": ("model", zipped({"a": b"hello" * 100})[:60], "auto", "archive_truncated"),
    "stream": ("model", tar_gz({"a": b"hello" * 100})[:40], "auto", "archive_truncated"),
    "packed": ("packed.tar.gz", tar_gz({"a": b"1", "w": pickle.dumps({"w": 1})}), False, "unsafe_pickle"),
    "inner": ("inner.zip", zipped({"a.tar.gz": tar_gz({"w": pickle.dumps({"w": 1})}), "b": b"1"}), "auto", "unsafe_pickle"),
}  # fmt: skip


def test_archives_that_are_broken_or_hide_a_pickle_are_refused_and_keep_nobody_else(machine):
    for model, (name, data, extract, _) in ARCHIVES.items():
        machine.origin.put(f"/{model}/{name}", data)
        machine.models[model] = {"source": f"{machine.origin.url}/{model}/{name}", "extract": extract}
    good = tar_gz({"a": b"1", "labels.txt": b"cat"})
    machine.origin.put("/good.tar.gz", good)
    machine.models["good"] = {"source": f"{machine.origin.url}/good.tar.gz", "extract": False}
    result = machine.apply(code=4)
    reasons = {out["model"]: out["reason"] for out in result["outcomes"] if out["status"] == "failed"}
    assert reasons == {model: reason for model, (*_, reason) in ARCHIVES.items()}
    assert not any(machine.placed(model, "").exists() for model in ARCHIVES)
    assert machine.partials() == []
    assert machine.placed("good", "good.tar.gz").read_bytes() == good
