"""What goes wrong, through the command: sorted, remembered, never half-done, and mended by the next pass."""

import io
import os
import pickle
import signal
import tarfile
import time
import zipfile

import pytest
from machines import kinds
from sampling import others_slow
from scripted import Server
from watching import eventually


def test_one_failure_does_not_keep_the_others(machine):
    good = machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    del machine.origin.files["/beta.bin"]
    result = machine.apply(code=4)
    (failed,) = [outcome for outcome in result["outcomes"] if outcome["status"] == "failed"]
    assert (failed["model"], failed["reason"], failed["failure"]) == ("beta", "not_found", "permanent")
    assert machine.has("alpha", good)
    assert machine.status("beta")["reason"] == "not_found"


def test_a_permanent_failure_waits_until_its_source_answers_otherwise(machine):
    digest = machine.model("alpha", b"a" * 5000, size=5000)
    content = machine.origin.files.pop("/alpha.bin")
    machine.apply(code=4)
    machine.origin.forget()
    machine.apply(code=4)
    assert machine.origin.asked("GET") == []
    machine.origin.files["/alpha.bin"] = content
    machine.apply()
    assert machine.has("alpha", digest)


def test_a_changed_manifest_clears_what_failed_for_the_old_one(machine):
    machine.model("alpha", b"a" * 5000)
    machine.models["alpha"]["sha256"] = "0" * 64
    result = machine.apply(code=4)
    assert result["outcomes"][0]["reason"] == "digest_mismatch"
    assert machine.partials() == []
    digest = machine.model("alpha", b"a" * 5000)
    machine.apply()
    assert machine.has("alpha", digest)


def test_a_transient_failure_backs_off_and_poke_clears_it(machine):
    digest = machine.model("alpha", b"a" * 5000, size=5000)
    machine.origin.answers["/alpha.bin"] = (503, {"Retry-After": "600"})
    result = machine.apply(code=4)
    assert result["outcomes"][0]["retry_at"]
    machine.origin.answers.clear()
    machine.origin.forget()
    result = machine.apply(code=4)
    assert result["deferred"][0]["reason"] == "backing_off"
    assert result["deferred"][0]["retry_at"]
    assert machine.origin.requests == []
    machine.run("poke")
    machine.apply()
    assert machine.has("alpha", digest)


@pytest.mark.parametrize("answer", [(503, {"Retry-After": "600"}), (404, {})])
@pytest.mark.parametrize("is_mirror", others_slow(True, False))
def test_a_new_source_or_mirror_is_tried_at_once(machine, answer, is_mirror):
    digest = machine.model("alpha", b"a" * 5000, size=5000)
    machine.origin.files[f"/other/{digest}"] = b"a" * 5000
    machine.origin.answers["/alpha.bin"] = answer
    machine.apply(code=4)
    machine.origin.forget()
    machine.apply(code=4)
    assert machine.origin.asked("GET") == []
    url = machine.origin.url
    if is_mirror:
        machine.head["network"] = {"mirrors": [url + "/other/{sha256}"]}
    else:
        machine.models["alpha"]["source"] = [f"{url}/alpha.bin", f"{url}/other/{digest}"]
    machine.apply()
    assert machine.has("alpha", digest)


def test_the_next_source_and_then_the_mirror_are_tried(machine):
    digest = machine.model("alpha", b"a" * 5000)
    url = machine.origin.url
    machine.models["alpha"]["source"] = [f"{url}/gone.bin", f"{url}/alpha.bin"]
    machine.apply()
    assert machine.has("alpha", digest) is False  # it is named after its first source
    assert machine.placed("alpha", "gone.bin").read_bytes() == b"a" * 5000
    machine.head["network"] = {"mirrors": [url + "/by-digest/{sha256}"]}
    digest = machine.model("beta", b"b" * 5000)
    machine.origin.files[f"/by-digest/{digest}"] = machine.origin.files.pop("/beta.bin")
    machine.apply()
    assert machine.has("beta", digest)


