"""Real files are recognised, with what their headers say."""

import json
import pathlib
import struct
import time
import warnings

import gguf
import numpy as np
import onnx
import onnx.external_data_helper
import onnx.helper
import pytest
from formats_made import facts, field, flatbuffer, make_gguf, make_whisper
from safetensors.numpy import save_file

from reconciler.adapters.formats import check, inspect
from reconciler.adapters.formats.gguf import FILE_TYPES, TENSOR_TYPES
from reconciler.core.errors import Failure


@pytest.mark.parametrize("endian", [gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG])
def test_gguf_tells_its_keys_and_counts_its_weights(tmp_path, endian):
    report = inspect(str(make_gguf(tmp_path / "m", tokens=3000, endian=endian)))
    found = facts(report)
    assert report.format == "gguf"
    expected = {
        "architecture": "llama",
        "contextLength": 4096,
        "quantization": "Q4_K_M",
        "parameters": 1048,
        "name": "Tiny",
        "license": "mit",
    }
    assert found | expected == found


def test_gguf_without_a_file_type_takes_the_majority_of_its_weights(tmp_path):
    writer = gguf.GGUFWriter(str(tmp_path / "m"), "bert")
    data = gguf.quants.quantize(np.ones((8, 256), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q", data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("f", np.ones(10, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert facts(inspect(str(tmp_path / "m"))) == {
        "architecture": "bert",
        "version": 3,
        "quantization": "Q8_0",
        "parameters": 2058,
    }


def test_the_tables_of_gguf_are_those_of_its_own_library():
    sizes = {int(kind): pair for kind, pair in gguf.GGML_QUANT_SIZES.items()}
    ours = {kind: entry for kind, entry in TENSOR_TYPES.items() if kind in sizes}  # an older one knows fewer
    assert {kind: entry[1:] for kind, entry in ours.items()} == {kind: sizes[kind] for kind in ours}
    assert {kind: entry[0] for kind, entry in ours.items()} == {
        kind: gguf.GGMLQuantizationType(kind).name for kind in ours
    }
    named = {int(kind): kind.name.replace("MOSTLY_", "").replace("ALL_", "") for kind in gguf.LlamaFileType}
    assert {kind: word for kind, word in FILE_TYPES.items() if kind in named} == {
        kind: word for kind, word in named.items() if kind in FILE_TYPES
    }


@pytest.mark.parametrize(
    ("kind", "file_type", "word", "block"), [(40, 39, "NVFP4", (64, 36)), (41, 40, "Q1_0", (128, 18))]
)
def test_the_newest_types_of_gguf_are_known(kind, file_type, word, block):
    assert (TENSOR_TYPES[kind], FILE_TYPES[file_type]) == ((word, *block), word)


LONG_HEADERS = {
    "long tokens": lambda writer: writer.add_token_list(["x" * 300] * 150_000),
    "some long tokens": lambda writer: writer.add_token_list(["x" * (3 if n % 100 else 200) for n in range(200_000)]),
    "keys": lambda writer: [writer.add_bool(f"k{n}", True) for n in range(31_000)],
    "tensors": lambda writer: [writer.add_tensor(f"t{n}", np.zeros(1, np.int8)) for n in range(31_000)],
}


@pytest.mark.parametrize("name", LONG_HEADERS)
def test_a_gguf_header_that_is_too_long_to_be_checked_is_told_and_not_refused(tmp_path, name):
    writer = gguf.GGUFWriter(str(tmp_path / "m"), "llama")
    writer.add_context_length(4096)
    writer.add_file_type(15)
    LONG_HEADERS[name](writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    report = check(str(tmp_path / "m"), "gguf")
    assert [severity for severity, _ in report.warnings] == ["warning"]
    expected = {"architecture": "llama", "contextLength": 4096, "quantization": "Q4_K_M"}
    assert dict(report.metadata) | expected == dict(report.metadata)


def test_the_longest_vocabulary_is_walked_in_the_time_promised(tmp_path):
    path = str(make_gguf(tmp_path / "m", tokens=260_000))
    start = time.process_time()
    assert facts(inspect(path))["parameters"] == 1048
    assert time.process_time() - start < 0.5  # 0.05 s alone on a quiet machine; the benchmark measures


def test_the_header_of_a_40_gb_file_is_read_without_its_data(tmp_path):
    size = 40_000_000_000
    header = json.dumps({"w": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    path = tmp_path / "big.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    start = time.process_time()
    assert facts(inspect(str(path)))["parameters"] == size // 2
    assert time.process_time() - start < 0.2


def test_safetensors_tells_dtype_and_parameters(tmp_path):
    save_file(
        {"a": np.zeros((3, 4), np.float32), "b": np.zeros(7, np.int8)},
        tmp_path / "m",
        {"format": "pt", "license": "mit"},
    )
    report = inspect(str(tmp_path / "m"))
    assert report.format == "safetensors"
    assert facts(report) == {"parameters": 19, "dtype": "F32", "tensors": 2, "license": "mit", "framework": "pt"}


def make_onnx(path, location=None):
    weights = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "digits",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 3])],
        [weights],
    )
    model = onnx.helper.make_model(graph, producer_name="mine", opset_imports=[onnx.helper.make_opsetid("", 17)])
    if location:
        onnx.external_data_helper.set_external_data(model.graph.initializer[0], location, 0, 48)
        model.graph.initializer[0].ClearField("raw_data")
        path.write_bytes(model.SerializeToString())
    else:
        onnx.save(model, str(path))
    return path


