"""Every kind of source, through the command: on real registries and buckets, and on stand-ins for the others."""

import hashlib
import json
import os
import signal
import stat
import time

import clouds
import pytest
from docker_registry import IMAGE, TITLE, docker_registry
from hubs import FILES, OTHER, WEIGHTS
from machines import kinds
from scripted import Server
from watching import eventually

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.settings import Settings

HEX = hashlib.sha256(WEIGHTS).hexdigest()
TOKEN = "hf_secret"
QUANTS = {"README.md": b"x", "m-Q4_K_M.gguf": b"GGUF" + OTHER, "m-Q8_0.gguf": b"GGUF" + WEIGHTS}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    client = Client(Settings())
    with docker_registry(tmp_path_factory.mktemp("registry"), client) as running:
        yield running
    client.close()


@pytest.fixture(scope="module")
def bucket():
    """moto's S3 with one bucket, and the environment to read it."""
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    keys = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="models")
    for key, data in {
        "a/b c+%41.bin": WEIGHTS,
        "tree/x.bin": OTHER,
        "tree/sub/y.bin": WEIGHTS,
        "treehouse": b"n",
    }.items():
        client.put_object(Bucket="models", Key=key, Body=data)
    client.close()
    yield {
        "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret",
    }  # fmt: skip
    moto.stop()


@pytest.fixture
def more_clouds():
    """Google's and Azure's buckets, and the environment to read them."""
    with clouds.gs({"g.bin": WEIGHTS}) as google, clouds.az({"z.bin": WEIGHTS}) as azure:
        yield google.env | azure.env


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_a_repository_comes_whole_under_its_own_paths(hub):
    hub.want("hf://org/repo")
    hub.apply()
    assert hub.placed() == FILES


def test_globs_leave_a_part_of_a_repository(hub):
    hub.want("hf://org/repo", include=["onnx/*", "*.json"], exclude=["*/big.bin"])
    hub.apply()
    assert hub.placed() == {"config.json": b"{}", "onnx/model.bin": WEIGHTS}


