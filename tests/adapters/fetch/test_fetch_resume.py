"""What survives an interruption, and what is never trusted."""

import contextlib
import json
import os
import threading

import pytest
from faulty import Faulty
from fetching import digest_of, make_bytes

from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.adapters.fetch.repair import ATTRIBUTE, Index
from reconciler.core.errors import Failure

BODY = make_bytes(6_000_000)
DIGEST = digest_of(BODY)
OTHER = make_bytes(6_000_000, seed=9)


def cut_at(count, body=BODY, etag='"one"'):
    """Sends ``count`` bytes of the first answer, then hangs up; serves nothing more."""

    def script(talk):
        if talk.number == 0:
            talk.head("200 OK", f"ETag: {etag}", "Accept-Ranges: bytes", f"Content-Length: {len(body)}")
            talk.send(body[:count])
        else:
            talk.reset()

    return script


def nameless(body):
    """Serves parts without a validator, whatever ``If-Range`` says."""

    def script(talk):
        if talk.range is None:
            talk.serve(body, etag='"two"')
            return
        start = talk.range[0]
        span = f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"
        talk.head("206 Partial Content", span, f"Content-Length: {len(body) - start}")
        talk.send(body[start:])

    return script


class Relay:
    """One address whose script changes: what a server does before and after an interruption."""

    def __init__(self, script):
        self.script = script

    def __call__(self, talk):
        self.script(talk)


@pytest.fixture
def relay():
    relay = Relay(cut_at(4_500_000))
    with Faulty(relay) as server:
        relay.server, relay.url = server, f"{server.url}/model.gguf"
        yield relay


def interrupt(case, relay, **more):
    failure = case.fail(relay.url, **more)
    assert failure.reason in {"truncated", "connection_reset", "disconnected"}
    relay.server.seen.clear()
    case.restart()


@pytest.mark.parametrize("cut", [4_500_000, (4 << 20) + (512 << 10)])  # the tail: odd, and of whole pages
def test_a_stop_in_good_order_costs_no_byte(case, relay, cut):
    relay.script = cut_at(cut)
    interrupt(case, relay, digest=DIGEST)
    assert case.left == ["file", "file.json"]
    relay.script = lambda talk: talk.serve(BODY)
    fetched = case.get(relay.url, digest=DIGEST)
    assert relay.server.seen[0].headers["range"] == f"bytes={cut}-"
    assert relay.server.seen[0].headers["if-range"] == '"one"'
    assert fetched.received_bytes == len(BODY) - cut
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]


@pytest.mark.parametrize(("size", "cut"), [(200_000, 60_000), (64 << 10, 4096)])
def test_a_file_below_one_chunk_resumes_too(case, relay, size, cut):
    body = BODY[:size]
    relay.script = cut_at(cut, body)
    interrupt(case, relay)
    relay.script = lambda talk: talk.serve(body)
    assert case.get(relay.url).received_bytes == size - cut
    assert case.target.read_bytes() == body


def test_a_changed_object_without_digest_starts_over_and_never_mixes(case, relay):
    interrupt(case, relay)
    relay.script = lambda talk: talk.serve(OTHER, etag='"two"')
    fetched = case.get(relay.url)
    assert relay.server.ranges == ["bytes=4500000-"]
    assert fetched.digest == digest_of(OTHER)
    assert case.target.read_bytes() == OTHER


@pytest.mark.parametrize("size", [6 << 20, 6_000_000])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_whole_file_without_digest_that_nobody_took_is_not_fetched_again(case, relay, size, is_told):
    body = make_bytes(size)

    def whole(talk):
        if is_told or talk.range:
            talk.serve(body)
        else:
            talk.head("200 OK", 'ETag: "one"', "Accept-Ranges: bytes", "Transfer-Encoding: chunked")
            talk.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, body))

    relay.script = whole
    case.settings["risk_bytes"] = CHUNK_BYTES
    case.get(relay.url)
    case.restart()
    assert case.get(relay.url).received_bytes <= 2 * CHUNK_BYTES
    case.restart()
    relay.script = lambda talk: talk.serve(OTHER, etag='"two"')
    assert case.get(relay.url).digest == digest_of(OTHER)
    assert case.target.read_bytes() == OTHER


def test_a_part_that_names_no_version_is_never_added_to_another_answer(case, relay):
    interrupt(case, relay)
    relay.script = nameless(OTHER)
    case.get(relay.url)
    assert case.target.read_bytes() == OTHER


def test_the_same_bytes_once_more_are_no_progress(case, relay):
    def cut_without_ranges(talk):
        talk.head("200 OK", 'ETag: "one"', f"Content-Length: {len(BODY)}")
        talk.send(BODY[:3_000_000])

    relay.script = cut_without_ranges
    assert case.fail(relay.url, digest=DIGEST).reason == "truncated"
    assert len(relay.server.seen) < 20


def test_a_changed_object_with_a_digest_is_refused(case, relay):
    interrupt(case, relay, digest=DIGEST)
    relay.script = lambda talk: talk.serve(OTHER, etag='"two"')
    assert case.fail(relay.url, digest=DIGEST).reason == "digest_mismatch"
    assert case.left == []


