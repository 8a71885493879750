"""Files of models on their way into the store: small ones are held and made durable together, and nothing gets lost."""

import errno
import hashlib
import os
import pickle
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import forking
import pytest
from faulty import Faulty
from origin import Origin
from sampling import others_slow
from watching import eventually

from reconciler import Reconciler, load_manifest, reconcile
from reconciler.adapters.fetch import Engine, Settings
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.ledger import Ledger
from reconciler.adapters.ledger.proofs import Proofs
from reconciler.adapters.store import Store, batch, partial_key
from reconciler.core.actions import ActionKind
from reconciler.core.ports import FetchRequest, Location
from reconciler.execute import claims, download, run
from reconciler.execute.bringing import _HELD_AT_ONCE, _HELD_BYTES, bring

LONG_S = 60.0
PICKLE = pickle.dumps({"weights": list(range(1000))})


def sha(content):
    return hashlib.sha256(content).hexdigest()


def contents(count, seed=1, size=4000):
    """So many small files by path, no two of them alike."""
    chance = random.Random(seed)
    return {f"part/{number:03}.bin": chance.randbytes(chance.randrange(16, size)) for number in range(count)}


def alike(count, size):
    """So many files of one size, by path as :func:`contents` names them."""
    return {f"part/{number:03}.bin": bytes([number + 1]) * size for number in range(count)}


def want(machine, name, files, sized=lambda path: True, optional=()):
    """A model of these files, all of them with a digest, and those that are ``sized`` with a size."""
    entries = []
    for path, content in files.items():
        digest = machine.origin.put(f"/{name}/{path}", content)
        entries.append({"path": path, "source": f"{machine.origin.url}/{name}/{path}", "sha256": digest})
        if sized(path):
            entries[-1]["size"] = len(content)
        if path in optional:
            entries[-1]["optional"] = True
    machine.models[name] = {"files": entries}


def got(machine):
    """How often each path was fetched."""
    return Counter(machine.origin.asked("GET"))