def test_one_file_of_a_repository_is_named_after_its_last_segment(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.apply()
    assert hub.placed() == {"model.bin": WEIGHTS}


@pytest.mark.parametrize(("quant", "name"), [("Q8_0", "m-Q8_0.gguf"), ("", "m-Q4_K_M.gguf")])
def test_a_quantization_chooses_its_file(hub, quant, name):
    hub.repo.files = dict(QUANTS)
    hub.want(f"hf://org/repo:{quant}" if quant else "hf://org/repo", allowUnsafe=False, include=[])
    plan = hub.machine.run("plan", env=hub.env)
    assert plan["summary"]["bytes_download"] == len(QUANTS[name])


def test_a_branch_is_resolved_once_and_later_applies_keep_the_commit(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.apply()
    assert hub.machine.status("m")["revision"] == "c" * 40
    hub.repo.commit = hub.repo.branches["main"] = "d" * 40
    hub.repo.files["onnx/model.bin"] = OTHER
    hub.forget()
    second = hub.apply()
    assert (second["outcomes"], hub.asked()) == ([], [])
    assert hub.machine.status("m")["revision"] == "c" * 40
    assert hub.placed() == {"model.bin": WEIGHTS}


def test_a_file_repaired_later_comes_from_the_commit_of_then(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.apply()
    hub.repo.branches["main"] = "d" * 40
    path = hub.machine.store / "models" / "m" / "model.bin"
    path.chmod(0o644)
    path.write_bytes(b"x" * len(WEIGHTS))
    hub.forget()
    hub.apply()
    assert hub.placed() == {"model.bin": WEIGHTS}
    assert not [path for path in hub.asked() if "/revision/" in path]


@pytest.mark.parametrize(
    ("access", "token", "reason"),
    [
        ("gated", "", "gated"),
        ("gated", TOKEN, "gated"),
        ("public", "hf_wrong", "unauthorized"),
        ("none", TOKEN, "not_found"),
    ],
)
def test_why_the_hub_refuses_is_told_apart(hub, access, token, reason):
    hub.repo.access = access
    if access == "none":
        hub.hub.repos.clear()
    if token:
        hub.env["HF_TOKEN"] = token
    hub.want("hf://org/repo/onnx/model.bin")
    result = hub.apply(code=4)
    (failed,) = result["outcomes"]
    assert (failed["reason"], failed["failure"]) == (reason, "permanent")
    said = json.dumps(result) + hub.machine.stderr + json.dumps(hub.machine.status("m"))
    assert TOKEN not in said
    assert "hf_wrong" not in said
    assert hub.machine.status("m")["reason"] == reason


def test_a_rate_limited_hub_is_asked_again_when_it_says(hub):
    hub.hub.limited = True
    hub.want("hf://org/repo/onnx/model.bin")
    (failed,) = hub.apply(code=4)["outcomes"]
    assert (failed["reason"], failed["failure"]) == ("rate_limited", "transient")
    assert failed["retry_at"]
    hub.forget()
    hub.apply(code=4)
    assert hub.asked() == []


def test_the_hubs_token_goes_to_the_hub_only(hub):
    hub.env["HF_TOKEN"] = TOKEN
    hub.repo.access = "private"
    hub.want("hf://org/repo/onnx/model.bin")
    hub.apply()
    assert all(seen.headers.get("authorization") == f"Bearer {TOKEN}" for seen in hub.server.seen)
    assert hub.cdn.seen
    assert not [seen for seen in hub.cdn.seen if "authorization" in seen.headers]
    everything = b"".join(path.read_bytes() for path in hub.machine.store.rglob("*") if path.is_file())
    assert TOKEN.encode() not in everything
    assert b"hush" not in everything


# --- buckets, registries, files ---------------------------------------------------------------------------------------


def test_an_object_comes_by_its_key_as_written(machine, bucket):
    machine.models["m"] = {"source": "s3://models/a/b c+%41.bin", "sha256": HEX}
    machine.apply(env=bucket)
    assert machine.placed("m", "b c+%41.bin").read_bytes() == WEIGHTS
    assert machine.apply()["outcomes"] == []


def test_a_prefix_brings_every_object_below_it(machine, bucket):
    machine.models["m"] = {"source": "s3://models/tree/"}
    machine.apply(env=bucket)
    assert machine.placed("m", "x.bin").read_bytes() == OTHER
    assert machine.placed("m", "sub/y.bin").read_bytes() == WEIGHTS
    assert machine.apply()["outcomes"] == []


def push(registry, repo, tag, *, title="model.bin"):
    files = [("application/octet-stream", WEIGHTS, {TITLE: title}), ("application/json", b"{}", {TITLE: "sub/c.json"})]
    return registry.push(repo, tag, files, media=IMAGE)


def test_an_image_comes_by_tag_and_keeps_the_digest_it_was_resolved_to(machine, registry):
    digest = push(registry, "team/tagged", "v1")
    machine.models["m"] = {"source": f"oci://{registry.netloc}/team/tagged:v1"}
    machine.apply()
    assert machine.placed("m", "model.bin").read_bytes() == WEIGHTS
    assert machine.placed("m", "sub/c.json").read_bytes() == b"{}"
    assert machine.status("m")["revision"] == digest
    push(registry, "team/tagged", "v1", title="renamed.bin")
    assert machine.apply()["outcomes"] == []


def test_an_image_comes_by_digest(machine, registry):
    digest = push(registry, "team/digest", "v1")
    machine.models["m"] = {"source": f"oci://{registry.netloc}/team/digest@{digest}"}
    machine.apply()
    assert machine.placed("m", "model.bin").read_bytes() == WEIGHTS


def test_a_layer_that_was_cut_off_is_gone_on_with(machine, registry):
    push(registry, "team/cut", "v1")
    machine.models["m"] = {"source": f"oci://{registry.netloc}/team/cut:v1"}
    machine.head["network"] = {"bandwidth": "150kB/s", "connections": 1}
    process = machine.start("apply")
    eventually(machine.partials, 20)
    time.sleep(0.5)  # what has no byte yet is not kept
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert machine.partials()
    del machine.head["network"]
    machine.apply()
    assert machine.placed("m", "model.bin").read_bytes() == WEIGHTS
    assert machine.partials() == []


def ollama(server):
    """A registry of Ollama's kind with the model ``tiny:q4``."""
    blobs = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in (WEIGHTS, b"MIT", b"{}")}
    digests = list(blobs)
    kind = "application/vnd.ollama.image."
    layers = [
        {"mediaType": kind + word, "digest": digest, "size": len(blobs[digest])}
        for word, digest in (("model", digests[0]), ("license", digests[1]))
    ]
    media = "application/vnd.docker.distribution.manifest.v2+json"
    config = {"mediaType": "application/json", "digest": digests[2], "size": 2}
    body = json.dumps({"schemaVersion": 2, "mediaType": media, "config": config, "layers": layers}).encode()

    def answer(seen):
        name = seen.path.partition("?")[0].rpartition("/")[2]
        if seen.path == "/v2/library/tiny/manifests/q4":
            return 200, {"Content-Type": media}, body
        return (200, {}, blobs[name]) if name in blobs else (404, {}, b"")

    server.answer = answer
    return server


@pytest.fixture
def ollama_registry():
    server = ollama(Server())
    yield server
    server.close()


def test_an_ollama_model_comes_with_its_licence(machine, ollama_registry):
    machine.models["m"] = {"source": "ollama://tiny:q4"}
    machine.apply(env={"RECONCILER_OLLAMA_REGISTRY": ollama_registry.url})
    assert machine.placed("m", "model.gguf").read_bytes() == WEIGHTS
    assert machine.placed("m", "license.txt").read_bytes() == b"MIT"


def test_a_file_of_this_machine_comes_by_relative_path_and_stays_as_it_is(machine):
    source = machine.folder / "here.bin"
    source.write_bytes(WEIGHTS)
    before = source.stat()
    machine.models["m"] = {"source": "file:here.bin"}
    machine.apply()
    assert machine.placed("m", "here.bin").read_bytes() == WEIGHTS
    after = source.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, before.st_nlink)


def test_the_same_model_from_eight_sources_is_one_blob(machine, hub, bucket, registry, ollama_registry, more_clouds):
    push(registry, "team/same", "v1")
    machine.origin.put("/web.bin", WEIGHTS)
    (machine.folder / "here.bin").write_bytes(WEIGHTS)
    sources = {
        "hub": "hf://org/repo/onnx/model.bin",
        "s3": "s3://models/a/b c+%41.bin",
        "oci": f"oci://{registry.netloc}/team/same:v1",
        "ollama": "ollama://tiny:q4",
        "file": "file:here.bin",
        "web": f"{machine.origin.url}/web.bin",
        "gs": "gs://models/g.bin",
        "az": "az://models/z.bin",
    }
    machine.models = {name: {"source": source} for name, source in sources.items()}
    env = {**hub.env, **bucket, **more_clouds, "RECONCILER_OLLAMA_REGISTRY": ollama_registry.url}
    machine.apply(env=env)
    inodes = {
        path.stat().st_ino
        for path in (machine.store / "models").rglob("*")
        if path.is_file() and path.stat().st_size == len(WEIGHTS)
    }
    assert inodes == {machine.blob(HEX).stat().st_ino}
    assert machine.blob(HEX).stat().st_nlink == 9
    machine.origin.forget()
    hub.forget()
    assert machine.apply()["outcomes"] == []
    assert (machine.origin.requests, hub.asked()) == ([], [])


# --- other tools' caches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "path"),
    [("HF_HUB_CACHE", f"models--a--b/blobs/{HEX}"), ("OLLAMA_MODELS", f"blobs/sha256-{HEX}")],
)
def test_a_copy_in_another_tools_cache_is_used_without_a_request_and_left_alone(machine, variable, path):
    copy = machine.folder / "cache" / path
    copy.parent.mkdir(parents=True)
    copy.write_bytes(WEIGHTS)
    copy.chmod(0o640)
    os.utime(copy, ns=(10**18, 10**18))
    digest = machine.model("m", WEIGHTS, size=len(WEIGHTS))
    machine.apply(env={variable: str(machine.folder / "cache")})
    assert machine.has("m", digest)
    assert machine.origin.requests == []
    facts = copy.stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_mtime_ns, copy.read_bytes()) == (0o640, 10**18, WEIGHTS)