def test_a_lying_validator_costs_one_full_download(case, relay):
    """The object changed and kept its ETag: the parts do not fit together, so once more in full."""
    relay.script = cut_at(4_500_000, OTHER)
    interrupt(case, relay, digest=DIGEST)
    relay.script = lambda talk: talk.serve(BODY)
    case.get(relay.url, digest=DIGEST)
    assert relay.server.ranges == ["bytes=4500000-", ""]
    assert case.target.read_bytes() == BODY


@pytest.mark.parametrize("place", [10, CHUNK_BYTES + 5, 3 * CHUNK_BYTES])
def test_only_the_part_whose_digests_agree_is_trusted(case, relay, place):
    interrupt(case, relay, digest=DIGEST)
    with case.target.open("r+b") as file:
        file.seek(place)
        file.write(bytes([BODY[place] ^ 0xFF]))
    relay.script = lambda talk: talk.serve(BODY)
    case.get(relay.url, digest=DIGEST)
    kept = place // CHUNK_BYTES * CHUNK_BYTES
    assert relay.server.ranges == [f"bytes={kept}-" if kept else ""]
    assert case.target.read_bytes() == BODY


@pytest.mark.parametrize(
    "damage",
    [b"", b"\x00\xff", b"[]\n", b'{"format": 99}\n', b'{"url": 1, "validator": 2, "size_bytes": 3}\n', b"null\n" * 3],
)
def test_an_unreadable_record_means_from_the_start(case, relay, damage):
    interrupt(case, relay, digest=DIGEST)
    (case.folder / "file.json").write_bytes(damage)
    relay.script = lambda talk: talk.serve(BODY)
    case.get(relay.url, digest=DIGEST)
    assert relay.server.ranges == [""]
    assert case.target.read_bytes() == BODY


def test_a_torn_last_line_costs_only_that_line(case, relay):
    interrupt(case, relay, digest=DIGEST)
    record = case.folder / "file.json"
    record.write_bytes(record.read_bytes()[:-20])
    relay.script = lambda talk: talk.serve(BODY)
    case.get(relay.url, digest=DIGEST)
    assert relay.server.ranges == [f"bytes={4 * CHUNK_BYTES}-"]


@pytest.mark.parametrize("is_torn", [True, False])
def test_what_is_recorded_after_damage_counts(case, relay, is_torn):
    relay.script = cut_at((2 << 20) + 5)
    interrupt(case, relay, digest=DIGEST)
    record = case.folder / "file.json"
    text = record.read_bytes()
    record.write_bytes(text[:-20] if is_torn else text.replace(b'["p",1,"', b'["p",1,"x'))

    def cut_again(talk):
        if talk.number == 0:
            start = talk.range[0] if talk.range else 0
            span = [f"Content-Range: bytes {start}-{len(BODY) - 1}/{len(BODY)}"] if start else []
            status = "206 Partial Content" if start else "200 OK"
            talk.head(status, 'ETag: "one"', "Accept-Ranges: bytes", f"Content-Length: {len(BODY) - start}", *span)
            talk.send(BODY[start : 5 << 20])
        else:
            talk.reset()

    relay.script = cut_again
    interrupt(case, relay, digest=DIGEST)
    relay.script = lambda talk: talk.serve(BODY)
    assert case.get(relay.url, digest=DIGEST).received_bytes == len(BODY) - (5 << 20)
    assert case.target.read_bytes() == BODY


def test_a_partial_shorter_than_its_record_is_trusted_as_far_as_it_goes(case, relay):
    interrupt(case, relay, digest=DIGEST)
    os.truncate(case.target, 2 * CHUNK_BYTES + 10)
    relay.script = lambda talk: talk.serve(BODY)
    case.get(relay.url, digest=DIGEST)
    assert relay.server.ranges == [f"bytes={2 * CHUNK_BYTES}-"]
    assert case.target.read_bytes() == BODY


def test_a_partial_longer_than_expected_ends_right(case, relay):
    interrupt(case, relay, digest=DIGEST)
    os.truncate(case.target, 50_000_000)
    relay.script = lambda talk: talk.serve(BODY)
    case.get(relay.url, digest=DIGEST)
    assert case.target.read_bytes() == BODY


def test_a_new_digest_in_the_manifest_forgets_the_old_partial(case, relay):
    interrupt(case, relay, digest=DIGEST)
    relay.script = lambda talk: talk.serve(OTHER)
    case.get(relay.url, digest=digest_of(OTHER))
    assert relay.server.ranges == [""]


def test_a_complete_file_without_a_record_is_taken_by_its_digest(case, relay):
    case.target.write_bytes(BODY)
    fetched = case.get(relay.url, digest=DIGEST)
    assert (fetched.received_bytes, relay.server.seen) == (0, [])


