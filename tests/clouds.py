"""Clouds on loopback: moto for S3, Google's storage emulator, Azurite; each with one bucket called ``models``.

Azurite is Microsoft's own emulator, a program for node; where it is not installed a stand-in answers in its place, which
checks the signature that it is asked with by its own reckoning.
"""

import base64
import contextlib
import hmac
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import httpx
import pytest
from scripted import Answer, Seen, Server
from servers import free_port, wait_for

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # the emulator's own


@dataclass(frozen=True)
class Cloud:
    """One cloud: its scheme, the environment that opens it, and one that does not (None where it does not ask)."""

    scheme: str
    env: dict[str, str]
    stranger: dict[str, str] | None = None
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def s3(objects: dict[str, bytes]) -> Iterator[Cloud]:
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    keys = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="models")
    for key, data in objects.items():
        client.put_object(Bucket="models", Key=key, Body=data)
    upload = client.create_multipart_upload(Bucket="models", Key="parts.bin")["UploadId"]
    pieces = [b"p" * (5 << 20), b"q" * 1000]
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(
            Bucket="models", Key="parts.bin", UploadId=upload, PartNumber=number, Body=data)["ETag"]}
        for number, data in enumerate(pieces, 1)
    ]  # fmt: skip
    client.complete_multipart_upload(
        Bucket="models", Key="parts.bin", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    client.close()
    try:
        yield Cloud("s3", {
            "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret",
        })  # fmt: skip
    finally:
        moto.stop()


@contextlib.contextmanager
def gs(objects: dict[str, bytes]) -> Iterator[Cloud]:
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    try:
        endpoint = f"http://127.0.0.1:{server._api._httpd.server_port}"
        with httpx.Client(trust_env=False) as client:
            client.post(f"{endpoint}/storage/v1/b", json={"name": "models"}).raise_for_status()
            for key, data in objects.items():
                url = f"{endpoint}/upload/storage/v1/b/models/o?uploadType=media&name={quote(key, safe='')}"
                headers = {"content-type": "application/octet-stream"}
                client.post(url, content=data, headers=headers).raise_for_status()
        yield Cloud("gs", {"STORAGE_EMULATOR_HOST": endpoint})
    finally:
        server.stop()


def _azure_env(endpoint: str, key: str = KEY) -> dict[str, str]:
    return {"AZURE_STORAGE_ACCOUNT": ACCOUNT, "AZURE_STORAGE_KEY": key, "AZURE_STORAGE_ENDPOINT": endpoint}


_WRONG = base64.b64encode(b"k" * 64).decode()


@contextlib.contextmanager
def azurite(objects: dict[str, bytes], folder: Path) -> Iterator[Cloud]:
    """The real emulator, filled by Azure's own client."""
    blob = pytest.importorskip("azure.storage.blob")
    program = shutil.which("azurite-blob")
    assert program is not None
    port = free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--silent"]
    process = subprocess.Popen(
        [*command, "--skipApiVersionCheck"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    try:
        wait_for(port, process, "azurite")
        with blob.BlobServiceClient(endpoint, credential=KEY) as service:
            container = service.create_container("models")
            for key, data in objects.items():
                container.upload_blob(key, data)
        yield Cloud("az", _azure_env(endpoint), _azure_env(endpoint, _WRONG))
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def az(objects: dict[str, bytes]) -> Iterator[Cloud]:
    """The part of Azure's Blob service that reading needs; pages of two; every request must be signed."""
    server = Server()

    def answer(seen: Seen) -> Answer:
        parts = urlsplit(seen.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if not _is_signed(query):
            return 403, {"x-ms-error-code": "AuthenticationFailed"}, b""
        _, _, container, *rest = unquote(parts.path).split("/", 3)
        if container != "models":
            return 404, {"x-ms-error-code": "ContainerNotFound"}, b""
        if query.get("comp") == "list":
            return _listing(objects, query)
        data = objects.get(rest[0] if rest else "")
        return (404, {}, b"") if data is None else (200, {"ETag": '"0x1"'}, data)

    server.answer = answer
    endpoint = f"{server.url}/{ACCOUNT}"
    try:
        yield Cloud("az", _azure_env(endpoint), _azure_env(endpoint, _WRONG))
    finally:
        server.close()


def _is_signed(query: dict[str, str]) -> bool:
    """A shared access signature of the account, reckoned as Microsoft's documentation of the account SAS says."""
    names = ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses")
    text = "\n".join([ACCOUNT, *(query.get(name, "") for name in names), ""])
    wanted = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")).decode()
    return hmac.compare_digest(wanted, query.get("sig", ""))


def _listing(objects: dict[str, bytes], query: dict[str, str]) -> Answer:
    names = sorted(name for name in objects if name.startswith(query["prefix"]))
    start = int(query.get("marker", "0"))
    blobs = "".join(
        f"<Blob><Name>{escape(name)}</Name><Properties><Content-Length>{len(objects[name])}</Content-Length>"
        f"<Etag>0x1</Etag></Properties></Blob>"
        for name in names[start : start + 2]
    )
    marker = f"<NextMarker>{start + 2}</NextMarker>" if start + 2 < len(names) else "<NextMarker />"
    text = f'<?xml version="1.0"?><EnumerationResults><Blobs>{blobs}</Blobs>{marker}</EnumerationResults>'
    return 200, {"Content-Type": "application/xml"}, text.encode()
