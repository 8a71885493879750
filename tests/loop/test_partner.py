"""Very many small files are brought by two processes: the same comes of it, only sooner."""

import contextlib
import io
import json
import os
import pickle
import random
import resource
import signal
import socket
import subprocess
import threading
import time
import zipfile
from types import SimpleNamespace

import psutil
import pytest
from machines import Machine
from sampling import others_slow
from watching import eventually

from reconciler.core.actions import Action, ActionKind, Cause
from reconciler.core.errors import transient
from reconciler.core.ports import Progress
from reconciler.execute import errand, partner
from reconciler.execute.partner import GRACE_S, Partner
from reconciler.library import Reconciler, load_manifest

MODELS, FILES = 12, 10
DEBUG = ("--log-level", "debug", "--log-format", "json")


def want(machine, *, models=MODELS, files=FILES, size=3000):
    """Models of nothing but small files that are declared in full; their digests by (model, path)."""
    draw, digests = random.Random(7), {}
    machine.head["network"] = {"models": 8, "timeout": "5s"}
    for name in (f"m{number}" for number in range(models)):
        listed = []
        for path in (f"{number}.bin" for number in range(files)):
            digests[name, path] = machine.origin.put(f"/{name}/{path}", draw.randbytes(size))
            source = f"{machine.origin.url}/{name}/{path}"
            listed.append({"path": path, "source": source, "sha256": digests[name, path], "size": size})
        machine.models[name] = {"files": listed}
    return digests


def keep_to_one_process(machine):
    machine.head["network"]["bandwidth"] = "10GB/s"


def has_all(machine, digests):
    return all(
        machine.placed(*place).samefile(machine.blob(digest)) and machine.placed(*place).stat().st_mode & 0o222 == 0
        for place, digest in digests.items()
    )


def entries(text, event):
    found = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
    return [entry for entry in found if entry["event"] == event]


def partners_of(machine):
    """(how many models another process could bring) of the last run; None where there was none."""
    started = entries(machine.stderr, "partner_started")
    return started[0]["models"] if started else None


@contextlib.contextmanager
def slowed(machine, *arguments):
    """The command under way at a slow origin, with its fork; afterwards the origin is fast again."""
    machine.origin.rate = 150_000
    process = machine.start("apply", *arguments)
    try:
        (fork,) = eventually(lambda: psutil.Process(process.pid).children(), 10, "a fork")
        eventually(lambda: len(machine.origin.requests) > 20, 10, "requests")
        yield process, fork
    finally:
        machine.origin.rate = None
        process.kill()
        process.communicate()


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def talks_of(process, origin):
    with contextlib.suppress(psutil.Error):
        return sum(
            bool(talk.raddr) and talk.raddr.port == origin.port and talk.status == psutil.CONN_ESTABLISHED
            for talk in process.net_connections("tcp")
        )
    return 0


def test_two_processes_bring_very_many_small_files(machine):
    digests = want(machine)
    result = machine.apply(*DEBUG)
    assert partners_of(machine) == MODELS
    assert [outcome["status"] for outcome in result["outcomes"]] == ["done"] * MODELS
    assert {outcome["bytes"] for outcome in result["outcomes"]} == {FILES * 3000}
    assert has_all(machine, digests)
    assert sorted(machine.origin.asked()) == sorted(f"/{name}/{path}" for name, path in digests)
    assert machine.partials() == []
    assert machine.apply()["outcomes"] == []


def test_both_fetch_and_keep_the_cap_on_connections_together(machine):
    want(machine)
    machine.head["network"]["models"] = 30
    with slowed(machine) as (process, fork):
        seen = []
        for _ in range(20):
            seen.append((talks_of(psutil.Process(process.pid), machine.origin), talks_of(fork, machine.origin)))
            time.sleep(0.02)
        machine.origin.rate = None
        assert process.wait(20) == 0
    assert max(own for own, _ in seen) > 0
    assert max(others for _, others in seen) > 0
    assert max(own + others for own, others in seen) <= 16


def timeless(document):
    """A document without moments."""
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if not key.endswith(("_at", "_time", "used"))}
    return [timeless(value) for value in document] if isinstance(document, list) else document


def recorded(machine):
    """What the ledger says of every model."""
    status = machine.run("status")["models"]
    shown = json.dumps(timeless([status, *(machine.run("show", model["name"]) for model in status[:2])]))
    return json.loads(shown.replace(str(machine.store), "STORE")), sorted(machine.told())


def test_what_is_recorded_is_what_one_process_records(machine, tmp_path):
    want(machine)
    machine.apply(*DEBUG)
    other = Machine(tmp_path / "other", machine.origin)
    other.folder.mkdir()
    want(other)
    keep_to_one_process(other)
    other.apply(*DEBUG)
    assert (partners_of(machine), partners_of(other)) == (MODELS, None)
    assert recorded(machine) == recorded(other)


