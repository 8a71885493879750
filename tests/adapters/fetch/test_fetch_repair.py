"""Of a damaged copy only the bad parts are fetched; when in doubt, everything."""

import os
import shutil

import pytest
from faulty import Faulty
from fetching import digest_of, make_bytes

from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.adapters.fetch.repair import ATTRIBUTE, Index

BODY = make_bytes(9_000_000)
DIGEST = digest_of(BODY)


@pytest.fixture
def broken(case, tmp_path):
    """A finished file set aside, ready to be damaged."""
    with Faulty(lambda talk: talk.serve(BODY)) as server:
        case.get(f"{server.url}/a", digest=DIGEST)
    try:
        os.getxattr(case.target, ATTRIBUTE)
    except OSError:
        pytest.skip("this file system keeps no attributes")
    path = tmp_path / "bad"
    shutil.move(case.target, path)
    return path


def flip(path, place):
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize("places", [[0], [5_000_000], [8_999_999], [0, 3_000_000, 3_000_001, 8_500_000]])
def test_only_the_bad_chunks_are_fetched(case, broken, places):
    for place in places:
        flip(broken, place)
    with Faulty(lambda talk: talk.serve(BODY)) as server:
        fetched = case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken))
        chunks = sorted({place // CHUNK_BYTES for place in places})
        spans = [(chunk * CHUNK_BYTES, min((chunk + 1) * CHUNK_BYTES, len(BODY))) for chunk in chunks]
        assert server.ranges == ["", *(f"bytes={start}-{end - 1}" for start, end in spans)]
        assert all(talk.headers["if-range"] == '"one"' for talk in server.seen[1:])
    assert fetched.received_bytes == sum(end - start for start, end in spans)
    assert case.target.read_bytes() == BODY


def test_of_a_truncated_copy_the_rest_is_fetched(case, broken):
    os.truncate(broken, 4_000_000)
    with Faulty(lambda talk: talk.serve(BODY)) as server:
        fetched = case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken))
    assert fetched.received_bytes == len(BODY) - 3 * CHUNK_BYTES
    assert case.target.read_bytes() == BODY


def test_a_whole_copy_needs_no_request(case, broken):
    with Faulty(lambda talk: talk.serve(BODY)) as server:
        assert case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken)).received_bytes == 0
        assert server.seen == []


@pytest.mark.parametrize("index", [b"", b"nonsense", b"1 9000000 1\n" + b"x" * 64, b"1 5 1\n" + b"y" * 8])
def test_a_wrong_index_costs_a_full_download_and_no_wrong_byte(case, broken, index):
    os.setxattr(broken, ATTRIBUTE, index)
    flip(broken, 5_000_000)
    with Faulty(lambda talk: talk.serve(BODY)) as server:
        case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken))
    assert case.target.read_bytes() == BODY


def test_a_server_without_ranges_sends_everything(case, broken):
    flip(broken, 5_000_000)

    def script(talk):
        talk.head("200 OK", f"Content-Length: {len(BODY)}")
        talk.send(BODY if talk.method == "GET" else b"")

    with Faulty(script) as server:
        case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken))
    assert case.target.read_bytes() == BODY


def test_a_hole_is_fetched_by_one_request(case, broken):
    with broken.open("r+b") as file:
        file.truncate(2 * CHUNK_BYTES)
        file.truncate(5 * CHUNK_BYTES)
        file.seek(5 * CHUNK_BYTES)
        file.write(BODY[5 * CHUNK_BYTES :])
    with Faulty(lambda talk: talk.serve(BODY)) as server:
        fetched = case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken))
        assert server.ranges == ["", f"bytes={2 * CHUNK_BYTES}-{5 * CHUNK_BYTES - 1}"]
    assert fetched.received_bytes == 3 * CHUNK_BYTES
    assert case.target.read_bytes() == BODY


