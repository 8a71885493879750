"""The starter manifest is valid as it stands, and so are the examples in its comments."""

import os

import pytest

from reconciler.adapters import manifest
from reconciler.cli.starter import MIN_CACHE_BYTES, render, starter_text


def read(tmp_path, text):
    (tmp_path / "models.yaml").write_text(text)
    return manifest.load([str(tmp_path / "models.yaml")], dict(os.environ), str(tmp_path), None)


def uncommented(text):
    return "".join(line.removeprefix("# ").removeprefix("#") for line in text.splitlines(keepends=True))


def test_the_starter_for_this_machine_is_valid_and_wants_nothing(tmp_path):
    desired = read(tmp_path, starter_text())
    assert desired.models == ()
    assert desired.diagnostics == ()


@pytest.mark.parametrize("free", [0, 1 << 30, 1 << 45])
def test_the_cache_fits_the_disk_but_is_never_nothing(tmp_path, free):
    desired = read(tmp_path, render(free, None))
    assert desired.cache.max_size.size_bytes == max(MIN_CACHE_BYTES, free // 2)


def test_the_examples_in_the_comments_are_valid(tmp_path):
    text = render(1 << 40, 1 << 34)
    before, after = text.split("models: {}", 1)
    start = before.index("# network:")
    settings = before[:start] + uncommented(before[start:])
    entries = uncommented(after[after.index("# models:") :]).replace("HEX", "a" * 64)
    desired = read(tmp_path, f"{settings}{entries}")
    assert [model.name for model in desired.models] == ["old-model", "tiny-stories"]
    assert desired.network.windows
