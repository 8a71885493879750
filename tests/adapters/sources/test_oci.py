"""oci, ollama: images that hold models, on Debian's docker-registry and on registries that misbehave."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import MODEL, Context, artifact
from docker_registry import IMAGE, TITLE, Files, Registry, docker_registry, sha
from scripted import Answer, Seen, Server

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.sources.layers import read_layers
from reconciler.adapters.sources.oci_client import bearer_parameters, origin_of
from reconciler.adapters.sources.ollama import OllamaSource
from reconciler.adapters.sources.registry_oci import OciSource
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.observed import Resolution
from reconciler.core.words import Role

INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
FILEPATH = "org.cncf.model.filepath"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, client: Client) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), client) as running:
        yield running


def resolve(context: Context, url: str, given: dict[str, Any] | None = None, **model: Any) -> Resolution:
    source = OllamaSource() if url.startswith("ollama:") else OciSource(("linux", "arm64"))
    return source.resolve(replace(MODEL, **model), artifact(url, path="", **(given or {})), url, context)


def failure(context: Context, url: str, **given: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        resolve(context, url, **given)
    return caught.value


def test_titled_layers_are_files_with_the_digests_of_the_manifest(registry: Registry, context: Context) -> None:
    files: Files = [
        ("application/octet-stream", b"weights", {TITLE: "model.onnx"}),
        ("application/json", b"{}", {TITLE: "sub/config.json"}),
        ("application/x-nameless", b"no file", {}),
    ]
    digest = registry.push("team/model", "v1", files)
    resolution = resolve(context, f"oci://{registry.netloc}/team/model:v1")
    assert resolution.revision == digest
    assert [(file.path, file.digest, file.size_bytes, file.role) for file in resolution.files] == [
        ("model.onnx", sha(b"weights"), 7, Role.PRIMARY),
        ("sub/config.json", sha(b"{}"), 2, Role.CONFIG),
    ]
    for file, data in zip(resolution.files, (b"weights", b"{}"), strict=True):
        source = OciSource()
        assert file.sources == (f"oci://{registry.netloc}/team/model:v1@{digest}",)
        assert not source.needs_resolving(file)
        location = source.locate(file, file.sources[0], context)
        assert context.http.ask("GET", location.url, headers=location.headers).body == data
    again = resolve(context, f"oci://{registry.netloc}/team/model@{digest}")
    assert [file.digest for file in again.files] == [file.digest for file in resolution.files]


def test_a_declared_digest_picks_its_layer(registry: Registry, context: Context) -> None:
    registry.push("team/two", "v1", [("a/b", b"one", {TITLE: "one"}), ("a/b", b"two", {TITLE: "two"})])
    url = f"oci://{registry.netloc}/team/two:v1"
    assert [file.path for file in resolve(context, url, {"digest": sha(b"two")}).files] == ["two"]
    assert failure(context, url, given={"digest": sha(b"three")}).reason == "digest_mismatch"


def test_globs_choose_layers(registry: Registry, context: Context) -> None:
    registry.push("team/glob", "v1", [("a/b", b"1", {TITLE: "a.onnx"}), ("a/b", b"2", {TITLE: "b.txt"})])
    url = f"oci://{registry.netloc}/team/glob:v1"
    assert [file.path for file in resolve(context, url, include=("*.onnx",)).files] == ["a.onnx"]
    assert failure(context, url, include=("*.x",)).reason == "no_files"


def test_an_index_is_entered_by_platform(registry: Registry, context: Context) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        digest = registry.push("team/many", architecture, [("a/b", architecture.encode(), {TITLE: "m.bin"})])
        size = len(
            context.http.ask(
                "GET", f"http://{registry.netloc}/v2/team/many/manifests/{digest}", headers=[("accept", IMAGE)]
            ).body
        )
        platform = {"os": "linux", "architecture": architecture}
        entries.append({"mediaType": IMAGE, "digest": digest, "size": size, "platform": platform})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    registry.put_manifest("team/many", "all", index)
    registry.put_manifest("team/many", "amd", {**index, "manifests": entries[:1]})
    url = f"oci://{registry.netloc}/team/many"
    assert resolve(context, f"{url}:all").files[0].digest == sha(b"arm64")
    lacking = failure(context, f"{url}:amd")
    assert (lacking.reason, "linux/amd64" in lacking.hint) == ("no_platform", True)


def test_an_ollama_model_is_read_from_a_mirror(registry: Registry, context: Context) -> None:
    kind = "application/vnd.ollama.image."
    files: Files = [
        (f"{kind}model", b"GGUF", {}),
        (f"{kind}projector", b"clip", {}),
        (f"{kind}license", b"MIT", {}),
        (f"{kind}license", b"more", {}),
        (f"{kind}params", b"{}", {}),
        (f"{kind}template", b"{{ .Prompt }}", {}),
    ]
    registry.push("library/tiny", "1b", files, media=DOCKER)
    context.environment = {"RECONCILER_OLLAMA_REGISTRY": f"http://{registry.netloc}"}
    resolution = resolve(context, "ollama://tiny:1b")
    assert {file.path: file.role for file in resolution.files} == {
        "model.gguf": Role.PRIMARY,
        "projector.gguf": Role.VISION_PROJECTOR,
        "license.txt": Role.COMPANION,
        "license-2.txt": Role.COMPANION,
        "params.json": Role.CONFIG,
        "template.txt": Role.COMPANION,
    }
    file = resolution.files[0]
    location = OllamaSource().locate(file, file.sources[0], context)
    assert context.http.ask("GET", location.url).body == b"GGUF"
    registry.push("ns/other", "latest", files, media=DOCKER)
    assert len(resolve(context, f"ollama://{registry.netloc}/ns/other").files) == 6


@pytest.mark.parametrize(("tag", "kind"), [(":none", "permanent"), ("@sha256:" + "0" * 64, "permanent")])
def test_what_is_not_there_fails_for_good(registry: Registry, context: Context, tag: str, kind: str) -> None:
    missing = failure(context, f"oci://{registry.netloc}/team/model{tag}")
    assert (missing.kind, missing.reason) == (kind, "not_found")


def test_the_fingerprint_changes_when_the_tag_moves(registry: Registry, context: Context) -> None:
    source, url = OciSource(), f"oci://{registry.netloc}/team/moving:v1"
    prints = [source.fingerprint(url, context)]
    for data in (b"1", b"2"):
        registry.push("team/moving", "v1", [("a/b", data, {TITLE: "m"})])
        prints.append(source.fingerprint(url, context))
    assert len(set(prints)) == 3
    assert source.fingerprint(url, context) == prints[-1]


# --- what layers are called ------------------------------------------------------------------------------------------


def layer(media: str, **notes: str) -> dict[str, Any]:
    return {"mediaType": media, "digest": sha(media.encode()), "size": 1, "annotations": notes}


def paths(*entries: dict[str, Any]) -> list[str]:
    return [found.path for found in read_layers({"layers": list(entries)}, "x")]


def test_docker_and_model_pack_layers_are_named() -> None:
    weight = "application/vnd.cncf.model.weight"
    assert paths(
        layer("application/vnd.docker.ai.gguf.v3"),
        layer("application/vnd.docker.ai.mmproj"),
        layer("application/vnd.docker.ai.license"),
        layer(f"{weight}.v1.raw", **{FILEPATH: "w/model.safetensors"}),
        layer(f"{weight}.config.v1.tar+gzip", **{FILEPATH: "config.json"}),
        layer(f"{weight}.v1.tar", **{FILEPATH: "shard"}),
    ) == ["model.gguf", "projector.gguf", "license.txt", "w/model.safetensors", "config.json.tar.gz", "shard.tar"]


@pytest.mark.parametrize("title", ["../x", "/etc/passwd", "a\\b", "C:x", "a\0b", "x" * 256, ""])
def test_hostile_titles_are_refused(title: str) -> None:
    with pytest.raises(Failure) as caught:
        paths(layer("a/b", **{TITLE: title}), layer("a/c", **{TITLE: "fine"}))
    assert (caught.value.kind, caught.value.reason) == (FailureKind.PERMANENT, "hostile_name")


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (None, "bad_manifest"),
        ([5], "bad_manifest"),
        ([], "no_files"),
        ([layer("a/b")], "no_files"),
        ([layer("a/b", **{TITLE: "x"}), layer("a/b", **{TITLE: "X"})], "hostile_name"),
        ([{**layer("a/b", **{TITLE: "x"}), "digest": "sha256:../../x"}], "bad_digest"),
        ([{**layer("a/b", **{TITLE: "x"}), "digest": None}], "bad_digest"),
        ([{**layer("a/b", **{TITLE: "x"}), "size": -1}], "bad_manifest"),
        ([{**layer("a/b", **{TITLE: "x"}), "size": True}], "bad_manifest"),
    ],
)
def test_broken_manifests_have_reasons(layers: Any, reason: str) -> None:
    with pytest.raises(Failure) as caught:
        read_layers({"layers": layers}, "x")
    assert caught.value.reason == reason


# --- tokens ----------------------------------------------------------------------------------------------------------

MANIFEST = json.dumps({"schemaVersion": 2, "layers": [layer("a/b", **{TITLE: "m"})]}).encode()


def guarded(realm: str, token: str = "tok") -> Any:
    """A registry that wants a bearer token from ``realm``, and is its own realm too."""

    def answer(seen: Seen) -> Answer:
        if seen.path.startswith("/token"):
            return 200, {}, json.dumps({"token": token, "expires_in": 300}).encode()
        if seen.headers.get("authorization") == f"Bearer {token}":
            return 200, {"Docker-Content-Digest": sha(MANIFEST)}, MANIFEST
        challenge = f'Bearer realm="{realm}/token",service="reg",scope="repository:r:pull"'
        return 401, {"WWW-Authenticate": challenge}, b""

    return answer


def test_a_token_is_fetched_once_and_goes_along_with_the_blobs(server: Server, context: Context) -> None:
    server.answer = guarded(server.url)
    context.secrets = {server.netloc: (("authorization", "Basic dTpw"),)}
    source, url = OciSource(), f"oci://{server.netloc}/r:v1"
    file = source.resolve(MODEL, artifact(url, path=""), url, context).files[0]
    location = source.locate(file, url, context)
    assert location.headers == (("authorization", "Bearer tok"),)
    tokens = [seen for seen in server.seen if seen.path.startswith("/token")]
    assert [seen.headers["authorization"] for seen in tokens] == ["Basic dTpw"]
    assert "scope=repository%3Ar%3Apull" in tokens[0].path
    assert location.refresh is not None
    assert location.refresh().headers == location.headers
    assert len([seen for seen in server.seen if seen.path.startswith("/token")]) == 2


def test_a_realm_elsewhere_is_asked_only_where_credentials_name_it(server: Server, context: Context) -> None:
    realm = f"http://localhost:{server.netloc.partition(':')[2]}"
    server.answer = guarded(realm)
    url = f"oci://{server.netloc}/r:v1"
    foreign = failure(context, url)
    assert (foreign.kind, foreign.reason) == (FailureKind.PERMANENT, "foreign_realm")
    assert not any(seen.path.startswith("/token") for seen in server.seen)
    context.secrets = {realm.partition("://")[2]: (("authorization", "Basic dTpw"),)}
    assert resolve(context, url).files


@pytest.mark.parametrize("realm", ["http://10.0.0.1", "ftp://127.0.0.1", "http://u@127.0.0.1", "", "https://[x"])
def test_an_unsafe_realm_is_never_asked(server: Server, context: Context, realm: str) -> None:
    server.answer = guarded(realm)
    assert failure(context, f"oci://{server.netloc}/r:v1").reason == "foreign_realm"


@pytest.mark.parametrize(
    ("header", "realm"),
    [
        ('Basic realm="x", Bearer realm="https://h/t",service="s"', "https://h/t"),
        ('Bearer realm="https://h/t",service="s", Basic realm="x"', "https://h/t"),
        ('bearer  realm=https://h/t,service="s"', "https://h/t"),
        ('Basic realm="a, Bearer realm=b"', None),
        ('Basic realm="x"', None),
        ("", None),
    ],
)
def test_the_bearer_challenge_is_found_among_others(header: str, realm: str | None) -> None:
    found = bearer_parameters(header)
    assert found == (None if realm is None else {"realm": realm, "service": "s"})


def test_basic_credentials_answer_a_basic_challenge(server: Server, context: Context) -> None:
    secret = base64.b64encode(b"u:p").decode()

    def answer(seen: Seen) -> Answer:
        if seen.headers.get("authorization") == f"Basic {secret}":
            return 200, {}, MANIFEST
        return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""

    server.answer = answer
    url = f"oci://{server.netloc}/r:v1"
    assert failure(context, url).reason == "unauthorized"
    context.secrets = {server.netloc: (("authorization", f"Basic {secret}"),)}
    assert resolve(context, url).files


@pytest.mark.parametrize("version", ["@sha256:" + "0" * 64, ":v1"])
def test_a_manifest_that_is_not_what_its_digest_says_is_refused(server: Server, context: Context, version: str) -> None:
    server.answer = lambda _: (200, {"Docker-Content-Digest": "sha256:" + "0" * 64}, MANIFEST)
    assert failure(context, f"oci://{server.netloc}/r{version}").reason == "digest_mismatch"


def test_http_is_spoken_on_loopback_only() -> None:
    assert origin_of("127.0.0.1:5000") == "http://127.0.0.1:5000"
    assert origin_of("localhost") == "http://localhost"
    assert origin_of("[::1]:5000") == "http://[::1]:5000"
    assert origin_of("10.0.0.1:5000") == "https://10.0.0.1:5000"
    assert origin_of("127.0.0.1.example.com") == "https://127.0.0.1.example.com"


@pytest.mark.parametrize(
    ("url", "origin", "name", "version"),
    [
        ("ollama://llama3", "https://registry.ollama.ai", "library/llama3", "latest"),
        ("ollama://me/llama3:8b", "https://registry.ollama.ai", "me/llama3", "8b"),
        ("ollama://hf.co/org/repo-GGUF:Q4_K_M", "https://hf.co", "org/repo-GGUF", "Q4_K_M"),
        ("ollama://127.0.0.1:5000/me/x", "http://127.0.0.1:5000", "me/x", "latest"),
        ("ollama://reg.example.com/x:1", "https://reg.example.com", "library/x", "1"),
    ],
)
def test_ollama_names_are_taken_apart(context: Context, url: str, origin: str, name: str, version: str) -> None:
    reference = OllamaSource().parse(url, context)
    assert (reference.repository.origin, reference.repository.name, reference.version) == (origin, name, version)


def test_docker_hub_is_called_by_its_registrys_name(context: Context) -> None:
    repository = OciSource().parse("oci://docker.io/ai/smollm2:latest", context).repository
    assert (repository.origin, repository.name) == ("https://registry-1.docker.io", "ai/smollm2")


@pytest.mark.parametrize("mirror", ["http://10.0.0.1", "https://h/path", "nonsense://x"])
def test_a_mirror_that_does_not_do_says_so(context: Context, mirror: str) -> None:
    context.environment = {"RECONCILER_OLLAMA_REGISTRY": mirror}
    assert failure(context, "ollama://x").reason == "bad_endpoint"


def test_an_unresolved_image_cannot_be_located(context: Context, tmp_path: Path) -> None:
    del tmp_path
    with pytest.raises(Failure) as caught:
        OciSource().locate(artifact("oci://h/r:v", path=""), "oci://h/r:v", context)
    assert caught.value.reason == "not_resolved"