def check_placed(machine, name, files):
    """All of it is there and right, nothing else is, and nothing is left of its way there."""
    folder = machine.store / "models" / name
    there = {str(path.relative_to(folder)): sha(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    assert there == {path: sha(content) for path, content in files.items()}
    assert all(is_blob(machine, content) for content in files.values())
    assert machine.partials() == []


def is_blob(machine, content):
    path = machine.blob(sha(content))
    return path.is_file() and path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o444


class AtOnce(Origin):
    """As the honest origin, but each answer is one piece with its head, as it comes from afar."""

    tells_sizes = True
    late_s = 0.0  # at most

    def __call__(self, talk):
        talk.keep_alive = True
        self.requests.append((talk.method, talk.path, talk.headers))
        if talk.method == "GET":
            talk.hang(random.random() * self.late_s)
        body = self.files.get(talk.path)
        status, content = ("404 Not Found", b"") if body is None else ("200 OK", body)
        length = f"Content-Length: {len(content)}"
        if content and not self.tells_sizes:
            length, content = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
        head = f'HTTP/1.1 {status}\r\nETag: "one"\r\n{length}\r\n\r\n'
        talk.send(head.encode() + (content if talk.method == "GET" else b""))


@pytest.fixture(params=others_slow("at once", "in pieces"))
def either(request, machine):
    """A machine, whose origin's answers come together with their heads, or after them."""
    if request.param == "in pieces":
        yield machine
        return
    script = AtOnce()
    with Faulty(script) as server:
        script.port = server.port
        machine.origin = script
        yield machine


class Late(dict):
    """An origin's files, one of which does not come before its time."""

    def __init__(self, files, path):
        super().__init__(files)
        self.path, self.is_time, self.is_asked = path, threading.Event(), threading.Event()

    def get(self, path, default=None):
        if path == self.path:
            self.is_asked.set()
            assert self.is_time.wait(LONG_S)
        return super().get(path, default)


@contextmanager
def late(machine, path):
    machine.origin.files = Late(machine.origin.files, path)
    try:
        yield machine.origin.files
    finally:
        machine.origin.files.is_time.set()


class Inside:
    """The library in this process, where a test may reach into it."""

    def __init__(self, machine, monkeypatch):
        self.machine, self.claims = machine, []

        def make(*arguments):
            self.claims.append(claims.Claims(*arguments))
            return self.claims[-1]

        monkeypatch.setattr(reconcile, "Claims", make)

    def apply(self, **keys):
        """Apply; what became of each model: done, or why not."""
        self.machine.write()
        with Reconciler(load_manifest(self.machine.manifest), store=self.machine.store) as reconciler:
            outcomes = reconciler.apply(**keys).outcomes
        failed = {"failed", "cancelled"}
        return {each.model: each.reason if each.status in failed else "done" for each in outcomes}

    def poke(self):
        with Reconciler(store=self.machine.store) as reconciler:
            reconciler.poke()

    def check_let_go(self):
        """Nothing is held any more: as many may be held as ever, and no flight is under way."""
        (made,) = self.claims
        assert all(made.holds.acquire(blocking=False) for _ in range(claims.HELD_IN_ALL))
        assert not made.holds.acquire(blocking=False)
        assert not any(flight.locked() for flight in made._flights.values())
        assert not made.gate.is_slow
        self.claims.clear()


@pytest.fixture
def inside(machine, monkeypatch):
    return Inside(machine, monkeypatch)


@pytest.fixture
def inside_either(either, monkeypatch):
    return Inside(either, monkeypatch)


class Disk:
    """``os.fdatasync``, which fails once for the file with this content."""

    def __init__(self, machine, monkeypatch, content):
        self.bad, self._sync = [partial_of(machine, sha(content))], os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, fd):
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if path in self.bad:
            self.bad.remove(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._sync(fd)


def partial_of(machine, digest):
    return machine.store / "partial" / partial_key("", "", f"sha256:{digest}")


# --- what arrives ---------------------------------------------------------------------------------------------------


def test_a_model_of_many_small_files_is_placed_whole(either):
    files = contents(3 * _HELD_AT_ONCE + 5)
    want(either, "m", files)
    either.apply()
    check_placed(either, "m", files)
    assert got(either) == Counter(f"/m/{path}" for path in files)
    assert either.apply()["outcomes"] == []


def test_a_model_of_few_small_files_is_placed_whole(either):
    files = contents(2)
    want(either, "m", files)
    either.apply()
    check_placed(either, "m", files)


def test_an_empty_file_among_small_ones_is_placed(either):
    files = {**contents(3), "empty.txt": b""}
    want(either, "m", files)
    either.apply()
    check_placed(either, "m", files)


def test_large_and_small_files_of_one_model_are_placed(machine):
    sizes = {"first.bin": 3 << 20, "edge.bin": _HELD_BYTES, "over.bin": _HELD_BYTES + 1, "last.bin": 2 << 20}
    first, edge, over, last = ({path: random.Random(size).randbytes(size)} for path, size in sizes.items())
    files = {**first, **edge, **contents(20), **over, **last}
    want(machine, "m", files)
    machine.apply()
    check_placed(machine, "m", files)
    assert set(got(machine)) == {f"/m/{path}" for path in files}


def test_small_files_that_are_much_together_are_placed(machine):
    files = alike(8, _HELD_BYTES - 1)
    want(machine, "m", files)
    machine.apply()
    check_placed(machine, "m", files)


@pytest.mark.parametrize("size", [5000, 3 << 20], ids=["small", "large"])
def test_the_same_content_under_several_names_is_fetched_once(machine, size):
    same = random.Random(2).randbytes(size)
    files = {"a.bin": same, **contents(4), "b.bin": same, "c.bin": same}
    want(machine, "m", files)
    machine.apply()
    check_placed(machine, "m", files)
    asked = got(machine)
    assert sum(f"/m/{path}" in asked for path in ("a.bin", "b.bin", "c.bin")) == 1
    assert all(asked[f"/m/{path}"] == 1 for path in contents(4))


@pytest.mark.parametrize("tells_sizes", [True, False], ids=["sizes are told", "sizes are not told"])
def test_models_that_share_their_small_files_crosswise_do_not_wait_for_each_other_for_ever(machine, tells_sizes):
    pairs = [(f"a{number}", f"b{number}", contents(12, number, 500)) for number in range(5)]
    machine.head["network"] = {"models": 2 * len(pairs)}
    script = machine.origin = AtOnce()
    with Faulty(script) as server, (machine.folder / "log").open("wb") as log:
        script.port, script.tells_sizes, script.late_s = server.port, tells_sizes, 0.004
        for first, second, files in pairs:
            want(machine, first, files, lambda path: int(path[5:8]) % 3)
            want(machine, second, dict(reversed(files.items())), lambda path: int(path[5:8]) % 2)
        machine.write()
        process = forking.start(machine.command("apply"), cwd=machine.folder, env=os.environ, log=log)
        try:
            assert process.wait(LONG_S) == 0
        finally:
            process.kill()
    asked = got(machine)
    for first, second, files in pairs:
        check_placed(machine, first, files)
        check_placed(machine, second, files)
        assert {asked[f"/{first}/{path}"] + asked[f"/{second}/{path}"] for path in files} == {1}


def test_small_files_of_this_machine_are_placed_and_held_by_nobody(inside):
    machine, files = inside.machine, contents(6)
    want(machine, "m", files)
    for entry in machine.models["m"]["files"]:
        path = machine.folder / "here" / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[entry["path"]])
        entry["source"] = f"file://{path}"
    assert inside.apply() == {"m": "done"}
    inside.check_let_go()
    check_placed(machine, "m", files)


# --- what does not --------------------------------------------------------------------------------------------------


def lose(machine, path, how):
    """The origin does not have the file, or another one; how the model fails, and what mends it."""
    content = machine.origin.files[path]
    if how == "not_found":
        del machine.origin.files[path]
    elif how == "digest_mismatch":
        machine.origin.files[path] = content[::-1]
    else:
        machine.origin.files[path] = content + b"more"
    return lambda: machine.origin.put(path, content)


@pytest.mark.parametrize("how", ["not_found", "digest_mismatch", "size_mismatch"])
def test_a_small_file_that_fails_fails_the_model_and_costs_no_sibling(inside_either, how):
    machine, files = inside_either.machine, contents(_HELD_AT_ONCE + 4)
    want(machine, "m", files)
    bad = random.Random(how).choice(list(files))
    mend = lose(machine, f"/m/{bad}", how)
    assert inside_either.apply() == {"m": how}
    inside_either.check_let_go()
    assert machine.partials() == []
    assert not (machine.store / "models" / "m").exists()
    assert [path for path, content in files.items() if not is_blob(machine, content)] == [bad]
    mend()
    inside_either.poke()
    machine.origin.forget()
    assert inside_either.apply() == {"m": "done"}
    inside_either.check_let_go()
    check_placed(machine, "m", files)
    assert got(machine) == {f"/m/{bad}": 1}


def test_an_optional_small_file_that_the_origin_lacks_is_left_out(inside_either):
    machine, files = inside_either.machine, contents(6)
    want(machine, "m", files, optional={"part/002.bin"})
    del machine.origin.files["/m/part/002.bin"]
    assert inside_either.apply() == {"m": "done"}
    inside_either.check_let_go()
    del files["part/002.bin"]
    check_placed(machine, "m", files)


def test_a_pickle_among_small_files_is_refused_and_nothing_is_left_of_it(inside_either):
    machine, files = inside_either.machine, contents(6)
    want(machine, "m", {**files, "weights.bin": PICKLE})
    assert inside_either.apply() == {"m": "unsafe_pickle"}
    inside_either.check_let_go()
    assert machine.partials() == []
    assert not machine.blob(sha(PICKLE)).exists()
    assert all(is_blob(machine, content) for content in files.values())
    machine.models["m"]["allowUnsafe"] = True
    machine.origin.forget()
    assert inside_either.apply() == {"m": "done"}
    check_placed(machine, "m", {**files, "weights.bin": PICKLE})
    assert got(machine) == {"/m/weights.bin": 1}


def test_a_refused_file_that_the_disk_fails_to_sync_is_refused_all_the_same(inside_either, monkeypatch):
    machine, files = inside_either.machine, contents(6)
    want(machine, "m", {**files, "weights.bin": PICKLE})
    disk = Disk(machine, monkeypatch, PICKLE)
    assert inside_either.apply() == {"m": "unsafe_pickle"}
    inside_either.check_let_go()
    assert not disk.bad
    assert machine.partials() == []
    assert not machine.blob(sha(PICKLE)).exists()


# --- what the disk does ---------------------------------------------------------------------------------------------


def test_a_held_file_that_the_disk_fails_to_sync_fails_the_model_and_costs_no_sibling(inside_either, monkeypatch):
    machine, files = inside_either.machine, contents(8)
    want(machine, "m", files)
    disk = Disk(machine, monkeypatch, files["part/003.bin"])
    assert inside_either.apply() == {"m": "io_error"}
    inside_either.check_let_go()
    assert not disk.bad
    assert machine.partials() == []
    assert [path for path, content in files.items() if not is_blob(machine, content)] == ["part/003.bin"]
    inside_either.poke()
    machine.origin.forget()
    assert inside_either.apply() == {"m": "done"}
    check_placed(machine, "m", files)
    assert got(machine) == {"/m/part/003.bin": 1}


def test_a_held_file_that_cannot_become_a_blob_fails_the_model_and_costs_no_sibling(inside, monkeypatch):
    machine, files = inside.machine, contents(8)
    want(machine, "m", files)
    digest, rename = sha(files["part/003.bin"]), batch.rename_noreplace

    def refuse(source, target, **folders):
        if target == digest:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target, **folders)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "rename_noreplace", refuse)
        assert inside.apply() == {"m": "io_error"}
    inside.check_let_go()
    assert [path for path, content in files.items() if not is_blob(machine, content)] == ["part/003.bin"]
    inside.poke()
    machine.origin.forget()
    assert inside.apply() == {"m": "done"}
    check_placed(machine, "m", files)
    assert got(machine) == {}  # it was whole


