"""What a good manifest means: the typed values that come out."""

import json

import pytest
from manifest_good import COMMIT, FULL, RICH, SHA

from reconciler.adapters.manifest import Extensions, load_documents, not_yet
from reconciler.adapters.manifest import parse as parse_module
from reconciler.adapters.manifest.not_yet import NOT_YET
from reconciler.core.desired import Artifact, Comparison, LabelRequirement, Selector
from reconciler.core.digests import spec_digest
from reconciler.core.errors import ManifestInvalid
from reconciler.core.policies import Credential, RuntimeSpec, SecretReference, Size, Window
from reconciler.core.words import DownloadPolicy, EvictionMode, ExtractMode, Priority, Role, WantedState

HEAD = "apiVersion: reconciler/v1\n"


def parse(text, environ=None, folder="/etc/reconciler", extensions=Extensions):
    return load_documents([("m.yaml", text.encode(), folder)], environ or {}, extensions)


def model(text, **options):
    return parse(f"{HEAD}models:\n  m: {text}\n", **options).models[0]


@pytest.fixture(scope="module")
def full():
    return parse(FULL)


@pytest.fixture(scope="module")
def rich():
    return {found.name: found for found in parse(RICH).models}


def test_the_frame(full):
    assert full.name == "kiosk"
    assert full.labels == (("beta", "true"), ("site", "lab"), ("version", "1.10"))
    assert [found.name for found in full.models] == ["bert", "llama", "old-model", "sherpa", "whisper-base"]


def test_the_sections(full):
    assert full.cache.max_size == Size(size_bytes=40 << 30)
    assert full.cache.min_free == Size(size_bytes=2 << 30)
    assert (full.cache.retention_s, full.cache.cleanup_interval_s) == (2592000, 86400)
    assert (full.cache.scrub_bytes_per_s, full.cache.scrub_max_age_s) == (5_000_000, 7 * 86400)
    assert (full.cache.max_evictions_percent, full.cache.max_evictions_count) == (50, None)
    assert full.memory.budget == Size(size_bytes=12 << 30)
    assert (full.memory.warning_bytes, full.memory.critical_bytes) == (500_000_000, 200_000_000)
    assert full.network.windows == (Window(1320, 360), Window(720, 1440))
    assert (full.network.bandwidth_bytes_per_s, full.network.timeout_s) == (20_000_000, 30)
    assert full.network.mirrors == ("http://cache.lan/{sha256}",)


def test_secrets_are_references_bound_to_a_host_and_port(full):
    assert full.network.credentials == (
        Credential(
            host="[::1]",
            port=8080,
            headers=(
                ("X-Api-Key", SecretReference(file="/run/secrets/key")),
                ("X-Other", SecretReference(env="OTHER")),
            ),
        ),
        Credential(
            host="m.example.com",
            port=8443,
            basic=("kiosk", SecretReference(file="/etc/reconciler/secrets/password")),
        ),
        Credential(host="models.example.com", port=None, bearer=SecretReference(env="MODELS_TOKEN")),
    )


def test_a_user_may_be_a_secret_too():
    text = HEAD + "models: {}\nnetwork: {credentials: {H.example: {basic: {user: {env: U}, password: {env: P}}}}}\n"
    credential = parse(text).network.credentials[0]
    assert (credential.host, credential.basic) == ("h.example", (SecretReference(env="U"), SecretReference(env="P")))


def test_runtimes_always_have_a_default(full):
    assert full.runtimes == (
        RuntimeSpec("default"),
        RuntimeSpec("triton", "open-inference", "http://127.0.0.1:8000", (("port", "1"), ("repository", "/srv"))),
    )
    assert parse(HEAD + "models: {}\n").runtimes == (RuntimeSpec("default"),)


def test_a_model_of_one_file(full):
    whisper = full.models[4]
    source = f"hf://ggerganov/whisper.cpp@{COMMIT}/ggml-base.bin"
    assert whisper.artifacts == (Artifact("ggml-base.bin", (source,), f"sha256:{SHA}"),)
    assert (whisper.state, whisper.priority, whisper.memory_bytes) == (
        WantedState.LOADED,
        Priority.CRITICAL,
        400_000_000,
    )