def test_onnx_tells_opset_producer_graph_and_parameters(tmp_path):
    report = inspect(str(make_onnx(tmp_path / "m")))
    found = facts(report)
    assert report.format == "onnx"
    expected = {"opset": 17, "producer": "mine", "graph": "digits", "parameters": 12, "dtype": "F32"}
    assert found | expected == found


def test_onnx_with_external_data_needs_it_beside_it(tmp_path):
    path = make_onnx(tmp_path / "m.onnx", "m.onnx_data")
    assert check(str(path), "onnx").format == "onnx"  # looked at alone, as while it downloads
    with pytest.raises(Failure) as caught:
        check(str(path), "onnx", is_whole=True)
    assert caught.value.reason == "model_incomplete"
    (tmp_path / "m.onnx_data").write_bytes(bytes(48))
    files = [("m.onnx", str(path)), ("m.onnx_data", str(tmp_path / "m.onnx_data"))]
    assert check(files, "onnx").format == "onnx"


def test_onnx_finds_external_data_however_its_path_is_written(tmp_path):
    make_onnx(tmp_path / "m.onnx", "./w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(48))
    assert check(str(tmp_path), "onnx").format == "onnx"


def external(location):
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "t")
    onnx.external_data_helper.set_external_data(tensor, location, 0, 16)
    tensor.ClearField("raw_data")
    return tensor


def hidden_data(place, tensor):
    """A model whose one external tensor stands in an unusual place."""
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    nodes = {"node": [constant], "subgraph": [onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner)]}
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes.get(place, []), "g", [], []))
    if place == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    if place == "function":
        opset = [onnx.helper.make_opsetid("", 17)]
        model.functions.append(onnx.helper.make_function("d", "f", [], ["c"], [constant], opset))
    return model.SerializeToString()


@pytest.mark.parametrize("place", ["node", "subgraph", "sparse", "function"])
def test_onnx_external_data_is_found_wherever_it_stands(tmp_path, place):
    (tmp_path / "m.onnx").write_bytes(hidden_data(place, external("/etc/passwd")))
    with pytest.raises(Failure) as caught:
        check(str(tmp_path / "m.onnx"), "onnx")
    assert caught.value.reason == "wrong_format"
    (tmp_path / "m.onnx").write_bytes(hidden_data(place, external("w.bin")))
    with pytest.raises(Failure) as caught:
        check(str(tmp_path / "m.onnx"), "onnx", is_whole=True)
    assert caught.value.reason == "model_incomplete"
    (tmp_path / "w.bin").write_bytes(bytes(16))
    assert check(str(tmp_path), "onnx").warnings == ()


