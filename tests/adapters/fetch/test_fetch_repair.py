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


def test_the_index_of_a_large_file_stays_small():
    index = Index.of(50 << 30, ["ab" * 16] * 51_200)
    assert len(index.pack()) < 3_000
    assert Index.unpack(index.pack()) == index
