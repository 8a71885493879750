"""Servers that misbehave, each in one named way: the right bytes arrive, or the failure has its own reason.

Every row runs within its deadline, and never leaves a wrong byte behind as a finished file. ``body`` is 300 kB or, where
the fault is in the fast path, 5 MB.
"""

import errno
import gzip
import time
from dataclasses import dataclass, field

import pytest
from faulty import Faulty, Talk
from fetching import digest_of, make_bytes

SMALL = make_bytes(300_000)
LARGE = make_bytes(5_000_000, seed=2)
OTHER = make_bytes(300_000, seed=3)
RIGHT = "right"
DEADLINE_S = 8.0


@dataclass
class Row:
    name: str
    script: object
    expect: str  # RIGHT or a reason
    body: bytes = SMALL
    declare: bool = True  # the digest
    more: dict = field(default_factory=dict)


ROWS: list[Row] = []


def row(expect, body=SMALL, *, declare=True, **more):
    def keep(script):
        ROWS.append(Row(script.__name__, script, expect, body, declare, more))
        return script

    return keep


def ok(talk: Talk, body: bytes, *lines: str) -> None:
    talk.head("200 OK", 'ETag: "one"', "Accept-Ranges: bytes", f"Content-Length: {len(body)}", *lines)


# --- the body's length ------------------------------------------------------------------------------------------------


@row(RIGHT)
def body_cut_once(talk):
    if talk.number == 0:
        ok(talk, SMALL)
        talk.send(SMALL[:100_000])
    else:
        talk.serve(SMALL)


@row(RIGHT, LARGE)
def large_body_cut_once(talk):
    if talk.number == 0:
        ok(talk, LARGE)
        talk.send(LARGE[:3_300_000])
    else:
        talk.serve(LARGE)


@row("truncated")
def body_always_cut_at_once(talk):
    ok(talk, SMALL)


@row("truncated", LARGE)
def large_body_always_cut_at_the_same_place(talk):
    ok(talk, LARGE)
    talk.send(LARGE[:2_000_000] if talk.range is None else b"")


@row(RIGHT)
def body_longer_than_announced(talk):
    ok(talk, SMALL)
    talk.send(SMALL + b"more")


@row(RIGHT, LARGE)
def large_body_longer_than_announced(talk):
    ok(talk, LARGE)
    talk.send(LARGE + b"more" * 100)


@row("size_mismatch", size_bytes=299_999)
def length_other_than_declared(talk):
    talk.serve(SMALL)


@row("malformed_answer")
def two_lengths(talk):
    talk.head("200 OK", "Content-Length: 300000", "Content-Length: 300001")
    talk.send(SMALL)


@row("malformed_answer")
def length_is_negative(talk):
    talk.head("200 OK", "Content-Length: -1")
    talk.send(SMALL)


@row("malformed_answer")
def length_is_a_word(talk):
    talk.head("200 OK", "Content-Length: many")
    talk.send(SMALL)


@row("malformed_answer")
def length_and_chunks(talk):
    talk.head("200 OK", "Content-Length: 300000", "Transfer-Encoding: chunked")
    talk.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMALL), SMALL))


@row(RIGHT)
def chunks(talk):
    talk.head("200 OK", "Transfer-Encoding: chunked")
    talk.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMALL), SMALL))


@row(RIGHT, LARGE, declare=False)
def chunks_without_digest(talk):
    talk.head("200 OK", "Transfer-Encoding: chunked")
    for start in range(0, len(LARGE), 70_001):
        piece = LARGE[start : start + 70_001]
        talk.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    talk.send(b"0\r\n\r\n")


@row("truncated", declare=False)
def chunks_without_an_end(talk):
    talk.head("200 OK", "Transfer-Encoding: chunked")
    talk.send(b"%x\r\n%s\r\n" % (len(SMALL), SMALL))


@row("malformed_answer")
def chunk_size_is_no_number(talk):
    talk.head("200 OK", "Transfer-Encoding: chunked")
    talk.send(b"xyz\r\n" + SMALL)


@row("too_large", declare=False, limit_bytes=200_000)
def chunks_over_the_limit(talk):
    talk.head("200 OK", "Transfer-Encoding: chunked")
    for _ in range(100):
        talk.send(b"%x\r\n%s\r\n" % (len(SMALL), SMALL))


@row("too_large", declare=False, limit_bytes=200_000)
def length_over_the_limit(talk):
    talk.serve(SMALL)