def test_an_interrupted_download_goes_on_where_it_was(machine):
    content = os.urandom(48 << 20)
    digest = machine.model("alpha", content)
    machine.origin.rate = 24 << 20
    process = machine.start("apply")
    eventually(lambda: machine.origin.sent > 30 << 20, 20)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert machine.partials()
    assert not machine.placed("alpha").exists()
    assert machine.status("alpha")["state"] == "partial"
    machine.origin.rate = None
    machine.origin.forget()
    machine.apply()
    assert machine.has("alpha", digest)
    assert machine.origin.sent <= (18 << 20) + (16 << 20)
    assert machine.partials() == []


def test_a_killed_download_goes_on_where_it_was(machine):
    content = os.urandom(48 << 20)
    digest = machine.model("alpha", content)
    machine.origin.rate = 24 << 20
    process = machine.start("apply")
    eventually(lambda: machine.origin.sent > 36 << 20, 20)
    process.kill()
    process.communicate(timeout=10)
    machine.origin.rate = None
    machine.origin.forget()
    machine.apply()
    assert machine.has("alpha", digest)
    assert machine.origin.sent <= (12 << 20) + (16 << 20)


def test_a_timeout_ends_the_run_with_its_own_code(machine):
    machine.model("alpha", os.urandom(20 << 20))
    machine.origin.rate = 2 << 20
    started = time.monotonic()
    result = machine.apply("--timeout", "1s", code=8)
    assert time.monotonic() - started < 6
    assert [(o["status"], o["reason"]) for o in result["outcomes"]] == [("cancelled", "timed_out")]


def test_a_second_apply_on_a_busy_store_names_the_owner(machine):
    machine.model("alpha", os.urandom(20 << 20))
    machine.origin.rate = 4 << 20
    process = machine.start("apply")
    eventually(lambda: machine.origin.sent > 1 << 20, 20)
    machine.apply(code=7)
    assert str(process.pid) in machine.stderr
    assert machine.status("alpha")["state"] == "partial"  # readers are not kept out
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 143


def test_a_pickle_is_refused_by_content_and_nothing_is_left(machine):
    machine.model("alpha", pickle.dumps({"weights": list(range(1000))}))
    result = machine.apply(code=4)
    assert result["outcomes"][0]["reason"] == "unsafe_pickle"
    machine.origin.forget()
    machine.apply(code=4)
    assert machine.origin.asked("GET") == []  # it waits for a change; nothing is fetched again
    assert machine.partials() == []
    assert not machine.placed("alpha").exists()
    machine.models["alpha"]["allowUnsafe"] = True
    machine.apply()
    assert machine.placed("alpha").exists()


def test_content_that_is_not_its_declared_format_is_refused_until_another_is_declared(machine):
    machine.model("alpha", b"<html>please log in</html>" * 100, format="gguf")
    assert machine.apply(code=4)["outcomes"][0]["reason"] == "wrong_format"
    assert not machine.placed("alpha").exists()
    machine.models["alpha"]["format"] = "auto"
    machine.apply()
    assert machine.placed("alpha").exists()


def archive_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_an_archive_is_unpacked_and_a_second_pass_is_content(machine):
    content = archive_of({"model/weights.bin": b"w" * 9000, "model/vocab.txt": b"a\nb\n"})
    digest = machine.origin.put("/alpha.tar.gz", content)
    machine.models["alpha"] = {"source": f"{machine.origin.url}/alpha.tar.gz", "sha256": digest}
    machine.apply()
    assert machine.placed("alpha", "weights.bin").read_bytes() == b"w" * 9000
    assert not machine.blob(digest).exists()
    machine.origin.forget()
    machine.apply()
    assert machine.origin.requests == []
    for path in machine.store.glob("state.db*"):
        path.unlink()
    machine.apply()
    assert machine.origin.requests == []
    assert machine.plan()["summary"]["changes"] == 0


