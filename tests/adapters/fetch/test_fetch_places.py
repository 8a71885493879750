"""Several places for one file, secrets and where they go, local files, queues."""

import hashlib
import os
import subprocess
import sys
import threading
import time

import pytest
from faulty import Faulty
from fetching import digest_of, make_bytes

from reconciler.adapters.fetch import Client, Engine, Settings
from reconciler.adapters.fetch.slots import Slots
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.ports import FetchRequest, Location

BODY = make_bytes(300_000)
DIGEST = digest_of(BODY)
SECRET = (("Authorization", "Bearer s3cret-token"), ("X-Api-Key", "k3y-k3y-k3y"))


def good(talk):
    talk.serve(BODY)


def status(line):
    return lambda talk: talk.head(line, "Content-Length: 0")


def test_the_next_place_is_asked_after_a_failure(case):
    with Faulty(status("500 Oops")) as bad, Faulty(good) as fine:
        fetched = case.get(f"{bad.url}/a", f"{fine.url}/b", digest=DIGEST)
    assert fetched.source == f"{fine.url}/b"


def test_a_wrong_digest_at_the_first_place_is_mended_by_the_second(case):
    with Faulty(lambda talk: talk.serve(make_bytes(300_000, seed=8))) as bad, Faulty(good) as fine:
        assert case.get(f"{bad.url}/a", f"{fine.url}/b", digest=DIGEST).digest == DIGEST
    assert case.target.read_bytes() == BODY


def test_of_several_failures_the_one_that_may_pass_decides(case):
    with Faulty(status("404 No")) as gone, Faulty(status("503 Busy")) as busy:
        failure = case.fail(f"{gone.url}/a", f"{busy.url}/b")
    assert (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "server_error")
    assert "404" in failure.message


def test_retry_after_is_told(case):
    def busy(talk):
        talk.head("429 Slow down", "Retry-After: 7", "Content-Length: 0")

    with Faulty(busy) as server:
        assert case.fail(f"{server.url}/a").retry_after_s == 7.0


def test_secrets_go_to_their_own_origin_only(case):
    with Faulty(good) as other:
        with Faulty(lambda talk: talk.head("302 Found", f"Location: {other.url}/x", "Content-Length: 0")) as first:
            case.get(f"{first.url}/a", headers=SECRET, digest=DIGEST)
            assert first.seen[0].headers["x-api-key"] == "k3y-k3y-k3y"
        assert "authorization" not in other.seen[0].headers
        assert "x-api-key" not in other.seen[0].headers


def test_secrets_do_not_come_back_after_a_round_trip(case):
    urls = {}

    def first(talk):
        if talk.number == 0:
            talk.head("302 Found", f"Location: {urls['other']}/x", "Content-Length: 0")
        else:
            talk.serve(BODY)

    with Faulty(first) as home:
        with Faulty(lambda talk: talk.head("302 Found", f"Location: {home.url}/y", "Content-Length: 0")) as other:
            urls["other"] = other.url
            case.get(f"{home.url}/a", headers=SECRET, digest=DIGEST)
        assert "authorization" in home.seen[0].headers
        assert "authorization" not in home.seen[1].headers


def test_secrets_stay_on_a_redirect_within_the_origin(case):
    def script(talk):
        if talk.number == 0:
            talk.head("302 Found", "Location: /b", "Content-Length: 0")
        else:
            talk.serve(BODY)

    with Faulty(script) as server:
        case.get(f"{server.url}/a", headers=SECRET, digest=DIGEST)
        assert server.seen[1].headers["authorization"] == "Bearer s3cret-token"


def test_a_servers_error_text_is_quoted_without_secrets(case):
    said = b"bad token s3cret-token for https://x.test/a?sig=abcdef\r\n\x1b[31mred"
    with Faulty(lambda talk: (talk.head("403 No", f"Content-Length: {len(said)}"), talk.send(said))) as server:
        failure = case.fail(f"{server.url}/a?key=q-s3cret", headers=SECRET)
    assert failure.reason == "forbidden"
    assert "bad token ***" in failure.message
    for never in ("s3cret", "sig=", "\x1b", "\r"):
        assert never not in failure.message


def test_an_expired_signed_url_is_asked_for_once_more(case):
    def script(talk):
        if "fresh" in talk.path:
            talk.serve(BODY)
        else:
            talk.head("403 Expired", "Content-Length: 0")

    with Faulty(script) as server:
        fresh = Location(f"{server.url}/a?fresh=1", f"{server.url}/a")
        stale = Location(f"{server.url}/a?stale=1", f"{server.url}/a", refresh=lambda: fresh)
        request = FetchRequest("m", "f", (stale,), str(case.target), digest=DIGEST, timeout_s=2)
        case.engine = Engine(Settings())
        case.engine.fetch(request, case.frames.append, case.cancel)
    assert case.target.read_bytes() == BODY


def test_a_proxy_from_the_environment_is_used_and_no_proxy_heeded(case):
    with Faulty(good) as proxy, Faulty(good) as direct:
        case.settings["environment"] = {"http_proxy": proxy.url, "NO_PROXY": "127.0.0.1"}
        case.get("http://model.test/a", digest=DIGEST)
        assert proxy.seen[0].path == "http://model.test/a"
        case.target.unlink()
        case.get(f"{direct.url}/b", digest=DIGEST)
        assert direct.seen[0].path == "/b"