def test_a_foreign_file_at_the_target_is_never_written_into(case, relay, tmp_path):
    case.target.write_bytes(b"someone else's")
    os.link(case.target, tmp_path / "witness")
    relay.script = lambda talk: talk.serve(BODY)
    case.get(relay.url, digest=DIGEST)
    assert (tmp_path / "witness").read_bytes() == b"someone else's"
    assert case.target.read_bytes() == BODY


def test_the_record_holds_no_query_and_no_secret(case, relay):
    failure = case.fail(relay.url + "?X-Signature=topsecret", headers=[("Authorization", "Bearer hush-hush")])
    text = (case.folder / "file.json").read_text() + failure.message
    assert "topsecret" not in text
    assert "hush-hush" not in text
    assert json.loads(text.splitlines()[0])["url"] == relay.url


def test_fifty_interruptions_of_one_download_fetch_every_byte_once(case, relay):
    body = make_bytes(5_200_000, seed=4)
    sent = []

    def script(talk):
        start = talk.range[0] if talk.range else 0
        head = "206 Partial Content" if talk.range else "200 OK"
        lines = [f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"] if talk.range else []
        talk.head(head, 'ETag: "one"', f"Content-Length: {len(body) - start}", *lines)
        piece = body[start : start + 104_000]
        sent.append(len(piece))
        talk.send(piece)

    relay.script = script
    case.settings["retries"] = 0
    for _ in range(60):
        with contextlib.suppress(Failure):
            case.get(relay.url, digest=digest_of(body))
            break
        case.restart()
    assert sum(sent) == len(body)
    assert len(sent) >= 50
    assert case.target.read_bytes() == body


def test_cancelling_keeps_what_came(case, relay):
    def script(talk):
        talk.head("200 OK", 'ETag: "one"', f"Content-Length: {len(BODY)}")
        talk.send(BODY[:4_000_000])
        while case.frames[-1].done_bytes < 4_000_000 and not talk.is_over.wait(0.02):
            pass
        case.cancel.set()
        talk.hang()

    relay.script = script
    assert case.fail(relay.url, digest=DIGEST, timeout_s=20).reason == "cancelled"
    assert case.left == ["file", "file.json"]
    case.cancel = threading.Event()
    relay.script = lambda talk: talk.serve(BODY)
    assert case.get(relay.url, digest=DIGEST).received_bytes == 2_000_000


def _part_unasked(talk):
    talk.head("206 Part", "Content-Range: bytes 0-9/6000000", "Content-Length: 10")
    talk.send(b"0123456789")


@pytest.mark.parametrize("is_repair", [False, True])
@pytest.mark.parametrize(
    "second", [lambda talk: talk.reset(), lambda talk: talk.head("404 No", "Content-Length: 0"), _part_unasked, None]
)
def test_a_second_place_that_has_nothing_costs_no_byte(case, relay, tmp_path, second, is_repair):
    interrupt(case, relay, digest=DIGEST)
    relay.script = lambda talk: talk.reset()
    more = {"reuse": str(_damaged(tmp_path))} if is_repair else {}
    with Faulty(second) as server:
        other = f"{server.url}/other" if second else (tmp_path / "missing").as_uri()
        case.fail(relay.url, other, digest=DIGEST, **more)
    assert case.left == ["file", "file.json"]
    case.restart()
    relay.script = lambda talk: talk.serve(BODY)
    assert case.get(relay.url, digest=DIGEST).received_bytes == 1_500_000


def _damaged(folder):
    """A copy that a repair could go on from."""
    path = folder / "damaged"
    path.write_bytes(BODY[:2_000_000] + bytes(4_000_000))
    prefixes = [digest_of(BODY[: (count + 1) * CHUNK_BYTES])[7:39] for count in range(5)]
    try:
        os.setxattr(path, ATTRIBUTE, Index.of(len(BODY), prefixes).pack())
    except OSError:
        pytest.skip("this file system keeps no attributes")
    return path


@pytest.mark.parametrize("digest", [DIGEST, None])
def test_a_page_in_place_of_the_rest_costs_no_byte(case, relay, digest):
    interrupt(case, relay, digest=digest)
    relay.script = lambda talk: talk.serve(b"<html>log in</html>", "Content-Type: text/html", etag='"page"')
    assert case.fail(relay.url, digest=digest).reason == "html_instead_of_model"
    relay.script = lambda talk: talk.serve(BODY)
    case.restart()
    assert case.get(relay.url, digest=digest).received_bytes == 1_500_000


def test_a_second_place_that_has_the_file_begins_anew(case, relay, tmp_path):
    interrupt(case, relay, digest=DIGEST)
    relay.script = lambda talk: talk.reset()
    with Faulty(lambda talk: talk.serve(BODY, etag='"other"')) as server:
        case.get(relay.url, f"{server.url}/other", digest=DIGEST)
        assert server.ranges == [""]
    assert case.target.read_bytes() == BODY


def test_nothing_is_left_where_nothing_came(case, relay):
    relay.script = lambda talk: talk.head("404 Not Found", "Content-Length: 0")
    assert case.fail(relay.url).reason == "not_found"
    assert case.left == []