def test_an_onnx_model_that_is_too_long_to_be_read_whole_is_told(tmp_path):
    model = onnx.load(make_onnx(tmp_path / "m"))
    model.metadata_props.extend(onnx.StringStringEntryProto(key=f"k{n}", value="v") for n in range(20_000))
    (tmp_path / "m").write_bytes(model.SerializeToString())
    report = check(str(tmp_path / "m"), "onnx")
    assert report.warnings == (("warning", "m: its properties are too many to be read"),)
    assert dict(report.metadata)["graph"] == "digits"


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\x"])
def test_onnx_with_external_data_outside_is_refused(tmp_path, location):
    with pytest.raises(Failure) as caught:
        check(str(make_onnx(tmp_path / "m.onnx", location)), "auto")
    assert caught.value.reason == "wrong_format"


def test_a_scikit_learn_model_exported_by_skl2onnx_is_onnx():
    path = pathlib.Path(__file__).parents[3] / "examples" / "models" / "digits.onnx"
    report = inspect(str(path))
    assert report.format == "onnx"
    assert facts(report)["opset"] > 0


def test_ctranslate2_written_by_its_own_library_is_recognised(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ctranslate2.specs import model_spec  # noqa: PLC0415 -- it warns while it is imported

        class TinySpec(model_spec.LayerSpec):
            def __init__(self):
                self.weight = np.ones((4, 8), np.float32)
                self.bias = np.ones(8, np.float32)

        class TinyModelSpec(model_spec.ModelSpec):
            name = property(lambda self: "TinySpec")
            revision = property(lambda self: 3)

            def __init__(self):
                self.layer = TinySpec()

        spec = TinyModelSpec()
        spec.validate()
        spec.optimize(quantization="float16")
        spec._serialize(str(tmp_path / "model.bin"))
    report = inspect(str(tmp_path / "model.bin"))
    assert report.format == "ctranslate2"
    found = facts(report)
    assert (found["architecture"], found["revision"], found["parameters"]) == ("TinySpec", 3, 40)
    assert found["quantization"] == "fp16"
    (tmp_path / "model.bin").write_bytes((tmp_path / "model.bin").read_bytes()[:-20])
    assert inspect(str(tmp_path / "model.bin")).errors


def test_tflite_ort_and_executorch_are_told_by_identifier_and_table(tmp_path):
    def tflite(b):
        name = b.CreateString("main")
        b.StartObject(5)
        b.PrependUOffsetTRelativeSlot(4, name, 0)
        graph = b.EndObject()
        b.StartVector(4, 1, 4)
        b.PrependUOffsetTRelative(graph)
        graphs = b.EndVector()
        b.StartObject(5)
        b.PrependUint32Slot(0, 3, 0)
        b.PrependUOffsetTRelativeSlot(2, graphs, 0)
        return b.EndObject()

    def ort(b):
        version, producer, domain = b.CreateString("1.19"), b.CreateString("torch"), b.CreateString("")
        b.StartObject(2)
        b.PrependUOffsetTRelativeSlot(0, domain, 0)
        b.PrependInt64Slot(1, 17, 0)
        opset = b.EndObject()
        b.StartVector(4, 1, 4)
        b.PrependUOffsetTRelative(opset)
        opsets = b.EndVector()
        b.StartObject(3)
        b.PrependInt64Slot(0, 9, 0)
        b.PrependUOffsetTRelativeSlot(1, opsets, 0)
        b.PrependUOffsetTRelativeSlot(2, producer, 0)
        model = b.EndObject()
        b.StartObject(2)
        b.PrependUOffsetTRelativeSlot(0, version, 0)
        b.PrependUOffsetTRelativeSlot(1, model, 0)
        return b.EndObject()

    def program(b):
        b.StartObject(2)
        b.PrependUint32Slot(0, 1, 0)
        return b.EndObject()

    expected = {
        "tflite": (b"TFL3", tflite, {"version": 3, "operators": 0, "name": "main"}),
        "ort": (b"ORTM", ort, {"ortVersion": "1.19", "irVersion": 9, "producer": "torch", "opset": 17}),
        "executorch": (b"ET12", program, {"version": 1, "methods": 0}),
    }
    for word, (identifier, build, known) in expected.items():
        path = tmp_path / word
        path.write_bytes(flatbuffer(identifier, build))
        report = inspect(str(path))
        assert report.format == word
        assert facts(report) == known
        path.write_bytes(path.read_bytes()[:12])
        assert inspect(str(path)).errors


def test_core_ml_is_told_by_its_fields(tmp_path):
    meta = field(1, b"digits") + field(4, b"MIT")
    (tmp_path / "m").write_bytes(field(1, 4) + field(2, field(100, meta)) + field(500, bytes(300)))
    report = inspect(str(tmp_path / "m"))
    assert report.format == "coreml"
    assert facts(report) == {
        "specificationVersion": 4,
        "description": "digits",
        "license": "MIT",
        "architecture": "neuralNetwork",
    }
    for word in ("coreml", "mlmodel"):
        assert check(str(tmp_path / "m"), word).format == "coreml"


def test_core_ml_folders_are_told_by_their_manifest(tmp_path):
    data = tmp_path / "Data" / "com.apple.CoreML"
    data.mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(field(1, 7) + field(2, b"") + field(502, bytes(9)))
    (tmp_path / "Manifest.json").write_text('{"fileFormatVersion": "1.0.0", "itemInfoEntries": {}}')
    report = check(str(tmp_path), "mlpackage")
    assert report.format == "coreml"
    assert facts(report)["specificationVersion"] == 7


def test_openvino_needs_its_weights(tmp_path):
    xml = tmp_path / "m.xml"
    xml.write_text('<?xml version="1.0"?>\n<net name="resnet" version="11"><layers/></net>')
    with pytest.raises(Failure) as caught:
        check(str(tmp_path), "openvino", is_whole=True)
    assert caught.value.reason == "model_incomplete"
    (tmp_path / "m.bin").write_bytes(bytes(64))
    report = check(str(tmp_path), "openvino")
    assert report.format == "openvino"
    assert facts(report) == {"name": "resnet", "version": 11}


def test_whisper_in_ggml_is_described_and_other_ggml_named(tmp_path):
    assert facts(inspect(str(make_whisper(tmp_path / "m")))) == {
        "architecture": "whisper", "contextLength": 448, "quantization": "F16", "name": "whisper-base",
    }  # fmt: skip
    (tmp_path / "old").write_bytes(b"tjgg" + bytes(100))
    assert inspect(str(tmp_path / "old")).format == "ggml"


def test_tokenizers_are_told_from_other_json_and_protobuf(tmp_path):
    (tmp_path / "a").write_text('{\n "version": "1.0",\n "truncation": null,\n "model": {"type": "BPE"}}')
    piece = field(1, b"<unk>") + b"\x15\0\0\0\0" + field(3, 2)
    (tmp_path / "b").write_bytes(field(1, piece) + field(1, field(1, b"<s>")) + field(1, field(1, b"a")))
    (tmp_path / "c").write_text('{"version": 3}')
    assert [inspect(str(tmp_path / n)).format for n in "abc"] == ["tokenizer", "tokenizer", "unknown"]
    assert facts(inspect(str(tmp_path / "a"))) == {"type": "BPE"}


def test_hdf5_is_no_pickle(tmp_path):
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n\0" + bytes(100))
    assert inspect(str(tmp_path / "m.h5")).format == "h5"
