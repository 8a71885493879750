"""Several connections for one file, and files larger than memory or 32 bits."""

import threading

import pytest
from faulty import Faulty
from fetching import digest_of, make_bytes
from sampling import others_slow
from watching import eventually

from reconciler.adapters.fetch import Settings
from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.download import Download
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.record import CHUNK_BYTES, Header, Record
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.scope import Scope
from reconciler.adapters.fetch.tools import Tools
from reconciler.core.errors import Failure
from reconciler.core.ports import FetchRequest, Location

BODY = make_bytes(36_000_000)
DIGEST = digest_of(BODY)
OTHER = make_bytes(36_000_000, seed=7)


def slowly(talk, body, etag='"one"'):
    """The whole object at about 20 MB/s, until the other side has enough."""
    talk.head("200 OK", f"ETag: {etag}", "Accept-Ranges: bytes", f"Content-Length: {len(body)}")
    for start in range(0, len(body), 200_000):
        talk.send(body[start : start + 200_000])
        if talk.is_over.wait(0.01):
            return


def test_a_slow_connection_gets_company_and_every_byte_is_right(case):
    def script(talk):
        if talk.range is None:
            slowly(talk, BODY)
        else:
            talk.keep_alive = True
            talk.serve(BODY)

    with Faulty(script) as server:
        fetched = case.get(f"{server.url}/a", digest=DIGEST)
        parts = [talk for talk in server.seen if talk.range]
        assert len({talk.sock.fileno() for talk in parts}) < len(parts)  # connections are used again
        assert all(talk.headers["if-range"] == '"one"' for talk in parts)
    assert len(parts) >= 4
    assert fetched.received_bytes < len(BODY) + 2 * CHUNK_BYTES
    assert case.target.read_bytes() == BODY


@pytest.mark.parametrize("declared", [True, False])
def test_an_object_replaced_between_segments_starts_over_and_never_mixes(case, declared):
    def script(talk):
        if talk.number == 0:
            slowly(talk, BODY)
        else:
            talk.serve(OTHER, etag='"two"')

    with Faulty(script) as server:
        if declared:
            assert case.fail(f"{server.url}/a", digest=DIGEST).reason == "digest_mismatch"
            assert case.left == []
        else:
            assert case.get(f"{server.url}/a").digest == digest_of(OTHER)
            assert case.target.read_bytes() == OTHER


@pytest.mark.parametrize("fault", others_slow("reset", "hang", "cut"))
def test_a_segment_that_fails_is_asked_for_again(case, fault):
    def script(talk):
        if talk.range is None:
            slowly(talk, BODY)
        elif talk.number in {1, 3}:
            if fault == "reset":
                talk.reset()
            elif fault == "hang":
                talk.hang(3)
            else:
                start, end = talk.range
                content_range = f"Content-Range: bytes {start}-{end - 1}/{len(BODY)}"
                talk.head("206 Part", 'ETag: "one"', content_range, f"Content-Length: {end - start}")
                talk.send(BODY[start : start + 100_000])
        else:
            talk.serve(BODY)

    with Faulty(script) as server:
        case.get(f"{server.url}/a", digest=DIGEST, timeout_s=0.6)
        assert len(server.seen) >= 5
    assert case.target.read_bytes() == BODY


class OneAtATime:
    """A host that turns a second connection away while one is open."""

    def __init__(self, status):
        self.status, self.guard, self.is_open = status, threading.Lock(), False

    def __call__(self, talk):
        with self.guard:
            is_busy, self.is_open = self.is_open, True
        if is_busy:
            talk.reset() if self.status == "reset" else talk.head(self.status, "Retry-After: 60", "Content-Length: 0")
            return
        if talk.range is None:
            slowly(talk, BODY)
        else:
            talk.serve(BODY)
        self.is_open = False