@pytest.mark.parametrize("lie", [b"x" * len(WEIGHTS), WEIGHTS[:-1]])
def test_a_copy_that_is_not_what_its_name_says_is_passed_over(machine, lie):
    copy = machine.folder / "cache" / f"blobs/sha256-{HEX}"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(lie)
    digest = machine.model("m", WEIGHTS)
    machine.apply(env={"OLLAMA_MODELS": str(machine.folder / "cache")})
    assert machine.has("m", digest)
    assert machine.origin.asked("GET") == ["/m.bin"]
    assert copy.read_bytes() == lie


def test_a_copy_serves_a_repository_whose_digests_the_hub_tells(hub):
    copy = hub.machine.folder / "cache" / f"blobs/sha256-{HEX}"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(WEIGHTS)
    hub.want("hf://org/repo/onnx/model.bin")
    hub.env["OLLAMA_MODELS"] = str(hub.machine.folder / "cache")
    plan = hub.machine.run("plan", env=hub.env)
    assert kinds(plan) == {"link": ["m"]}
    hub.apply()
    assert hub.placed() == {"model.bin": WEIGHTS}
    assert hub.cdn.seen == []


# --- credentials ------------------------------------------------------------------------------------------------------


def test_a_secret_is_bound_to_its_origin_and_dropped_on_a_redirect(machine):
    cdn = Server()
    cdn.answer = lambda seen: (200, {}, WEIGHTS)
    try:
        machine.origin.answers["/m.bin"] = (302, {"Location": f"{cdn.url}/blob?signature=hush"})
        machine.model("m", WEIGHTS)
        host = machine.origin.url.removeprefix("http://")
        machine.head["network"] = {"credentials": {host: {"bearer": {"env": "MODEL_TOKEN"}}}}
        result = machine.apply(env={"MODEL_TOKEN": "s3cr3t"})
        assert [headers.get("authorization") for _, _, headers in machine.origin.requests] == ["Bearer s3cr3t"] * len(
            machine.origin.requests
        )
        assert cdn.seen
        assert not [seen for seen in cdn.seen if "authorization" in seen.headers]
        said = json.dumps(result) + machine.stderr + json.dumps(machine.run("events", env={"MODEL_TOKEN": "x"}))
        assert "s3cr3t" not in said
        assert "hush" not in said
    finally:
        cdn.close()


