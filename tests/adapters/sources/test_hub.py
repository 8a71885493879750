"""hf: a repository of one commit, its files with sizes and digests, and a token that stays with the hub."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import MODEL, Context, artifact
from fixture_hub import Hub, Repo
from scripted import Server

from reconciler.adapters.sources.hub import HubSource, parse
from reconciler.core.desired import Artifact
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.observed import Resolution
from reconciler.core.words import Role

SOURCE = HubSource()
COMMIT = "c" * 40
WEIGHTS = bytes(range(256)) * 8
SHA = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
PLAIN = {"README.md": b"hello", ".gitattributes": b"*", "config.json": b"{}", "model.safetensors": WEIGHTS}


class Fixture:
    """A hub with one repository, and the context of somebody who asks it."""

    def __init__(self, server: Server, context: Context) -> None:
        self.server, self.context = server, context
        self.repo = Repo(dict(PLAIN))
        self.hub = Hub({"org/repo": self.repo})
        server.answer = self.hub.answer
        context.environment = {"HF_ENDPOINT": server.url + "/", "HOME": "/nonexistent"}

    def resolve(self, rest: str = "", given: Mapping[str, Any] | None = None, **model: Any) -> Resolution:
        url = f"hf://org/repo{rest}"
        name = parse(url).path.rpartition("/")[2]
        return SOURCE.resolve(replace(MODEL, **model), artifact(url, path=name, **(given or {})), url, self.context)

    def paths(self, rest: str = "", **model: Any) -> list[str]:
        return [file.path for file in self.resolve(rest, **model).files]

    def failure(self, rest: str = "", **model: Any) -> Failure:
        with pytest.raises(Failure) as caught:
            self.resolve(rest, **model)
        return caught.value


@pytest.fixture
def hub(server: Server, context: Context) -> Fixture:
    return Fixture(server, context)


def test_a_whole_repository_comes_under_its_own_paths_with_sizes_and_lfs_digests(hub: Fixture) -> None:
    resolution = hub.resolve()
    assert resolution.revision == COMMIT
    assert resolution.files == (
        Artifact(".gitattributes", (f"hf://org/repo@{COMMIT}/.gitattributes",), None, 1, Role.COMPANION),
        Artifact("README.md", (f"hf://org/repo@{COMMIT}/README.md",), None, 5, Role.COMPANION),
        Artifact("config.json", (f"hf://org/repo@{COMMIT}/config.json",), None, 2, Role.CONFIG),
        Artifact("model.safetensors", (f"hf://org/repo@{COMMIT}/model.safetensors",), SHA, 2048, Role.PRIMARY),
    )
    assert not any(SOURCE.needs_resolving(file) for file in resolution.files)


def test_one_file_of_a_branch_is_bound_to_its_commit_and_keeps_its_mirrors(hub: Fixture) -> None:
    hub.repo.branches["refs/pr/7"] = COMMIT
    url, mirror = "hf://org/repo@refs%2Fpr%2F7/model.safetensors", "https://mirror/x"
    given = Artifact("renamed.safetensors", (url, mirror), role=Role.ADAPTER, optional=True)
    assert SOURCE.needs_resolving(given)
    resolution = SOURCE.resolve(MODEL, given, url, hub.context)
    concrete = f"hf://org/repo@{COMMIT}/model.safetensors"
    assert resolution.files == (Artifact("renamed.safetensors", (concrete, mirror), SHA, 2048, Role.ADAPTER, True),)


def test_a_declared_digest_is_never_replaced_by_the_hubs(hub: Fixture) -> None:
    declared = "sha256:" + "1" * 64
    file = hub.resolve("/model.safetensors", {"digest": declared}).files[0]
    assert file.digest == declared


def test_a_commit_is_not_asked_for_again(hub: Fixture) -> None:
    hub.resolve(f"@{COMMIT}/config.json")
    assert not any("/revision/" in seen.path for seen in hub.server.seen)


@pytest.mark.parametrize(
    ("include", "exclude", "paths"),
    [
        (("*.json",), (), ["config.json", "onnx/config.json"]),
        (("onnx/",), (), ["onnx/config.json", "onnx/m.onnx"]),
        (("**/*.onnx",), (), ["m.onnx", "onnx/m.onnx"]),
        ((), ("*.json", "README*"), ["m.onnx", "onnx/m.onnx"]),
    ],
)
def test_globs_choose(hub: Fixture, include: tuple[str, ...], exclude: tuple[str, ...], paths: list[str]) -> None:
    hub.repo.files = dict.fromkeys(["README.md", "config.json", "m.onnx", "onnx/config.json", "onnx/m.onnx"], b"x")
    assert hub.paths(include=include, exclude=exclude) == paths


def test_globs_that_leave_nothing_fail_for_good(hub: Fixture) -> None:
    assert hub.failure(include=("*.onnx",)).reason == "no_files"


GGUF = ["a-BF16.gguf", "a-Q4_K_M.gguf", "a-Q8_0.gguf", "a-UD-Q2_K_XL.gguf", "README.md", "imatrix-Q4_K_M.gguf"]


@pytest.mark.parametrize(
    ("rest", "names", "paths"),
    [
        (":q8_0", GGUF, ["a-Q8_0.gguf"]),
        (":bf16", GGUF, ["a-BF16.gguf"]),
        (":Q2_K_XL", GGUF, ["a-UD-Q2_K_XL.gguf"]),
        (":latest", GGUF, ["a-Q4_K_M.gguf"]),
        ("", GGUF, ["a-Q4_K_M.gguf"]),
        ("", [name for name in GGUF if "Q4" not in name], ["a-Q8_0.gguf"]),
        ("", ["b-Q5_0.gguf", "a-Q6_K.gguf"], ["a-Q6_K.gguf"]),
        (":fp16", ["a-F16.gguf", "a-Q4_0.gguf"], ["a-F16.gguf"]),
        ("", ["a-Q4_K_M.gguf", "README.md"], ["README.md", "a-Q4_K_M.gguf"]),
        ("", ["a-Q4_K_M.gguf", "a-Q8_0.gguf", "m.safetensors"], ["a-Q4_K_M.gguf", "a-Q8_0.gguf", "m.safetensors"]),
        (
            ":q4_k_m",
            ["Q4_K_M/a-00002-of-00002.gguf", "Q4_K_M/a-00001-of-00002.gguf", "Q8_0/a.gguf"],
            ["Q4_K_M/a-00001-of-00002.gguf", "Q4_K_M/a-00002-of-00002.gguf"],
        ),
        (
            ":Q8_0",
            ["a-Q8_0.gguf", "mmproj-a-BF16.gguf", "mmproj-a-F16.gguf", "mmproj-a-Q8_0.gguf"],
            ["a-Q8_0.gguf", "mmproj-a-F16.gguf"],
        ),
        (":Q8_0", ["x/a-Q8_0.gguf", "x/mmproj-F32.gguf", "mmproj-F16.gguf"], ["x/a-Q8_0.gguf", "x/mmproj-F32.gguf"]),
    ],
)
def test_a_quantization_is_one_model_with_its_shards_and_projector(
    hub: Fixture, rest: str, names: list[str], paths: list[str]
) -> None:
    hub.repo.files = dict.fromkeys(names, b"x")
    assert hub.paths(rest) == paths


def test_a_chosen_gguf_is_primary_and_the_projector_has_its_role(hub: Fixture) -> None:
    hub.repo.files = dict.fromkeys(
        ["mmproj-F16.gguf", "z-Q4_K_M-00002-of-00002.gguf", "z-Q4_K_M-00001-of-00002.gguf"], b""
    )
    roles = {file.path: file.role for file in hub.resolve(":Q4_K_M").files}
    assert roles == {
        "mmproj-F16.gguf": Role.VISION_PROJECTOR,
        "z-Q4_K_M-00001-of-00002.gguf": Role.PRIMARY,
        "z-Q4_K_M-00002-of-00002.gguf": Role.COMPANION,
    }


def test_a_quantization_that_is_not_there_names_those_that_are(hub: Fixture) -> None:
    hub.repo.files = dict.fromkeys(GGUF, b"x")
    failure = hub.failure(":Q3_K_S")
    assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, "no_such_quantization")
    assert "Q4_K_M" in failure.hint


SHARDS = [f"sub/model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
INDEX = "sub/model.safetensors.index.json"


def with_index(hub: Fixture, listed: list[str]) -> None:
    weights = {f"w{number}": name for number, name in enumerate(listed)}
    hub.repo.files = {
        **dict.fromkeys([*SHARDS, "config.json"], b"x"),
        INDEX: json.dumps({"weight_map": weights}).encode(),
    }


@pytest.mark.parametrize("rest", [f"/{SHARDS[1]}", f"/{INDEX}"])
def test_one_shard_or_the_index_brings_the_whole_set(hub: Fixture, rest: str) -> None:
    with_index(hub, [name.removeprefix("sub/") for name in SHARDS])
    expected = sorted(name.removeprefix("sub/") for name in [*SHARDS, INDEX])
    assert sorted(hub.paths(rest)) == expected


def test_one_shard_of_a_gguf_brings_its_set_beside_the_declared_path(hub: Fixture) -> None:
    hub.repo.files = dict.fromkeys(["q/a-00001-of-00002.gguf", "q/a-00002-of-00002.gguf"], b"x")
    url = "hf://org/repo/q/a-00001-of-00002.gguf"
    resolution = SOURCE.resolve(MODEL, artifact(url, path="w/a-00001-of-00002.gguf"), url, hub.context)
    assert [(file.path, file.role) for file in resolution.files] == [
        ("w/a-00001-of-00002.gguf", Role.PRIMARY),
        ("w/a-00002-of-00002.gguf", Role.COMPANION),
    ]


def test_a_glob_that_takes_an_index_alone_does_not_bring_the_weights(hub: Fixture) -> None:
    with_index(hub, [name.removeprefix("sub/") for name in SHARDS])
    assert hub.paths(include=("*.json",)) == ["config.json", INDEX]
    assert hub.paths(include=(SHARDS[0],)) == sorted([*SHARDS, INDEX])


@pytest.mark.parametrize("rest", ["", f"/{INDEX}", f"/{SHARDS[0]}"])
def test_a_shard_that_the_index_lists_and_the_repository_lacks_fails_the_model(hub: Fixture, rest: str) -> None:
    with_index(hub, [*[name.removeprefix("sub/") for name in SHARDS], "model-extra.safetensors"])
    assert hub.failure(rest).reason == "incomplete"


def test_a_missing_shard_fails_the_model(hub: Fixture) -> None:
    hub.repo.files = dict.fromkeys(["a-00001-of-00003.gguf", "a-00003-of-00003.gguf"], b"x")
    failure = hub.failure("/a-00001-of-00003.gguf")
    assert failure.reason == "incomplete"
    assert "a-00002-of-00003.gguf" in failure.message


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\b", "C:evil", "a\0b", "x" * 256])
def test_hostile_names_in_trees_and_weight_maps_are_refused(hub: Fixture, name: str) -> None:
    with_index(hub, [name])
    assert hub.failure(f"/{INDEX}").reason == "hostile_name"
    hub.repo.files = {name: b"x"}
    assert hub.failure().reason == "hostile_name"


def test_names_that_collide_are_refused(hub: Fixture) -> None:
    hub.repo.files = {"Model.onnx": b"x", "model.onnx": b"y"}
    assert hub.failure().reason == "hostile_name"


def test_pages_are_followed(hub: Fixture) -> None:
    hub.hub.page = 3
    hub.repo.files = {f"f{number:02d}.onnx": b"x" for number in range(10)}
    assert len(hub.paths()) == 10
    assert len(hub.server.seen) == 5


def test_a_page_at_another_origin_is_not_asked(hub: Fixture, other: Server) -> None:
    def answer(seen: Any) -> Any:
        status, headers, body = hub.hub.answer(seen)
        return status, {**headers, "Link": f'<{other.url}/api/models/org/repo/tree/x>; rel="next"'}, body

    hub.server.answer = answer
    assert hub.failure().reason == "malformed_answer"
    assert not other.seen


@pytest.mark.parametrize(
    ("access", "token", "reason"),
    [
        ("gated", "", "gated"),
        ("gated", "hf_secret", "gated"),
        ("private", "", "not_found"),
        ("public", "hf_wrong", "unauthorized"),
    ],
)
def test_gated_private_and_wrong_tokens_are_told_apart(hub: Fixture, access: str, token: str, reason: str) -> None:
    hub.repo.access = access
    hub.context.environment = {**hub.context.environment, "HF_TOKEN": token}
    failure = hub.failure()
    assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, reason)
    assert "HF_TOKEN" in failure.hint or token == "hf_secret"
    assert "hf_wrong" not in str(failure) + failure.hint


def test_missing_revisions_and_files_are_told_apart(hub: Fixture) -> None:
    revision, file = hub.failure("@nowhere"), hub.failure("/nothing.bin")
    assert (revision.reason, file.reason) == ("not_found", "not_found")
    assert "revision" in revision.message
    assert "nothing.bin" in file.message


def test_a_rate_limit_is_transient_and_says_how_long(hub: Fixture) -> None:
    hub.hub.limited = True
    failure = hub.failure()
    assert (failure.kind, failure.reason, failure.retry_after_s) == (FailureKind.TRANSIENT, "rate_limited", 55.0)


def test_offline_asks_nobody(hub: Fixture) -> None:
    hub.context.environment = {**hub.context.environment, "HF_HUB_OFFLINE": "1"}
    assert hub.failure().reason == "offline"
    with pytest.raises(Failure, match="HF_HUB_OFFLINE"):
        SOURCE.locate(artifact("hf://org/repo/x"), "hf://org/repo/x", hub.context)
    assert not hub.server.seen


@pytest.mark.parametrize("answer", [b"<html>", b"[1]", b'{"sha": "../../x"}', b'{"sha": 5}', b"[" * 100_000])
def test_a_malformed_answer_is_transient_and_never_used(hub: Fixture, answer: bytes) -> None:
    hub.server.answer = lambda _: (200, {}, answer)
    assert (hub.failure().kind, hub.failure().reason) == (FailureKind.TRANSIENT, "malformed_answer")
    assert hub.failure(f"@{COMMIT}").kind is FailureKind.TRANSIENT


def test_a_token_is_read_from_where_the_hubs_own_client_keeps_it(hub: Fixture, tmp_path: Path) -> None:
    hub.repo.access = "private"
    (tmp_path / "token").write_text("hf_secret\n")
    base = dict(hub.context.environment)
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text("hf_secret\n")
    for more in ({"HF_TOKEN_PATH": str(tmp_path / "token")}, {"HF_HOME": str(tmp_path)}, {"HOME": str(tmp_path)}):
        hub.context.environment = {**base, **more}
        assert hub.resolve().revision == COMMIT


def test_the_manifests_credentials_come_before_the_environments(hub: Fixture) -> None:
    hub.context.environment = {**hub.context.environment, "HF_TOKEN": "hf_wrong"}
    hub.context.secrets = {hub.server.netloc: (("authorization", "Bearer hf_secret"),)}
    assert hub.resolve().revision == COMMIT


def test_the_bytes_come_over_the_cdn_and_the_token_does_not_go_there(hub: Fixture, other: Server) -> None:
    hub.hub.cdn = other.url
    other.answer = lambda _: (200, {}, WEIGHTS)
    hub.context.environment = {**hub.context.environment, "HF_TOKEN": "hf_secret"}
    file = hub.resolve("/model.safetensors").files[0]
    location = SOURCE.locate(file, file.sources[0], hub.context)
    assert location.url == f"{hub.server.url}/org/repo/resolve/{COMMIT}/model.safetensors"
    assert location.headers == (("authorization", "Bearer hf_secret"),)
    assert "hf_secret" not in repr(location)
    answer = hub.context.http.ask("GET", location.url, headers=location.headers)
    assert answer.body == WEIGHTS
    assert "authorization" not in other.seen[0].headers


def test_names_are_percent_encoded_once(hub: Fixture) -> None:
    hub.repo.files = {"a b/ü%41.bin": b"xyz"}
    file = hub.resolve().files[0]
    location = SOURCE.locate(file, f"hf://org/repo@{COMMIT}/a b/ü%2541.bin", hub.context)
    assert hub.context.http.ask("GET", location.url).body == b"xyz"
    again = SOURCE.locate(file, file.sources[0], hub.context)
    assert hub.context.http.ask("GET", again.url).body == b"xyz"
    assert hub.resolve("/a%20b/%C3%BC%2541.bin").files[0].size_bytes == 3


def test_the_fingerprint_changes_when_the_branch_moves(hub: Fixture) -> None:
    first = SOURCE.fingerprint("hf://org/repo", hub.context)
    assert first == SOURCE.fingerprint("hf://org/repo", hub.context)
    hub.repo.branches["main"] = hub.repo.commit = "d" * 40
    second = SOURCE.fingerprint("hf://org/repo", hub.context)
    hub.hub.limited = True
    assert len({first, second, SOURCE.fingerprint("hf://org/repo", hub.context)}) == 3


def test_the_real_client_reads_the_fixture(
    hub: Fixture, other: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    api = pytest.importorskip("huggingface_hub").HfApi(endpoint=hub.server.url, token=False)
    hub.hub.cdn = other.url
    other.answer = lambda _: (200, {"ETag": '"x"'}, WEIGHTS)
    assert api.model_info("org/repo").sha == COMMIT
    sizes = {file.path: file.size for file in api.list_repo_tree("org/repo", recursive=True)}
    assert sizes == {file.path: file.size_bytes for file in hub.resolve().files}
    folder = api.snapshot_download("org/repo", cache_dir=tmp_path / "hub")
    found = {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}
    assert found == {file.path for file in hub.resolve().files}


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("hf://o/r", ("o/r", None, "main", "")),
        ("hf://gpt2", ("gpt2", None, "main", "")),
        ("hf://o/r:Q4_K_M@v1", ("o/r", "Q4_K_M", "v1", "")),
        ("hf://o/r@refs/pr/3/a/b", ("o/r", None, "refs/pr/3", "a/b")),
        ("hf://o/r@a%2Fb/c d@e:f", ("o/r", None, "a/b", "c d@e:f")),
    ],
)
def test_references_are_taken_apart(url: str, parts: tuple[Any, ...]) -> None:
    reference = parse(url)
    assert (reference.repo, reference.quant, reference.revision, reference.path) == parts


@pytest.mark.parametrize("url", ["hf://", "hf:///x", "hf://../r", "https://o/r"])
def test_what_is_no_reference_is_refused(url: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(url)
    assert caught.value.reason == "bad_source"