@pytest.mark.parametrize("status", others_slow("429 Too many", "403 Too many", "reset"))
def test_a_host_that_wants_one_connection_keeps_the_one_that_runs(case, status):
    script = OneAtATime(status)
    with Faulty(script) as server:
        fetched = case.get(f"{server.url}/a", digest=DIGEST)
        assert fetched.received_bytes == len(BODY)
        assert case.target.read_bytes() == BODY
        assert len(server.seen) <= (5 if status == "reset" else 2)
        if status == "429 Too many":  # it is remembered
            eventually(lambda: not script.is_open)
            server.seen.clear()
            case.target.unlink()
            case.get(f"{server.url}/a", digest=DIGEST)
            assert len(server.seen) == 1


@pytest.mark.parametrize(("status", "is_cut"), others_slow(("403 No", True), ("404 No", False), ("400 No", False)))
def test_a_server_that_turns_away_parts_gives_the_whole(case, status, is_cut):
    def script(talk):
        if talk.range is not None:
            talk.is_over.wait(0.3)  # meanwhile the first connection ends its piece
            talk.head(status, "Content-Length: 0")
        elif is_cut and talk.number == 0:
            talk.head("200 OK", 'ETag: "one"', "Accept-Ranges: bytes", f"Content-Length: {len(BODY)}")
            talk.send(BODY[:3_000_000])
        else:
            slowly(talk, BODY)

    with Faulty(script) as server:
        case.get(f"{server.url}/a", digest=DIGEST)
    assert case.target.read_bytes() == BODY


def test_a_chunk_that_is_handed_back_is_taken_by_one_that_waits_for_it(case):
    """The receiver of a low segment is turned away when the others have come as far as the memory lets them."""

    def script(talk):
        if talk.range is None:
            slowly(talk, BODY)
        elif talk.number == 1:
            talk.is_over.wait(1.5)
            talk.head("429 Too many", "Content-Length: 0")
        else:
            talk.keep_alive = True
            talk.serve(BODY)

    case.settings["ring_bytes"] = 6 * CHUNK_BYTES
    with Faulty(script) as server:
        case.get(f"{server.url}/a", digest=DIGEST, timeout_s=5)
    assert case.target.read_bytes() == BODY


def _nameless(talk, start, end):
    talk.head("206 Part", f"Content-Range: bytes {start}-{end - 1}/{len(BODY)}", f"Content-Length: {end - start}")
    talk.send(BODY[start:end])


def _another_version(talk, start, end):
    talk.serve(OTHER, etag='"two"')


def _shorter(talk, start, end):
    talk.head("416 No", "Content-Range: bytes */100", "Content-Length: 0")


@pytest.mark.parametrize("answer", others_slow(_another_version, _nameless, _shorter))
def test_parts_that_never_fit_give_way_to_the_whole(case, answer):
    def script(talk):
        if talk.range is None:
            slowly(talk, BODY)
        else:
            answer(talk, *talk.range)

    with Faulty(script) as server:
        case.get(f"{server.url}/a", timeout_s=5)
        assert sum(not talk.range for talk in server.seen) <= 3
    assert case.target.read_bytes() == BODY


def test_a_server_that_forgets_ranges_half_way_gives_the_whole_at_last(case):
    def script(talk):
        if talk.number == 0:
            slowly(talk, BODY)
        else:
            talk.head("200 OK", 'ETag: "one"', "Accept-Ranges: bytes", f"Content-Length: {len(BODY)}")
            talk.send(BODY)

    with Faulty(script) as server:
        case.get(f"{server.url}/a", digest=DIGEST)
    assert case.target.read_bytes() == BODY


def test_an_expired_url_behind_a_redirect_is_asked_for_again_at_its_origin(case):
    signed = []

    def script(talk):
        if talk.path == "/a":
            signed.append(f"/signed?{len(signed)}")
            talk.head("302 Found", f"Location: {signed[-1]}", "Content-Length: 0")
        elif talk.path != signed[-1] or (len(signed) == 1 and talk.range):
            talk.head("403 Expired", "Content-Length: 0")
        elif talk.range is None:
            slowly(talk, BODY)
        else:
            talk.serve(BODY)

    with Faulty(script) as server:
        case.get(f"{server.url}/a", digest=DIGEST)
    assert len(signed) >= 2
    assert case.target.read_bytes() == BODY