def spoil(machine):
    """One file each: gone, out of order for a while, other bytes than declared."""
    machine.origin.answers["/m3/4.bin"] = (404, {})
    machine.origin.answers["/m5/9.bin"] = (503, {"Retry-After": "70"})
    machine.origin.files["/m7/0.bin"] = b"x" * 3000


def ends(result):
    return sorted(
        (o["model"], o["status"], o["reason"], o["message"], o.get("failure", "")) for o in result["outcomes"]
    )


def test_failures_are_those_of_one_process(machine, tmp_path):
    digests = want(machine)
    spoil(machine)
    ended = ends(machine.apply(*DEBUG, code=4))
    assert partners_of(machine) == MODELS
    other = Machine(tmp_path / "other", machine.origin)
    other.folder.mkdir()
    want(other)
    spoil(other)
    keep_to_one_process(other)
    assert ended == ends(other.apply(code=4))
    assert [end[:3] for end in ended if end[1] != "done"] == [
        ("m3", "failed", "not_found"),
        ("m5", "failed", "server_error"),
        ("m7", "failed", "digest_mismatch"),
    ]
    mend_and_try_again(machine, digests)


def mend_and_try_again(machine, digests):
    """What came of the models that failed is not fetched again."""
    machine.origin.answers.clear()
    want(machine)
    machine.run("poke")
    machine.origin.forget()
    machine.apply()
    assert has_all(machine, digests)
    assert sorted(machine.origin.asked("GET")) == ["/m3/4.bin", "/m5/9.bin", "/m7/0.bin"]


def test_a_fork_that_is_killed_costs_nothing(machine):
    digests = want(machine)
    with slowed(machine, *DEBUG) as (process, fork):
        fork.kill()
        machine.origin.rate = None
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, out + err
    assert entries(err, "partner_lost")[0]["pid"] == fork.pid
    assert has_all(machine, digests)
    assert machine.apply()["outcomes"] == []


def test_a_fork_ends_with_the_command_that_is_killed(machine):
    digests = want(machine)
    with slowed(machine) as (process, fork):
        process.kill()
        process.communicate()
        eventually(lambda: is_gone(fork), 2, "the fork ends")
    machine.apply()
    assert has_all(machine, digests)


@pytest.mark.parametrize(("number", "code"), others_slow((signal.SIGINT, 130), (signal.SIGTERM, 143)))
@pytest.mark.parametrize("is_sent_to_both", others_slow(True, False))
def test_a_signal_stops_both(machine, number, code, is_sent_to_both):
    digests = want(machine)
    with slowed(machine) as (process, fork):
        if is_sent_to_both:  # as a terminal does, or systemd
            fork.send_signal(number)
        process.send_signal(number)
        process.communicate(timeout=10)
        assert process.returncode == code
        eventually(lambda: is_gone(fork), 2, "the fork ends")
    machine.apply()
    assert has_all(machine, digests)
    assert machine.partials() == []


def test_a_deadline_stops_both(machine):
    want(machine)
    machine.origin.rate = 50_000
    result = machine.apply("--timeout", "1s", code=8)
    assert {outcome["status"] for outcome in result["outcomes"]} <= {"done", "cancelled"}
    assert "timed_out" in {outcome["reason"] for outcome in result["outcomes"]}


def test_a_fork_that_stands_still_is_killed_with_the_command(machine):
    want(machine)
    with slowed(machine) as (process, fork):
        fork.suspend()
        process.kill()
        process.communicate()
        eventually(lambda: is_gone(fork), 2, "the fork ends")
    machine.apply()


@pytest.mark.slow
def test_a_fork_that_stands_still_holds_up_no_stop_for_long(machine):
    digests = want(machine)
    with slowed(machine) as (process, fork):
        fork.suspend()
        process.terminate()
        process.communicate(timeout=GRACE_S + 5)
        assert process.returncode == 143
        assert is_gone(fork)
    machine.apply()
    assert has_all(machine, digests)


def test_the_fork_is_gone_when_its_kind_of_model_is_done(machine):
    """What is left has the limits for itself again."""
    want(machine)
    body = os.urandom(3 << 20)
    machine.models["zz"] = {"source": f"{machine.origin.url}/zz", "sha256": machine.origin.put("/zz", body)}
    with slowed(machine) as (process, fork):
        machine.origin.rate = 800_000
        eventually(lambda: is_gone(fork), 20, "the fork ends")
        assert process.poll() is None
        machine.origin.rate = None
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert machine.placed("zz", "zz").read_bytes() == body


