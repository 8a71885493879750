"""``show`` tells everything of one model, and where the file and the manifest differ."""

import subprocess

import pytest

np = pytest.importorskip("numpy")
gguf = pytest.importorskip("gguf")


def written(folder, name, architecture="llama", kind="model", **facts):
    """A small real GGUF file, by that format's own library."""
    path = folder / f"{name}.made"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_context_length(facts.get("context", 4096))
    writer.add_license("mit")
    writer.add_tensor("t", np.zeros((4, 4), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def want(machine, name, content, **keys):
    machine.origin.put(f"/{name}.gguf", content)
    machine.models[name] = {"source": f"{machine.origin.url}/{name}.gguf?token=secret", **keys}


def test_show_tells_everything_of_a_model(machine):
    want(machine, "m", written(machine.folder, "m"), links=[str(machine.folder / "link.gguf")])
    machine.apply()
    shown = machine.run("show", "m")
    assert (shown["kind"], shown["format"], shown["metadata"]["architecture"]) == ("Show", "gguf", "llama")
    (file,) = shown["files"]
    assert (file["path"], file["role"], file["format"], file["condition"]) == ("m.gguf", "primary", "gguf", "intact")
    assert shown["validation"] == {"valid": True, "errors": [], "warnings": []}
    assert shown["links"] == [{"path": str(machine.folder / "link.gguf"), "right": True, "foreign": False}]
    assert shown["sources"] == [f"{machine.origin.url}/m.gguf"]
    assert shown["history"]["revisions"] == 1
    text = subprocess.run(machine.command("show", "m"), check=True, capture_output=True, text=True).stdout
    assert "llama" in text
    assert "secret" not in text


def test_metadata_that_differs_from_the_manifest_is_a_warning(machine):
    want(machine, "m", written(machine.folder, "m"),
         metadata={"contextLength": 8192, "license": "apache-2.0", "quantization": "fp16"})  # fmt: skip
    machine.apply()
    told = [note["message"] for note in machine.run("show", "m")["validation"]["warnings"]]
    assert told == [
        "the manifest says license apache-2.0, the file says mit",
        "the manifest says contextLength 8192, the file has 4096 at most",
    ]
    assert [note["message"] for note in machine.status("m")["warnings"]] == told


def test_a_wrong_format_is_a_refusal(machine):
    want(machine, "m", written(machine.folder, "m"), format="safetensors")
    assert machine.apply(code=4)["outcomes"][0]["reason"] == "wrong_format"
    assert not machine.placed("m").parent.exists()


def test_an_adapter_is_checked_against_its_base(machine):
    want(machine, "base", written(machine.folder, "base"))
    want(machine, "good", written(machine.folder, "good", kind="adapter"), role="adapter", dependsOn=["base"])
    want(machine, "wrong", written(machine.folder, "wrong", "bert", "adapter"), role="adapter", dependsOn=["base"])
    want(machine, "alone", written(machine.folder, "alone", kind="adapter"), role="adapter")
    machine.apply()
    assert machine.run("show", "good")["validation"]["valid"]
    assert machine.run("show", "wrong")["validation"]["errors"] == ["an adapter for bert, but base is llama"]
    (note,) = machine.run("show", "alone")["validation"]["warnings"]
    assert "without a base" in note["message"]


def test_harm_shows_as_an_error(machine):
    want(machine, "m", written(machine.folder, "m"))
    machine.apply()
    placed = machine.placed("m", "m.gguf")
    placed.chmod(0o644)
    placed.write_bytes(b"GGUF")
    shown = machine.run("show", "m")
    assert not shown["validation"]["valid"]


def test_an_unknown_model_is_an_error(machine):
    machine.run("show", "nobody", code=1)
