"""Copies that other tools keep on this machine are found by digest and size, and left alone."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from reconciler.adapters.sources.local_caches import MIN_SIZE_MATCH_BYTES, find_copies
from reconciler.core.words import Digest

DATA = b"weights" * 10
HEX = hashlib.sha256(DATA).hexdigest()
WANTED = {Digest(f"sha256:{HEX}"): len(DATA), Digest("sha256:" + "0" * 64): 5}


def put(path: Path, data: bytes = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def found(wanted: dict[Digest, int | None], environment: dict[str, str], *folders: str) -> list[str]:
    named = {"RECONCILER_CACHES": os.pathsep.join(folders)} if folders else {}
    return [copy.path for copy in find_copies(wanted, environment | named)]


@pytest.mark.parametrize(
    ("variable", "folder", "blob"),
    [
        ("", ".cache/huggingface/hub", f"models--o--r/blobs/{HEX}"),
        ("HF_HUB_CACHE", "elsewhere", f"models--o--r/blobs/{HEX}"),
        ("HF_HOME", "home", f"hub/models--o--r/blobs/{HEX}"),
        ("", ".ollama/models", f"blobs/sha256-{HEX}"),
        ("OLLAMA_MODELS", "ollama", f"blobs/sha256-{HEX}"),
    ],
)
def test_a_blob_is_found_by_its_name(tmp_path: Path, variable: str, folder: str, blob: str) -> None:
    path = put(tmp_path / folder / blob)
    environment = {"HOME": str(tmp_path), **({variable: str(tmp_path / folder)} if variable else {})}
    (copy,) = find_copies(WANTED, environment)
    assert (copy.digest, copy.path, copy.size_bytes) == (f"sha256:{HEX}", str(path), len(DATA))


def test_the_default_hub_cache_is_searched_also_where_another_is_declared(tmp_path: Path) -> None:
    path = put(tmp_path / f".cache/huggingface/hub/models--o--r/blobs/{HEX}")
    assert found(WANTED, {"HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "none")}) == [str(path)]


def test_the_shared_blob_layout_of_the_hub_is_followed_and_counted_once(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    real = put(hub / "blobs/ab/abcdef")
    for repo in ("models--o--r", "models--o--s"):
        (hub / repo / "blobs").mkdir(parents=True)
        (hub / repo / "blobs" / HEX).symlink_to(os.path.relpath(real, hub / repo / "blobs"))
    assert found(WANTED, {"HOME": str(tmp_path / "h"), "HF_HUB_CACHE": str(hub)}) == [str(real)]


def test_a_file_of_another_size_or_kind_is_no_copy(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    put(hub / f"models--a--b/blobs/{HEX}", DATA + b"x")
    (hub / f"models--c--d/blobs/{HEX}").mkdir(parents=True)
    (hub / "models--e--f/blobs").mkdir(parents=True)
    (hub / f"models--e--f/blobs/{HEX}").symlink_to("nowhere")
    put(hub / f"models--g--h/blobs/{HEX}.incomplete")
    assert not found(WANTED, {"HOME": str(tmp_path / "h"), "HF_HUB_CACHE": str(hub)})


def test_without_a_known_size_the_name_counts(tmp_path: Path) -> None:
    put(tmp_path / f"blobs/sha256-{HEX}")
    environment = {"HOME": str(tmp_path / "h"), "OLLAMA_MODELS": str(tmp_path)}
    assert len(find_copies({Digest(f"sha256:{HEX}"): None}, environment)) == 1


@pytest.mark.parametrize(
    ("suffix", "note"), [(".etag", f'"{HEX}"'), (".json", f'{{"etag": "\\"{HEX}\\"", "url": "https://x"}}')]
)
def test_llama_cpp_keeps_the_digest_beside_the_file(tmp_path: Path, suffix: str, note: str) -> None:
    path = put(tmp_path / "org_repo_model.gguf")
    put(tmp_path / f"org_repo_model.gguf{suffix}", note.encode())
    put(tmp_path / f"broken{suffix}", b"\xff\x00")
    assert found(WANTED, {"HOME": str(tmp_path / "h"), "LLAMA_CACHE": str(tmp_path)}) == [str(path)]


def test_lm_studio_and_other_folders_are_searched_by_size(tmp_path: Path) -> None:
    big = bytes(MIN_SIZE_MATCH_BYTES)
    studio = put(tmp_path / ".lmstudio/models/org/repo/model.gguf", big)
    mine = put(tmp_path / "mine/a/b.bin", big)
    (tmp_path / "mine/link").symlink_to(mine)
    put(tmp_path / "mine/other", big + b"x")
    digest = Digest(f"sha256:{hashlib.sha256(big).hexdigest()}")
    environment = {"HOME": str(tmp_path)}
    assert found({digest: len(big)}, environment, str(tmp_path / "mine")) == [str(studio), str(mine)]
    assert not found({digest: None}, environment, str(tmp_path / "mine"))


def test_nothing_is_changed_by_looking(tmp_path: Path) -> None:
    put(tmp_path / f"blobs/sha256-{HEX}")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert found(WANTED, {"HOME": str(tmp_path), "OLLAMA_MODELS": str(tmp_path)})
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_folders_that_are_not_there_cost_nothing(tmp_path: Path) -> None:
    wanted: dict[Digest, int | None] = {Digest(f"sha256:{number:064x}"): MIN_SIZE_MATCH_BYTES for number in range(1000)}
    start = time.perf_counter()
    assert find_copies(wanted, {"HOME": str(tmp_path)}) == ()
    assert time.perf_counter() - start < 0.2
