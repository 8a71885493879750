"""s3, gs, az: objects and prefixes, with keys as written, on the servers that stand in for the clouds."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from asking import MODEL, Context, artifact
from scripted import Answer, Seen, Server

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.sources.bucket import BucketSource, azure_source, gcs_source, s3_source
from reconciler.adapters.sources.s3 import digest_of
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.observed import Resolution
from reconciler.core.words import Role

NOW = 1_700_000_000.0
WEIGHTS = b"weights" * 100
SHA = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
ODD = "models/a b/ü%41+&=?#;@:~.bin"
OBJECTS = {
    "models/config.json": b"{}",
    "models/sub/model.onnx": WEIGHTS,
    "models/": b"",
    "models-other/x": b"no",
    ODD: b"odd",
}


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 with one bucket."""
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="eu-west-1", aws_access_key_id="AKID", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for key, data in OBJECTS.items():
        client.put_object(Bucket="bucket", Key=key, Body=data, ChecksumAlgorithm="SHA256", ACL="public-read")
    client.close()
    yield endpoint
    moto.stop()


@pytest.fixture(scope="module")
def gcs_endpoint(client: Client) -> Iterator[str]:
    """The emulator of Google's JSON API, with one bucket."""
    server = pytest.importorskip("gcp_storage_emulator.server").create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    try:
        endpoint = f"http://127.0.0.1:{server._api._httpd.server_port}"
        json, binary = ([("content-type", f"application/{kind}")] for kind in ("json", "octet-stream"))
        client.ask("POST", f"{endpoint}/storage/v1/b", body=b'{"name": "bucket"}', headers=json)
        for key, data in OBJECTS.items():
            name = "".join(f"%{byte:02x}" for byte in key.encode())
            url = f"{endpoint}/upload/storage/v1/b/bucket/o?uploadType=media&name={name}"
            if data:  # the emulator takes no empty object
                assert client.ask("POST", url, body=data, headers=binary).status == 200
        yield endpoint
    finally:
        server.stop()