def test_offsets_beyond_32_bits_are_asked_for_and_written_right(tmp_path):
    """A sparse partial of 52 GiB whose first 53,248 chunks are here already."""
    first = 52 * 1024
    rest = make_bytes(3 * CHUNK_BYTES + 77)
    size = first * CHUNK_BYTES + len(rest)
    target = str(tmp_path / "file")

    def script(talk):
        start = talk.range[0]
        talk.head(
            "206 Part", 'ETag: "one"', f"Content-Range: bytes {start}-{size - 1}/{size}", f"Content-Length: {len(rest)}"
        )
        talk.send(rest)

    cancel = threading.Event()
    with Faulty(script) as server:
        url = f"{server.url}/a"
        request = FetchRequest("m", "a.gguf", (Location(url, url),), target, timeout_s=5)
        partial, record, tools = Partial.open(target, cancel, lambda: None), Record(target), Tools.of(Settings())
        partial._is_tried = True  # no preallocation: the file stays sparse
        download = Download(tools, request, partial, record, Meter(lambda _: None, "m", "a", size), cancel)
        download._check_room = lambda: None  # the disk need not have the 52 GiB that are not written
        download.stand = Stand(url, '"one"', size, base=first, prefixes=["00" * 16] * first, recorded=first)
        record.begin(Header(url, '"one"', size))
        download.run(request.locations[0])
        assert server.ranges == [f"bytes={first * CHUNK_BYTES}-"]
        record.close()
        partial.close()
        tools.client.close()
    with open(target, "rb") as file:
        file.seek(first * CHUNK_BYTES)
        assert file.read() == rest
    assert (tmp_path / "file").stat().st_blocks * 512 < 16 << 20


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/x", "http://ip6-localhost:{port}/x", "http://10.0.0.1/x"])
def test_a_public_source_does_not_lead_inwards(case, monkeypatch, target):
    """Also not by a name that only resolves to an inner address: what is judged is what would be connected to."""
    monkeypatch.setattr(Client, "_scope_of", lambda *_: Scope.PUBLIC)

    def script(talk):
        port = talk.sock.getsockname()[1]
        talk.head("302 Found", f"Location: {target.format(port=port)}", "Content-Length: 0")

    with Faulty(script) as server:
        failure = case.fail(f"{server.url}/a", timeout_s=5)
        assert len(server.seen) == 1
    assert failure.reason in {"unsafe_redirect", "dns"}
    if "ip6" not in target:
        assert failure.reason == "unsafe_redirect"


def test_a_full_ring_stops_with_the_disks_reason(case, monkeypatch):
    """The writer fails while receivers wait: the attempt ends, nothing hangs, the partial is kept as far as recorded."""

    def full(self, view, offset):
        raise Failure("transient", "no_space", "the disk is full")

    monkeypatch.setattr(Partial, "write", full)
    with Faulty(lambda talk: talk.serve(BODY)) as server:
        failure = case.fail(f"{server.url}/a", digest=DIGEST)
    assert failure.reason == "no_space"


def test_chunks_that_came_early_and_adjoin_the_start_are_not_asked_for_again(case):
    """As a crash leaves it: chunk 0 by the running digest, chunks 1 and 3 by digests of their own, 2 missing."""
    body = BODY[: 5 * CHUNK_BYTES + 9]
    chunks = [body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES)]
    with Faulty(lambda talk: talk.serve(body)) as server:
        url = f"{server.url}/a"
        case.target.write_bytes(chunks[0] + chunks[1] + bytes(CHUNK_BYTES) + chunks[3])
        record = Record(str(case.target))
        record.begin(Header(url, '"one"', len(body), digest_of(body)))
        lone = [("c", number, digest_of(chunks[number])[7:]) for number in (1, 3)]
        record.add([("p", 0, digest_of(chunks[0])[7:39]), *lone])
        record.close()
        case.get(url, digest=digest_of(body))
        assert server.ranges[0] == f"bytes={2 * CHUNK_BYTES}-{3 * CHUNK_BYTES - 1}"
        assert server.ranges[1] == f"bytes={4 * CHUNK_BYTES}-{len(body) - 1}"
    assert case.target.read_bytes() == body
