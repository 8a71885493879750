"""Adapters and companions through the command: what an adapter says of itself, its base, and what a model cannot lack."""

import json

import gguf
import numpy as np
import pytest
from safetensors.numpy import save

CONFIG = {
    "peft_type": "LORA", "base_model_name_or_path": "org/base-7b", "r": 8, "lora_alpha": 16, "bias": "none",
    "target_modules": ["v_proj", "q_proj"], "auto_mapping": {"base_model_class": "LlamaForCausalLM"},
}  # fmt: skip
TENSORS = {"base_model.model.q_proj.lora_A.weight": np.zeros((8, 32), np.float16),
           "base_model.model.q_proj.lora_B.weight": np.zeros((32, 8), np.float16)}  # fmt: skip


def made_gguf(folder, architecture="llama", *, alpha=None, rank=4):
    """A GGUF by that format's own library: a model, or with ``alpha`` an adapter of that strength."""
    writer = gguf.GGUFWriter(folder / "made", architecture)
    if alpha is None:
        writer.add_type("model")
        writer.add_tensor("t", np.zeros((4, 4), np.float16))
    else:
        writer.add_type("adapter")
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_base_model_count(1)
        writer.add_base_model_repo_url(0, "https://huggingface.co/org/base-7b")
        writer.add_tensor("blk.0.attn_q.weight.lora_a", np.zeros((rank, 32), np.float32))
        writer.add_tensor("blk.0.attn_q.weight.lora_b", np.zeros((32, rank), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "made").read_bytes()


def entry(machine, model, path, content, **keys):
    """One of a model's files; content None is not there at the origin."""
    if content is not None:
        machine.origin.put(f"/{model}/{path}", content)
    return {"path": path, "source": f"{machine.origin.url}/{model}/{path}", **keys}


def want(machine, name, files, **keys):
    machine.models[name] = {"files": [entry(machine, name, path, content) for path, content in files.items()], **keys}


def want_adapter(machine, name="lora", config=None, **keys):
    files = [
        entry(machine, name, "adapter_model.safetensors", save(TENSORS, {"format": "pt"}), role="adapter"),
        entry(machine, name, "adapter_config.json", json.dumps(CONFIG | (config or {})).encode(), role="config"),
    ]
    machine.models[name] = {"files": files, "dependsOn": ["base"], **keys}


@pytest.fixture
def based(machine):
    """A machine with a base of the architecture llama."""
    want(machine, "base", {"base.gguf": made_gguf(machine.folder)})
    return machine


def test_a_peft_adapter_tells_its_base_rank_and_scale(based):
    want_adapter(based)
    based.apply()
    shown = based.run("show", "lora")
    expected = {
        "type": "adapter", "adapter": "lora", "framework": "peft", "baseModel": "org/base-7b", "rank": 8, "alpha": 16,
        "scale": 2.0, "targetModules": "q_proj, v_proj", "architecture": "llama",
    }  # fmt: skip
    assert based.status("lora")["metadata"] | expected == shown["metadata"] == shown["metadata"] | expected
    assert shown["depends_on"] == ["base"]
    assert shown["validation"] == {"valid": True, "errors": [], "warnings": []}


def test_a_gguf_adapter_tells_its_base_rank_and_scale(based):
    files = [entry(based, "lora", "lora.gguf", made_gguf(based.folder, alpha=6.0), role="adapter")]
    based.models["lora"] = {"files": files, "dependsOn": ["base"]}
    based.apply()
    found = based.status("lora")["metadata"]
    expected = {"adapter": "lora", "rank": 4, "alpha": 6.0, "scale": 1.5, "baseModel": "org/base-7b"}
    assert found | expected == found


def test_the_manifest_gives_an_adapter_another_scale(based):
    want_adapter(based, metadata={"scale": 0.8})
    based.apply()
    assert based.status("lora")["metadata"]["scale"] == 0.8
    assert based.run("show", "lora")["metadata"]["scale"] == 0.8
    based.models["base"]["metadata"] = {"scale": 0.8}
    assert [note["message"] for note in based.status("base")["warnings"]] == [
        "the manifest gives a scale, but the file is no adapter"
    ]


@pytest.mark.parametrize("scale", ["0.8", True, 1000, ".nan"])
def test_a_scale_is_a_sensible_number(machine, scale):
    want_adapter(machine, metadata={"scale": scale}, dependsOn=[])
    (problem,) = machine.run("validate", code=65)["problems"]
    assert problem["path"] == "models.lora.metadata.scale"
    assert problem["line"] > 0


def test_an_adapter_of_another_architecture_or_base_is_told(based):
    mapping = {"base_model_class": "Qwen2ForCausalLM"}
    want_adapter(based, config={"auto_mapping": mapping}, metadata={"baseModel": "org/other"})
    based.apply()
    assert [note["message"] for note in based.status("lora")["warnings"]] == [
        "the manifest says baseModel org/other, the file says org/base-7b",
        "an adapter for qwen2, but base is llama",
    ]


def test_a_base_that_the_manifest_lacks_is_told_with_its_place(based):
    want_adapter(based, dependsOn=["bass"])
    (problem,) = based.run("validate", code=65)["problems"]
    assert problem["path"] == "models.lora.dependsOn[0]"
    assert "base" in json.dumps(problem)
    assert problem["line"] > 0
    assert problem["column"] > 0


@pytest.mark.parametrize("config", [{"r": "8"}, {"r": 0}, {"lora_alpha": -1}, {"target_modules": [1]}])
def test_an_adapter_whose_configuration_lies_is_not_placed(based, config):
    want_adapter(based, config=config)
    (failed,) = [each for each in based.apply(code=4)["outcomes"] if each["status"] == "failed"]
    assert failed["reason"] == "wrong_format"
    assert "adapter_config.json" in failed["message"]
    assert not based.placed("lora").parent.exists()


def test_an_adapters_configuration_alone_is_no_adapter(machine):
    want(machine, "lora", {"adapter_config.json": json.dumps(CONFIG).encode(), "README.md": b"# A card\n"})
    (failed,) = machine.apply(code=4)["outcomes"]
    assert failed["reason"] == "model_incomplete"
    assert "adapter_model.safetensors" in failed["message"]


# --- companions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["tokenizer.json", "mmproj.gguf", "config.json"])
def test_a_required_companion_that_fails_keeps_the_whole_model_away(machine, gone):
    files = {"model.gguf": made_gguf(machine.folder), "tokenizer.json": b'{"a": 1}', "mmproj.gguf": None,
             "config.json": b"{}"}  # fmt: skip
    files["mmproj.gguf"] = files["model.gguf"]
    want(machine, "m", files | {gone: None})
    (failed,) = machine.apply(code=4)["outcomes"]
    assert (failed["status"], failed["reason"]) == ("failed", "not_found")
    assert gone in failed["message"]
    assert not machine.placed("m").parent.exists()
    assert machine.status("m")["state"] != "present"
    machine.origin.put(f"/m/{gone}", files[gone])
    machine.run("poke")
    machine.apply()
    assert machine.status("m")["state"] == "present"


def test_an_optional_companion_may_be_missing(machine):
    want(machine, "m", {"model.gguf": made_gguf(machine.folder)})
    machine.models["m"]["files"].append(entry(machine, "m", "tokenizer.json", None, role="tokenizer", optional=True))
    machine.apply()
    assert machine.status("m")["state"] == "present"
    assert [file["path"] for file in machine.run("show", "m")["files"]] == ["model.gguf"]
    assert machine.apply()["outcomes"] == []


def test_an_index_that_names_a_shard_nobody_declared_is_refused_by_its_name(machine):
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    shard = save({"a": np.zeros((2, 2), np.float16)})
    want(machine, "m", {"m-1.safetensors": shard, "m.safetensors.index.json": json.dumps(index).encode()})
    (failed,) = machine.apply(code=4)["outcomes"]
    assert failed["reason"] == "model_incomplete"
    assert "m-2.safetensors" in failed["message"]
    assert not machine.placed("m").parent.exists()


@pytest.mark.parametrize("gone", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_model_that_loses_a_companion_is_not_present(based, gone):
    want_adapter(based)
    based.apply()
    based.placed("lora", gone).unlink()
    seen = based.status("lora")
    assert (seen["state"], seen["reason"]) != ("present", "converged")
    assert seen["state"] == "partial"
    based.apply()
    assert based.status("lora")["state"] == "present"
