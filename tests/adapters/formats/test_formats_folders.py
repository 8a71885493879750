"""Models of several files: what they are together, and what is missing."""

import json
import time
import tracemalloc

import numpy as np
import pytest
from formats_made import facts, make_gguf
from safetensors.numpy import save_file

from reconciler.adapters.formats import BUILTIN, check, inspect, read_folder
from reconciler.core.errors import Failure
from reconciler.core.ports import FormatReport


def make_shards(folder, names=("model-1.safetensors", "model-2.safetensors"), listed=None):
    for name in names:
        save_file({name: np.zeros((2, 5), np.float16)}, folder / name)
    weight_map = {name: name for name in listed or names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text('{"model_type": "qwen2", "max_position_embeddings": 32768}')
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Hello\n")


def test_a_sharded_model_sums_its_shards_and_reads_its_config(tmp_path):
    make_shards(tmp_path)
    report = check(str(tmp_path), "safetensors")
    assert report.format == "safetensors"
    found = facts(report)
    expected = {
        "parameters": 20,
        "shards": 2,
        "dtype": "F16",
        "architecture": "qwen2",
        "contextLength": 32768,
        "license": "apache-2.0",
    }
    assert found | expected == found


@pytest.mark.parametrize("declared", ["auto", "safetensors"])
def test_a_missing_shard_is_told_by_name(tmp_path, declared):
    make_shards(tmp_path, listed=("model-1.safetensors", "model-3.safetensors"))
    with pytest.raises(Failure) as caught:
        check(str(tmp_path), declared)
    assert caught.value.reason == "model_incomplete"
    assert "model-3.safetensors" in caught.value.message


def test_an_index_may_be_looked_at_before_its_shards_are_there(tmp_path):
    make_shards(tmp_path)
    place = str(tmp_path / "model.safetensors.index.json")
    assert check([("model.safetensors.index.json", place)], "auto").errors == ()


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "a\\b", "x\0y", "../../x"])
def test_an_index_that_names_files_outside_is_refused(tmp_path, shard):
    make_shards(tmp_path, listed=("model-1.safetensors", shard))
    with pytest.raises(Failure) as caught:
        check(str(tmp_path), "auto")
    assert caught.value.reason == "wrong_format"


MIB = 1 << 20
BAD_INDEXES = {
    "no JSON": b'{"weight_map": {"a"',
    "no mapping": b'{"weight_map": ["model-1.safetensors"]}',
    "no weight map": b"{}",
    "a number for a file": b'{"weight_map": {"a": 1}}',
    "lists": b'{"weight_map":[' + b"[]," * (5 * MIB) + b"[]]}",
    "commas": b'{"weight_map":{' + b"," * (15 * MIB),
    "files without end": json.dumps({"weight_map": {str(n): f"{n}" for n in range(190_000)}}).encode(),
    "digits": b'{"x":[' + (b"1" * 4000 + b",") * 3900 + b"1]}",
}


@pytest.mark.parametrize("name", BAD_INDEXES)
def test_an_index_that_is_none_is_refused_soon_and_in_little_memory(tmp_path, name):
    make_shards(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_bytes(BAD_INDEXES[name])
    start = time.process_time()
    with pytest.raises(Failure) as caught:
        check(str(tmp_path), "auto")
    assert time.process_time() - start < 1.0  # 0.1 s alone on a quiet machine
    assert caught.value.reason == "wrong_format"
    tracemalloc.start()
    try:
        with pytest.raises(Failure):
            check(str(tmp_path), "auto")
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


def test_the_longest_index_of_a_real_model_is_read(tmp_path):
    make_shards(tmp_path)
    names = [f"model.layers.{n // 1000}.mlp.experts.{n % 1000}.down_proj.weight_scale_inv" for n in range(140_000)]
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "model-3.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Failure) as caught:
        check(str(tmp_path), "auto")
    assert caught.value.reason == "model_incomplete"


@pytest.mark.parametrize(
    ("text", "license_"),
    [("---\r\nlicense: 'mit'\r\n---\r\n", "mit"), ("---" + "\n" * 4000 + "license: mit\n---\n", "mit"),
     ("---\na: b\n---\nlicense: mit\n", None), ("license: mit\n", None), ("---" + "\n" * 4093, None), ("", None)],
)  # fmt: skip
def test_the_license_stands_in_the_front_matter(tmp_path, text, license_):
    make_shards(tmp_path)
    (tmp_path / "README.md").write_bytes(text.encode())
    start = time.process_time()
    assert dict(check(str(tmp_path), "auto").metadata).get("license") == license_
    assert time.process_time() - start < 0.1


def test_mlx_is_safetensors_with_its_mark_or_its_config(tmp_path):
    save_file({"w": np.zeros(4, np.float16)}, tmp_path / "model.safetensors", {"format": "mlx"})
    (tmp_path / "config.json").write_text('{"model_type": "llama", "quantization": {"group_size": 64, "bits": 4}}')
    report = check(str(tmp_path), "mlx")
    assert report.format == "mlx"
    assert facts(report)["quantization"] == "int4"
    assert check(str(tmp_path), "safetensors").format == "mlx"


def test_a_folder_without_weights_is_a_folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert inspect(str(tmp_path)).format == "folder"
    assert read_folder([]).format == "unknown"


def test_a_registered_reader_wins_and_its_word_can_be_declared(tmp_path):
    class Mine:
        name = "mine"

        def read(self, path, size_bytes):
            return FormatReport("mine", metadata=(("size", size_bytes),))

    make_gguf(tmp_path / "m")
    readers = (Mine(), *BUILTIN)
    assert check(str(tmp_path / "m"), "mine", readers=readers).format == "mine"
    assert check(str(tmp_path / "m"), "gguf").format == "gguf"


def test_a_changed_file_is_read_again(tmp_path):
    make_gguf(tmp_path / "m")
    assert inspect(str(tmp_path / "m")).format == "gguf"
    (tmp_path / "m").write_bytes(b"hello, this is text")
    assert inspect(str(tmp_path / "m")).format == "unknown"
