"""What the file says and what the manifest says are compared only where both speak; a difference is told."""

import json

import pytest

from reconciler.core.comparing import compare, compare_adapters, effective, is_adapter
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.history import History, RevisionFact
from reconciler.core.model_status import ModelStatus
from reconciler.core.show import Shown, show_document, validate
from reconciler.core.stored import LinkFact, StoredFile
from reconciler.core.words import Condition, Digest, Role


def model(role=Role.PRIMARY, depends_on=(), **metadata):
    pairs = tuple((key, json.dumps(value)) for key, value in metadata.items())
    return DesiredModel("m", artifacts=(Artifact("m.gguf", ("https://h/m.gguf",), role=role),), metadata=pairs,
                        depends_on=depends_on)  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({"quantization": "Q4_K_M"}, {"quantization": "q4_k_m"}),
        ({"quantization": "fp16"}, {"quantization": "F16"}),
        ({"license": "Apache 2.0"}, {"license": "apache-2.0"}),
        ({"contextLength": 2048}, {"contextLength": 8192}),
        ({"license": "mit"}, {"architecture": "llama"}),
        ({}, {"license": "mit"}),
        ({"license": "mit"}, {}),
    ],
)
def test_what_agrees_is_passed_over(declared, found):
    assert compare(model(**declared), found) == ()


@pytest.mark.parametrize(
    ("declared", "found", "words"),
    [
        ({"quantization": "Q4_K_M"}, {"quantization": "Q8_0"}, "quantization Q4_K_M, the file says Q8_0"),
        ({"license": "mit"}, {"license": "llama3"}, "license mit, the file says llama3"),
        ({"architecture": "bert"}, {"architecture": "llama"}, "architecture bert"),
        ({"contextLength": 8192}, {"contextLength": 4096}, "contextLength 8192, the file has 4096 at most"),
        ({}, {"type": "adapter"}, "role: adapter"),
    ],
)
def test_what_differs_is_a_warning(declared, found, words):
    ((severity, text),) = compare(model(**declared), found)
    assert severity == "warning"
    assert words in text


def test_what_nobody_wants_is_compared_with_nothing():
    assert compare(None, {"license": "mit"}) == ()


def test_an_adapter_names_its_base():
    adapter = model(Role.ADAPTER)
    assert is_adapter(adapter, {})
    assert "a base" in compare_adapters([adapter], {})["m"][0][1]
    assert compare_adapters([model()], {}) == {}


@pytest.mark.parametrize(("base", "is_told"), [("llama", False), ("LLaMA", False), ("bert", True), (None, False)])
def test_an_adapter_is_of_its_bases_architecture(base, is_told):
    adapter = model(Role.ADAPTER, ("base",))
    found = {"m": {"architecture": "llama"}, "base": {"architecture": base} if base else {}}
    told = compare_adapters([adapter], found)
    assert told == ({"m": (("error", "an adapter for llama, but base is bert"),)} if is_told else {})


FILE = StoredFile("m.gguf", Digest("sha256:" + "1" * 64), 5, 4096)


def test_a_model_is_valid_where_nothing_is_known_against_it():
    assert validate((FILE,), (), (("warning", "odd"),)).is_valid
    assert not validate((FILE,), ("broken",), ()).is_valid
    assert not validate((FILE,), (), (("error", "wrong base"),)).is_valid
    assert not validate((), (), ()).is_valid
    harmed = StoredFile("m.gguf", None, 5, 0, Condition.MISSING, detail="its blob is gone")
    assert validate((harmed,), (), ()).errors == ("m.gguf: missing, its blob is gone",)


def test_the_document_says_all_of_it():
    status = ModelStatus("m", "present", "ready", "present", "normal", signed_by="minisign:00")
    revision = RevisionFact(Digest("x"), "r", 5, 1.0, is_current=True)
    shown = Shown(status, (FILE,), ("gguf",), validate((FILE,), (), (("warning", "odd"),)), ("https://h/m.gguf",),
                  (LinkFact("/l", is_right=True),), ("base",), History("m", "ready", (), (revision,), 1, None))  # fmt: skip
    document = show_document(shown)
    assert document["files"][0]["format"] == "gguf"
    assert document["validation"]["warnings"] == [{"severity": "warning", "message": "odd"}]
    assert document["history"]["installed_at"] == "1970-01-01T00:00:01.000Z"
    assert show_document(Shown(status, (), (), validate((), (), ())))["history"]["revisions"] == 0


def test_the_manifest_gives_an_adapter_its_scale():
    assert effective(model(scale=0.5), {"scale": 2.0, "rank": 8}) == {"scale": 0.5, "rank": 8}
    assert effective(model(), {"scale": 2.0}) == effective(None, {"scale": 2.0}) == {"scale": 2.0}
    assert compare(model(Role.ADAPTER, scale=0.5), {"type": "adapter"}) == ()
    assert "no adapter" in compare(model(scale=0.5), {"license": "mit"})[0][1]


def test_a_tree_is_not_asked_for_a_role():
    tree = DesiredModel("m", artifacts=(Artifact("", ("hf://org/lora",)),))
    assert compare(tree, {"type": "adapter"}) == ()


def test_what_a_base_class_tells_is_a_warning():
    found = {"m": {"architecture": "gptneox", "framework": "peft"}, "base": {"architecture": "gpt_neox"}}
    adapter = model(Role.ADAPTER, ("base",))
    assert compare_adapters([adapter], found) == {}
    found["base"] = {"architecture": "bert"}
    assert compare_adapters([adapter], found)["m"][0] == ("warning", "an adapter for gptneox, but base is bert")