def test_one_unsafe_member_refuses_the_whole_archive(machine):
    content = archive_of({"weights.bin": b"w" * 9000, "../../escape": b"x"})
    digest = machine.origin.put("/alpha.tar.gz", content)
    machine.models["alpha"] = {"source": f"{machine.origin.url}/alpha.tar.gz", "sha256": digest}
    result = machine.apply(code=4)
    assert [o["reason"] for o in result["outcomes"] if o["status"] == "failed"] == ["archive_unsafe"]
    assert not machine.placed("alpha", "").exists()
    assert machine.partials() == []
    assert not (machine.folder / "escape").exists()


def test_a_cut_off_zip_is_refused(machine):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("weights.bin", os.urandom(50_000))
    content = buffer.getvalue()[:40_000]
    digest = machine.origin.put("/alpha.zip", content)
    machine.models["alpha"] = {"source": f"{machine.origin.url}/alpha.zip", "sha256": digest}
    machine.apply(code=4)
    assert not machine.placed("alpha", "").exists()


def test_a_model_of_several_files_is_whole_or_not_there(machine):
    url, put = machine.origin.url, machine.origin.put
    files = [
        {"path": "model.bin", "source": f"{url}/m", "sha256": put("/m", b"m" * 9000), "role": "primary"},
        {"path": "sub/vocab.txt", "source": f"{url}/v", "sha256": put("/v", b"v" * 10), "role": "vocabulary"},
        {"path": "extra.json", "source": f"{url}/nowhere", "optional": True},
    ]
    machine.models["alpha"] = {"files": files}
    vocabulary = machine.origin.files.pop("/v")
    machine.apply(code=4)
    assert not machine.placed("alpha", "model.bin").exists()
    machine.origin.files["/v"] = vocabulary
    machine.origin.forget()
    machine.run("poke")
    machine.apply()
    assert machine.origin.asked("GET").count("/m") == 0  # what arrived before is not fetched again
    assert machine.placed("alpha", "sub/vocab.txt").read_bytes() == b"v" * 10
    assert machine.status("alpha")["path"].endswith("/model.bin")
    assert machine.plan()["summary"]["changes"] == 0


def test_a_saved_plan_is_done_or_refused_as_a_whole(machine):
    machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    plan = str(machine.folder / "plan.json")
    machine.plan("--out", plan)
    machine.apply("--only", "alpha")
    result = machine.apply(plan)
    assert {o["model"]: o["status"] for o in result["outcomes"]} == {"alpha": "skipped", "beta": "done"}
    machine.models["alpha"] = {"state": "absent"}
    machine.plan("--out", plan)
    machine.model("alpha", b"other" * 1000)
    machine.apply(plan, code=5)
    assert machine.placed("alpha").read_bytes() == b"a" * 5000


def test_secrets_reach_their_host_and_nothing_else(machine):
    machine.model("alpha", b"a" * 5000)
    host = f"127.0.0.1:{machine.origin.port}"
    machine.head["network"] = {"credentials": {host: {"bearer": {"env": "MODEL_TOKEN"}}}}
    result = machine.apply(env={"MODEL_TOKEN": "s3cr3t-value"})
    assert machine.origin.requests[-1][2]["authorization"] == "Bearer s3cr3t-value"
    traces = [
        str(result),
        machine.stderr,
        *(path.read_bytes().decode("latin1") for path in machine.store.glob("state.db*")),
    ]
    assert not any("s3cr3t-value" in trace for trace in traces)


def test_an_unset_secret_fails_before_a_request(machine):
    machine.model("alpha", b"a" * 5000, size=5000)
    host = f"127.0.0.1:{machine.origin.port}"
    machine.head["network"] = {"credentials": {host: {"bearer": {"env": "NO_SUCH_TOKEN"}}}}
    result = machine.apply(code=4)
    assert result["outcomes"][0]["reason"] == "secret_missing"
    assert machine.origin.requests == []