def test_a_secret_that_is_not_there_is_told_by_its_reference(machine):
    machine.model("m", WEIGHTS)
    host = machine.origin.url.removeprefix("http://")
    machine.head["network"] = {"credentials": {host: {"bearer": {"env": "MODEL_TOKEN"}}}}
    (failed,) = machine.apply(code=4)["outcomes"]
    assert failed["reason"] == "secret_missing"
    assert "MODEL_TOKEN" in failed["message"]
    machine.apply(env={"MODEL_TOKEN": "s"})


def test_what_nobody_declared_is_asked_for_again_before_it_is_fetched_again(machine):
    machine.origin.put("/f.bin", WEIGHTS)
    machine.models["m"] = {"source": f"{machine.origin.url}/f.bin"}
    machine.apply()
    machine.origin.forget()
    assert machine.apply()["outcomes"] == []
    assert machine.origin.asked() == []
    machine.origin.put("/f.bin", WEIGHTS + b"more")
    machine.run("evict", "m", "--yes")
    assert machine.plan()["summary"]["bytes_download"] == len(WEIGHTS) + 4
    machine.apply()
    assert machine.placed("m", "f.bin").read_bytes() == WEIGHTS + b"more"


def test_a_size_that_is_declared_by_now_counts_before_one_that_was_told(machine):
    machine.origin.put("/f.bin", WEIGHTS)
    machine.models["m"] = {"source": f"{machine.origin.url}/f.bin"}
    machine.apply()
    machine.origin.put("/f.bin", WEIGHTS + b"more")
    machine.run("evict", "m", "--yes")
    machine.models["m"]["size"] = len(WEIGHTS) + 4
    machine.apply()
    assert machine.placed("m", "f.bin").read_bytes() == WEIGHTS + b"more"
