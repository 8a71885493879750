"""Small files that are fetched at once and may be held: one request, the right bytes or a reason, then durable."""

import contextlib
import errno
import gzip
import os
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from faulty import Faulty
from fetching import Case, digest_of, make_bytes
from origin import serving
from sampling import others_slow

from reconciler.adapters.fetch import Engine, Settings, lean
from reconciler.adapters.fetch.download import Download
from reconciler.adapters.fetch.limiter import Limiter
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.record import CHUNK_BYTES, Header, Record
from reconciler.adapters.fetch.slots import Connections
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.ports import FetchRequest, Location

BODY = make_bytes(5000)
OTHER = make_bytes(5000, seed=2)
PACKED = gzip.compress(BODY, mtime=0)
PAGE = b"<!doctype html><title>Log in</title>"
RIGHT = "right"
SECRET = (("Authorization", "Bearer hush"), ("X-Key", "hush"))


def message(body, *lines, status="200 OK"):
    """A whole answer, to be sent by one call."""
    head = "\r\n".join([f"HTTP/1.1 {status}", 'ETag: "one"', f"Content-Length: {len(body)}", *lines])
    return f"{head}\r\n\r\n".encode("latin-1") + body


def at_once(body, *lines, status="200 OK"):
    """Answer with head and body in one piece, over a connection that stays open."""

    def script(talk):
        talk.keep_alive = True
        talk.send(message(body, *lines, status=status))

    return script


def known(body=BODY, **more):
    return {"digest": digest_of(body), "size_bytes": len(body), "may_hold": True, **more}


def settle(fetched):
    """As the caller does, who makes it a blob."""
    if fetched.held is not None:
        fetched.held.begin()
        fetched.held.settle()
    return fetched