def test_an_archive_by_its_content_is_unpacked_by_the_fork(machine):
    digests = want(machine, files=9)
    for name in machine.models:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(f"inside-{name}", name * 100)
        digest = machine.origin.put(f"/{name}/pack.dat", packed.getvalue())
        source, size = f"{machine.origin.url}/{name}/pack.dat", len(packed.getvalue())
        machine.models[name]["files"].append({"path": "pack.dat", "source": source, "sha256": digest, "size": size})
    machine.apply(*DEBUG)
    assert partners_of(machine) == MODELS
    assert not entries(machine.stderr, "errand_returned")
    assert len(machine.origin.requests) == MODELS * FILES
    assert has_all(machine, digests)
    assert all(machine.placed(name, f"inside-{name}").read_text() == name * 100 for name in machine.models)
    assert machine.apply()["outcomes"] == []


# --- when there is a second process ---------------------------------------------------------------------------------


def few(machine):
    want(machine, models=9, files=11)


def bounded(machine):
    want(machine)
    keep_to_one_process(machine)


def one_by_one(machine):
    want(machine)
    machine.head["network"]["models"] = 1


def undeclared(machine):
    want(machine)
    for model in machine.models.values():
        del model["files"][0]["sha256"]


@pytest.mark.parametrize("case", others_slow(bounded, few, one_by_one, undeclared))
def test_one_process_does_the_rest(machine, case):
    case(machine)
    machine.apply(*DEBUG)
    assert partners_of(machine) is None
    assert machine.apply()["outcomes"] == []


@pytest.mark.slow
def test_one_core_is_kept_busy_by_one_process(machine):
    want(machine)
    mine = os.sched_getaffinity(0)
    process = None
    try:
        os.sched_setaffinity(0, {min(mine)})
        process = machine.start(*DEBUG, "apply")
    finally:
        os.sched_setaffinity(0, mine)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert not entries(err, "partner_started")


def ignore_ends():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as a supervisor may hand down: then nobody can wait for a fork


def allow_few_tasks():
    resource.setrlimit(resource.RLIMIT_NPROC, (400, 400))


@pytest.mark.parametrize("before", others_slow(ignore_ends, allow_few_tasks))
def test_no_fork_where_it_could_not_be_kept(machine, before):
    digests = want(machine)
    machine.write()
    done = subprocess.run(
        machine.command(*DEBUG, "apply"),
        text=True,
        cwd=machine.folder,
        capture_output=True,
        check=False,
        preexec_fn=before,
    )
    assert done.returncode == 0, done.stderr
    assert not entries(done.stderr, "partner_started")
    assert has_all(machine, digests)


@pytest.mark.parametrize(
    ("of_user", "of_container", "is_enough"),
    [(-1, "max\n", True), (-1, "511\n", False), (511, "max\n", False), (512, "512\n", True), (9000, None, True)],
)
def test_a_fork_needs_tasks(monkeypatch, tmp_path, of_user, of_container, is_enough):
    if of_container is not None:
        (tmp_path / "pids.max").write_text(of_container)
    monkeypatch.setattr(partner, "_OF_CONTAINER", str(tmp_path / "pids.max"))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (of_user, of_user))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert partner._has_means() is is_enough


def large(machine):
    body = os.urandom((1 << 20) + 1)
    machine.models["odd"] = {
        "source": f"{machine.origin.url}/odd",
        "sha256": machine.origin.put("/odd", body),
        "size": len(body),
    }


def of_measured_size(machine):
    machine.models["odd"] = {"source": f"{machine.origin.url}/odd", "sha256": machine.origin.put("/odd", b"odd")}


def of_equal_content(machine):
    machine.models["odd"] = {"files": [dict(machine.models["m0"]["files"][0])]}


def that_waits(machine):
    of_measured_size(machine)
    machine.models["odd"] |= {"size": 3, "dependsOn": ["m1"]}


@pytest.mark.parametrize(
    ("odd", "others"),
    others_slow((of_equal_content, MODELS - 1), (large, MODELS), (of_measured_size, MODELS + 1), (that_waits, MODELS)),
)
def test_only_models_of_small_files_that_are_all_their_own_are_divided(machine, odd, others):
    digests = want(machine)
    odd(machine)
    machine.apply(*DEBUG)
    assert partners_of(machine) == others
    assert has_all(machine, digests)
    assert machine.apply()["outcomes"] == []


@pytest.mark.slow
def test_a_model_that_is_repaired_is_not_divided(machine):
    digests = want(machine)
    machine.apply()
    for (name, path), digest in digests.items():
        if name == "m0" or path == "0.bin":
            machine.blob(digest).unlink()
            machine.placed(name, path).unlink()
    machine.apply(*DEBUG)
    assert partners_of(machine) is None
    assert has_all(machine, digests)