@row("size_mismatch", declare=False, size_bytes=300_000)
def chunks_over_the_declared_size(talk):
    talk.head("200 OK", "Transfer-Encoding: chunked")
    for _ in range(100):
        talk.send(b"%x\r\n%s\r\n" % (len(SMALL), SMALL))


@row(RIGHT, declare=False, expected_bytes=300_000)
def no_length_but_a_measured_one(talk):
    talk.send(b"HTTP/1.0 200 OK\r\n\r\n" + SMALL)


@row("truncated", declare=False, expected_bytes=300_000)
def no_length_and_less_than_was_measured(talk):
    talk.send(b"HTTP/1.0 200 OK\r\n\r\n" + SMALL[:1000])


@row("length_unknown", declare=False)
def no_length_at_all(talk):
    talk.send(b"HTTP/1.0 200 OK\r\n\r\n" + SMALL)


@row(RIGHT)
def no_length_but_a_digest(talk):
    talk.send(b"HTTP/1.0 200 OK\r\n\r\n" + SMALL)


@row("digest_mismatch")
def no_length_and_cut_off(talk):
    talk.send(b"HTTP/1.0 200 OK\r\n\r\n" + SMALL[:1000])


# --- ranges -----------------------------------------------------------------------------------------------------------


def cut_then(second):
    """The first answer is cut; ``second`` answers what follows."""

    def script(talk):
        if talk.number == 0:
            ok(talk, SMALL)
            talk.send(SMALL[:100_000])
        elif talk.range is None:
            talk.serve(SMALL)
        else:
            second(talk, talk.range[0])

    return script


def partial(talk, content_range, body, *lines):
    if not any(line.startswith("ETag") for line in lines):
        lines = ('ETag: "one"', *lines)
    talk.head("206 Partial Content", f"Content-Range: {content_range}", f"Content-Length: {len(body)}", *lines)
    talk.send(body)


def row_after_cut(name, second, expect=RIGHT, **more):
    script = cut_then(second)
    script.__name__ = name
    ROWS.append(Row(name, script, expect, **more))


def chunked(talk, content_range, body, *lines):
    talk.head("206 Partial Content", 'ETag: "one"', f"Content-Range: {content_range}", *lines)
    talk.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if lines else body)


def chunked_then(second):
    """A first answer that does not tell its length, cut."""

    def script(talk):
        if talk.range is None:
            talk.head("200 OK", 'ETag: "one"', "Transfer-Encoding: chunked")
            is_cut = talk.number == 0
            talk.send(b"%x\r\n%s\r\n" % ((len(SMALL)), SMALL[:100_000] if is_cut else SMALL))
            talk.send(b"" if is_cut else b"0\r\n\r\n")
        else:
            second(talk, talk.range[0])

    return script


row_after_cut("resume_gets_everything", lambda talk, start: (ok(talk, SMALL), talk.send(SMALL)))
row_after_cut("range_starts_too_early", lambda t, s: partial(t, "bytes 0-299999/300000", SMALL))
row_after_cut("range_starts_too_late", lambda t, s: partial(t, f"bytes {s + 1}-299999/300000", SMALL[s + 1 :]))
row_after_cut("range_says_right_sends_wrong", lambda t, s: partial(t, f"bytes {s}-299999/300000", OTHER[s:]))
row_after_cut("range_total_differs", lambda t, s: partial(t, f"bytes {s}-299999/300001", SMALL[s:]))
row_after_cut(
    "range_without_content_range",
    lambda t, s: (t.head("206 Partial Content", f"Content-Length: {300_000 - s}"), t.send(SMALL[s:])),
)
row_after_cut("range_header_is_garbage", lambda t, s: partial(t, "bytes what-ever", SMALL[s:]))
row_after_cut("range_ends_before_it_starts", lambda t, s: partial(t, f"bytes {s}-{s - 1}/300000", b""))
row_after_cut("range_total_unknown", lambda t, s: partial(t, f"bytes {s}-299999/*", SMALL[s:]))
row_after_cut("range_length_disagrees", lambda t, s: partial(t, f"bytes {s}-299999/300000", SMALL[s:-1]))
row_after_cut("range_of_another_version", lambda t, s: partial(t, f"bytes {s}-299999/300000", OTHER[s:], 'ETag: "two"'))
row_after_cut(
    "range_in_many_parts",
    lambda t, s: (
        t.head("206 Partial Content", "Content-Type: multipart/byteranges; boundary=x", "Content-Length: 10"),
        t.send(b"--x\r\n\r\n..."),
    ),
)
row_after_cut(
    "range_gzip_coded",
    lambda t, s: partial(
        t, f"bytes {s}-299999/300000", gzip.compress(SMALL)[: 300_000 - s].ljust(300_000 - s), "Content-Encoding: gzip"
    ),
)
row_after_cut(
    "range_shorter_than_asked",
    lambda t, s: partial(t, f"bytes {s}-{min(s + 49_999, 299_999)}/300000", SMALL[s : s + 50_000]),
)
for _name, _lines in {"in_chunks": ("Transfer-Encoding: chunked",), "until_the_end": ()}.items():
    row_after_cut(
        f"range_sends_more_than_it_names_{_name}",
        lambda t, s, lines=_lines: chunked(t, f"bytes {s}-{s + 9}/300000", SMALL[s : s + 10] + OTHER[s + 10 :], *lines),
        declare=False,
    )
    row_after_cut(
        f"range_comes_{_name}",
        lambda t, s, lines=_lines: chunked(t, f"bytes {s}-299999/300000", SMALL[s:], *lines),
        declare=False,
    )
