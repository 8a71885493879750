"""Roles by name, and exactly one primary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.roles import assign_roles, role_by_name
from reconciler.core.words import Role


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("a/mmproj-F16.gguf", Role.VISION_PROJECTOR),
        ("model-mmproj.gguf", Role.VISION_PROJECTOR),
        ("adapter_model.safetensors", Role.ADAPTER),
        ("tokenizer.json", Role.TOKENIZER),
        ("tokenizer.model", Role.TOKENIZER),
        ("vocab.txt", Role.VOCABULARY),
        ("merges.txt", Role.MERGES),
        ("labels.txt", Role.LABELS),
        ("config.json", Role.CONFIG),
        ("model.onnx", Role.COMPANION),
    ],
)
def test_names_suggest_roles(name: str, role: Role) -> None:
    assert role_by_name(name) is role


@pytest.mark.parametrize(
    ("paths", "primary"),
    [
        (["README.md", "pytorch_model.bin", "model.safetensors"], "model.safetensors"),
        (["b-00002-of-00002.gguf", "b-00001-of-00002.gguf"], "b-00001-of-00002.gguf"),
        (["onnx/model.onnx", "model.onnx"], "model.onnx"),
        (["config.json"], "config.json"),
        (["LICENSE", "README.md", ".gitattributes", "am.mdl"], "am.mdl"),
        (["LICENSE", "README.md"], "LICENSE"),
    ],
)
def test_the_primary_is_the_weights(paths: list[str], primary: str) -> None:
    assert [path for path, role in assign_roles(paths).items() if role is Role.PRIMARY] == [primary]


@given(
    st.lists(st.sampled_from(["a.gguf", "mmproj.gguf", "config.json", "x/b.onnx", "README", "vocab.txt"]), unique=True)
)
def test_exactly_one_is_primary_in_any_order(paths: list[str]) -> None:
    roles = assign_roles(paths)
    assert set(roles) == set(paths)
    assert list(roles.values()).count(Role.PRIMARY) == bool(paths)
    assert roles == assign_roles(paths[::-1])