def test_who_uses_the_library_is_never_forked(machine, monkeypatch):
    digests = want(machine)
    machine.write()
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a fork"))
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    with Reconciler(load_manifest((str(machine.manifest),)), store=machine.store) as reconciler:
        assert reconciler.apply().summary.done == MODELS
    assert has_all(machine, digests)


def test_where_no_fork_is_to_be_had_one_process_does_it(machine, monkeypatch):
    def refuse():
        raise BlockingIOError("no more processes")

    digests = want(machine)
    machine.write()
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    with Reconciler(load_manifest((str(machine.manifest),)), store=machine.store) as reconciler:
        reconciler.world.may_fork = True
        assert reconciler.apply().summary.done == MODELS
    assert has_all(machine, digests)


# --- one errand -----------------------------------------------------------------------------------------------------


class Told:
    """In place of the line."""

    def __init__(self):
        self.replies = []

    def tell(self, reply):
        self.replies.append(reply)


class Bare:
    """In place of the work."""

    def __init__(self, refused=()):
        self.refused, self.ledger = dict(refused), None


ACTION = Action("download:a", ActionKind.DOWNLOAD, "a", "not_in_store", "it is not in the store", Cause.INTENT)


def reply_of(monkeypatch, handler, work=None):
    told = Told()
    monkeypatch.setattr(errand, "download", handler)
    errand._run(work or Bare(), ACTION, told)
    (reply,) = told.replies
    return reply


def test_what_breaks_in_the_fork_is_left_to_who_asked(monkeypatch):
    def handler(_action, work):
        work.ledger.proofs.save(["a proof"])
        raise RuntimeError("a fault of ours")

    reply = reply_of(monkeypatch, handler)
    assert (reply.action_id, reply.done, reply.failure, reply.notes) == ("download:a", None, None, ())
    assert reply.error == "RuntimeError"


def test_what_cannot_be_told_is_left_to_who_asked(monkeypatch):
    class Choosy(Told):
        def tell(self, reply):
            if not reply.error:
                raise TypeError("cannot pickle")
            super().tell(reply)

    told = Choosy()
    monkeypatch.setattr(errand, "download", lambda *_: "done")
    errand._run(Bare(), ACTION, told)
    assert [(reply.action_id, reply.done, reply.error) for reply in told.replies] == [("download:a", None, "TypeError")]


@pytest.mark.parametrize(
    "answer",
    [b"", b"no pickle", pickle.dumps(errand.Reply("download:a", error="ValueError")), pickle.dumps("unheard of")],
    ids=["the end", "garbage", "a fault", "nonsense"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_answer_that_is_none_means_that_it_is_done_here(answer):
    divided = []
    world = SimpleNamespace(divide_network=divided.append, monotonic=time.monotonic)
    here, there = socket.socketpair()
    with there, subprocess.Popen(["sleep", "60"]) as fork:
        made = Partner(SimpleNamespace(world=world), frozenset({ACTION.id, "other"}), 1, fork.pid, here)
        there.sendall(answer)
        there.shutdown(socket.SHUT_WR)
        assert made.try_bring(ACTION) is None
        made.close()
        made.close()
        assert fork.poll() is not None
    assert divided == [2, 1]


def test_a_failure_goes_with_its_notes(monkeypatch):
    def handler(_action, work):
        with work.ledger.transaction():
            work.ledger.proofs.save(iter(["a proof"]))
            work.ledger.brought.save([])
        raise transient("timeout", "too slow")

    reply = reply_of(monkeypatch, handler, Bare({"a": "the file"}))
    assert (reply.failure.reason, reply.refused) == ("timeout", "the file")
    assert [(note.noun, note.what) for note in reply.notes] == [("proofs", ["a proof"]), ("brought", [])]


def test_errands_side_by_side_keep_their_notes_apart(monkeypatch):
    meet = threading.Barrier(2)
    told, work = Told(), Bare()

    def handler(action, mine):
        meet.wait(5)
        mine.ledger.record_installed(action)
        meet.wait(5)

    monkeypatch.setattr(errand, "download", handler)
    threads = [threading.Thread(target=errand._run, args=(work, ACTION, told)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert [[note.what for note in reply.notes] for reply in told.replies] == [[ACTION], [ACTION]]


def test_progress_is_told_five_times_a_second_of_each_model():
    sent, clock = [], iter([10.0, 10.1, 10.1, 10.25, 10.25, 10.3])
    teller = errand._Teller(None, lambda: next(clock))
    teller.tell = sent.append
    frames = [Progress(model, "f", "connecting", count, None) for count, model in enumerate("aababa")]
    for frame in frames:
        teller.progress(frame)
    assert sent == [frames[0], frames[2], frames[3]]
