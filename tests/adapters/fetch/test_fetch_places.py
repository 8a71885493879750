"""Several places for one file, secrets and where they go, local files, queues."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from faulty import Faulty
from fetching import digest_of, make_bytes

from reconciler.adapters.fetch import Client, Engine, Settings
from reconciler.adapters.fetch.slots import Connections, Slots
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


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_waits_the_longest_is_told(case, order):
    def busy(seconds):
        return lambda talk: talk.head("503 Busy", *seconds, "Content-Length: 0")

    with Faulty(busy(["Retry-After: 300", "Retry-After: 20"])) as one, Faulty(busy([])) as two:
        urls = [f"{one.url}/a", f"{two.url}/b"][::order]
        assert case.fail(*urls).retry_after_s == 300.0


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
    said = b"access is denied to this model: bad token s3cret-token for https://x.test/a?sig=abcdef\r\n\x1b[31mred"
    with Faulty(lambda talk: (talk.head("403 No", f"Content-Length: {len(said)}"), talk.send(said))) as server:
        failure = case.fail(f"{server.url}/a?key=q-s3cret", headers=SECRET)
    assert failure.reason == "forbidden"
    assert "access is denied to this model bad *** for ***" in failure.message
    for never in ("s3cret", "sig=", "\x1b", "\r"):
        assert never not in failure.message


def test_no_hop_and_no_proxy_is_quoted(case):
    """What each hop of a chain was asked with, and what opens the proxy, may come back from any of them."""

    def script(talk):
        if "middle" in talk.path:
            talk.head("302 Found", "Location: http://far.test/end?last=lastword", "Content-Length: 0")
        elif "end" in talk.path:
            said = (
                b"no access lastword middleword with firstword or proxyword today "
                + talk.headers["proxy-authorization"].encode()
            )
            talk.head("403 No", f"Content-Length: {len(said)}")
            talk.send(said)
        else:
            talk.head("302 Found", "Location: http://near.test/middle?sig=middleword", "Content-Length: 0")

    with Faulty(script) as proxy:
        case.settings["environment"] = {"http_proxy": proxy.url.replace("://", "://me:proxyword@")}
        message = case.fail("http://model.test/a?key=firstword").message
    assert "no access" in message
    assert "with" in message
    for word in ("lastword", "middleword", "firstword", "proxyword"):
        assert word not in message


def test_a_secret_that_comes_back_as_a_path_is_not_told(case):
    def script(talk):
        if talk.path == "/a":
            talk.head("302 Found", "Location: /s3cret%2Dtoken/x", "Content-Length: 0")
        else:
            talk.head("404 No", "Content-Length: 0")

    with Faulty(script) as server:
        message = case.fail(f"{server.url}/a", headers=SECRET).message
    assert "s3cret" not in message
    assert "127.0.0.1 does not have it" in message


def test_a_proxys_own_words_are_not_quoted(case):
    with Faulty(lambda talk: talk.head("502 hush proxyword", "Content-Length: 0")) as proxy:
        case.settings["environment"] = {"https_proxy": proxy.url.replace("://", "://me:proxyword@")}
        failure = case.fail("https://model.test/a")
    assert failure.reason == "proxy_error"
    assert failure.message.endswith("(HTTP 502)")


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


@pytest.mark.parametrize("is_right", [True, False])
def test_credentials_may_expire_as_often_as_bytes_come_in_between(case, is_right):
    body, used = make_bytes(9 << 20), set()

    def script(talk):
        if talk.path in used or not is_right:
            talk.head("403 Expired", "Content-Length: 0")
            return
        used.add(talk.path)
        start = talk.range[0] if talk.range else 0
        span = f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"
        talk.head("206 Partial" if start else "200 OK", f"Content-Length: {len(body) - start}", 'ETag: "one"', span)
        talk.send(body[start : start + (2 << 20)])
        talk.sock.shutdown(socket.SHUT_WR)

    def located(number):
        return Location(f"{server.url}/{number}", server.url, refresh=lambda: located(number + 1))

    with Faulty(script) as server:
        request = FetchRequest(
            "m", "f", (located(0),), str(case.target), digest=digest_of(body), connections=1, timeout_s=2
        )
        engine = case.engine = Engine(Settings(random=lambda: 0.0))
        if is_right:
            engine.fetch(request, case.frames.append, case.cancel)
            assert case.target.read_bytes() == body
            assert len(used) > 3
        else:
            with pytest.raises(Failure) as caught:
                engine.fetch(request, case.frames.append, case.cancel)
            assert caught.value.reason == "forbidden"
            assert [talk.path for talk in server.seen] == ["/0", "/1"]


def signing(statuses):
    """An origin that signs anew at every question; the first signatures are answered with ``statuses``."""
    asked = []

    def script(talk):
        if talk.path == "/a":
            asked.append(talk.number)
            talk.head("302 Found", f"Location: /signed?sig={len(asked)}", "Content-Length: 0")
        elif len(asked) <= len(statuses):
            talk.head(statuses[len(asked) - 1], "Content-Length: 0")
        else:
            talk.serve(BODY)

    script.asked = asked
    return script


@pytest.mark.parametrize("status", ["400 Expired", "401 No", "403 No", "404 No", "410 No"])
def test_a_dead_signature_is_asked_for_anew_at_its_origin(case, status):
    with Faulty(signing([status])) as server:
        case.get(f"{server.url}/a", digest=DIGEST)
    assert case.target.read_bytes() == BODY


def test_an_origin_whose_signatures_are_all_dead_is_asked_twice(case):
    with Faulty(signing(["403 No"] * 9)) as server:
        assert case.fail(f"{server.url}/a", digest=DIGEST).reason == "forbidden"
        assert len(server.script.asked) == 2


def test_signatures_may_expire_as_often_as_bytes_come_in_between(case):
    asked = []

    def script(talk):
        if talk.path == "/a":
            asked.append(talk.number)
            talk.head("302 Found", f"Location: /signed?sig={len(asked)}", "Content-Length: 0")
        elif len(asked) in {2, 4}:
            talk.head("403 Expired", "Content-Length: 0")
        else:
            start = talk.range[0] if talk.range else 0
            span = [f"Content-Range: bytes {start}-{len(BODY) - 1}/{len(BODY)}"] if start else []
            status = "206 Part" if start else "200 OK"
            talk.head(status, 'ETag: "one"', f"Content-Length: {len(BODY) - start}", *span)
            talk.send(BODY[start : start + 120_000])

    with Faulty(script) as server:
        fetched = case.get(f"{server.url}/a", digest=DIGEST)
    assert fetched.received_bytes == len(BODY)
    assert len(asked) == 5


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


@pytest.mark.parametrize("fault", ["refused", "500", "reset in the middle"])
def test_a_failing_host_behind_redirects_is_not_held_against_the_one_that_redirects(case, fault):
    case.settings |= {"breaker_failures": 2, "breaker_pause_s": 30, "retries": 0}

    def broken(talk):
        if fault == "500":
            talk.head("500 Oops", "Content-Length: 0")
        else:
            talk.head("200 OK", f"Content-Length: {len(BODY)}")
            talk.send(BODY[:1000])
            talk.is_over.wait(0.1)
            talk.reset()

    with Faulty(broken) as mirror:
        there = "http://127.0.0.1:1" if fault == "refused" else mirror.url

        def front(talk):
            if talk.path == "/good":
                talk.serve(BODY)
            else:
                talk.head("302 Found", f"Location: {there}/x", "Content-Length: 0")

        with Faulty(front) as server:
            reasons = [case.fail(f"{server.url}/{number}").reason for number in range(3)]
            assert fault == "reset in the middle" or reasons[2] == "host_failing"
            assert case.get(f"{server.url}/good", digest=DIGEST).digest == DIGEST


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


def test_the_client_hands_back_a_redirect_that_leads_nowhere(case):
    """S3 answers a wrong region by a 301 without ``Location``: the header that tells the right one is for the caller."""
    with Faulty(lambda talk: talk.head("301 Moved", "x-amz-bucket-region: eu-west-1", "Content-Length: 0")) as server:
        client = Engine(Settings()).client
        answer = client.ask("HEAD", f"{server.url}/a")
        assert (answer.status, answer.headers["x-amz-bucket-region"]) == (301, "eu-west-1")
        assert case.fail(f"{server.url}/a").reason == "malformed_answer"
        client.close()


def test_more_places_are_handed_out_at_once_and_fewer_as_they_become_free():
    slots, cancel, order = Slots(1), threading.Event(), []

    def work(name):
        with slots.hold(1, cancel):
            order.append(name)

    with slots.hold(1, cancel):
        second = threading.Thread(target=work, args=["second"])
        second.start()
        slots.resize(2)
        second.join(5)
        assert order == ["second"]
        slots.resize(1)
        third = threading.Thread(target=work, args=["third"])
        third.start()
        third.join(0.1)
        assert order == ["second"]
    third.join(5)
    assert order == ["second", "third"]


def test_a_cap_that_is_lowered_holds_where_an_origin_wanted_fewer_once():
    origin, cap = ("http", "a.example", 80), Connections(16)
    assert all(cap.try_take(origin) for _ in range(10))
    cap.give_back(origin, is_refused=True)  # nine are enough for it
    cap.resize(4)
    for _ in range(6):
        cap.give_back(origin)
    assert cap.try_take(origin)
    assert not cap.try_take(origin)


def test_who_waits_for_a_connection_gets_one_when_the_cap_is_raised():
    origin, cap = ("http", "a.example", 80), Connections(1)
    assert cap.try_take(origin)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cap.take, origin, threading.Event())
        cap.resize(2)
        waiting.result(10)
    assert not cap.try_take(origin)