def test_where_a_name_cannot_be_made_durable_nothing_is_recorded(inside, monkeypatch):
    machine, files = inside.machine, contents(8)
    want(machine, "m", files)
    sync, rows = os.fsync, []

    def refuse(fd):
        if os.readlink(f"/proc/self/fd/{fd}") == str(machine.blob(sha(files["part/003.bin"])).parent):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        patch.setattr(Proofs, "save", lambda proofs, found: rows.append(found))
        patch.setattr(Ledger, "record_installed", lambda ledger, installed: rows.append(installed))
        assert inside.apply() == {"m": "io_error"}
    inside.check_let_go()
    assert rows == []
    inside.poke()
    machine.origin.forget()
    assert inside.apply() == {"m": "done"}
    check_placed(machine, "m", files)
    assert got(machine) == {}


class Order:
    """What was done to the disk and told to the ledger, one after the other."""

    def __init__(self, machine, monkeypatch):
        self.steps, self._store = [], machine.store
        self._wrap(monkeypatch, Partial, "begin", lambda partial: ("begin", os.path.relpath(partial.path, self._store)))
        self._wrap(monkeypatch, os, "fdatasync", lambda fd: ("content", self._name(fd)))
        self._wrap(monkeypatch, os, "fsync", lambda fd: ("names", self._name(fd)))
        self._wrap(monkeypatch, batch, "rename_noreplace", lambda source, target, **_: ("blob", target))
        self._wrap(monkeypatch, Proofs, "save", lambda proofs, found: ("row", "proofs"))
        self._wrap(monkeypatch, Ledger, "record_installed", lambda ledger, installed: ("row", installed.model))

    def _wrap(self, monkeypatch, owner, name, describe):
        call = getattr(owner, name)

        def noting(*arguments, **keys):
            step = describe(*arguments, **keys)
            result = call(*arguments, **keys)
            self.steps.append(step)
            return result

        monkeypatch.setattr(owner, name, noting)

    def _name(self, fd):
        return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), self._store)

    def of(self, kind):
        return [name for other, name in self.steps if other == kind]

    def check(self, machine, files, row):
        """The bytes of each file, then its name as a blob, then the folders, then the row."""
        told = self.steps.index(("row", row))
        for content in files:
            digest = sha(content)
            synced = self.steps.index(("content", f"partial/{partial_of(machine, digest).name}"))
            named = self.steps.index(("blob", digest))
            durable = self.steps.index(("names", f"blobs/sha256/{digest[:2]}"), named)
            whole = self.steps.index(("names", "blobs/sha256"), named)
            assert synced < named < durable < told
            assert whole < told


