"""Debian's docker-registry on loopback, and how a publisher pushes to it."""

import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, wait_for

IMAGE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
Files = list[tuple[str, bytes, dict[str, str]]]  # media type, content, annotations


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """A running docker-registry, and how a publisher pushes to it."""

    def __init__(self, netloc: str, client: Any) -> None:
        self.netloc, self.client = netloc, client

    def put_blob(self, repo: str, data: bytes) -> dict[str, Any]:
        start = self.client.ask("POST", f"http://{self.netloc}/v2/{repo}/blobs/uploads/", body=b"")
        place = start.headers["location"]
        headers = [("content-type", "application/octet-stream")]
        put = f"{place}{'&' if '?' in place else '?'}digest={sha(data)}"
        assert self.client.ask("PUT", put, body=data, headers=headers).status == 201
        return {"digest": sha(data), "size": len(data)}

    def put_manifest(self, repo: str, tag: str, value: dict[str, Any]) -> str:
        body = json.dumps(value).encode()
        url = f"http://{self.netloc}/v2/{repo}/manifests/{tag}"
        answer = self.client.ask("PUT", url, body=body, headers=[("content-type", value["mediaType"])])
        assert answer.status == 201, answer.body
        return sha(body)

    def push(self, repo: str, tag: str, files: Files, media: str = IMAGE) -> str:
        config = {"mediaType": "application/vnd.oci.empty.v1+json", **self.put_blob(repo, b"{}")}
        layers = [{"mediaType": kind, **self.put_blob(repo, data), "annotations": notes} for kind, data, notes in files]
        return self.put_manifest(
            repo, tag, {"schemaVersion": 2, "mediaType": media, "config": config, "layers": layers}
        )


@contextlib.contextmanager
def docker_registry(folder: Path, client: Any) -> Iterator[Registry]:
    """A registry that keeps its data in ``folder``; ``client`` speaks HTTP for the publisher."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no docker-registry here")
    port = free_port()
    netloc = f"127.0.0.1:{port}"
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{netloc}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        wait_for(port, process, "docker-registry")
        yield Registry(netloc, client)
    finally:
        process.terminate()
        process.wait(10)