@pytest.mark.parametrize("damage", ["flipped", "cut off"])
def test_a_server_that_answers_no_head_serves_repairs_too(case, broken, damage):
    if damage == "flipped":
        flip(broken, 1_500_000)
        flip(broken, 5_500_000)
    else:
        os.truncate(broken, 6_000_000)

    def script(talk):
        if talk.method == "HEAD":
            talk.head("403 Forbidden", "Content-Length: 0")
        elif talk.range and "if-range" not in talk.headers:
            talk.headers["if-range"] = '"one"'
            talk.serve(BODY)
        else:
            talk.serve(BODY)

    with Faulty(script) as server:
        fetched = case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken))
        guards = [talk.headers.get("if-range") for talk in server.seen]
    assert guards[2:]
    assert set(guards[2:]) == {'"one"'}
    assert fetched.received_bytes <= (2 if damage == "flipped" else 4) * CHUNK_BYTES
    assert case.target.read_bytes() == BODY


def test_an_interrupted_repair_goes_on_where_it_was(case, broken):
    """Fetched parts are recorded like a download's: what came is not asked for again, not even by another process."""
    for chunk in range(0, 8, 2):
        flip(broken, chunk * CHUNK_BYTES + 7)
    asked = []

    def script(talk):
        if talk.range and len(asked) == 2:
            asked.append("cut")
            talk.reset()
            return
        if talk.range:
            asked.append(talk.headers["range"])
        talk.serve(BODY)

    with Faulty(script) as server:
        case.restart(retries=0)
        assert case.fail(f"{server.url}/a", digest=DIGEST, reuse=str(broken)).kind.value == "transient"
        case.restart()
        case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken))
    asked.remove("cut")
    assert len(asked) == len(set(asked)) == 4
    assert case.target.read_bytes() == BODY
    assert case.left == ["file"]


class TestNobodyDeclaredADigest:
    """Then the copy's own is what is hoped for; whatever the source has by now is taken, but as a whole."""

    def repair(self, case, broken, body, etag='"one"'):
        with Faulty(lambda talk: talk.serve(body, etag=etag)) as server:
            return case.get(f"{server.url}/a", digest=DIGEST, reuse=str(broken), accepts_newer=True)

    def test_an_unchanged_object_is_mended(self, case, broken):
        flip(broken, 5_000_000)
        assert self.repair(case, broken, BODY).received_bytes == CHUNK_BYTES
        assert case.target.read_bytes() == BODY

    @pytest.mark.parametrize("newer", [make_bytes(len(BODY), seed=2), make_bytes(9_500_000, seed=3)])
    @pytest.mark.parametrize("damage", ["flipped", "cut off"])
    def test_a_newer_object_is_never_mixed_with_the_copy(self, case, broken, newer, damage):
        if damage == "flipped":
            flip(broken, 5_000_000)
        else:
            os.truncate(broken, 5_000_000)
        assert self.repair(case, broken, newer, '"two"').digest == digest_of(newer)
        assert case.target.read_bytes() == newer

    def test_what_an_interrupted_repair_left_is_never_mixed_either(self, case, broken):
        os.truncate(broken, 5_000_000)

        def script(talk):
            if talk.range:
                talk.head("206 Partial Content", 'ETag: "one"', f"Content-Range: bytes {talk.range[0]}-8999999/9000000")
                talk.send(BODY[talk.range[0] : 8_000_000])
                talk.reset()
            else:
                talk.serve(BODY)

        with Faulty(script) as server:
            case.restart(retries=0)
            case.fail(f"{server.url}/a", digest=DIGEST, reuse=str(broken), accepts_newer=True)
            case.restart()
            newer = make_bytes(len(BODY), seed=2)
            server.script = lambda talk: talk.serve(newer)  # lies: the same validator for other content
            assert case.get(
                f"{server.url}/a", digest=DIGEST, reuse=str(broken), accepts_newer=True
            ).digest == digest_of(newer)
        assert case.target.read_bytes() == newer


def test_the_index_of_a_large_file_stays_small():
    index = Index.of(50 << 30, ["ab" * 16] * 51_200)
    assert len(index.pack()) < 3_000
    assert Index.unpack(index.pack()) == index