def test_verify_records_what_is_bad_and_repair_mends_it(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.apply()
    stat = machine.placed("alpha").stat()
    machine.placed("alpha").chmod(0o644)
    machine.placed("alpha").write_bytes(b"b" * 5000)
    machine.placed("alpha").chmod(0o444)
    os.utime(machine.placed("alpha"), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert kinds(machine.plan()) == {}  # bit rot keeps the stat: only hashing finds it
    machine.run("verify", "alpha", code=4)
    machine.run("verify", "alpha", "--repair")
    assert machine.has("alpha", digest)
    machine.run("verify")


@pytest.mark.parametrize(
    ("broken", "env", "reason"),
    others_slow(
        ("az://container/m.bin", {}, "no_account"),
        ("s3://bucket/m.bin", {"AWS_ENDPOINT_URL": "ftp://x"}, "bad_endpoint"),
        ("hf://org/repo@" + "c" * 40 + "/m.bin", {"HF_HUB_OFFLINE": "1"}, "offline"),
        ("http://127.0.0.1:9/m.bin", {}, "secret_missing"),
    ),
)
def test_a_source_that_cannot_even_be_asked_leaves_the_others_to_serve(machine, broken, env, reason):
    machine.head["network"] = {
        "credentials": {"127.0.0.1:9": {"bearer": {"env": "NOT_SET_HERE"}}},
        "mirrors": ["http://127.0.0.1:9/{sha256}"],
    }
    digest = machine.model("m", b"x" * 5000, size=5000)
    good = machine.models["m"]["source"]
    for order in ([good, broken], [broken, good]):
        machine.models["m"]["source"] = order
        machine.apply(env=env)
        assert machine.has("m", digest)
        machine.run("evict", "m", "--yes")
    machine.head["network"]["mirrors"] = []
    machine.models["m"]["source"] = broken
    assert machine.apply(code=4, env=env)["outcomes"][0]["reason"] == reason


@pytest.mark.parametrize("kind", ["http", "s3"])
def test_what_only_get_was_refused_is_tried_again_once_get_is_answered(machine, kind):
    server, status = Server(), [403]
    told = {"ETag": '"e"', "Content-Length": "1000"}
    server.answer = lambda seen: (
        (200, told, b"") if seen.method == "HEAD" else (status[0], {"ETag": '"e"'}, b"k" * 1000)
    )
    machine.models["m"] = {"source": "s3://bucket/m.bin" if kind == "s3" else f"{server.url}/m.bin"}
    env = {"AWS_ENDPOINT_URL": server.url}
    try:
        assert machine.apply(code=4, env=env)["outcomes"][0]["reason"] == "forbidden"
        assert machine.apply(code=4, env=env)["deferred"][0]["reason"] == "forbidden"
        status[0] = 200
        machine.apply(env=env)
        assert machine.placed("m").read_bytes() == b"k" * 1000
    finally:
        server.close()


def test_other_links_are_not_held_up_by_what_the_old_ones_failed_for(machine):
    digest = machine.model("m", b"m" * 5000, links=["/proc/x"])
    while not machine.apply(code=4)["deferred"]:  # until it backs off for a while
        pass
    good = machine.folder / "good.bin"
    machine.models["m"]["links"] = [str(good)]
    machine.apply()
    assert machine.has("m", digest)
    assert good.read_bytes() == b"m" * 5000


@pytest.mark.parametrize("place", others_slow("models/c", "blobs/sha256/aa/x", "x", "outside/models/c"))
def test_a_link_into_the_store_is_refused_and_stands_in_no_models_way(machine, place):
    (machine.folder / "outside").symlink_to(machine.store)
    folder = machine.folder if place.startswith("outside") else machine.store
    digest = machine.model("a", b"a" * 5000, links=[f"{folder}/{place}"])
    result = machine.apply(code=4)
    (failed,) = [outcome for outcome in result["outcomes"] if outcome["status"] == "failed"]
    assert (failed["id"], failed["reason"]) == ("link:a:links", "link_in_store")
    assert machine.has("a", digest)
    other = machine.model("c", b"c" * 5000)
    machine.apply(code=3 if place.endswith("models/c") else 4)  # what stands there now is no link of ours
    assert machine.has("c", other)