def open_files(path):
    """How many descriptors of this process are open on ``path``, also where it was removed since."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").removesuffix(" (deleted)") == str(path)
    return found


def is_locked(path):
    """Whether somebody holds the lock of the file that lies there now."""
    is_held = threading.Event()

    def held():
        is_held.set()
        stop.set()

    stop = threading.Event()
    with contextlib.suppress(Failure):  # that it was stopped
        Partial.open(str(path), stop, held).close()
    return is_held.is_set()


def connections(case):
    """How many connections the engine counts as open."""
    return sum(case.engine._tools.connections._open.values())


def check_nothing_is_held(case):
    slots = case.engine._tools.slots
    assert slots._free == slots._places
    assert connections(case) == 0
    assert open_files(case.target) == 0


class Raising(list):
    def append(self, frame):
        raise ZeroDivisionError


class Late:
    """Answers when it may."""

    def __init__(self, answer):
        self.answer, self.is_asked, self.may_answer = answer, threading.Event(), threading.Event()

    def __call__(self, talk):
        self.is_asked.set()
        self.may_answer.wait(30)
        talk.send(self.answer)


class Frames(list):
    """The frames of one fetch; tells when it waits for whoever has the file."""

    def __init__(self):
        super().__init__()
        self.is_waiting = threading.Event()

    def append(self, frame):
        super().append(frame)
        if frame.stage == "waiting":
            self.is_waiting.set()


@pytest.fixture
def syncs(monkeypatch):
    """The inodes that were synced, one by one."""
    done, sync = [], os.fdatasync

    def spy(descriptor):
        done.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", spy)
    return done


@pytest.fixture
def judged(monkeypatch):
    """The places that had to be gone to by the general way."""
    labels, run = [], Download.run

    def spy(self, location):
        labels.append(location.label)
        return run(self, location)

    monkeypatch.setattr(Download, "run", spy)
    return labels


@pytest.fixture
def second(case):
    """Another engine that works on the same target."""
    made = Case(case.folder)
    yield made
    if made.engine is not None:
        made.engine.close()


@pytest.fixture
def pool(case, second):
    """Threads of their own for fetches that wait; they are stopped with the test, however it ends."""
    with ThreadPoolExecutor(2) as made:
        yield made
        case.cancel.set()
        second.cancel.set()


# --- the plain case


def test_a_small_file_comes_with_one_request_and_is_held(case, judged):
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a?sig=1", **known())
        assert len(server.seen) == 1
        assert case.engine.client._made is None
    assert judged == []
    assert (fetched.digest, fetched.size_bytes, fetched.received_bytes) == (digest_of(BODY), 5000, 5000)
    assert (fetched.source, fetched.revision) == (f"{server.url}/a", '"one"')
    assert fetched.content == BODY
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]
    assert connections(case) == 0
    fetched.held.settle()
    check_nothing_is_held(case)


def test_a_measured_size_is_as_good_as_a_declared_one(case, judged):
    with Faulty(at_once(BODY)) as server:
        assert case.get(f"{server.url}/a", digest=digest_of(BODY), expected_bytes=5000, may_hold=True).held
        assert len(server.seen) == 1
    assert judged == []


@pytest.mark.parametrize("limit", [0, 4999])
def test_what_there_is_no_room_for_is_not_taken(case, limit):
    more = {"size_bytes": None, "expected_bytes": 5000, "limit_bytes": limit}
    with Faulty(at_once(BODY)) as server:
        assert case.fail(f"{server.url}/a", **known(**more)).reason == "too_large"
    assert case.left == []
    check_nothing_is_held(case)


def test_progress_begins_with_connecting_and_ends_with_done(case):
    with Faulty(at_once(BODY)) as server:
        case.get(f"{server.url}/a", **known())
        first, last = case.frames[0], case.frames[-1]
        assert (first.stage, first.done_bytes, first.total_bytes) == ("connecting", 0, 5000)
        assert (last.stage, last.done_bytes, last.total_bytes) == ("done", 5000, 5000)
        assert {frame.source for frame in case.frames} == {f"{server.url}/a"}


def test_what_is_held_is_synced_and_closed_by_settling_alone(case, syncs):
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known())
    inode = case.target.stat().st_ino
    fetched.held.begin()
    assert syncs == []
    assert open_files(case.target) == 1
    assert is_locked(case.target)
    fetched.held.settle()
    assert syncs == [inode]
    assert open_files(case.target) == 0
    assert not is_locked(case.target)
    assert case.target.read_bytes() == BODY


@pytest.mark.parametrize("more", [{}, {"accepts_newer": True}, {"digest": None}])
def test_what_may_not_be_held_is_synced_when_it_comes(case, syncs, more):
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known() | {"may_hold": False} | more)
        assert len(server.seen) == 1
    assert fetched.held is None
    assert (fetched.digest, bytes(fetched.content)) == (digest_of(BODY), BODY)
    assert case.target.stat().st_ino in syncs
    check_nothing_is_held(case)


@pytest.mark.parametrize("digest", [digest_of(BODY), digest_of(OTHER), None])
def test_an_object_that_may_be_newer_is_judged_and_held(case, judged, digest):
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known() | {"digest": digest, "accepts_newer": True})
        assert len(server.seen) == 1
    assert judged == [f"{server.url}/a"]
    assert fetched.digest == digest_of(BODY)
    settle(fetched)
    assert case.target.read_bytes() == BODY
    check_nothing_is_held(case)


def test_another_engine_waits_until_it_is_settled_and_asks_for_nothing(case, second, pool):
    second.frames = Frames()
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known())
        waiting = pool.submit(second.get, f"{server.url}/a", **known())
        assert second.frames.is_waiting.wait(30)
        assert not waiting.done()
        fetched.held.settle()
        other = waiting.result(30)
        assert len(server.seen) == 1
    assert (other.digest, other.received_bytes, other.held) == (digest_of(BODY), 0, None)


def test_another_engine_that_waits_can_be_stopped(case, second, pool):
    second.frames = Frames()
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known())
        waiting = pool.submit(second.fail, f"{server.url}/a", **known())
        assert second.frames.is_waiting.wait(30)
        second.cancel.set()
        assert waiting.result(30).reason == "cancelled"
        assert len(server.seen) == 1
    settle(fetched)
    assert case.target.read_bytes() == BODY


def test_who_waited_for_a_file_that_was_moved_away_is_told_so(case, second, pool):
    second.frames = Frames()
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known())
        waiting = pool.submit(second.fail, f"{server.url}/a", **known())
        assert second.frames.is_waiting.wait(30)
        case.target.rename(case.folder / "blob")
        fetched.held.settle()
        failure = waiting.result(30)
        assert len(server.seen) == 1
    assert (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "fetched_elsewhere")
    assert failure.retry_after_s == 0.0
    assert case.left == ["blob"]


# --- every answer comes to the same end, whether the file may be held or not


@dataclass
class Row:
    name: str
    script: object
    expect: str  # RIGHT or a reason
    requests: int = 1
    body: bytes = BODY
    is_held: bool = True  # where it may be
    more: dict = field(default_factory=dict)


ROWS: list[Row] = []


def row(expect, *, requests=1, is_held=True):
    def keep(script):
        ROWS.append(Row(script.__name__, script, expect, requests, is_held=is_held))
        return script

    return keep


def row_at_once(name, expect, sent, *lines, status="200 OK", body=BODY, **more):
    ROWS.append(Row(name, at_once(sent, *lines, status=status), expect, 1, body, bool(body), more))


row_at_once("the_right_bytes", RIGHT, BODY)
row_at_once("other_bytes_of_the_same_length", "digest_mismatch", OTHER)
row_at_once("a_byte_less_than_declared", "size_mismatch", BODY[:-1])
row_at_once("a_byte_more_than_declared", "size_mismatch", BODY + b"x")
row_at_once("a_byte_less_than_measured", "digest_mismatch", BODY[:-1], size_bytes=None, expected_bytes=5000)
row_at_once("measured_when_it_was_longer", RIGHT, BODY, size_bytes=None, expected_bytes=6000)
row_at_once("nothing_where_something_was_declared", "size_mismatch", b"")
row_at_once("an_empty_file", RIGHT, b"", body=b"")
row_at_once("something_where_nothing_was_declared", "size_mismatch", b"x", body=b"")
row_at_once("a_page_of_another_size", "html_instead_of_model", PAGE, "Content-Type: text/html; charset=utf-8")
row_at_once("a_page_of_the_same_size", "html_instead_of_model", PAGE.ljust(5000), "Content-Type: text/html")
row_at_once("the_right_bytes_called_a_page", RIGHT, BODY, "Content-Type: text/html")
row_at_once("coded_although_nobody_asked", "content_coded", PACKED, "Content-Encoding: gzip")
row_at_once("coded_and_of_the_same_length", "content_coded", OTHER, "Content-Encoding: br")
row_at_once("the_coded_bytes_are_the_right_ones", RIGHT, PACKED, "Content-Encoding: gzip", body=PACKED)
row_at_once("a_coding_called_identity", RIGHT, BODY, "Content-Encoding: identity")
row_at_once("a_connection_that_says_it_closes", RIGHT, BODY, "Connection: close")
row_at_once("a_whole_with_its_range", RIGHT, BODY, "Content-Range: bytes 0-4999/5000")
row_at_once("a_weak_validator", RIGHT, BODY, "ETag: W/x")
for _status, _reason in {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    410: "gone",
    416: "client_error",
    429: "rate_limited",
    451: "unavailable_for_legal_reasons",
    500: "server_error",
    503: "server_error",
    511: "captive_portal",
    203: "unexpected_status",
}.items():
    row_at_once(f"status_{_status}", _reason, b"no.", status=f"{_status} What")
    row_at_once(f"status_{_status}_with_the_right_bytes", _reason, BODY, status=f"{_status} What")


@row(RIGHT, is_held=False)  # nobody tells how long it is: it may be large
def chunked(talk):
    talk.head("200 OK", "Transfer-Encoding: chunked")
    talk.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))


@row("digest_mismatch")
def chunked_and_wrong(talk):
    talk.head("200 OK", "Transfer-Encoding: chunked")
    talk.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(OTHER), OTHER))


@row(RIGHT, is_held=False)
def until_the_end(talk):
    talk.send(b"HTTP/1.0 200 OK\r\n\r\n" + BODY)


@row(RIGHT)
def an_early_hint_first(talk):
    talk.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + message(BODY))


@row("malformed_answer")
def two_lengths(talk):
    talk.send(message(BODY, "Content-Length: 5001"))


@row("unexpected_status")
def nothing_to_send(talk):
    talk.head("204 No Content")


@row("not_found")
def an_error_in_two_parts(talk):
    talk.head("404 No", "Content-Length: 3")
    talk.is_over.wait(0.02)
    talk.send(b"no.")


@row(RIGHT)
def two_parts_right_behind_one_another(talk):
    whole = message(BODY)
    talk.send(whole[:-3000])
    talk.send(whole[-3000:])


@row(RIGHT)
def head_and_body_apart(talk):
    talk.serve(BODY)


@row(RIGHT)
def a_second_part_that_takes_its_time(talk):
    whole = message(BODY)
    talk.send(whole[:-3000])
    talk.is_over.wait(0.05)
    talk.send(whole[-3000:])


@row("digest_mismatch")
def a_wrong_second_part_that_takes_its_time(talk):
    whole = message(OTHER)
    talk.send(whole[:-3000])
    talk.is_over.wait(0.05)
    talk.send(whole[-3000:])


@row(RIGHT)
def a_byte_after_the_other(talk):
    whole = message(BODY)
    talk.send(whole[:-20])
    for byte in whole[-20:]:
        talk.send(bytes([byte]))
        talk.is_over.wait(0.003)


@row(RIGHT)
def surplus_in_the_same_piece(talk):
    talk.keep_alive = True
    talk.send(message(BODY) + b"and more")


@row("digest_mismatch")
def surplus_after_other_bytes(talk):
    talk.send(message(OTHER) + b"and more")


@row(RIGHT, requests=2)
def cut_off_once(talk):
    if talk.number:
        talk.serve(BODY)
    else:
        talk.send(message(BODY)[:-3000])


@row("truncated", requests=2)
def cut_off_again_and_again(talk):
    if not talk.number:
        talk.send(message(BODY)[:-3000])
    else:  # the rest that is asked for never comes
        talk.head("206 Part", 'ETag: "one"', "Content-Range: bytes 2000-4999/5000", "Content-Length: 3000")


@row("truncated")
def cut_off_before_the_first_byte(talk):
    talk.head("200 OK", "Content-Length: 5000")


@row("disconnected")
def hung_up_without_a_word(talk):
    return


@row("malformed_answer")
def no_http_at_all(talk):
    talk.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


@row(RIGHT, requests=2)
def redirected_within_the_origin(talk):
    talk.keep_alive = True
    if talk.path == "/model.gguf":
        talk.head("302 Found", "Location: /there", "Content-Length: 0")
    else:
        talk.send(message(BODY))


@row("digest_mismatch", requests=2)
def redirected_to_other_bytes(talk):
    if talk.path == "/model.gguf":
        talk.head("302 Found", "Location: /there", "Content-Length: 0")
    else:
        talk.send(message(OTHER))


@row("unsafe_redirect")
def redirected_to_a_file(talk):
    talk.head("302 Found", "Location: file:///etc/passwd", "Content-Length: 0")


@row("malformed_answer")
def redirected_nowhere(talk):
    talk.head("302 Found", "Content-Length: 0")


def check_row(case, server, row, syncs, **more):
    """One row comes to its end, with as many requests as it takes."""
    url, more = f"{server.url}/model.gguf", {**known(row.body), **row.more, **more}
    if row.expect == RIGHT:
        fetched = case.get(url, **more)
        assert (fetched.digest, fetched.size_bytes) == (digest_of(row.body), len(row.body))
        assert fetched.content in (None, row.body)
        assert (fetched.held is not None) <= more["may_hold"]
        if more["may_hold"] and row.is_held:
            assert fetched.held is not None
        assert (case.target.stat().st_ino in syncs) == (fetched.held is None)
        assert is_locked(case.target) == (fetched.held is not None)
        settle(fetched)
        assert case.target.stat().st_ino in syncs
        assert case.target.read_bytes() == row.body
        assert case.left == ["file"]
    else:
        failure = case.fail(url, **more)
        assert failure.reason == row.expect, failure.message
        assert case.left in ([], ["file", "file.json"])
    assert len(server.seen) == row.requests
    check_nothing_is_held(case)


@pytest.mark.parametrize("may_hold", others_slow(True, False))
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_one_answer_decides(case, syncs, row, may_hold):
    case.settings["retries"] = 3
    with Faulty(row.script) as server:
        check_row(case, server, row, syncs, may_hold=may_hold)


@pytest.mark.parametrize("status", ["429 Slow down", "503 Busy"])
def test_how_long_to_wait_is_told(case, status):
    with Faulty(at_once(b"", "Retry-After: 7", status=status)) as server:
        failure = case.fail(f"{server.url}/a", **known())
        assert (failure.kind, failure.retry_after_s) == (FailureKind.TRANSIENT, 7.0)
        assert len(server.seen) == 1
    assert case.left == []


def test_a_part_that_nobody_asked_for_is_never_used(case):
    counts = []
    for may_hold in (True, False):
        with Faulty(at_once(BODY[:100], "Content-Range: bytes 0-99/5000", status="206 Part")) as server:
            assert case.fail(f"{server.url}/a", **known() | {"may_hold": may_hold}).reason == "bad_range"
            assert {talk.headers.get("range") for talk in server.seen} == {None}
            counts.append(len(server.seen))
    assert counts[0] == counts[1]
    assert case.left == []
    check_nothing_is_held(case)


def resetting(case, monkeypatch, *, is_once):
    """Hangs up with a reset in the middle of a body, once the client has read the head; later asks are served."""
    has_head, made = threading.Event(), lean.Reply.__init__

    def spy(self, *arguments):
        made(self, *arguments)
        has_head.set()

    def script(talk):
        if talk.number and is_once:
            talk.serve(BODY)
            return
        if not talk.number:
            talk.send(message(BODY)[:-3000])
        else:
            talk.head("206 Part", 'ETag: "one"', "Content-Range: bytes 2000-4999/5000", "Content-Length: 3000")
        if has_head.wait(30):
            talk.reset()

    monkeypatch.setattr(lean.Reply, "__init__", spy)
    return Faulty(script)


def test_a_reset_in_the_middle_costs_one_more_request_for_the_rest(case, monkeypatch):
    with resetting(case, monkeypatch, is_once=True) as server:
        fetched = settle(case.get(f"{server.url}/a", **known()))
        assert server.ranges == ["", "bytes=2000-"]
    assert fetched.received_bytes == 5000
    assert case.target.read_bytes() == BODY
    check_nothing_is_held(case)


def test_resets_without_end_are_transient_and_what_came_is_kept(case, monkeypatch):
    with resetting(case, monkeypatch, is_once=False) as server:
        failure = case.fail(f"{server.url}/a", **known())
        assert len(server.seen) == 2
    assert failure.kind is FailureKind.TRANSIENT
    assert failure.reason in {"connection_reset", "truncated"}
    assert case.left == ["file", "file.json"]
    check_nothing_is_held(case)
    case.restart()
    with Faulty(lambda talk: talk.serve(BODY)) as server:  # another place: what is here is of no use
        settle(case.get(f"{server.url}/a", **known()))
        assert len(server.seen) == 1
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]


def test_a_reset_while_it_is_looked_for_the_rest_is_told_as_one(case, monkeypatch):
    looks, has_looked = lean.is_readable, threading.Event()

    def looking(sock, within_ms=0):
        if not within_ms:
            return looks(sock)
        has_looked.set()
        return looks(sock, 30_000)

    def script(talk):
        talk.send(message(BODY)[:-3000])
        if has_looked.wait(30):
            talk.reset()

    monkeypatch.setattr(lean, "is_readable", looking)
    case.restart(retries=0, breaker_failures=1)
    with Faulty(script) as server:
        assert case.fail(f"{server.url}/a", **known()).reason == "connection_reset"
        assert case.fail(f"{server.url}/a", **known()).reason == "host_failing"
    check_nothing_is_held(case)


def test_what_was_cut_off_is_gone_on_with_later(case):
    def cut(talk):
        talk.send(message(BODY)[:-3000] if talk.range is None else b"")

    with Faulty(cut) as server:
        url = f"{server.url}/a"
        case.fail(url, **known())
        assert case.left == ["file", "file.json"]
        server.seen.clear()
        server.script = lambda talk: talk.serve(BODY)
        fetched = settle(case.get(url, **known()))
        assert server.ranges == ["bytes=2000-"]
    assert fetched.received_bytes == 3000
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]


def test_secrets_stay_with_their_host_over_a_redirect(case, judged):
    with Faulty(at_once(BODY), address="127.0.0.2") as other:
        script = lambda talk: talk.head("302 Found", f"Location: {other.url}/there", "Content-Length: 0")  # noqa: E731
        with Faulty(script) as server:
            fetched = case.get(f"{server.url}/a", headers=SECRET, **known())
        assert [talk.headers.get("x-key") for talk in server.seen] == ["hush"]
        assert len(other.seen) == 1
        assert not {"authorization", "x-key"} & set(other.seen[0].headers)
    assert judged == []
    assert fetched.source == f"{server.url}/a"
    settle(fetched)


def test_a_page_at_another_host_is_a_log_in(case):
    with Faulty(at_once(PAGE, "Content-Type: text/html"), address="127.0.0.2") as other:
        script = lambda talk: talk.head("302 Found", f"Location: {other.url}/login", "Content-Length: 0")  # noqa: E731
        with Faulty(script) as server:
            assert case.fail(f"{server.url}/a", **known()).reason == "captive_portal"
            assert (len(server.seen), len(other.seen)) == (1, 1)
    assert case.left == []


def test_a_redirect_to_a_narrower_scope_is_refused(case, monkeypatch):
    monkeypatch.setattr("reconciler.adapters.fetch.client.Client._scope_of", lambda *_: 2)  # as if it were public
    with Faulty(at_once(BODY)) as inner:
        script = lambda talk: talk.head("302 Found", f"Location: {inner.url}/a", "Content-Length: 0")  # noqa: E731
        with Faulty(script) as server:
            assert case.fail(f"{server.url}/a", **known()).reason == "unsafe_redirect"
            assert len(server.seen) == 1
        assert inner.seen == []
    assert case.left == []
    check_nothing_is_held(case)


# --- connections


def get_both(case, server):
    """Two files, one after the other; the sockets they came over, as the server saw them."""
    settle(case.get(f"{server.url}/one", **known()))
    case.target = case.folder / "other"
    settle(case.get(f"{server.url}/two", **known(OTHER)))
    assert (case.folder / "file").read_bytes() == BODY
    assert case.target.read_bytes() == OTHER
    return [talk.sock for talk in server.seen]


def of_path(talk):
    return BODY if talk.path == "/one" else OTHER


def test_files_that_are_held_share_a_connection(case):
    def script(talk):
        talk.keep_alive = True
        talk.send(message(of_path(talk)))

    with Faulty(script) as server:
        first, second = get_both(case, server)
        assert first is second


def test_a_connection_is_used_again_after_a_wrong_file(case):
    with Faulty(at_once(OTHER)) as server:
        case.fail(f"{server.url}/a", **known())
        settle(case.get(f"{server.url}/b", **known(OTHER)))
        first, second = (talk.sock for talk in server.seen)
        assert first is second


def test_a_connection_with_surplus_bytes_is_not_used_again(case):
    def script(talk):
        talk.keep_alive = True
        talk.send(message(of_path(talk)) + message(b"x" * 5000))  # smuggled for the next one

    with Faulty(script) as server:
        first, second = get_both(case, server)
        assert len(server.seen) == 2
        assert first is not second


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_failure(case):
    with Faulty(lambda talk: talk.send(message(of_path(talk)))) as server:  # announces nothing and hangs up
        get_both(case, server)
        assert [talk.path for talk in server.seen] == ["/one", "/two"]


def test_a_kept_connection_that_closes_as_it_is_asked_is_replaced_once(case):
    known_socks = []

    def script(talk):
        talk.keep_alive = talk.sock not in known_socks
        if talk.keep_alive:
            known_socks.append(talk.sock)
            talk.send(message(of_path(talk)))

    with Faulty(script) as server:
        get_both(case, server)
        assert [talk.path for talk in server.seen] == ["/one", "/two", "/two"]
    check_nothing_is_held(case)


def test_a_host_that_fails_is_not_asked_again_at_once(case):
    case.settings |= {"breaker_failures": 1, "breaker_pause_s": 600.0}
    with Faulty(at_once(b"", status="503 Busy")) as server:
        assert case.fail(f"{server.url}/a", **known()).reason == "server_error"
        assert case.fail(f"{server.url}/a", **known()).reason == "host_failing"
        assert len(server.seen) == 1
    assert case.left == []
    check_nothing_is_held(case)


def test_a_host_that_has_all_its_connections_is_waited_for(case, pool, monkeypatch):
    case.engine = Engine(Settings(host_connections=1))
    is_asked, may_answer, is_waiting = threading.Event(), threading.Event(), threading.Event()
    take = Connections.take

    def spy(self, origin, cancel):
        is_waiting.set()
        take(self, origin, cancel)

    def script(talk):
        if talk.path == "/one":
            is_asked.set()
            may_answer.wait(30)
        talk.send(message(of_path(talk)))

    monkeypatch.setattr(Connections, "take", spy)
    with Faulty(script) as server:
        first = pool.submit(case.get, f"{server.url}/one", **known())
        assert is_asked.wait(30)
        case.target = case.folder / "other"
        waiting = pool.submit(case.get, f"{server.url}/two", **known(OTHER))
        assert is_waiting.wait(30)
        assert len(server.seen) == 1
        may_answer.set()
        settle(first.result(30))
        settle(waiting.result(30))
        assert [talk.path for talk in server.seen] == ["/one", "/two"]
    check_nothing_is_held(case)


def test_many_files_at_once_are_asked_for_once_each(case):
    bodies = {f"/{number}": make_bytes(200 + 997 * number, seed=number) for number in range(40)}
    with serving() as origin:
        origin.files |= bodies
        case.get(f"{origin.url}/0", **known(bodies["/0"])).held.settle()
        engine = case.engine

        def work(path):
            one = Case(case.folder)
            one.engine, one.target = engine, case.folder / f"file{path[1:]}"
            return one.get(f"{origin.url}{path}", **known(bodies[path]))

        with ThreadPoolExecutor(8) as pool:
            fetched = list(pool.map(work, bodies))
        assert all(one.held for one in fetched)
        assert Counter(origin.asked()) == Counter(["/0", *bodies])
        for one in fetched:
            one.held.begin()
        for one in fetched:
            one.held.settle()
    for path, body in bodies.items():
        assert (case.folder / f"file{path[1:]}").read_bytes() == body
    check_nothing_is_held(case)


# --- sizes


@pytest.mark.parametrize("size", [1, 4096, 60_000, 70_000, 200_000, CHUNK_BYTES - 1, CHUNK_BYTES])
def test_a_file_of_up_to_a_mebibyte_is_held(case, syncs, size):
    body = make_bytes(size, seed=size)
    with Faulty(at_once(body)) as server:
        fetched = case.get(f"{server.url}/a", **known(body))
        assert len(server.seen) == 1
    assert fetched.content == body
    assert case.target.read_bytes() == body
    assert syncs == []
    fetched.held.settle()
    assert syncs == [case.target.stat().st_ino]
    check_nothing_is_held(case)


def test_a_file_of_one_byte_more_is_synced_when_it_comes(case, syncs):
    body = make_bytes(CHUNK_BYTES + 1)
    with Faulty(at_once(body)) as server:
        fetched = case.get(f"{server.url}/a", **known(body))
        assert len(server.seen) == 1
    assert fetched.held is None
    assert case.target.read_bytes() == body
    assert case.target.stat().st_ino in syncs
    assert case.left == ["file"]
    check_nothing_is_held(case)


# --- what is there already


def make_record(target, url, body=BODY, *, digest=None, lines=()):
    """A record as an earlier process may have left it."""
    record = Record(str(target))
    record.begin(Header(url, '"one"', len(body), digest or digest_of(body)))
    record.add(lines)
    record.close()


RECORDS = {
    "none": None,
    "of nothing": lambda case, url: make_record(case.target, url),
    "of another file": lambda case, url: make_record(case.target, url, digest=digest_of(OTHER)),
    "of another place": lambda case, url: make_record(case.target, "http://elsewhere/a"),
    "of bytes that are not there": lambda case, url: make_record(
        case.target, url, lines=[("t", 2000, "0" * 32), ("c", 7, "0" * 64)]
    ),
    "garbage": lambda case, url: (case.folder / "file.json").write_bytes(b'{"url": \xff\n["p", 0]\n'),
    "empty": lambda case, url: (case.folder / "file.json").write_bytes(b""),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_without_its_file_is_gone_afterwards(case, judged, name):
    with Faulty(at_once(BODY)) as server:
        if RECORDS[name]:
            RECORDS[name](case, f"{server.url}/a")
        fetched = case.get(f"{server.url}/a", **known())
        assert server.ranges == [""]
    assert judged == []
    assert case.left == ["file"]
    settle(fetched)
    assert case.target.read_bytes() == BODY


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_without_its_file_is_gone_after_a_failure_too(case, name):
    with Faulty(at_once(OTHER)) as server:
        if RECORDS[name]:
            RECORDS[name](case, f"{server.url}/a")
        assert case.fail(f"{server.url}/a", **known()).reason == "digest_mismatch"
        assert server.ranges == [""]
    assert case.left == []
    check_nothing_is_held(case)


@pytest.mark.parametrize("name", ["none", "of another file", "of another place", "garbage", "empty"])
def test_a_whole_file_that_is_there_is_not_asked_for(case, syncs, name):
    case.target.write_bytes(BODY)
    with Faulty(at_once(BODY)) as server:
        if RECORDS[name]:
            RECORDS[name](case, f"{server.url}/a")
        fetched = case.get(f"{server.url}/a", **known())
        assert server.seen == []
    assert (fetched.digest, fetched.size_bytes, fetched.received_bytes) == (digest_of(BODY), 5000, 0)
    assert fetched.held is None
    assert case.target.stat().st_ino in syncs
    assert case.left == ["file"]
    check_nothing_is_held(case)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("there", [OTHER, BODY[:2000], BODY + b"x", b"\0"], ids=["other", "part", "longer", "a byte"])
def test_a_wrong_file_that_is_there_is_replaced_by_one_request(case, name, there):
    case.target.write_bytes(there)
    with Faulty(at_once(BODY)) as server:
        if RECORDS[name]:
            RECORDS[name](case, f"{server.url}/a")
        fetched = case.get(f"{server.url}/a", **known())
        assert server.ranges == [""]
    assert fetched.held
    assert is_locked(case.target)
    settle(fetched)
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]
    check_nothing_is_held(case)


def test_an_empty_file_that_is_there_is_as_none(case, judged):
    case.target.touch()
    with Faulty(at_once(BODY)) as server:
        settle(case.get(f"{server.url}/a", **known()))
        assert len(server.seen) == 1
    assert judged == []
    assert case.target.read_bytes() == BODY


def test_a_file_that_only_takes_room_is_written_over(case):
    with case.target.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 16)
    with Faulty(at_once(BODY)) as server:
        settle(case.get(f"{server.url}/a", **known()))
        assert len(server.seen) == 1
    assert case.target.read_bytes() == BODY


# --- limits and stops


def test_a_limited_file_takes_the_general_way(case, judged):
    case.settings["bandwidth_bytes"] = 1 << 20
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known())
        assert len(server.seen) == 1
    assert judged == [f"{server.url}/a"]
    assert fetched.held
    settle(fetched)
    assert case.target.read_bytes() == BODY


def test_a_limit_may_come_and_go(case, judged):
    with Faulty(at_once(BODY)) as server:
        url = f"{server.url}/a"
        for limit, way in ((None, []), (1 << 20, [url]), (None, [])):
            judged.clear()
            if case.engine is not None:
                case.engine.adjust(bandwidth_bytes=limit, files=8, processes=1, ask_timeout_s=30.0)
            settle(case.get(url, **known()))
            assert judged == way
            case.target.unlink()
        assert len(server.seen) == 3


def test_a_limited_file_stops_when_it_is_cancelled_and_keeps_what_came(case, monkeypatch):
    body, take = make_bytes(600_000), Limiter.take
    case.settings["bandwidth_bytes"] = 20_000  # half a minute

    def cancelled(self, count, cancel):
        cancel.set()
        take(self, count, cancel)

    with Faulty(lambda talk: talk.serve(body)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Limiter, "take", cancelled)
            assert case.fail(f"{server.url}/a", **known(body)).reason == "cancelled"
        assert len(server.seen) == 1
        assert case.left == ["file", "file.json"]
        check_nothing_is_held(case)
        case.restart(bandwidth_bytes=None)
        case.cancel.clear()
        fetched = settle(case.get(f"{server.url}/a", **known(body)))
        assert server.seen[1].range[0] > 0
    assert fetched.received_bytes < len(body)
    assert case.target.read_bytes() == body
    assert case.left == ["file"]


def test_what_is_cancelled_before_it_begins_asks_for_nothing(case):
    case.cancel.set()
    with Faulty(at_once(BODY)) as server:
        failure = case.fail(f"{server.url}/a", **known())
        assert server.seen == []
    assert (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "cancelled")
    assert case.left == []
    check_nothing_is_held(case)


def test_what_is_cancelled_while_it_waits_for_the_answer_leaves_nothing(case):
    def script(talk):
        case.cancel.set()
        talk.hang()

    with Faulty(script) as server:
        assert case.fail(f"{server.url}/a", timeout_s=60.0, **known()).reason == "cancelled"
        assert len(server.seen) == 1
    assert case.left == []
    check_nothing_is_held(case)


def test_what_is_cancelled_in_the_middle_keeps_what_came(case):
    def script(talk):
        talk.send(message(BODY)[:-3000])
        talk.is_over.wait(0.05)
        case.cancel.set()
        talk.hang()

    with Faulty(script) as server:
        url = f"{server.url}/a"
        assert case.fail(url, timeout_s=60.0, **known()).reason == "cancelled"
        assert len(server.seen) == 1
        assert case.left in ([], ["file", "file.json"])  # the head may have come too late
        check_nothing_is_held(case)
        case.cancel.clear()
        server.script = lambda talk: talk.serve(BODY)
        settle(case.get(url, **known()))
        assert len(server.seen) == 2
    assert case.target.read_bytes() == BODY


def test_an_answer_that_nobody_goes_on_with_is_closed(case, monkeypatch):
    has_hung_up = threading.Event()

    def script(talk):
        talk.send(message(BODY)[:-3000])
        if not talk.sock.recv(1):
            has_hung_up.set()

    def stop(*_):
        raise Failure(FailureKind.TRANSIENT, "cancelled", "stopped while looking at what is here")

    monkeypatch.setattr(Download, "take_up", stop)
    with Faulty(script) as server:
        failure = case.fail(f"{server.url}/a", **known())
        assert failure.reason == "cancelled"
        assert has_hung_up.wait(30)
        assert len(server.seen) == 1
    assert case.left == []
    check_nothing_is_held(case)


def test_answers_that_are_waited_for_count_as_connections(case, tmp_path):
    """Twelve files at once, three connections: no more requests than that are under way at any moment."""
    guard, under_way, most = threading.Lock(), [0], [0]

    def script(talk):
        with guard:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        talk.send(message(BODY)[:-3000])
        time.sleep(0.02)  # the head has come alone: the file goes the long way
        with guard:
            under_way[0] -= 1
        talk.send(message(BODY)[-3000:])

    case.settings |= {"host_connections": 3, "files": 12}
    case.engine = Engine(Settings(**case.settings))
    with Faulty(script) as server, ThreadPoolExecutor(12) as pool:

        def fetch(number):
            location = Location(f"{server.url}/{number}", "label", ())
            request = FetchRequest(
                "m", path="a", locations=(location,), target=str(tmp_path / f"file-{number}"), timeout_s=5.0, **known()
            )
            settle(case.engine.fetch(request, case.frames.append, case.cancel))

        list(pool.map(fetch, range(24)))
        assert len(server.seen) == 24
    assert most[0] == 3
    check_nothing_is_held(case)


def test_silence_ends_in_time(case):
    with Faulty(lambda talk: talk.hang()) as server:
        assert case.fail(f"{server.url}/a", timeout_s=0.3, **known()).reason == "timeout"
        assert len(server.seen) == 1
    assert case.left == []
    check_nothing_is_held(case)


# --- several places

BAD_PLACES = {
    "absent": at_once(b"no", status="404 No"),
    "failing": at_once(b"no", status="500 Oops"),
    "busy": at_once(b"no", "Retry-After: 300", status="429 Slow down"),
    "other bytes": at_once(OTHER),
    "another length": at_once(BODY[:-1]),
    "a page": at_once(PAGE, "Content-Type: text/html"),
    "coded": at_once(PACKED, "Content-Encoding: gzip"),
    "silent": lambda talk: None,
    "no http": lambda talk: talk.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
}


@pytest.mark.parametrize("name", BAD_PLACES)
def test_the_second_place_is_asked_where_the_first_one_fails(case, syncs, name):
    with Faulty(BAD_PLACES[name]) as bad, Faulty(at_once(BODY)) as good:
        fetched = case.get(f"{bad.url}/a", f"{good.url}/b", **known())
        assert (len(bad.seen), len(good.seen)) == (1, 1)
    assert fetched.source == f"{good.url}/b"
    assert syncs == []
    fetched.held.settle()
    assert syncs == [case.target.stat().st_ino]
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]
    check_nothing_is_held(case)


def test_a_first_place_that_is_not_there_costs_nothing(case):
    with Faulty(at_once(BODY)) as good:
        fetched = settle(case.get("http://127.0.0.1:1/a", f"{good.url}/b", **known()))
        assert len(good.seen) == 1
    assert fetched.source == f"{good.url}/b"
    assert case.left == ["file"]


@pytest.mark.parametrize("url", ["http://[::1/a", "http://host:99999/a", "http:///a", "httpq://x/a"])
def test_a_first_place_that_is_no_url_costs_nothing(case, url):
    with Faulty(at_once(BODY)) as good:
        fetched = settle(case.get(url, f"{good.url}/b", **known()))
        assert len(good.seen) == 1
    assert fetched.source == f"{good.url}/b"
    assert case.left == ["file"]


def test_an_only_place_that_is_no_url_leaves_nothing(case):
    assert case.fail("http://host:99999/a", **known()).reason == "bad_url"
    assert case.left == []
    check_nothing_is_held(case)


def test_an_observer_that_raises_leaves_nothing(case):
    case.frames = Raising()
    with pytest.raises(ZeroDivisionError):
        case.get("http://127.0.0.1:1/a", **known())
    assert case.left == []
    check_nothing_is_held(case)


def test_what_the_first_place_answered_is_never_taken_for_another(case):
    with Faulty(at_once(OTHER)) as bad, Faulty(at_once(BODY)) as good:
        places = (Location(f"{bad.url}/a", "A"), Location(f"{good.url}/b", ""))  # without a label it is asked first
        request = FetchRequest("m", "model.gguf", places, str(case.target), timeout_s=5.0, **known())
        case.engine = Engine(Settings(**case.settings))
        fetched = settle(case.engine.fetch(request, case.frames.append, case.cancel))
        assert len(good.seen) == 1
    assert fetched.source == ""
    assert case.target.read_bytes() == BODY


def test_the_second_place_goes_on_where_the_first_one_was_cut_off(case):
    def cut(talk):
        talk.send(message(BODY)[:-3000] if talk.range is None else b"")

    with Faulty(cut) as bad, Faulty(at_once(BODY)) as good:
        settle(case.get(f"{bad.url}/a", f"{good.url}/b", **known()))
        assert len(good.seen) == 1
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]


def test_no_place_that_has_it_is_asked_more_than_once(case):
    with Faulty(at_once(b"", status="404 No")) as one, Faulty(at_once(b"", status="503 Busy")) as two:
        failure = case.fail(f"{one.url}/a", f"{two.url}/b", **known())
        assert (len(one.seen), len(two.seen)) == (1, 1)
    assert failure.reason == "server_error"
    assert "404" in failure.message
    assert case.left == []


def test_a_local_copy_is_taken_as_ever(case, tmp_path, judged):
    (tmp_path / "source").write_bytes(BODY)
    with Faulty(at_once(BODY)) as server:
        fetched = case.get((tmp_path / "source").as_uri(), f"{server.url}/a", **known())
        assert server.seen == []
    assert (fetched.held, fetched.received_bytes) == (None, 0)
    assert case.target.read_bytes() == BODY


# --- the disk


def test_no_room_is_told_and_leaves_nothing(case):
    case.settings["host_connections"] = 1
    with Faulty(at_once(BODY)) as server:
        failure = case.fail(f"{server.url}/a", min_free_bytes=1 << 60, **known())
        assert (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "no_space")
        assert len(server.seen) == 1
        assert case.left == []
        check_nothing_is_held(case)
        settle(case.get(f"{server.url}/a", **known()))
        first, second = (talk.sock for talk in server.seen)
        assert first is second


def test_no_room_ends_it_for_every_place(case):
    with Faulty(at_once(BODY)) as one, Faulty(at_once(BODY)) as two:
        assert case.fail(f"{one.url}/a", f"{two.url}/b", min_free_bytes=1 << 60, **known()).reason == "no_space"
        assert two.seen == []


@pytest.mark.parametrize("written_bytes", [0, 1000])
@pytest.mark.parametrize("has_record", [True, False])
def test_a_disk_that_fills_up_is_told_and_leaves_nothing(case, monkeypatch, written_bytes, has_record):
    case.settings["host_connections"] = 1
    write = os.pwrite

    def full(descriptor, view, offset):
        if offset >= written_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, view[:written_bytes], offset)

    with Faulty(at_once(BODY)) as server:
        if has_record:
            make_record(case.target, f"{server.url}/a")
        with monkeypatch.context() as patch:
            patch.setattr("reconciler.adapters.fetch.partial.os.pwrite", full)
            failure = case.fail(f"{server.url}/a", **known())
        assert (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "no_space")
        assert len(server.seen) == 1
        assert case.left == []
        check_nothing_is_held(case)
        settle(case.get(f"{server.url}/a", **known()))
        first, second = (talk.sock for talk in server.seen)
        assert first is second
    assert case.target.read_bytes() == BODY


def test_a_sync_that_fails_takes_the_file_with_it(case, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, "Input/output error")

    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known())
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            with pytest.raises(Failure) as caught:
                fetched.held.settle()
        assert (caught.value.kind, caught.value.reason) == (FailureKind.TRANSIENT, "io_error")
        assert case.left == []
        check_nothing_is_held(case)
        settle(case.get(f"{server.url}/a", **known()))
        assert len(server.seen) == 2
    assert case.target.read_bytes() == BODY


def test_a_file_that_is_held_and_never_settled_is_found_right_later(case, second):
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known())
        fetched.held.close()  # as where the process ends
        other = second.get(f"{server.url}/a", **known())
        assert len(server.seen) == 1
    assert (other.received_bytes, other.held) == (0, None)
    assert other.digest == digest_of(BODY)


# --- two at once


def test_two_threads_that_want_one_file_ask_for_it_once(case, pool):
    case.engine = Engine(Settings())
    late = Late(message(BODY))
    with Faulty(late) as server:
        url = f"{server.url}/a"
        both = [pool.submit(lambda: settle(case.get(url, **known()))) for _ in range(2)]
        assert late.is_asked.wait(30)
        late.may_answer.set()
        found = [one.result(60) for one in both]
        assert len(server.seen) == 1
    assert sorted(one.received_bytes for one in found) == [0, 5000]
    assert [one.digest for one in found] == [digest_of(BODY)] * 2
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]
    check_nothing_is_held(case)


def test_a_thread_that_wants_a_file_that_is_held_waits_until_it_is_settled(case, pool):
    with Faulty(at_once(BODY)) as server:
        fetched = case.get(f"{server.url}/a", **known())
        case.frames = Frames()
        waiting = pool.submit(case.get, f"{server.url}/a", **known())
        assert case.frames.is_waiting.wait(30)
        assert not waiting.done()
        fetched.held.settle()
        other = waiting.result(30)
        assert len(server.seen) == 1
    assert (other.received_bytes, other.held) == (0, None)
    check_nothing_is_held(case)


class Polled(threading.Event):
    """A token that tells when somebody waits with it."""

    def __init__(self):
        super().__init__()
        self.is_polled = threading.Event()

    def wait(self, timeout=None):
        self.is_polled.set()
        return super().wait(timeout)


def test_a_thread_that_waits_for_the_download_waits_until_it_is_settled_too(case, pool):
    case.engine, case.cancel = Engine(Settings()), Polled()
    late = Late(message(BODY))
    with Faulty(late) as server:
        first = pool.submit(case.get, f"{server.url}/a", **known())
        assert late.is_asked.wait(30)
        case.frames = Frames()
        other = pool.submit(case.get, f"{server.url}/a", **known())
        assert case.cancel.is_polled.wait(30)
        late.may_answer.set()
        held = first.result(30).held
        assert case.frames.is_waiting.wait(30)
        assert not other.done()
        held.settle()
        assert (other.result(30).received_bytes, other.result(30).held) == (0, None)
        assert len(server.seen) == 1
    check_nothing_is_held(case)


def test_a_thread_goes_on_by_itself_where_the_first_one_fails(case, pool):
    case.engine = Engine(Settings())
    late = Late(message(b"no", status="404 No"))

    def script(talk):
        if talk.number:
            talk.send(message(BODY))
        else:
            late(talk)

    def get():
        try:
            return settle(case.get(f"{server.url}/a", **known()))
        except Failure as failure:
            return failure

    with Faulty(script) as server:
        first = pool.submit(get)
        assert late.is_asked.wait(30)
        other = pool.submit(get)
        late.may_answer.set()
        assert first.result(60).reason == "not_found"
        assert other.result(60).digest == digest_of(BODY)
        assert len(server.seen) == 2
    assert case.target.read_bytes() == BODY
    check_nothing_is_held(case)


# --- HTTPS


@pytest.fixture
def tls(authority, case):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    case.settings["environment"] = {"SSL_CERT_FILE": str(authority / "cert.pem")}
    return context


@pytest.mark.parametrize("size", [1, 5000, 16_384, 60_000, 300_000, CHUNK_BYTES])
def test_a_file_over_https_is_held_too(case, tls, size):
    body = make_bytes(size, seed=size)
    with Faulty(at_once(body), tls) as server:
        fetched = case.get(f"{server.url}/a", **known(body))
        assert len(server.seen) == 1
        assert fetched.content == body
        settle(fetched)
        case.target.unlink()
        settle(case.get(f"{server.url}/b", **known(body)))
        first, second = (talk.sock for talk in server.seen)
        assert first is second
        assert case.engine.client._made is None
    assert case.target.read_bytes() == body
    check_nothing_is_held(case)


HTTPS_ROWS = [one for one in ROWS if one.name in {
    "other_bytes_of_the_same_length", "a_byte_less_than_declared", "status_404", "status_503", "chunked",
    "cut_off_once", "a_second_part_that_takes_its_time", "two_parts_right_behind_one_another",
    "surplus_in_the_same_piece", "a_page_of_another_size", "cut_off_before_the_first_byte",
    "redirected_within_the_origin",
}]  # fmt: skip


@pytest.mark.parametrize("row", HTTPS_ROWS, ids=lambda row: row.name)
def test_one_answer_over_https_decides_too(case, tls, syncs, row):
    with Faulty(row.script, tls) as server:
        check_row(case, server, row, syncs)