def test_a_model_of_several_sources(full):
    llama = full.models[1]
    sources = ("https://models.example.com/llama.gguf", "s3://mirror/llama.gguf")
    assert llama.artifacts == (Artifact("llama.gguf", sources, size_bytes=4_700_000_000),)
    assert llama.pinned
    assert not llama.allow_unsafe
    assert llama.when == Selector(match_labels=(("site", "lab"),), arch=("aarch64",), memory=Comparison(">=", 8 << 30))
    assert dict(llama.metadata)["contextLength"] == "8192"


def test_a_model_of_several_files(full):
    assert full.models[0].artifacts == (
        Artifact("model.onnx", ("https://m.example.com/model.onnx",), f"sha256:{SHA}", role=Role.PRIMARY),
        Artifact("tokenizer.json", ("https://m.example.com/tokenizer.json",), role=Role.TOKENIZER, optional=True),
    )


def test_a_model_that_is_absent_needs_no_source(full):
    assert (full.models[2].state, full.models[2].artifacts) == (WantedState.ABSENT, ())


def test_every_model_has_its_spec_digest(full):
    assert all(found.spec_digest == spec_digest(found) for found in full.models)


def test_a_reference_to_a_tree_is_one_artifact_without_a_path(rich):
    assert rich["repo"].artifacts == (Artifact("", ("hf://org/repo:Q4_K_M@main",)),)
    assert rich["image"].artifacts[0].path == rich["chat"].artifacts[0].path == ""
    assert (rich["repo"].include, rich["repo"].exclude) == (("*.safetensors", "*.json"), ("*.bin",))


def test_the_rarer_keys(rich):
    repo = rich["repo"]
    assert (repo.rollout_percent, repo.download, repo.publish) == (10, DownloadPolicy.UNMETERED, ("huggingface",))
    assert repo.depends_on == ("image", "local")
    assert (rich["image"].extract, rich["chat"].extract) == (ExtractMode.NEVER, ExtractMode.ALWAYS)
    local = rich["local"].artifacts[0]
    assert (local.path, local.sources) == ("x y.gguf", ("file:///etc/reconciler/models/x%20y.gguf",))
    assert (local.size_bytes, local.role) == (8, Role.ADAPTER)


def test_selectors(rich):
    assert rich["repo"].when == Selector(
        match_expressions=(
            LabelRequirement("site", "In", ("lab", "7", "true")),
            LabelRequirement("beta", "DoesNotExist"),
        ),
        os=("linux",),
        hostname=("kiosk-*", "7"),
        accelerator=("cuda",),
        disk=Comparison(">", 64 * 10**9),
    )


def test_the_first_file_is_primary_where_nobody_says_so(rich):
    assert [(found.path, found.role) for found in rich["several"].artifacts] == [
        ("a.safetensors", Role.PRIMARY),
        ("sub/b.json", Role.COMPANION),
    ]
    assert rich["several"].artifacts[1].sources == ("https://h.example/b.json", "file:///etc/reconciler/b.json")


def test_metadata_keeps_texts_as_written(rich):
    facts = {key: json.loads(value) for key, value in rich["several"].metadata}
    assert facts == {
        "category": "vision",
        "supportsThinking": False,  # only language and multimodal models can
        "tags": ["small", "7"],
        "version": "1.10",
        "minMemory": 8 << 30,
        "extra": 5,
        "more": "x",
        "yes": True,
    }


@pytest.mark.parametrize(("category", "length"), [("language", 2048), ("multimodal", 2048), ("vision", None)])
def test_the_context_length_has_a_default_by_category(category, length):
    facts = dict(model(f"{{source: 'https://h/m', metadata: {{category: {category}}}}}").metadata)
    assert facts.get("contextLength") == (str(length) if length else None)