ROWS.append(
    Row(
        "range_of_an_unknown_whole_is_not_its_end",
        chunked_then(lambda t, s: partial(t, f"bytes {s}-{s + 9}/*", SMALL[s : s + 10])),
        RIGHT,
        declare=False,
    )
)
row_after_cut(
    "range_not_satisfiable",
    lambda t, s: t.head("416 Range Not Satisfiable", "Content-Range: bytes */300000", "Content-Length: 0"),
)
row_after_cut("range_not_satisfiable_without_total", lambda t, s: t.head("416 Nope", "Content-Length: 0"))
row_after_cut(
    "range_416_with_the_blobs_length",
    lambda t, s: (t.head("416 Range Not Satisfiable", "Content-Length: 300000"), t.send(b"x" * 33), t.hang()),
)
row_after_cut("object_shrank", lambda t, s: t.head("416 Nope", "Content-Range: bytes */50", "Content-Length: 0"))


@row("bad_range")
def part_although_nothing_was_resumed(talk):
    partial(talk, "bytes 0-99/300000", SMALL[:100])


@row(RIGHT)
def weak_validator_is_not_resumed(talk):
    if talk.number == 0:
        talk.head("200 OK", 'ETag: W/"one"', f"Content-Length: {len(SMALL)}")
        talk.send(SMALL[:100_000])
    elif talk.range is None:
        talk.serve(SMALL)
    else:
        talk.send(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nWRONG")


# --- codings ----------------------------------------------------------------------------------------------------------


@row("content_coded", declare=False)
def gzip_although_identity_was_asked(talk):
    ok(talk, gzip.compress(SMALL), "Content-Encoding: gzip")
    talk.send(gzip.compress(SMALL))


@row("content_coded")
def gzip_and_the_digest_is_of_the_plain_bytes(talk):
    ok(talk, gzip.compress(SMALL, mtime=0), "Content-Encoding: gzip")
    talk.send(gzip.compress(SMALL, mtime=0))


@row(RIGHT, gzip.compress(SMALL, mtime=0))
def gzip_and_the_digest_is_of_the_coded_bytes(talk):
    ok(talk, gzip.compress(SMALL, mtime=0), "Content-Encoding: gzip")
    talk.send(gzip.compress(SMALL, mtime=0))


@row("content_coded", declare=False)
def unknown_coding(talk):
    ok(talk, SMALL, "Content-Encoding: secret-sauce")
    talk.send(SMALL)


@row(RIGHT)
def coding_called_identity(talk):
    ok(talk, SMALL, "Content-Encoding: identity")
    talk.send(SMALL)


@row("malformed_answer")
def transfer_coding_gzip(talk):
    talk.head("200 OK", "Transfer-Encoding: gzip, chunked")
    talk.send(b"5\r\nhello\r\n0\r\n\r\n")


# --- statuses ---------------------------------------------------------------------------------------------------------

STATUSES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    410: "gone",
    451: "unavailable_for_legal_reasons",
    418: "client_error",
    408: "request_timeout",
    425: "too_early",
    429: "rate_limited",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
    511: "captive_portal",
    204: "unexpected_status",
    304: "unexpected_status",
    299: "unexpected_status",
}