@pytest.mark.parametrize("count", [3, _HELD_AT_ONCE + 3])
def test_bytes_are_durable_before_names_and_names_before_rows(inside_either, monkeypatch, count):
    machine, files = inside_either.machine, contents(count)
    want(machine, "m", files)
    order = Order(machine, monkeypatch)
    assert inside_either.apply() == {"m": "done"}
    order.check(machine, files.values(), "m")
    synced = [name for name in order.of("content") if name.startswith("partial/")]
    assert len(synced) == len(set(synced)) == count
    if count < _HELD_AT_ONCE:
        kinds = [kind for kind, name in order.steps if kind == "blob" or name in synced]
        assert kinds == ["begin"] * count + ["content"] * count + ["blob"] * count  # one after the other costs more


def test_names_are_durable_before_the_proofs_of_a_model_that_failed(inside, monkeypatch):
    machine, files = inside.machine, contents(8)
    want(machine, "m", files)
    del machine.origin.files["/m/part/003.bin"]
    order = Order(machine, monkeypatch)
    assert inside.apply() == {"m": "not_found"}
    del files["part/003.bin"]
    order.check(machine, files.values(), "proofs")


def test_a_blob_that_another_model_brought_just_now_is_durable_before_its_row(inside, monkeypatch):
    machine, shared, large = inside.machine, contents(1)["part/000.bin"], random.Random(9).randbytes(3 << 20)
    want(machine, "a", {"s.bin": shared, "large.bin": large})
    want(machine, "b", {"s.bin": shared})
    machine.head["network"] = {"models": 2}
    order, is_there = Order(machine, monkeypatch), threading.Event()
    bring_file, install = run.HANDLERS[ActionKind.DOWNLOAD], Ledger.record_installed

    def in_turn(action, work):
        if action.model == "b":
            eventually(lambda: is_blob(machine, shared), LONG_S)
        return bring_file(action, work)

    def noting(ledger, installed):
        install(ledger, installed)
        if installed.model == "b":
            is_there.set()

    monkeypatch.setitem(run.HANDLERS, ActionKind.DOWNLOAD, in_turn)
    monkeypatch.setattr(Ledger, "record_installed", noting)
    with late(machine, "/a/large.bin") as origin, applying(inside) as ended:
        assert is_there.wait(LONG_S)
        steps = list(order.steps)
        origin.is_time.set()
    assert ended == [{"a": "done", "b": "done"}]
    named, told = steps.index(("blob", sha(shared))), steps.index(("row", "b"))
    assert named < steps.index(("names", f"blobs/sha256/{sha(shared)[:2]}"), named) < told
    assert named < steps.index(("names", "blobs/sha256"), named) < told