def test_the_other_limits():
    state = parse(RICH)
    assert (state.cache.max_size, state.cache.min_free) == (Size(percent=60), Size(size_bytes=1_000_000))
    assert (state.cache.retention_s, state.cache.cleanup_interval_s) == (None, 0)
    assert (state.cache.max_evictions_percent, state.cache.max_evictions_count) == (None, 3)
    assert state.cache.mode is EvictionMode.AGGRESSIVE
    assert (state.network.bandwidth_bytes_per_s, state.network.timeout_s) == (None, 90)


@pytest.mark.parametrize(
    ("written", "digest"),
    [("A" * 64, "a" * 64), ("sha256:" + "B" * 64, "b" * 64), ("1" * 64, "1" * 64), ("0" * 64, "0" * 64)],
)
def test_a_digest_may_be_written_in_any_case_and_of_digits_alone(written, digest):
    found = model(f"{{source: 'https://h/m', sha256: {written}}}")
    assert found.artifacts[0].digest == f"sha256:{digest}"


@pytest.mark.parametrize(("word", "format_name"), [("pte", "executorch"), ("mlpackage", "coreml"), ("gguf", "gguf")])
def test_a_format_has_one_name(word, format_name):
    assert model(f"{{source: 'https://h/m', format: {word}}}").format == format_name


def test_values_of_the_environment_may_be_numbers_sizes_and_words():
    text = HEAD + 'network: {connections: "${N}"}\ncache: {maxSize: "${N}", minFreeSpace: "${SIZE}"}\n'
    text += "metadata: {labels: {a: '${N}'}, name: '${N}'}\nmodels: {m: {source: 'https://${HOST}/m', pin: '${PIN}', format: '${F}'}}\n"
    environ = {"N": "7", "SIZE": "2GiB", "HOST": "h.example", "PIN": "true", "F": "gguf"}
    state = parse(text, environ)
    assert (state.network.connections, state.cache.max_size, state.name) == (7, Size(size_bytes=7), "7")
    assert state.models[0].artifacts[0].sources == ("https://h.example/m",)
    assert state.models[0].pinned


@pytest.mark.parametrize(
    "text",
    [
        "links: ['${P}']",
        "links: [/a, '/a/${P}', '/a/${P}']",
        "runtime: '${P}'",
        "format: '${P}'",
        "priority: '${P}'",
        "dependsOn: ['${P}']",
        "sha256: '${P}'",
        "rollout: '${P}'",
        "when: {memory: '${P}'}",
        "pin: '${P}'",
        "metadata: {category: '${P}', contextLength: '${P}'}",
    ],
)
@pytest.mark.parametrize("secret", ["s3cret", "31337"])
def test_no_message_holds_a_value_of_the_environment(text, secret):
    with pytest.raises(ManifestInvalid) as caught:
        model(f"{{source: 'https://h/m', {text}}}", environ={"P": secret})
    assert secret not in "".join(map(str, caught.value.problems))
    assert "${P}" in str(caught.value.problems[0])


def test_no_message_holds_a_path_of_the_environment():
    files = "{files: [{path: '${P}', source: 'https://h/a'}, {path: '${P}', source: 'https://h/b'}]}"
    with pytest.raises(ManifestInvalid) as caught:
        model(files, environ={"P": "s3cret"})
    assert "s3cret" not in str(caught.value.problems)


@pytest.mark.parametrize("text", ["https://${P}@h/m", "https://h/${P}/", "toy${P}://h/m", "https://h:${P}/m"])
def test_no_message_holds_a_source_of_the_environment(text):
    with pytest.raises(ManifestInvalid) as caught:
        model(f"{{source: '{text}'}}", environ={"P": "s3cret"})
    assert "s3cret" not in "".join(map(str, caught.value.problems))


def test_without_a_folder_nothing_can_be_relative():
    with pytest.raises(ManifestInvalid, match="1 problem"):
        model("{source: 'file:m.gguf'}", folder=None)
    text = HEAD + "models: {}\nnetwork: {credentials: {h: {bearer: {file: token}}}}\n"
    with pytest.raises(ManifestInvalid) as caught:
        parse(text, folder=None)
    assert "no manifest folder" in str(caught.value.problems[0])


