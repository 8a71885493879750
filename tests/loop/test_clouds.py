"""Buckets of every cloud, through the command: prefixes, keys as written, what is missing, who may not read."""

import hashlib
import json
import random
import shutil
from contextlib import ExitStack

import clouds
import pytest
from scripted import Server

WEIGHTS = random.Random(7).randbytes(200_000)
ODD = ("a b+c%41.bin", "ünï&=.bin", "q?#;@:~'()*!.bin", "%2e%2e.bin", "-x.bin")
OBJECTS = {
    "tree/x.bin": b"x" * 500,
    "tree/sub/y.bin": WEIGHTS,
    "tree/sub/z.txt": b"z",
    "treehouse": b"no",
    "weights.bin": WEIGHTS,
    **{f"odd/{name}": name.encode() for name in ODD},
}
KINDS = ["s3", "gs", "az", *(["azurite"] if shutil.which("azurite-blob") else [])]


@pytest.fixture(scope="module", params=KINDS)
def cloud(request, tmp_path_factory):
    with ExitStack() as stack:
        if request.param == "azurite":
            yield stack.enter_context(clouds.azurite(OBJECTS, tmp_path_factory.mktemp("azurite")))
        else:
            yield stack.enter_context(getattr(clouds, request.param)(OBJECTS))


def placed(machine):
    folder = machine.store / "models" / "m"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_object_comes_whole_and_is_not_asked_for_again(machine, cloud):
    machine.models["m"] = {"source": f"{cloud.scheme}://models/weights.bin"}
    machine.apply(env=cloud.env)
    assert placed(machine) == {"weights.bin": WEIGHTS}
    assert machine.apply()["outcomes"] == []


def test_a_prefix_brings_what_is_below_it_and_nothing_beside_it(machine, cloud):
    machine.models["m"] = {"source": f"{cloud.scheme}://models/tree/"}
    machine.apply(env=cloud.env)
    assert placed(machine) == {"x.bin": b"x" * 500, "sub/y.bin": WEIGHTS, "sub/z.txt": b"z"}
    assert machine.apply()["outcomes"] == []


def test_globs_leave_a_part_of_a_prefix(machine, cloud):
    machine.models["m"] = {"source": f"{cloud.scheme}://models/tree/", "include": ["*.bin"], "exclude": ["sub/*"]}
    machine.apply(env=cloud.env)
    assert placed(machine) == {"x.bin": b"x" * 500}


def test_odd_keys_are_taken_as_written(machine, cloud):
    machine.models["m"] = {"source": f"{cloud.scheme}://models/odd/"}
    machine.models.update({f"m{n}": {"source": f"{cloud.scheme}://models/odd/{name}"} for n, name in enumerate(ODD)})
    machine.apply(env=cloud.env)
    assert placed(machine) == {name: name.encode() for name in ODD}
    for number, name in enumerate(ODD):
        assert machine.placed(f"m{number}", name).read_bytes() == name.encode()


@pytest.mark.parametrize("rest", ["models/none.bin", "models/none/", "nobucket/x.bin", "nobucket/x/"])
def test_what_is_not_there_is_told_for_good(machine, cloud, rest):
    machine.models["m"] = {"source": f"{cloud.scheme}://{rest}"}
    (failed,) = machine.apply(code=4, env=cloud.env)["outcomes"]
    assert (failed["reason"], failed["failure"]) == ("not_found", "permanent")


def test_who_may_not_read_is_told_so_and_no_key_is_shown(machine, cloud):
    if cloud.stranger is None:
        return  # moto and Google's emulator let everybody in; see the scripted answers below
    machine.models["m"] = {"source": f"{cloud.scheme}://models/weights.bin"}
    result = machine.apply(code=4, env=cloud.stranger)
    (failed,) = result["outcomes"]
    assert failed["reason"] in {"forbidden", "unauthorized"}
    assert "AZURE_STORAGE_KEY" in failed["message"]
    assert "sig=" not in json.dumps(result) + machine.stderr + json.dumps(machine.status("m"))


def test_a_declared_digest_that_is_not_the_objects_is_refused(machine, cloud):
    machine.models["m"] = {"source": f"{cloud.scheme}://models/weights.bin", "sha256": "0" * 64}
    (failed,) = machine.apply(code=4, env=cloud.env)["outcomes"]
    assert failed["reason"] == "digest_mismatch"
    assert not (machine.store / "models" / "m").exists()


# --- what only one cloud has ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto():
    with clouds.s3({"/lead.bin": b"lead", "a//b.bin": b"twice"}) as running:
        yield running


def test_an_object_of_several_parts_has_an_etag_that_is_no_digest(machine, moto):
    machine.models["m"] = {"source": "s3://models/parts.bin"}
    machine.apply(env=moto.env)
    data = b"p" * (5 << 20) + b"q" * 1000
    assert machine.status("m")["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert placed(machine) == {"parts.bin": data}


def test_a_key_may_begin_with_a_slash_or_hold_two(machine, moto):
    machine.models = {"lead": {"source": "s3://models//lead.bin"}, "twice": {"source": "s3://models/a//b.bin"}}
    machine.apply(env=moto.env)
    assert machine.placed("lead", "lead.bin").read_bytes() == b"lead"
    assert machine.placed("twice", "b.bin").read_bytes() == b"twice"


def test_no_bucket_name_shows_in_a_path_below_the_store(machine, moto):
    machine.models["m"] = {"source": "s3://models/"}
    (failed,) = machine.apply(code=4, env=moto.env)["outcomes"]
    assert failed["reason"] == "hostile_name"  # a key that begins with a slash has no place of its own


@pytest.fixture
def amazon():
    server = Server()
    yield server
    server.close()


def keys_for(server):
    return {
        "AWS_ENDPOINT_URL": server.url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hush-hush",
    }  # fmt: skip


def test_a_bucket_in_another_region_is_asked_there_for_head_and_bytes(machine, amazon):
    def answer(seen):
        if "/eu-west-1/s3/" not in seen.headers["authorization"]:
            return 301, {"x-amz-bucket-region": "eu-west-1"}, b"<Error><Code>PermanentRedirect</Code></Error>"
        return 200, {"ETag": '"e"'}, WEIGHTS

    amazon.answer = answer
    machine.models["m"] = {"source": "s3://models/weights.bin"}
    machine.apply(env=keys_for(amazon))
    assert placed(machine) == {"weights.bin": WEIGHTS}


@pytest.mark.parametrize(
    ("status", "code", "reason", "kind"),
    [
        (400, "ExpiredToken", "unauthorized", "permanent"),
        (403, "AccessDenied", "forbidden", "permanent"),
        (403, "RequestTimeTooSkewed", "forbidden", "permanent"),
        (403, "SignatureDoesNotMatch", "forbidden", "permanent"),
        (503, "SlowDown", "rate_limited", "transient"),
        (404, "NoSuchBucket", "not_found", "permanent"),
    ],
)
def test_what_amazon_refuses_is_told_by_its_own_word(machine, amazon, status, code, reason, kind):
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>AKID hush-hush</Message></Error>'.encode()
    amazon.answer = lambda seen: (status, {}, body)
    machine.models = {"object": {"source": "s3://models/weights.bin"}, "prefix": {"source": "s3://models/tree/"}}
    result = machine.apply(code=4, env=keys_for(amazon))
    assert {(failed["reason"], failed["failure"]) for failed in result["outcomes"]} == {(reason, kind)}
    assert "hush-hush" not in json.dumps(result) + machine.stderr
