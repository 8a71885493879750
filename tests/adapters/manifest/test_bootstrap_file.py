"""The bootstrap file: told from a manifest, checked with every place, and as strict about secrets."""

import json

import jsonschema
import pytest

from reconciler.adapters.git import check_path, check_ref, parse_address
from reconciler.adapters.manifest import Checks, Document, parse_bootstrap, schema_text
from reconciler.core.errors import ManifestInvalid
from reconciler.core.git_place import GitPlace
from reconciler.core.policies import Credential, SecretReference

HEAD = "apiVersion: reconciler/v1\nsource:\n  git:\n    url: https://git.example.com/fleet.git\n"


def parse(text, environ=None, *others):
    documents = [Document("boot.yaml", text.encode(), "/etc/reconciler", "/etc/reconciler/boot.yaml"), *others]
    return parse_bootstrap(documents, environ or {}, lambda: Checks(parse_address, check_ref, check_path))


def problems(text, environ=None):
    with pytest.raises(ManifestInvalid) as caught:
        parse(text, environ)
    return [str(problem) for problem in caught.value.problems]


def test_a_url_is_enough_and_the_rest_has_the_defaults_of_its_schema():
    assert parse(HEAD) == GitPlace("https://git.example.com/fleet.git")
    properties = json.loads(schema_text("bootstrap"))["definitions"]["git"]["properties"]
    assert (properties["path"]["default"], properties["interval"]["default"]) == ("models.yaml", "60s")
    assert properties["timeout"]["default"] == "60s"


def test_everything_that_can_be_said_is_taken_and_paths_are_relative_to_the_file():
    text = (
        "apiVersion: reconciler/v1\nkind: Bootstrap\nsource:\n  git:\n    url: ssh://git@git.example.com/fleet.git\n"
        "    ref: 1234567\n    path: fleet\n    interval: 5m\n    timeout: 20s\n    verify: {signers: signers}\n"
        "    credentials: {sshKey: {file: '${CREDENTIALS_DIRECTORY}/key'}}\n    knownHosts: known_hosts\n"
    )
    assert parse(text, {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}) == GitPlace(
        "ssh://git@git.example.com/fleet.git",
        ref="1234567",
        path="fleet",
        interval_s=300.0,
        timeout_s=20.0,
        signers="/etc/reconciler/signers",
        ssh_key="/run/credentials/x/key",
        known_hosts="/etc/reconciler/known_hosts",
    )


@pytest.mark.parametrize(
    ("words", "credential"),
    [
        ("token: {env: T}", Credential("", basic=("x-access-token", SecretReference(env="T")))),
        ("bearer: {file: t}", Credential("", bearer=SecretReference(file="/etc/reconciler/t"))),
        ("basic: {user: ada, password: {env: P}}", Credential("", basic=("ada", SecretReference(env="P")))),
        ("headers: {X-Key: {env: K}}", Credential("", headers=(("X-Key", SecretReference(env="K")),))),
    ],
)
def test_a_credential_is_a_reference_for_the_urls_own_host(words, credential):
    assert parse(f"{HEAD}    credentials: {{{words}}}\n").credential == credential


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: reconciler/v1\nmodels: {}\n",
        "apiVersion: reconciler/v1\nmodels:\n  one:\n    source: https://x.example/a.bin\n",
        "{apiVersion: reconciler/v1, models: {}}",
        "",
    ],
)
def test_a_manifest_is_no_bootstrap(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (HEAD.replace("https://", "ext::"), "boot.yaml:4:10", "https://"),
        (HEAD.replace("git.example.com", "ada:secret@git.example.com"), "boot.yaml:4:10", "by reference"),
        (HEAD + "    ref: '--upload-pack=x'\n", "boot.yaml:5:10", "a branch, a tag"),
        (HEAD + "    path: ../x\n", "boot.yaml:5:11", "below the repository's root"),
        (HEAD + "    intervall: 5m\n", "boot.yaml:5:5", "did you mean interval?"),
        (HEAD + "    interval: 10ms\n", "boot.yaml:5:15", "at least 1s"),
        (HEAD + "    credentials: {token: ghp_secret}\n", "boot.yaml:5:26", "reference to a secret"),
        (HEAD + "    credentials: {ghp_secret: x}\n", "boot.yaml:5:19", "(not shown)"),
        (HEAD + "    credentials: {token: {env: A}, bearer: {env: B}}\n", "boot.yaml:5:5", "exactly one of"),
        (HEAD + "    verify: {}\n", "boot.yaml:5:5", "signers"),
        (HEAD + "models: {}\n", "boot.yaml:5:1", "or the manifest"),
        ("apiVersion: reconciler/v1\nsource: {}\n", "boot.yaml:2:1", "git"),
        ("kind: Bootstrap\n", "boot.yaml:1:1", "apiVersion"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_without_a_secret(text, place, words):
    (told, *_) = [line for line in problems(text) if line.startswith(place)] or problems(text)
    assert told.startswith(place)
    assert words in told
    assert "secret@" not in told
    assert "ghp_" not in told


def test_a_bootstrap_stands_alone():
    other = Document("models.yaml", b"apiVersion: reconciler/v1\nmodels: {}\n", None)
    with pytest.raises(ManifestInvalid, match="1 problem"):
        parse(HEAD, None, other)


def test_the_schema_describes_every_property_and_its_own_examples_satisfy_it():
    schema = json.loads(schema_text("bootstrap"))
    jsonschema.Draft7Validator.check_schema(schema)

    def walk(node, path):
        for name, child in node.get("properties", {}).items():
            assert {"description", "default", "examples"} <= child.keys(), f"{path}.{name}"
            for example in child["examples"]:
                rules = {**child, "definitions": schema["definitions"]}
                if "$ref" in child:
                    rules = {"$ref": child["$ref"], "definitions": schema["definitions"]}
                jsonschema.validate(example, rules)
            walk(child, f"{path}.{name}")

    walk(schema, "")
    for name, child in schema["definitions"].items():
        walk(child, name)