def test_a_system_that_knows_no_advice_costs_nothing(inside, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    want(inside.machine, "m", contents(5))
    assert inside.apply() == {"m": "done"}
    inside.check_let_go()


def test_a_batch_that_goes_on_after_a_sync_syncs_again(tmp_path, monkeypatch):
    store, synced, sync = Store(str(tmp_path / "store"), lambda: 0.0), [], os.fsync
    store.create()

    def spy(fd):
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        sync(fd)

    with store.batch() as opened:
        monkeypatch.setattr(os, "fsync", spy)
        for number, content in enumerate((b"same shard", b"same shard too")):
            digest = f"ab{number:062x}"
            (tmp_path / "store" / "partial" / "x").write_bytes(content)
            opened.commit("partial/x", f"sha256:{digest}", len(content))
            opened.sync()
    assert synced.count("ab") == synced.count("sha256") == 2


# --- what is held ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 2, 1000])
def test_more_small_files_than_may_be_held_arrive_all_the_same(inside_either, monkeypatch, most):
    machine, files, held = inside_either.machine, contents(_HELD_AT_ONCE - 1), []
    want(machine, "m", files)
    monkeypatch.setattr(claims, "HELD_IN_ALL", most)
    fetch = Engine.fetch

    def noting(*arguments):
        fetched = fetch(*arguments)
        held.append(fetched.held is not None)
        return fetched

    monkeypatch.setattr(Engine, "fetch", noting)
    assert inside_either.apply() == {"m": "done"}
    inside_either.check_let_go()
    check_placed(machine, "m", files)
    assert (held.count(True), len(held)) == (min(most, len(files)), len(files))


LATE = "part/001.bin"


def stall(machine, files):
    """A model of small files that all come, but for one that does not come yet."""
    want(machine, "m", files)
    return late(machine, f"/m/{LATE}")


def count_come(machine, files):
    """How many of the files are blobs, and how many more are whole."""
    blobs = [content for content in files.values() if is_blob(machine, content)]
    whole = []
    for path, content in files.items():
        with suppress(FileNotFoundError):
            whole += [path] * (path != LATE and partial_of(machine, sha(content)).stat().st_size == len(content))
    return len(blobs), len(whole)


@contextmanager
def applying(inside, **keys):
    """An apply under way; what came of it is in the list, after the block."""
    ended = []
    running = threading.Thread(target=lambda: ended.append(inside.apply(**keys)), daemon=True)
    running.start()
    yield ended
    running.join(LONG_S)
    assert not running.is_alive()


@pytest.mark.parametrize(("count", "size", "blobs"), [(_HELD_AT_ONCE + 4, 3000, _HELD_AT_ONCE), (6, 900 << 10, 5)])
def test_no_more_is_held_than_is_worth_it(inside, count, size, blobs):
    machine, files = inside.machine, alike(count, size)
    with stall(machine, files) as there, applying(inside) as ended:
        eventually(lambda: count_come(machine, files) == (blobs, count - blobs - 1), LONG_S)
        assert ended == []
        there.is_time.set()
    assert ended == [{"m": "done"}]
    inside.check_let_go()
    check_placed(machine, "m", files)


def test_held_files_are_kept_where_the_pass_is_stopped(inside):
    machine, cancel, files = inside.machine, threading.Event(), contents(_HELD_AT_ONCE - 2)
    with stall(machine, files), applying(inside, cancel=cancel) as ended:
        eventually(lambda: count_come(machine, files) == (0, len(files) - 1), LONG_S)
        cancel.set()
    assert ended == [{"m": "cancelled"}]
    inside.check_let_go()
    assert [path for path, content in files.items() if not is_blob(machine, content)] == [LATE]
    machine.origin.forget()
    assert inside.apply() == {"m": "done"}
    check_placed(machine, "m", files)
    assert got(machine) == {f"/m/{LATE}": 1}


def test_a_kill_does_not_cost_the_files_that_are_held(machine):
    files = contents(_HELD_AT_ONCE - 2)
    with stall(machine, files), (machine.folder / "log").open("wb") as log:
        machine.write()
        process = forking.start(machine.command("apply"), cwd=machine.folder, env=os.environ, log=log)
        try:
            eventually(lambda: count_come(machine, files) == (0, len(files) - 1), LONG_S)
        finally:
            process.kill()
            process.wait(LONG_S)
    machine.origin.forget()
    machine.apply()
    check_placed(machine, "m", files)
    assert got(machine) == {f"/m/{LATE}": 1}


def test_who_wants_a_file_that_another_model_holds_gets_it_when_that_model_lets_go(inside, monkeypatch):
    machine, files, may_begin = inside.machine, contents(_HELD_AT_ONCE - 2), threading.Event()
    shared = {"mine.bin": b"mine", "part/000.bin": files["part/000.bin"]}
    want(machine, "n", shared)

    def bring_in_turn(work, model, wanted):
        assert model.name == "m" or may_begin.wait(LONG_S)
        return bring(work, model, wanted)

    monkeypatch.setattr(download, "bring", bring_in_turn)
    with stall(machine, files) as there, applying(inside) as ended:
        eventually(lambda: count_come(machine, files) == (0, len(files) - 1), LONG_S)
        may_begin.set()
        eventually(lambda: is_blob(machine, b"mine"), LONG_S)  # which is held for no other model's sake
        assert not (machine.store / "models" / "n").exists()
        there.is_time.set()
    assert ended == [{"m": "done", "n": "done"}]
    inside.check_let_go()
    check_placed(machine, "m", files)
    check_placed(machine, "n", shared)
    assert got(machine)["/m/part/000.bin"] + got(machine)["/n/part/000.bin"] == 1


class Waiting(threading.Event):
    """A token that tells when somebody waits for it."""

    def __init__(self):
        super().__init__()
        self.has_waited = threading.Event()

    def wait(self, timeout=None):
        self.has_waited.set()
        return super().wait(timeout)


def test_nobody_is_told_of_a_held_file_before_it_is_durable(machine):
    content, target = random.Random(3).randbytes(5000), machine.folder / "target"
    digest = machine.origin.put("/m.bin", content)
    place = Location(f"{machine.origin.url}/m.bin", "there")
    request = FetchRequest("m", "m.bin", (place,), str(target), f"sha256:{digest}", 5000, may_hold=True)
    engine, cancel = Engine(Settings()), Waiting()
    with ThreadPoolExecutor(2) as pool, closing(engine):
        with late(machine, "/m.bin") as there:
            first = pool.submit(engine.fetch, request, lambda frame: None, threading.Event())
            assert there.is_asked.wait(LONG_S)
            second = pool.submit(engine.fetch, request, lambda frame: None, cancel)
            assert cancel.has_waited.wait(LONG_S)
        held = first.result(LONG_S).held
        assert held is not None
        with pytest.raises(TimeoutError):
            second.result(0.2)
        held.settle()
        found = second.result(LONG_S)
    assert (found.held, found.digest, found.received_bytes) == (None, f"sha256:{digest}", 0)
    assert target.read_bytes() == content
    assert got(machine) == {"/m.bin": 1}
