"""Servers that misbehave, seen through the command: each ends with its own reason, and nothing wrong is placed."""

import calendar
import contextlib
import email.utils
import hashlib
import random
import time

import pytest
from faulty import Faulty
from sampling import others_slow
from watching import eventually

from reconciler import Reconciler, load_manifest

BODY = random.Random(8).randbytes(300_000)
BIG = random.Random(9).randbytes(3_000_000)
PAGE = b"<!doctype html><html><body>please log in</body></html>"


def sha(data):
    return hashlib.sha256(data).hexdigest()


def served(talk):
    talk.serve(BODY)


def status(line, *lines):
    return lambda talk: talk.head(line, *lines, "Content-Length: 0")


def page(talk):
    talk.head("200 OK", "Content-Type: text/html; charset=utf-8", f"Content-Length: {len(PAGE)}")
    talk.send(PAGE)


def portal(talk):
    """Another host of this machine, as a hotel's network sends everybody to its own."""
    if talk.path == "/login":
        page(talk)
    else:
        port = talk.sock.getsockname()[1]
        talk.head("302 Found", f"Location: http://localhost:{port}/login", "Content-Length: 0")


def round_and_round(talk):
    talk.head("302 Found", f"Location: /{talk.number}", "Content-Length: 0")


def nowhere(talk):
    talk.head("302 Found", "Content-Length: 0")


def to_a_file(talk):
    talk.head("302 Found", "Location: file:///etc/passwd", "Content-Length: 0")


def endless_header(talk):
    talk.send("HTTP/1.1 200 OK\r\n")
    for number in range(2_000):
        talk.send(f"X-Filler-{number}: {'a' * 1000}\r\n")


def coded(talk):
    talk.head("200 OK", "Content-Encoding: gzip", "Content-Length: 20")
    talk.send(b"\x1f\x8b" + bytes(18))


def a_part_unasked(talk):
    talk.head("206 Partial Content", "Content-Range: bytes 0-99/300000", "Content-Length: 100")
    talk.send(BODY[:100])


def silent(talk):
    talk.hang(20)


# Name, what the server does, the reason, whether it may pass or was only refused.
ROWS = [
    ("unauthorized", status("401 No"), "unauthorized", False),
    ("forbidden", status("403 No"), "forbidden", False),
    ("missing", status("404 No"), "not_found", False),
    ("gone", status("410 No"), "gone", False),
    ("legal", status("451 No"), "unavailable_for_legal_reasons", False),
    ("early", status("425 Early"), "too_early", True),
    ("broken", status("500 No"), "server_error", True),
    ("often", status("429 Often"), "rate_limited", True),
    ("network-login", status("511 Login"), "captive_portal", True),
    ("page", page, "html_instead_of_model", False),
    ("portal", portal, "captive_portal", True),
    ("round", round_and_round, "too_many_redirects", True),
    ("nowhere", nowhere, "malformed_answer", True),
    ("to-a-file", to_a_file, "unsafe_redirect", True),
    ("header", endless_header, "malformed_answer", True),
    ("coded", coded, "content_coded", False),
    ("part", a_part_unasked, "bad_range", True),
    ("silent", silent, "timeout", True),
]


