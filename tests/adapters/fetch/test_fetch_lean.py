"""Small files are asked for without the HTTP library: over kept connections, by the same rules."""

import pytest
from faulty import Faulty
from fetching import digest_of, make_bytes

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.lean import request_of
from reconciler.adapters.fetch.settings import Settings

BODY = make_bytes(5000)
OTHER = make_bytes(5000, seed=2)
KNOWN = {"digest": digest_of(BODY), "size_bytes": len(BODY)}


def keeping(*bodies, lines=()):
    """Serve one body after the other, over connections that stay open."""

    def script(talk):
        talk.keep_alive = True
        talk.serve(bodies[talk.number % len(bodies)], *lines)

    return script


def get_both(case, server):
    """Two files, one after the other; the sockets they came over, as the server saw them."""
    case.get(f"{server.url}/one", **KNOWN)
    case.target = case.folder / "other"
    case.get(f"{server.url}/two", digest=digest_of(OTHER), size_bytes=len(OTHER))
    assert case.target.read_bytes() == OTHER
    return [talk.sock for talk in server.seen]


def test_small_files_share_a_connection_and_need_no_library(case):
    with Faulty(keeping(BODY, OTHER)) as server:
        first, second = get_both(case, server)
        assert first is second
        assert case.engine.client._made is None


@pytest.mark.parametrize("rest", [b"", b"x" * 7])
def test_questions_for_sizes_share_a_connection_that_holds_nothing_more(case, rest):
    def script(talk):
        talk.keep_alive = True
        talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n" + rest)  # after a HEAD a server must not

    with Faulty(script) as server:
        client = Client(Settings())
        for name in ("one", "two"):
            assert client.ask("HEAD", f"{server.url}/{name}").headers["content-length"] == "7"
        first, second = (talk.sock for talk in server.seen)
        assert (first is second) == (not rest)
        assert client._made is None
        client.close()


def test_a_question_with_an_unusual_answer_is_judged_by_the_library(case):
    with Faulty(lambda talk: talk.head("200 OK", "Transfer-Encoding: chunked", "ETag: x")) as server:
        answer = Client(Settings()).ask("HEAD", f"{server.url}/one")
        assert (answer.status, answer.headers["etag"], answer.body) == (200, "x", b"")
        assert len(server.seen) == 1


@pytest.mark.parametrize("line", ["Connection: close", "Connection: Keep-Alive, Upgrade"])
def test_a_server_that_says_so_is_not_asked_again_over_the_same_connection(case, line):
    with Faulty(keeping(BODY, OTHER, lines=(line,))) as server:
        first, second = get_both(case, server)
        assert first is not second


def test_a_connection_with_more_than_was_announced_is_not_used_again(case):
    def script(talk):
        talk.keep_alive = True
        talk.serve(BODY if talk.path == "/one" else OTHER)
        talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)  # smuggled for the next one

    with Faulty(script) as server:
        first, second = get_both(case, server)
        assert first is not second


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_failure(case):
    def script(talk):
        talk.serve(BODY if talk.path == "/one" else OTHER)  # announces nothing and hangs up

    with Faulty(script) as server:
        get_both(case, server)
        assert [talk.path for talk in server.seen] == ["/one", "/two"]


@pytest.mark.parametrize("coding", ["chunked", "none"])
def test_an_unusual_answer_is_judged_by_the_library_without_asking_again(case, coding):
    def script(talk):
        if coding == "chunked":
            talk.head("200 OK", "Transfer-Encoding: chunked")
            talk.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        else:
            talk.head("200 OK")
            talk.send(BODY)

    with Faulty(script) as server:
        case.get(f"{server.url}/file", **KNOWN)
        assert len(server.seen) == 1
        assert case.target.read_bytes() == BODY
        assert case.engine.client._made is not None


def test_secrets_stay_with_their_origin_over_redirects(case):
    with Faulty(keeping(BODY)) as other:

        def script(talk):
            talk.keep_alive = True
            target = "/within" if talk.path == "/file" else f"{other.url}/elsewhere"
            talk.head("302 Found", f"Location: {target}", "Content-Length: 0")

        with Faulty(script) as server:
            case.get(f"{server.url}/file", headers=[("Authorization", "Bearer hush"), ("X-Key", "hush")], **KNOWN)

        assert [talk.headers["authorization"] for talk in server.seen] == ["Bearer hush"] * 2
        assert server.seen[0].sock is server.seen[1].sock
        assert not {"authorization", "x-key"} & set(other.seen[0].headers)


def test_a_redirect_to_a_narrower_scope_is_refused(case, monkeypatch):
    monkeypatch.setattr("reconciler.adapters.fetch.client.Client._scope_of", lambda *_: 2)  # as if it were public
    with Faulty(keeping(BODY)) as inner:

        def script(talk):
            talk.head("302 Found", f"Location: {inner.url}/file", "Content-Length: 0")

        with Faulty(script) as server:
            assert case.fail(f"{server.url}/file", **KNOWN).reason == "unsafe_redirect"
        assert not inner.seen


def test_a_proxy_is_the_librarys_business(case):
    with Faulty(keeping(BODY)) as proxy:
        case.settings["environment"] = {"http_proxy": proxy.url}
        case.get("http://models.example/file", **KNOWN)
        assert proxy.seen[0].path == "http://models.example/file"


def test_a_request_is_made_as_the_library_makes_it():
    request = request_of("GET", "http://Host.example:8080/a%20b/c?d=e/f?g&h", [("range", "bytes=0-"), ("x-empty", "")])
    assert request.data == (
        b"GET /a%20b/c?d=e/f?g&h HTTP/1.1\r\nHost: host.example:8080\r\nrange: bytes=0-\r\nx-empty: \r\n\r\n"
    )
    assert request.origin == ("http", "host.example", 8080)
    assert request.label == "http://Host.example:8080/a%20b/c"
    assert b"Host: host.example\r\n" in request_of("GET", "https://host.example:443/", []).data


@pytest.mark.parametrize(
    "url",
    [
        "http://host/a b",
        "http://host/%zz",
        "http://host/ä",
        "http://host/a\r\nX: y",
        "http://host/../a",
        "http://host/a/.",
        "http://user@host/",
        "http://[::1]/",
        "http://host",
        "http://höst/",
        "http://host/#f",
        "ftp://host/",
        "HTTP://host/",
    ],
)
def test_a_url_that_has_to_be_put_right_is_left_to_the_library(url):
    assert request_of("GET", url, []) is None


@pytest.mark.parametrize(
    "header", [("x", "a\r\ny: b"), ("x", "a\nb"), ("x y", "a"), ("x", "ä"), ("x", " a"), ("", "a")]
)
def test_a_header_that_is_not_plain_is_left_to_the_library(header):
    assert request_of("GET", "http://host/", [header]) is None