class Azurite:
    """The part of Azure's Blob service that reading needs; every request must carry a signature."""

    def __init__(self, sas: bool = True) -> None:
        self.sas = sas

    def answer(self, seen: Seen) -> Answer:
        parts = urlsplit(seen.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if self.sas and "sig" not in query:
            return 403, {}, b""
        _, account, container, *rest = unquote(parts.path).split("/", 3)
        if (account, container) != ("acct", "bucket"):
            return 404, {}, b""
        if query.get("comp") == "list":
            names = sorted(name for name in OBJECTS if name.startswith(query["prefix"]))
            start = int(query.get("marker", "0"))
            blobs = "".join(
                f"<Blob><Name>{escape(name)}</Name><Properties><Content-Length>{len(OBJECTS[name])}</Content-Length>"
                f"<Etag>0x{start}</Etag></Properties></Blob>"
                for name in names[start : start + 2]
            )
            marker = f"<NextMarker>{start + 2}</NextMarker>" if start + 2 < len(names) else "<NextMarker />"
            text = f'<?xml version="1.0"?><EnumerationResults><Blobs>{blobs}</Blobs>{marker}</EnumerationResults>'
            return 200, {"Content-Type": "application/xml"}, text.encode()
        data = OBJECTS.get(rest[0] if rest else "")
        return (404, {}, b"") if data is None else (200, {"ETag": '"0x1"'}, data)


Case = tuple[BucketSource, Context]


@pytest.fixture(params=["s3", "s3-anonymous", "gs", "az"])
def cloud(request: pytest.FixtureRequest, context: Context) -> Case:
    if request.param.startswith("s3"):
        keys = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"} if request.param == "s3" else {}
        context.environment = {
            "AWS_ENDPOINT_URL": request.getfixturevalue("s3_endpoint"),
            "AWS_REGION": "eu-west-1",
            **keys,
        }
        return s3_source(lambda: NOW), context
    if request.param == "gs":
        context.environment = {"STORAGE_EMULATOR_HOST": request.getfixturevalue("gcs_endpoint")}
        return gcs_source(), context
    server: Server = request.getfixturevalue("server")
    server.answer = Azurite().answer
    context.environment = {
        "AZURE_STORAGE_ACCOUNT": "acct",
        "AZURE_STORAGE_KEY": base64.b64encode(b"k" * 32).decode(),
        "AZURE_STORAGE_ENDPOINT": f"{server.url}/acct",
    }
    return azure_source(lambda: NOW), context


def resolve(cloud: Case, rest: str, given: dict[str, Any] | None = None, **model: Any) -> Resolution:
    source, context = cloud
    url = f"{source.name}://bucket/{rest}"
    return source.resolve(replace(MODEL, **model), artifact(url, **(given or {})), url, context)


def fetch(cloud: Case, file: Artifact) -> bytes:
    source, context = cloud
    location = source.locate(file, file.sources[0], context)
    headers = [*location.headers, ("range", "bytes=0-")]  # as the engine may ask
    return context.http.ask("GET", location.url, headers=headers).body


def test_an_object_has_its_size_and_can_be_fetched(cloud: Case) -> None:
    resolution = resolve(cloud, "models/sub/model.onnx")
    (file,) = resolution.files
    assert (file.path, file.size_bytes, file.role) == ("model.onnx", len(WEIGHTS), Role.PRIMARY)
    assert resolution.revision
    assert fetch(cloud, file) == WEIGHTS
    assert not cloud[0].needs_resolving(file)


def test_a_key_is_taken_as_written(cloud: Case) -> None:
    (file,) = resolve(cloud, ODD).files
    assert (file.path, file.size_bytes) == (ODD.rpartition("/")[2], 3)
    assert fetch(cloud, file) == b"odd"


@pytest.mark.parametrize("rest", ["models/", "models"])
def test_a_prefix_is_every_object_below_it_relative_to_it(cloud: Case, rest: str) -> None:
    files = resolve(cloud, rest).files
    expected = {name.removeprefix("models/"): data for name, data in OBJECTS.items() if name.startswith("models/")}
    del expected[""]
    assert {file.path: file.size_bytes for file in files} == {name: len(data) for name, data in expected.items()}
    assert {file.path: fetch(cloud, file) for file in files} == expected
    assert [file.path for file in files if file.role is Role.PRIMARY] == ["sub/model.onnx"]


def test_globs_choose_below_a_prefix(cloud: Case) -> None:
    assert [file.path for file in resolve(cloud, "models/", include=("*.json",)).files] == ["config.json"]
    assert "config.json" not in [file.path for file in resolve(cloud, "models/", exclude=("*.json",)).files]


@pytest.mark.parametrize("rest", ["nothing", "nothing/", "models/sub/model.onn"])
def test_what_is_not_there_fails_for_good(cloud: Case, rest: str) -> None:
    with pytest.raises(Failure) as caught:
        resolve(cloud, rest)
    assert (caught.value.kind, caught.value.reason) == (FailureKind.PERMANENT, "not_found")


def test_a_bucket_that_is_not_there_fails_for_good(cloud: Case) -> None:
    source, context = cloud
    url = f"{source.name}://nobucket/x"
    with pytest.raises(Failure) as caught:
        source.resolve(MODEL, artifact(url), url, context)
    assert caught.value.kind is FailureKind.PERMANENT


def test_declared_facts_are_kept(cloud: Case) -> None:
    declared = "sha256:" + "1" * 64
    (file,) = resolve(cloud, "models/sub/model.onnx", {"digest": declared, "size_bytes": 5, "path": "x"}).files
    assert (file.path, file.size_bytes, file.digest) == ("x", 5, declared)


def test_the_fingerprint_is_steady_and_knows_absence(cloud: Case) -> None:
    source, context = cloud
    there, gone = f"{source.name}://bucket/models/config.json", f"{source.name}://bucket/none"
    assert source.fingerprint(there, context) == source.fingerprint(there, context)
    assert source.fingerprint(gone, context) == "absent"


def test_no_secret_is_printed(cloud: Case) -> None:
    source, context = cloud
    url = f"{source.name}://bucket/models/config.json"
    location = source.locate(artifact(url), url, context)
    assert location.label == url
    assert "ignature" not in repr(location)
    assert "sig=" not in repr(location)
    assert location.refresh is not None
    assert location.refresh() == location


@pytest.mark.parametrize("key", ["a/../b", "./a", "a/.."])
def test_keys_that_url_handling_would_bend_are_refused(cloud: Case, key: str) -> None:
    with pytest.raises(Failure) as caught:
        resolve(cloud, key)
    assert caught.value.reason == "hostile_name"


# --- S3 alone -----------------------------------------------------------------------------------------------------


def test_s3_tells_the_digest_of_a_whole_object(s3_endpoint: str, context: Context) -> None:
    context.environment = {"AWS_ENDPOINT_URL": s3_endpoint}
    assert resolve((s3_source(lambda: NOW), context), "models/sub/model.onnx").files[0].digest == SHA


def test_the_checksum_of_a_multipart_object_is_no_digest() -> None:
    checksum = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert digest_of({"x-amz-checksum-sha256": checksum}) == f"sha256:{hashlib.sha256(b'').hexdigest()}"
    for headers in (
        {"x-amz-checksum-sha256": f"{checksum}-3"},
        {"x-amz-checksum-sha256": checksum, "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-sha256": "AAAA"},
        {},
    ):
        assert digest_of(headers) is None


def test_a_listing_goes_on_over_its_pages(context: Context, server: Server) -> None:
    def answer(seen: Seen) -> Answer:
        page = int(parse_qs(urlsplit(seen.path).query).get("continuation-token", ["0"])[0])
        entry = f"<Contents><Key>p/{page}</Key><Size>1</Size></Contents>"
        more = "" if page == 2 else f"<NextContinuationToken>{page + 1}</NextContinuationToken>"
        truncated = f"<IsTruncated>{str(page < 2).lower()}</IsTruncated>"
        return 200, {}, f"<ListBucketResult>{entry}{more}{truncated}</ListBucketResult>".encode()

    server.answer = answer
    context.environment = {"AWS_ENDPOINT_URL": server.url}
    assert [file.path for file in resolve((s3_source(lambda: NOW), context), "p/").files] == ["0", "1", "2"]


def signed(context: Context, server: Server, **environment: str) -> Callable[[str], tuple[str, dict[str, str]]]:
    """Where an S3 URL leads, and with which headers."""
    del server
    context.environment = environment
    source = s3_source(lambda: NOW)

    def locate(url: str) -> tuple[str, dict[str, str]]:
        location = source.locate(artifact(url), url, context)
        return location.url, dict(location.headers)

    return locate


@pytest.mark.parametrize(
    ("environment", "url", "target"),
    [
        ({}, "s3://bkt/a/b", "https://bkt.s3.us-east-1.amazonaws.com/a/b"),
        ({"AWS_REGION": "eu-west-1"}, "s3://my.bkt/a", "https://s3.eu-west-1.amazonaws.com/my.bkt/a"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "s3://bkt/a", "https://bkt.s3.eu-west-1.amazonaws.com/a"),
        ({"AWS_ENDPOINT_URL": "http://10.0.0.1:9000"}, "s3://bkt/a", "http://10.0.0.1:9000/bkt/a"),
        ({"AWS_ENDPOINT_URL": "https://minio.lan/"}, "s3://bkt/a", "https://minio.lan/bkt/a"),
        (
            {"AWS_ENDPOINT_URL": "https://oss.example.com", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
            "s3://bkt/a",
            "https://bkt.oss.example.com/a",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://10.0.0.1:9000", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
            "s3://bkt/a",
            "http://10.0.0.1:9000/bkt/a",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://wrong", "AWS_ENDPOINT_URL_S3": "http://[::1]:1"},
            "s3://bkt/a",
            "http://[::1]:1/bkt/a",
        ),
    ],
)
def test_the_endpoint_decides_where_the_bucket_stands(
    context: Context, server: Server, environment: dict[str, str], url: str, target: str
) -> None:
    assert signed(context, server, **environment)(url) == (target, {})


def test_temporary_keys_send_their_token_and_no_keys_sign_nothing(context: Context, server: Server) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hush"}
    _, headers = signed(context, server, **keys, AWS_SESSION_TOKEN="tok")("s3://bkt/a")
    assert headers["x-amz-security-token"] == "tok"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/20231114/us-east-1/s3/")
    assert "hush" not in str(headers)
    assert signed(context, server, AWS_ACCESS_KEY_ID="AKID")("s3://bkt/a")[1] == {}


def test_a_bucket_that_lives_elsewhere_is_asked_again_in_its_region(context: Context, server: Server) -> None:
    def answer(seen: Seen) -> Answer:
        if "/ap-south-1/s3/" in seen.headers["authorization"]:
            return 200, {"ETag": '"e"'}, b"xyz"
        return 400, {"x-amz-bucket-region": "ap-south-1"}, b""

    server.answer = answer
    context.environment = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    cloud = (s3_source(lambda: NOW), context)
    (file,) = resolve(cloud, "x").files
    assert file.size_bytes == 3
    assert fetch(cloud, file) == b"xyz"
    assert len(server.seen) == 3


def listing(*keys: str) -> bytes:
    entries = "".join(f"<Contents><Key>{escape(key)}</Key><Size>1</Size></Contents>" for key in keys)
    return f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{entries}</ListBucketResult>'.encode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (listing("p/../x"), "hostile_name"),
        (listing("p//x"), "hostile_name"),
        (listing("p/a\\b"), "hostile_name"),
        (listing("p/" + "x" * 256), "hostile_name"),
        (listing("p/A", "p/a"), "hostile_name"),
        (listing("elsewhere"), "hostile_name"),
        (b"<html><body>log in", "malformed_answer"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult/>', "malformed_answer"),
        (b"<ListBucketResult><Contents><Key>p/x</Key></Contents></ListBucketResult>", "malformed_answer"),
        (b"<ListBucketResult/>", "not_found"),
    ],
)
def test_a_hostile_or_broken_listing_is_refused(context: Context, server: Server, body: bytes, reason: str) -> None:
    server.answer = lambda _: (200, {}, body)
    context.environment = {"AWS_ENDPOINT_URL": server.url}
    with pytest.raises(Failure) as caught:
        resolve((s3_source(lambda: NOW), context), "p/")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(403, "AccessDenied", "forbidden"), (404, "NoSuchBucket", "not_found"), (503, "SlowDown", "rate_limited")],
)
def test_error_codes_of_s3_become_reasons(
    context: Context, server: Server, status: int, code: str, reason: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>secret hush</Message></Error>".encode()
    server.answer = lambda _: (status, {}, body)
    context.environment = {"AWS_ENDPOINT_URL": server.url}
    with pytest.raises(Failure) as caught:
        resolve((s3_source(lambda: NOW), context), "p/")
    assert caught.value.reason == reason
    assert "hush" not in str(caught.value)


# --- Azure and Google alone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "target"),
    [
        ({"AZURE_STORAGE_ACCOUNT": "acct"}, "https://acct.blob.core.windows.net/bkt/a%20b"),
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "acct", "AZURE_STORAGE_SAS_TOKEN": "?sv=1&sig=hush"},
            "https://acct.blob.core.windows.net/bkt/a%20b?sv=1&sig=hush",
        ),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acct;BlobEndpoint=http://127.0.0.1:1/acct;AccountKey="},
            "http://127.0.0.1:1/acct/bkt/a%20b",
        ),
    ],
)
def test_an_azure_account_is_named_by_the_environment(
    context: Context, environment: dict[str, str], target: str
) -> None:
    context.environment = environment
    assert azure_source(lambda: NOW).locate(artifact("az://bkt/a b"), "az://bkt/a b", context).url == target


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "no_account"),
        ({"AZURE_STORAGE_ACCOUNT": "a/b"}, "no_account"),
        ({"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_KEY": "%%%"}, "bad_key"),
        ({"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_ENDPOINT": "ftp://x"}, "bad_endpoint"),
    ],
)
def test_an_azure_environment_that_does_not_do_says_so(
    context: Context, environment: dict[str, str], reason: str
) -> None:
    context.environment = environment
    with pytest.raises(Failure) as caught:
        azure_source(lambda: NOW).locate(artifact("az://bkt/a"), "az://bkt/a", context)
    assert caught.value.reason == reason


def test_a_google_token_goes_to_google_alone(context: Context) -> None:
    context.environment = {"CLOUDSDK_AUTH_ACCESS_TOKEN": "ya29.hush"}
    location = gcs_source().locate(artifact("gs://bkt/a/b"), "gs://bkt/a/b", context)
    assert location.url == "https://storage.googleapis.com/storage/v1/b/bkt/o/a%2Fb?alt=media"
    assert location.headers == (("authorization", "Bearer ya29.hush"),)


def test_a_key_that_no_glob_takes_may_be_called_anything(context: Context, server: Server) -> None:
    server.answer = lambda _: (200, {}, listing("p/a.bin", "p/tmp//x"))
    context.environment = {"AWS_ENDPOINT_URL": server.url}
    model = DesiredModel("m", exclude=("tmp/*",))
    source = s3_source(lambda: NOW)
    resolution = source.resolve(model, artifact("s3://bkt/p/", path=""), "s3://bkt/p/", context)
    assert [file.path for file in resolution.files] == ["a.bin"]