def test_every_bad_answer_has_a_reason_and_keeps_nobody_else_back(machine):
    machine.head["network"] = {"timeout": "2s", "models": 20}
    good = machine.model("good", BODY)
    with contextlib.ExitStack() as servers:
        for name, script, _, _ in ROWS:
            server = servers.enter_context(Faulty(script))
            machine.models[name] = {"source": f"{server.url}/a.bin"}
        began = time.monotonic()
        result = machine.apply(code=4)
        assert time.monotonic() - began < 15  # network.timeout holds for the question how large a file is, too
        seen = {outcome["model"]: outcome for outcome in result["outcomes"]}
        told = {name: (seen[name]["reason"], seen[name]["status"]) for name, *_ in ROWS}
        assert told == {name: (reason, "failed") for name, _, reason, _ in ROWS}
        assert machine.has("good", good)
        assert sorted(path.name for path in (machine.store / "models").iterdir()) == ["good"]
        status_now = {model["name"]: model for model in machine.run("status")["models"]}
        for name, _, reason, is_retried in ROWS:
            assert status_now[name]["state"] != "present", name
            if not is_retried:
                assert status_now[name]["retry_at"] is None, name
                assert status_now[name]["reason"] == reason, name
    before = len(machine.origin.requests)
    machine.apply(code=4)  # nobody spins: what backs off is not asked again
    assert len(machine.origin.requests) == before


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("100", 100, 110),
        (lambda: email.utils.formatdate(time.time() + 100, usegmt=True), 97, 110),
        (lambda: email.utils.formatdate(time.time() - 100, usegmt=True), 0, 3),
        ("99999999999999999999", 900, 910),
    ],
    ids=["seconds", "date", "past", "absurd"],
)
def test_retry_after_is_a_floor_with_a_cap(machine, value, least, most):
    text = value() if callable(value) else value
    with Faulty(status("503 Busy", f"Retry-After: {text}")) as server:
        machine.models["m"] = {"source": f"{server.url}/m.bin"}
        began = time.time()
        machine.apply(code=4)
        retry_at = machine.status("m")["retry_at"]
    if retry_at is None:  # over already
        assert least == 0
        return
    at = calendar.timegm(time.strptime(retry_at.partition(".")[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S"))
    assert least - 1 <= at - began <= most + (time.time() - began)


def test_a_failing_host_is_left_alone_and_others_are_not(machine):
    """The circuit breaker: after five failures in a row the host is not asked any more in this pass."""
    machine.head["network"] = {"models": 1}
    good = machine.model("zz-good", BODY)
    with Faulty(status("500 No")) as server:
        for number in range(9):
            machine.models[f"m{number}"] = {"source": f"{server.url}/{number}.bin", "sha256": f"{number:064x}"}
        result = machine.apply(code=4)
        asked = [
            talk for talk in server.seen if talk.method == "GET" and not talk.range
        ]  # a range: planning asks sizes
    reasons = [outcome["reason"] for outcome in result["outcomes"] if outcome["model"].startswith("m")]
    assert reasons.count("server_error") == len(asked) == 5
    assert reasons.count("host_failing") == 4
    assert machine.has("zz-good", good)


@pytest.mark.slow
def test_a_host_that_hangs_is_not_asked_for_every_size(machine):
    machine.head["network"] = {"timeout": "1s", "models": 20}
    with Faulty(lambda talk: talk.hang()) as server:
        for number in range(20):
            machine.models[f"m{number}"] = {"source": f"{server.url}/{number}.bin"}
        machine.apply(code=4)
        assert len(server.seen) <= 12  # eight at once, and four more until the fifth has failed


@pytest.mark.parametrize("way", ["--timeout", "SIGTERM"])
def test_questions_for_sizes_end_with_the_pass(machine, way):
    with Faulty(lambda talk: talk.hang()) as server:
        machine.models = {f"m{number}": {"source": f"{server.url}/{number}.bin"} for number in range(20)}
        process = machine.start("apply", *(["--timeout", "1s"] if way == "--timeout" else []))
        eventually(lambda: server.seen)
        began = time.monotonic()
        if way == "SIGTERM":
            process.terminate()
        process.communicate(timeout=20)
        assert time.monotonic() - began < 4
        assert process.returncode == (8 if way == "--timeout" else 143)
        assert len(server.seen) <= 8


def test_a_mirror_by_digest_serves_what_no_source_has(machine):
    with Faulty(served) as mirror:
        machine.head["network"] = {"mirrors": [f"{mirror.url}/by/{{sha256}}"]}
        machine.models["m"] = {"source": f"{machine.origin.url}/missing/m.bin", "sha256": sha(BODY)}
        machine.apply()
        assert [talk.path for talk in mirror.seen if talk.method == "GET"] == [f"/by/{sha(BODY)}"]
    assert machine.has("m", sha(BODY))


def test_a_mirror_that_lies_is_found_out(machine):
    with Faulty(lambda talk: talk.serve(BODY[::-1])) as mirror:
        machine.head["network"] = {"mirrors": [f"{mirror.url}/{{sha256}}"]}
        machine.models["m"] = {"source": f"{machine.origin.url}/missing/m.bin", "sha256": sha(BODY)}
        machine.apply(code=4)
    assert not machine.placed("m").exists()


def test_a_secret_stays_with_its_origin_over_redirects(machine):
    elsewhere = Faulty(served)

    def script(talk):
        if talk.path == "/m.bin":
            talk.head("302 Found", "Location: /inside", "Content-Length: 0")
        else:
            talk.head("307 Found", f"Location: {elsewhere.url}/signed?token=s3cr3t", "Content-Length: 0")

    with elsewhere, Faulty(script) as server:
        host = server.url.removeprefix("http://")
        machine.head["network"] = {"credentials": {host: {"bearer": {"env": "TOKEN"}}}}
        machine.models["m"] = {"source": f"{server.url}/m.bin", "sha256": sha(BODY)}
        machine.apply(env={"TOKEN": "hush-hush"})
        assert all(talk.headers["authorization"] == "Bearer hush-hush" for talk in server.seen)
        assert server.seen
        assert elsewhere.seen
        assert not any("hush" in str(talk.headers) for talk in elsewhere.seen)
    kept = b"".join(path.read_bytes() for path in machine.store.rglob("state.db*"))
    assert b"hush-hush" not in kept
    assert b"s3cr3t" not in kept


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "http://169.254.169.254/latest", "http://10.0.0.1/x"])
def test_a_public_source_does_not_lead_inwards(machine, target):
    """The proxy stands for the world outside: what it fetches for us is public, and may not send us home."""
    with Faulty(lambda talk: talk.head("302 Found", f"Location: {target}", "Content-Length: 0")) as proxy:
        machine.models["m"] = {"source": "http://models.example.com/m.bin", "sha256": sha(BODY)}
        result = machine.apply(code=4, env={"http_proxy": proxy.url, "no_proxy": "127.0.0.1"})
        assert proxy.seen
    assert [outcome["reason"] for outcome in result["outcomes"]] == ["unsafe_redirect"]


def test_an_expired_signed_url_is_asked_for_once_more_at_its_origin(machine):
    """A hub redirects to a bucket with a signature; it expires in the middle, the hub gives another one."""
    tokens = []

    def bucket(talk):
        if talk.path != f"/o?sig={len(tokens)}":
            talk.head("403 Expired", "Content-Length: 0")
        elif len(tokens) == 1:
            talk.head("200 OK", 'ETag: "one"', "Accept-Ranges: bytes", f"Content-Length: {len(BIG)}")
            talk.send(BIG[:2_000_000])
            talk.reset()
        else:
            talk.serve(BIG)

    with Faulty(bucket) as store:

        def hub(talk):
            if talk.method == "GET":
                tokens.append(talk.path)
            location = f"Location: {store.url}/o?sig={len(tokens)}"
            talk.head("302 Found", location, "Content-Length: 0")

        with Faulty(hub) as origin:
            machine.models["m"] = {"source": f"{origin.url}/m.bin", "sha256": sha(BIG), "size": len(BIG)}
            machine.apply()
        (resumed,) = [talk for talk in store.seen if talk.range]
        assert resumed.range[0] > 0
        assert resumed.headers["if-range"] == '"one"'
    assert machine.has("m", sha(BIG))
    assert len(tokens) == 2


@pytest.mark.parametrize("is_declared", others_slow(False, True))
def test_an_object_that_changes_between_two_attempts_is_never_mixed(machine, is_declared):
    old, new = random.Random(1).randbytes(8_000_000), random.Random(2).randbytes(8_000_000)
    digest = machine.model("m", old)
    if not is_declared:
        del machine.models["m"]["sha256"]
    machine.origin.rate = 4_000_000
    process = machine.start("apply")
    eventually(lambda: machine.origin.sent > 5_000_000)
    process.terminate()
    process.communicate(timeout=20)
    machine.origin.rate = None
    machine.origin.put("/m.bin", new)
    machine.run("poke")
    if is_declared:
        result = machine.apply(code=4)
        assert result["outcomes"][0]["reason"] == "digest_mismatch"
        assert not machine.placed("m").exists()
        assert machine.partials() == []
        machine.origin.put("/m.bin", old)
        machine.run("poke")
        machine.apply()
        assert machine.has("m", digest)
    else:
        machine.apply()
        assert machine.has("m", sha(new))


def test_outside_its_windows_nothing_is_asked_for(machine):
    digest = machine.model("m", BODY)
    hour = time.gmtime().tm_hour
    machine.head["network"] = {"windows": [f"{(hour + 3) % 24:02}:00-{(hour + 5) % 24:02}:00"]}
    result = machine.apply(code=3, env={"TZ": "UTC"})
    assert result["summary"]["deferred"] == 1
    assert machine.plan()["deferred"][0]["reason"] == "outside_window"
    assert machine.origin.asked("GET") == []
    machine.apply(env={"TZ": "UTC-4"})  # where it is four hours later, a window is open
    assert machine.has("m", digest)


@pytest.mark.slow
def test_bandwidth_is_kept_within_a_tenth_by_all_files_together(machine):
    machine.head["network"] = {"bandwidth": "3MB/s"}
    for name in ("one", "two"):
        machine.model(name, random.Random(name).randbytes(6_000_000))
    seconds = max(outcome["seconds"] for outcome in machine.apply()["outcomes"])
    assert 12 / 3 * 0.9 <= seconds <= 12 / 3 * 1.1 + 0.3  # what it takes to place them, on a busy machine


@pytest.mark.slow
def test_an_observer_is_told_five_times_a_second_and_at_the_end(machine):
    machine.model("m", random.Random(6).randbytes(4_000_000))
    machine.origin.rate = 2_000_000
    machine.write()
    frames = []
    reconciler = Reconciler(load_manifest([str(machine.manifest)]), store=str(machine.store))
    with reconciler:
        reconciler.on_progress(lambda frame: frames.append((time.monotonic(), frame)))
        reconciler.apply()
    loading = [at for at, frame in frames if frame.stage == "downloading"]
    assert 5 <= len(loading) <= 5 * (loading[-1] - loading[0]) + 3
    rates = [frame.rate for _, frame in frames if frame.stage == "downloading" and frame.rate]
    assert rates
    assert 1_000_000 < rates[-1] < 4_000_000
    assert frames[-1][1].stage == "done"
    assert frames[-1][1].done_bytes == 4_000_000