def test_words_that_a_package_registered_are_taken_and_asked_for_only_then():
    asked = []

    def registered():
        asked.append(1)
        return Extensions(frozenset({"toy"}), frozenset({"toyformat"}), frozenset({"page-cachf"}))

    model("{source: 'https://h/m', format: gguf}", extensions=registered)
    assert asked == []
    found = model("{source: 'toy://h/m', format: toyformat}", extensions=registered)
    assert (found.artifacts[0].sources, found.format) == (("toy://h/m",), "toyformat")
    parse(HEAD + "models: {}\nruntimes: {a: {type: page-cachf}}\n", extensions=registered)
    with pytest.raises(ManifestInvalid):
        model("{source: 'toy://h/m'}")


def test_a_link_may_be_written_by_one_model_that_is_there():
    text = HEAD + "models:\n  a: {source: 'https://h/a', links: [/opt/m]}\n  b: {state: absent, links: [/opt/m]}\n"
    assert parse(text).models[0].links == ("/opt/m",)


def test_dependencies_that_meet_again_are_no_circle():
    text = HEAD + "models:\n"
    for name, wanted in (("a", "[b, c]"), ("b", "[d]"), ("c", "[d]"), ("d", "[]")):
        text += f"  {name}: {{source: 'https://h/{name}', dependsOn: {wanted}}}\n"
    assert parse(text).models[0].depends_on == ("b", "c")
    with pytest.raises(ManifestInvalid) as caught:
        parse(text.replace("dependsOn: []", "dependsOn: [a]"))
    assert all("without a circle" in str(problem) for problem in caught.value.problems)


def test_a_huge_text_is_not_repeated_in_a_message():
    with pytest.raises(ManifestInvalid) as caught:
        model(f"{{source: '{'x' * 3_000_000}', priority: 'https://me:s3cret@{'x' * 9000}'}}")
    assert all(len(str(problem)) < 300 for problem in caught.value.problems)
    assert "s3cret" not in str(caught.value.problems)


def test_two_thousand_files_that_collide_are_told_in_time():
    entries = "".join(f"      - {{path: f{index % 1000}, source: 'https://h/{index}'}}\n" for index in range(2000))
    with pytest.raises(ManifestInvalid) as caught:
        parse(f"{HEAD}models:\n  m:\n    files:\n{entries}")
    assert len(caught.value.problems) == 5


# --- what is not built yet ---------------------------------------------------------------------------------------


def test_what_is_not_built_yet_is_said_with_its_place():
    diagnostics = parse(RICH.replace("retention: never", "retention: never, compression: zstd")).diagnostics
    assert {found.reason for found in diagnostics} <= {"not_supported_yet"}
    told = {found.message.partition(":")[0]: found.place for found in diagnostics}
    expected = {
        "cache.compression": 2,
        "models.repo.publish": 12,
        "models.repo.signature": 13,
        "models.repo.dependsOn": 14,
    }
    patterns = {"cache.compression": "cache.compression=zstd"} | {
        key: key.replace("repo", "*") for key in expected if "repo" in key
    }
    for path, line in expected.items():
        if patterns[path] in NOT_YET:
            assert told[path].split(":")[:2] == ["m.yaml", str(line)]


def test_what_is_built_is_passed_over_in_silence():
    assert parse(HEAD + "cache: {compression: none}\nruntimes: {a: {type: page-cache}}\nmodels: {}\n").diagnostics == ()


def test_one_line_is_said_for_many_places(monkeypatch):
    table = {"models.*.pin": "pins are not supported yet"}
    monkeypatch.setattr(parse_module, "not_yet", lambda root: not_yet.not_yet(root, table))
    text = HEAD + "models:\n" + "".join(f"  m{index}: {{source: 'https://h/m', pin: true}}\n" for index in range(5))
    (diagnostic,) = parse(text).diagnostics
    assert diagnostic.message == "models.m0.pin (and 4 more): pins are not supported yet"
    assert diagnostic.place == "m.yaml:3:31"