@pytest.mark.parametrize(
    ("url", "reason"), [("http://127.0.0.1:1/x", "connection_refused"), ("http://nowhere.invalid/x", "dns")]
)
def test_a_host_that_is_not_there(case, url, reason):
    failure = case.fail(url, timeout_s=10)
    assert (failure.reason, failure.kind) == (reason, FailureKind.TRANSIENT)


def test_a_failing_host_is_left_alone_for_a_moment(case):
    case.settings |= {"breaker_failures": 2, "breaker_pause_s": 0.3}
    with Faulty(status("500 Oops")) as server:
        for _ in range(2):
            assert case.fail(f"{server.url}/a").reason == "server_error"
        assert case.fail(f"{server.url}/a").reason == "host_failing"
        assert len(server.seen) == 2
        time.sleep(0.35)
        server.script = good
        assert case.get(f"{server.url}/a", digest=DIGEST).digest == DIGEST


# --- local files ------------------------------------------------------------------------------------------------------


def test_a_local_file_is_copied_and_never_touched(case, tmp_path):
    source = tmp_path / "a b#c.gguf"
    source.write_bytes(BODY)
    source.chmod(0o640)
    before = source.stat()
    fetched = case.get(source.as_uri(), digest=DIGEST)
    assert (fetched.received_bytes, fetched.size_bytes) == (0, len(BODY))
    assert case.target.read_bytes() == BODY
    after = source.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ino) == (before.st_mode, before.st_mtime_ns, before.st_ino)
    assert case.target.stat().st_ino != before.st_ino


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "not_found"),
        (lambda path: path.mkdir(), "not_a_file"),
        (os.mkfifo, "not_a_file"),
        (lambda path: path.symlink_to("/dev/zero"), "not_a_file"),
        (lambda path: path.write_bytes(b"x"), "size_mismatch"),
        (lambda path: path.write_bytes(b"x" * 300_000), "digest_mismatch"),
    ],
)
def test_what_is_not_the_file_is_refused_at_once(case, tmp_path, make, reason):
    make(tmp_path / "source")
    failure = case.fail((tmp_path / "source").as_uri(), digest=DIGEST, size_bytes=len(BODY))
    assert (failure.reason, failure.kind) == (reason, FailureKind.PERMANENT)
    assert case.left == []


# --- queues, space, progress ------------------------------------------------------------------------------------------


def test_no_byte_is_asked_for_where_it_does_not_fit(case):
    with Faulty(good) as server:
        failure = case.fail(f"{server.url}/a", min_free_bytes=1 << 60)
    assert (failure.reason, failure.kind) == ("no_space", FailureKind.TRANSIENT)
    assert case.left == []


def test_two_requests_for_one_target_become_one_download(case):
    gate = threading.Event()

    def script(talk):
        gate.wait(5)
        talk.serve(BODY)

    found = []
    with Faulty(script) as server:
        case.engine = Engine(Settings())
        threads = [
            threading.Thread(target=lambda: found.append(case.get(f"{server.url}/a", digest=DIGEST, timeout_s=5)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while not server.seen:
            time.sleep(0.01)
        gate.set()
        for thread in threads:
            thread.join()
        assert len(server.seen) == 1
    assert sorted(each.received_bytes for each in found) == [0, 0, len(BODY)]


def test_the_queue_keeps_strict_priority():
    slots, order, cancel = Slots(1), [], threading.Event()

    def work(priority):
        with slots.hold(priority, cancel):
            order.append(priority)

    with slots.hold(9, cancel):
        threads = [threading.Thread(target=work, args=(priority,)) for priority in (0, 3, 1, 2)]
        for thread in threads:
            thread.start()
        while len(slots._waiting) < 4:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert order == [3, 2, 1, 0]


def test_bandwidth_is_one_bucket_for_all(case):
    case.settings["bandwidth_bytes"] = 1_000_000
    began = time.monotonic()
    with Faulty(good) as server:
        case.get(f"{server.url}/a", digest=DIGEST, timeout_s=5)
        case.target.unlink()
        case.get(f"{server.url}/a", digest=DIGEST, timeout_s=5)
    assert 0.3 <= time.monotonic() - began <= 1.5


def test_progress_ends_with_a_last_frame(case):
    with Faulty(good) as server:
        case.get(f"{server.url}/a", digest=DIGEST)
    last = case.frames[-1]
    assert (last.stage, last.done_bytes, last.total_bytes) == ("done", 300_000, 300_000)


def test_importing_the_engine_does_not_import_httpx():
    code = "import sys, reconciler.adapters.fetch; sys.exit('httpx' in sys.modules or 'httpcore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_client_reads_a_small_answer_whole_and_bounds_it(case):
    client = Client(Settings())
    with Faulty(good) as server:
        answer = client.ask("GET", f"{server.url}/a")
        assert (answer.status, hashlib.sha256(answer.body).hexdigest()) == (200, DIGEST[7:])
        assert answer.headers["etag"] == '"one"'
        assert client.ask("HEAD", f"{server.url}/a").headers["content-length"] == "300000"
        with pytest.raises(Failure, match="more than 1000 bytes"):
            client.ask("GET", f"{server.url}/a", max_bytes=1000)
        client.close()