def _status(status):
    def script(talk):
        lines = [] if status in {204, 304} else ["Content-Length: 3"]
        talk.head(f"{status} What", *lines)
        talk.send(b"" if status in {204, 304} else b"no.")

    return script


ROWS += [Row(f"status_{status}", _status(status), reason) for status, reason in STATUSES.items()]


@row("server_error")
def error_page_without_an_end(talk):
    talk.head("500 Oops", "Content-Length: 1000000")
    talk.send(b"sorry")
    talk.hang()


@row("malformed_answer")
def status_is_no_number(talk):
    talk.send(b"HTTP/1.1 OK 200\r\n\r\n")


@row("malformed_answer")
def not_http_at_all(talk):
    talk.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


@row("html_instead_of_model", declare=False)
def page_in_place_of_a_model(talk):
    page = b"<!doctype html><title>Log in</title>"
    talk.head("200 OK", "Content-Type: text/html; charset=utf-8", f"Content-Length: {len(page)}")
    talk.send(page)


@row("html_instead_of_model", declare=False)
def page_that_claims_to_be_bytes(talk):
    page = b"\n <html><title>Log in</title>"
    talk.head("200 OK", "Content-Type: application/octet-stream", f"Content-Length: {len(page)}")
    talk.send(page)


@row("html_instead_of_model", size_bytes=300_000)
def page_of_another_size_than_declared(talk):
    talk.head("200 OK", "Content-Type: text/html", "Content-Length: 5")
    talk.send(b"hello")


@row("pointer_instead_of_model", declare=False)
def pointer_of_git_lfs(talk):
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"
    ok(talk, text)
    talk.send(text)


@row("bad_range", declare=False)
def whole_that_is_a_part(talk):
    ok(talk, SMALL[:1000], "Content-Range: bytes 0-999/300000")
    talk.send(SMALL[:1000])


@row(RIGHT, declare=False)
def whole_with_its_range(talk):
    ok(talk, SMALL, "Content-Range: bytes 0-299999/300000")
    talk.send(SMALL)


@row("digest_mismatch")
def other_bytes_of_the_same_length(talk):
    ok(talk, OTHER)
    talk.send(OTHER)


@row("digest_mismatch", LARGE)
def one_bit_flipped(talk):
    ok(talk, LARGE)
    talk.send(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))


@row("digest_mismatch")
def empty_file(talk):
    ok(talk, b"")


# --- redirects --------------------------------------------------------------------------------------------------------


def redirect(talk, location, status="302 Found"):
    talk.head(status, f"Location: {location}", "Content-Length: 0")


@row(RIGHT)
def nine_redirects(talk):
    if talk.number < 9:
        redirect(talk, f"/{talk.number}")
    else:
        talk.serve(SMALL)


@row("too_many_redirects")
def redirect_loop(talk):
    redirect(talk, talk.path)


@row("malformed_answer")
def redirect_without_a_target(talk):
    talk.head("302 Found", "Content-Length: 0")


@row("unsafe_redirect")
def redirect_to_a_file(talk):
    redirect(talk, "file:///etc/passwd")


@row("unsafe_redirect")
def redirect_to_ftp(talk):
    redirect(talk, "ftp://127.0.0.1/x")


@row("unsafe_redirect")
def redirect_with_user_information(talk):
    redirect(talk, f"http://me:secret@{talk.headers['host']}/x")


@row("malformed_answer")
def redirect_to_no_url(talk):
    redirect(talk, "http://[::1/x")


@row("malformed_answer")
def redirect_of_enormous_length(talk):
    redirect(talk, "/" + "x" * 20_000)


@row("unexpected_status")
def three_hundred_choices(talk):
    talk.head("300 Multiple Choices", "Content-Length: 0")


@row(RIGHT)
def relative_redirect_with_a_query(talk):
    if talk.path == "/model.gguf":
        redirect(talk, "other?sig=1#part", "307 Temporary Redirect")
    elif talk.path == "/other?sig=1":
        talk.serve(SMALL)


# --- time -------------------------------------------------------------------------------------------------------------


@row("timeout")
def silence_after_the_request(talk):
    talk.hang()


@row("timeout")
def header_a_byte_at_a_time(talk):
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
        talk.send(bytes([byte]))
        if talk.is_over.wait(0.1):
            return


