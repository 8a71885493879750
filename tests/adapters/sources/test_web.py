"""https and http: sizes are asked for honestly, statuses become reasons."""

import pytest
from asking import MODEL, Context, artifact
from scripted import Seen, Server

from reconciler.adapters.sources.web import WebSource
from reconciler.core.desired import Artifact
from reconciler.core.errors import Failure, FailureKind

SOURCE = WebSource()


def resolve(server: Server, context: Context, name: str = "model.bin") -> Artifact:
    url = f"{server.url}/{name}"
    return SOURCE.resolve(MODEL, artifact(url), url, context).files[0]


def test_only_an_undeclared_size_needs_asking() -> None:
    assert SOURCE.needs_resolving(artifact("https://h/a"))
    assert not SOURCE.needs_resolving(artifact("https://h/a", size_bytes=3))


def test_the_size_is_asked_for_by_head_with_identity_coding(server: Server, context: Context) -> None:
    server.answer = lambda _: (200, {"Content-Length": "12345", "ETag": '"v1"'}, b"")
    url = f"{server.url}/model.bin"
    resolution = SOURCE.resolve(MODEL, artifact(url), url, context)
    assert resolution.files == (artifact(url, size_bytes=12345),)
    assert (resolution.model, resolution.spec_digest, resolution.revision) == ("m", MODEL.spec_digest, "v1")
    assert [(seen.method, seen.headers["accept-encoding"]) for seen in server.seen] == [("HEAD", "identity")]


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_server_that_refuses_head_is_asked_for_the_first_byte(server: Server, context: Context, status: int) -> None:
    def answer(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if seen.method == "HEAD":
            return status, {}, b""
        assert seen.headers["range"] == "bytes=0-0"
        return 206, {"Content-Range": "bytes 0-0/5000000000"}, b"x"

    server.answer = answer
    assert resolve(server, context).size_bytes == 5_000_000_000


def test_an_empty_file_answers_a_range_with_416_and_has_size_0(server: Server, context: Context) -> None:
    server.answer = lambda seen: (405, {}, b"") if seen.method == "HEAD" else (416, {"Content-Range": "bytes */0"}, b"")
    assert resolve(server, context).size_bytes == 0


def test_a_server_that_ignores_ranges_is_not_read_to_the_end(server: Server, context: Context) -> None:
    server.answer = lambda seen: (405, {}, b"") if seen.method == "HEAD" else (200, {}, bytes(3 << 20))
    assert resolve(server, context).size_bytes is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "77", "Content-Encoding": "gzip"},
        {"Content-Length": "9" * 19},
        {"Content-Length": "-5"},
    ],
)
def test_a_length_that_is_not_the_objects_is_not_believed(
    server: Server, context: Context, headers: dict[str, str]
) -> None:
    server.answer = lambda _: (200, headers, b"")
    if headers["Content-Length"] != "-5":
        assert resolve(server, context).size_bytes is None
        return
    with pytest.raises(Failure) as caught:  # already the HTTP client refuses a length that is none
        resolve(server, context)
    assert caught.value.kind is FailureKind.TRANSIENT


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, "permanent", "bad_request"),
        (401, "permanent", "unauthorized"),
        (403, "permanent", "forbidden"),
        (404, "permanent", "not_found"),
        (410, "permanent", "gone"),
        (418, "permanent", "client_error"),
        (408, "transient", "request_timeout"),
        (425, "transient", "too_early"),
        (429, "transient", "rate_limited"),
        (500, "transient", "server_error"),
        (503, "transient", "server_error"),
        (204, "transient", "unexpected_status"),
    ],
)
def test_every_status_has_its_reason(server: Server, context: Context, status: int, kind: str, reason: str) -> None:
    server.answer = lambda _: (status, {"Retry-After": "7"}, b"")
    with pytest.raises(Failure) as caught:
        resolve(server, context, "model.bin?sig=hush")
    assert (caught.value.kind, caught.value.reason) == (kind, reason)
    assert "hush" not in str(caught.value)
    assert caught.value.retry_after_s == (7.0 if kind == "transient" and status != 204 else None)


def test_credentials_go_with_the_question_and_with_the_location(server: Server, context: Context) -> None:
    server.answer = lambda _: (200, {}, b"x")
    context.secrets = {server.netloc: (("authorization", "Bearer hush"),)}
    resolve(server, context)
    assert server.seen[0].headers["authorization"] == "Bearer hush"
    url = f"{server.url}/a?token=hush"
    location = SOURCE.locate(artifact(url, path="a"), url, context)
    assert (location.url, location.headers) == (url, (("authorization", "Bearer hush"),))
    assert location.label == f"{server.url}/a"
    assert "hush" not in repr(location)
    assert location.refresh is not None
    assert location.refresh() == location


def test_the_fingerprint_changes_when_the_answer_does_and_only_then(server: Server, context: Context) -> None:
    url = f"{server.url}/a"
    prints = []
    for answer in [(404, {}, b""), (404, {}, b""), (200, {"ETag": '"a"'}, b"x"), (200, {"ETag": '"b"'}, b"x")]:
        server.answer = lambda _, answer=answer: answer
        prints.append(SOURCE.fingerprint(url, context))
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    server.close()
    context.http.close()  # a kept connection of this server outlives it
    assert SOURCE.fingerprint(url, context).startswith("failure:")