@row("timeout")
def interim_answers_without_end(talk):
    while not talk.is_over.wait(0.05):
        talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")


@row("timeout")
def header_and_no_first_byte(talk):
    ok(talk, SMALL)
    talk.hang()


@row("timeout")
def stall_in_the_middle_then_silence(talk):
    if talk.range is None:
        ok(talk, SMALL)
        talk.send(SMALL[:1000])
    talk.hang()


@row("stalled")
def a_trickle(talk):
    ok(talk, SMALL)
    for byte in SMALL:
        talk.send(bytes([byte]))
        if talk.is_over.wait(0.05):
            return


@row(RIGHT, LARGE)
def stall_once(talk):
    if talk.number == 0:
        ok(talk, LARGE)
        talk.send(LARGE[:2_500_000])
        talk.hang()
    else:
        talk.serve(LARGE)


@row("malformed_answer")
def header_without_end(talk):
    talk.send(b"HTTP/1.1 200 OK\r\n")
    for _ in range(3000):
        talk.send(b"X-Padding: " + b"x" * 90 + b"\r\n")


# --- connections ------------------------------------------------------------------------------------------------------


@row("disconnected")
def hang_up_without_an_answer(talk):
    return


@row("connection_reset")
def reset_without_an_answer(talk):
    talk.reset()


@row(RIGHT, LARGE)
def reset_in_the_middle_once(talk):
    if talk.number == 0:
        ok(talk, LARGE)
        talk.send(LARGE[:2_100_000])
        talk.is_over.wait(0.1)
        talk.reset()
    else:
        talk.serve(LARGE)


@row(RIGHT)
def kept_connection_is_closed_before_the_second_request(talk):
    """The engine fetches twice; the server announces nothing and closes."""
    talk.serve(SMALL)


@row(RIGHT)
def interim_answer_first(talk):
    talk.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    talk.serve(SMALL)


@row(RIGHT)
def cookie_is_not_kept(talk):
    assert "cookie" not in talk.headers
    if talk.number == 0:
        talk.head("302 Found", "Location: /again", "Set-Cookie: track=me; Path=/", "Content-Length: 0")
    else:
        talk.serve(SMALL)


def test_there_are_at_least_fifty_of_them():
    assert len({row.name for row in ROWS}) == len(ROWS) >= 50


WAITED_FOR = {"a_trickle", "error_page_without_an_end", "stall_in_the_middle_then_silence"}  # a second and more


def ways(rows):
    """Each by the lean way and by the library's; the default run waits once."""
    for row in rows:
        yield pytest.param(row, True, id=f"{row.name}-lean")
        marks = [pytest.mark.slow] if row.name in WAITED_FOR else []
        yield pytest.param(row, False, id=f"{row.name}-library", marks=marks)


@pytest.mark.parametrize(("row", "is_lean"), list(ways(ROWS)))
def test_right_bytes_or_a_reason_of_its_own(case, row, is_lean, monkeypatch):
    if is_lean:  # whatever the size: both ways of asking have to come to the same end
        monkeypatch.setattr("reconciler.adapters.fetch.opening.is_known_small", lambda _: True)
    began = time.monotonic()
    timeout = {"timeout_s": 0.5} if row.expect in {"timeout", "stalled"} or "stall" in row.name else {}
    more = {"digest": digest_of(row.body) if row.declare else None, **timeout, **row.more}
    case.settings["retries"] = 3
    with Faulty(row.script) as server:
        url = f"{server.url}/model.gguf"
        if row.expect == RIGHT:
            fetched = case.get(url, **more)
            assert case.target.read_bytes() == row.body
            assert (fetched.digest, fetched.size_bytes) == (digest_of(row.body), len(row.body))
            assert case.left in (["file"], *([] if row.declare else [["file", "file.json"]]))
        else:
            failure = case.fail(url, **more)
            assert failure.reason == row.expect, failure.message
            assert case.left in ([], ["file", "file.json"])
        case.engine.close()
    assert time.monotonic() - began < DEADLINE_S


@pytest.mark.parametrize("size", [None, 1000])  # by the library, and past it
def test_no_socket_to_be_had_is_a_reason_of_its_own(case, monkeypatch, size):
    def refuse(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("reconciler.adapters.fetch.dial.socket.socket", refuse)
    failure = case.fail("http://127.0.0.1:9/model.gguf", size_bytes=size)
    assert (failure.kind.value, failure.reason) == ("transient", "too_many_files")
