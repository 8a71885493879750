"""The ledger against a hostile world: crashes, damage, full and read-only disks, other processes."""

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from reconciler.adapters.ledger import FileRow, Installed, Ledger
from reconciler.adapters.ledger.opening import BUSY_TIMEOUT_S
from reconciler.adapters.ledger.reserve import BALLAST_BYTES
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.ports import Proof
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest

ROOT = str(Path(__file__).parents[2])
NOW = 1_793_534_400.0  # 2026-11-01T12:00:00Z


def open_ledger(store, *, writable=True, now=lambda: NOW):
    return Ledger.open(str(store), now=now, writable=writable)


def digest(number):
    return Digest(f"sha256:{number:064x}")


def install(ledger, name, number):
    files = (FileRow("model.gguf", digest(number), 100),)
    ledger.record_installed(
        Installed(name, digest(number + 10**6), files, (Proof(digest(number), FileStat(1, number, 100, 5), 1.0),))
    )


def fill(store, count):
    with open_ledger(store) as ledger, ledger.transaction():
        for number in range(count):
            install(ledger, f"m{number}", number)
        ledger.meta.mark_rebuilt()


def run_python(code, *arguments, **options):
    script = f"import sys; sys.path.insert(0, {ROOT!r})\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    )


def run_to_end(code, *arguments):
    """The exit code."""
    with run_python(code, *arguments) as process:
        process.communicate()
    return process.returncode


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- reading leaves no trace


def test_a_missing_database_reads_as_empty_and_nothing_is_created(tmp_path):
    reader = open_ledger(tmp_path / "nowhere", writable=False)
    assert reader.snapshot().models == {}
    assert (reader.was_rebuilt, reader.is_lost) == (True, False)
    reader.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["store", "st ore?mode=rwc&x#%41", "büro-\udcff"])
def test_a_closed_ledger_is_one_file_and_its_ballast_whatever_the_path(tmp_path, name):
    store = tmp_path / name
    fill(store, 2)
    assert sorted(path.name for path in store.iterdir()) == ["state.db", "state.db-ballast"]
    reader = open_ledger(store, writable=False)
    assert list(reader.snapshot().models) == ["m0", "m1"]
    assert (reader.was_rebuilt, reader.is_lost) == (False, False)


WRITING = (
    "write,writev,pwrite64,pwritev,pwritev2,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,"
    "symlink,symlinkat,truncate,ftruncate,fallocate,fsync,fdatasync,chmod,fchmod,fchmodat,chown,fchown,fchownat,utimensat,"
    "setxattr,fsetxattr,lsetxattr,mknod,mknodat,copy_file_range,sendfile,msync"
)


@pytest.mark.parametrize("state", ["closed", "missing", "corrupt", "empty"])
def test_reading_makes_no_system_call_that_writes_below_the_store(tmp_path, state):
    store = tmp_path / "store"
    if state == "missing":
        store.mkdir()
    else:
        fill(store, 5)
    if state == "corrupt":
        damage_text(store / "state.db")
    if state == "empty":
        (store / "state.db").write_bytes(b"")
    before = contents(store)
    trace = tmp_path / "trace"
    code = """
        from reconciler.adapters.ledger import Ledger
        ledger = Ledger.open(sys.argv[1], now=lambda: 1.0, writable=False)
        ledger.snapshot(); ledger.models.get("m1"); ledger.journal.unfinished(); ledger.meta.last_good(); ledger.close()
    """
    script = f"import sys; sys.path.insert(0, {ROOT!r}); sys.dont_write_bytecode = True\n" + textwrap.dedent(code)
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={WRITING},open,openat,openat2,creat,fcntl,mmap"]
    subprocess.run([*command, sys.executable, "-c", script, str(store)], check=True)
    touched = [line for line in trace.read_text().splitlines() if str(store) in line]
    assert any("state.db" in line for line in touched) or state in {"missing", "empty"}
    for line in touched:
        assert not any(
            word in line for word in ("O_CREAT", "O_RDWR", "O_WRONLY", "O_TRUNC", "F_WRLCK", "MAP_SHARED")
        ), line
        assert line.split(maxsplit=1)[1].startswith(("open", "mmap", "fcntl")), line
    assert contents(store) == before


def test_a_reader_sees_what_a_living_writer_has_committed(tmp_path):
    fill(tmp_path, 1)
    with open_ledger(tmp_path) as writer:
        install(writer, "new", 50)
        with writer.transaction():
            install(writer, "uncommitted", 60)
            read = {}
            thread = threading.Thread(
                target=lambda: read.update(open_ledger(tmp_path, writable=False).snapshot().models)
            )
            thread.start()
            thread.join()
        assert set(read) == {"m0", "new"}
    assert set(open_ledger(tmp_path, writable=False).snapshot().models) == {"m0", "new", "uncommitted"}


def test_a_writer_that_gets_in_between_makes_the_reader_read_again(tmp_path):
    fill(tmp_path, 1)
    reader = open_ledger(tmp_path, writable=False)
    calls = []

    def query(connection):
        answer = [name for (name,) in connection.execute("SELECT name FROM models ORDER BY name")]
        if not calls:
            code = """
                from reconciler.adapters.ledger import Ledger
                with Ledger.open(sys.argv[1], now=lambda: 1.0, writable=True) as ledger: ledger.record_use("new")
            """
            assert run_to_end(code, tmp_path) == 0
        calls.append(answer)
        return answer

    assert reader._access.read(query) == ["m0", "new"]
    assert calls == [["m0"], ["m0", "new"]]


def test_readers_of_another_process_never_see_half_a_transaction(tmp_path):
    fill(tmp_path, 1)
    code = """
        from reconciler.adapters.ledger import Ledger
        reader = Ledger.open(sys.argv[1], now=lambda: 1.0, writable=False)
        print("ready", flush=True)
        seen = set()
        while sys.stdin.readline().strip() == "more":
            counts = {row.use_count for row in reader.snapshot().models.values() if row.name != "m0"}
            assert len(counts) <= 1, counts
            seen |= counts
            print(len(seen), flush=True)
    """
    process = run_python(code, tmp_path, text=True)
    assert process.stdout.readline() == "ready\n"
    with open_ledger(tmp_path) as writer:
        for _ in range(20):
            with writer.transaction():
                for name in ("a", "b", "c"):
                    writer.record_use(name)
            process.stdin.write("more\n")
            process.stdin.flush()
            distinct = int(process.stdout.readline())
    process.communicate("stop\n")
    assert process.returncode == 0
    assert distinct == 20


def test_a_ledger_that_reads_may_become_one_that_writes(tmp_path):
    fill(tmp_path, 1)
    ledger = open_ledger(tmp_path, writable=False)
    assert not ledger.is_writable
    ledger.become_writer()
    ledger.become_writer()
    assert ledger.is_writable
    install(ledger, "new", 9)
    ledger.close()
    ledger.close()
    assert set(open_ledger(tmp_path, writable=False).snapshot().models) == {"m0", "new"}


def test_a_closed_ledger_says_so(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.close()
    with pytest.raises(Failure, match="was closed"):
        ledger.snapshot()


# --- crashes


def test_after_a_kill_in_a_transaction_the_committed_is_there_and_nothing_else(tmp_path):
    code = """
        import os, signal
        from reconciler.adapters.ledger import Ledger
        ledger = Ledger.open(sys.argv[1], now=lambda: 1.0, writable=True)
        ledger.record_use("committed")
        with ledger.transaction():
            for number in range(2000):
                ledger.record_use(f"uncommitted{number}")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_to_end(code, tmp_path) == -signal.SIGKILL
    assert (tmp_path / "state.db-wal").stat().st_size > 0
    assert list(open_ledger(tmp_path, writable=False).snapshot().models) == ["committed"]
    with open_ledger(tmp_path) as ledger:
        assert list(ledger.snapshot().models) == ["committed"]
        ledger.record_use("after")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.db", "state.db-ballast"]


THREE_COMMITS = """
    from reconciler.adapters.ledger import Ledger
    with Ledger.open(sys.argv[1], now=lambda: 1.0, writable=True) as ledger:
        for number in range(3):
            with ledger.transaction():
                ledger.record_use(f"a{number}"); ledger.record_use(f"b{number}")
"""
KILLED_AT = ("pwrite64", "fdatasync", "unlink", "ftruncate")


def trace_commits(store, trace, *options):
    """Run the three commits under strace; what it saw of the database's files."""
    script = f"import sys; sys.path.insert(0, {ROOT!r}); sys.dont_write_bytecode = True\n" + textwrap.dedent(
        THREE_COMMITS
    )
    names = ("state.db", "state.db-wal", "state.db-shm")
    paths = [word for name in names for word in ("-P", str(store / name))]
    command = ["strace", "-f", "-o", str(trace), *paths, "-e", f"trace={','.join(KILLED_AT)}", *options]
    subprocess.run([*command, sys.executable, "-c", script, str(store)], capture_output=True, check=False)
    return [line.split(maxsplit=1)[1].split("(")[0] for line in trace.read_text().splitlines() if "(" in line]


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """The system calls of the three commits, in order."""
    store = tmp_path_factory.mktemp("counted")
    fill(store, 1)
    return trace_commits(store, store.with_suffix(".trace"))


def kill_and_look(tmp_path, calls, index):
    """Kill the commits at one of their system calls; then whole transactions are there, in order, and nothing else."""
    name = calls[index]
    when = calls[: index + 1].count(name)
    store = tmp_path / f"killed-{index}"
    fill(store, 1)
    trace_commits(store, tmp_path / "trace", "-e", f"inject={name}:signal=KILL:when={when}")
    with open_ledger(store) as ledger:
        names = set(ledger.models.get_all())
        assert not ledger.was_rebuilt
    assert names in [{"m0", *(f"{letter}{n}" for n in range(k) for letter in "ab")} for k in range(4)]
    assert sorted(path.name for path in store.iterdir()) == ["state.db", "state.db-ballast"]
    return len(names) // 2


def test_a_kill_within_the_commits_keeps_whole_transactions(tmp_path, calls):
    points = [len(calls) - back for back in (1, 3, 9, 16, 24)]
    kept = [kill_and_look(tmp_path, calls, index) for index in points]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 3
    assert kept[-1] < 2


@pytest.mark.slow
def test_a_kill_at_any_system_call_keeps_whole_transactions(tmp_path, calls):
    commits = range(len(calls) - 40, len(calls))
    kept = [kill_and_look(tmp_path, calls, index) for index in (*range(0, len(calls) - 40, 37), *commits)]
    assert kept == sorted(kept)
    assert set(kept) == {0, 1, 2, 3}


def test_a_rebuild_that_was_cut_off_is_still_due(tmp_path):
    with open_ledger(tmp_path) as ledger:
        assert ledger.was_rebuilt
    with open_ledger(tmp_path) as ledger:
        assert ledger.was_rebuilt
        ledger.meta.mark_rebuilt()
        assert not ledger.was_rebuilt
    assert not open_ledger(tmp_path, writable=False).was_rebuilt


def test_a_ledger_does_not_cross_a_fork(tmp_path):
    code = """
        import os
        from reconciler.adapters.ledger import Ledger
        ledger = Ledger.open(sys.argv[1], now=lambda: 1.0, writable=True)
        child = os.fork()
        if child == 0:
            try:
                ledger.record_use("m")
            except RuntimeError:
                os._exit(42)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        ledger.record_use("m"); ledger.close()
    """
    assert run_to_end(code, tmp_path) == 0


# --- damage


def damage_text(path):
    path.write_text("this is a letter, not a database\n" * 500)


def damage_short_text(path):
    path.write_text("hello\n")


def damage_header(path):
    with path.open("r+b") as file:
        file.write(os.urandom(100))


def damage_truncated(path):
    os.truncate(path, path.stat().st_size // 2 - 17)


def damage_one_page_left(path):
    os.truncate(path, 4096)


def damage_garbage_pages(path):
    noise = random.Random(7)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096, 3):
            file.seek(page * 4096)
            file.write(noise.randbytes(4096))


def damage_zero_pages(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(size - 4096))


def damage_foreign(path):
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title)")
    connection.commit()
    connection.close()


def damage_directory(path):
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("kept")


def damage_fifo(path):
    path.unlink()
    os.mkfifo(path)


def damage_dangling(path):
    path.unlink()
    path.symlink_to(path.parent / "gone" / "state.db")


DAMAGE = [
    damage_text,
    damage_short_text,
    damage_header,
    damage_truncated,
    damage_one_page_left,
    damage_garbage_pages,
    damage_zero_pages,
    damage_foreign,
    damage_directory,
    damage_fifo,
]


@pytest.mark.parametrize("damage", [*DAMAGE, damage_dangling])
def test_a_lost_database_is_moved_aside_and_begun_anew(tmp_path, damage):
    fill(tmp_path, 300)
    damage(tmp_path / "state.db")
    with open_ledger(tmp_path) as ledger:
        assert ledger.was_rebuilt
        assert ledger.snapshot().models == {}
        event = ledger.events.latest(1)[0]
        assert event.reason == "ledger_rebuilt"
        assert "state.db.corrupt-20261101T120000Z" in event.message
        install(ledger, "new", 1)
    assert os.path.lexists(tmp_path / "state.db.corrupt-20261101T120000Z")
    assert list(open_ledger(tmp_path, writable=False).snapshot().models) == ["new"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_lost_database_is_told_to_a_reader_and_not_touched(tmp_path, damage):
    fill(tmp_path, 300)
    damage(tmp_path / "state.db")
    before = {name for name, _ in ((path.name, path.lstat().st_mtime_ns) for path in tmp_path.iterdir())}
    reader = open_ledger(tmp_path, writable=False)
    assert reader.snapshot().models == {}
    assert reader.is_lost
    assert reader.was_rebuilt
    assert {path.name for path in tmp_path.iterdir()} == before


def test_an_empty_file_is_a_database_not_yet_begun(tmp_path):
    (tmp_path / "state.db").write_bytes(b"")
    reader = open_ledger(tmp_path, writable=False)
    assert (reader.was_rebuilt, reader.is_lost) == (True, False)
    with open_ledger(tmp_path) as ledger:
        assert ledger.was_rebuilt
        assert ledger.events.since() == ()
    assert not list(tmp_path.glob("*corrupt*"))


def test_what_was_moved_aside_once_is_never_overwritten(tmp_path):
    for _ in range(3):
        fill(tmp_path, 1)
        damage_text(tmp_path / "state.db")
        open_ledger(tmp_path).close()
    names = sorted(path.name for path in tmp_path.glob("*corrupt*"))
    stem = "state.db.corrupt-20261101T120000Z"
    assert names == [stem, f"{stem}.1", f"{stem}.2"]


def test_the_log_goes_aside_with_its_database(tmp_path):
    fill(tmp_path, 1)
    code = """
        import os, signal
        from reconciler.adapters.ledger import Ledger
        ledger = Ledger.open(sys.argv[1], now=lambda: 1.0, writable=True)
        ledger.record_use("m")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_to_end(code, tmp_path) == -signal.SIGKILL
    damage_text(tmp_path / "state.db")
    with open_ledger(tmp_path) as ledger:
        assert ledger.snapshot().models == {}
    assert (tmp_path / "state.db.corrupt-20261101T120000Z-wal").exists()


@pytest.mark.parametrize("content", [b"", b"x", bytes(32), os.urandom(5000), bytes(1 << 20)])
def test_a_log_of_garbage_takes_nothing_from_the_database(tmp_path, content):
    fill(tmp_path, 3)
    (tmp_path / "state.db-wal").write_bytes(content)
    assert len(open_ledger(tmp_path, writable=False).snapshot().models) == 3
    with open_ledger(tmp_path) as ledger:
        assert len(ledger.snapshot().models) == 3
        assert not ledger.was_rebuilt


def test_a_folder_in_place_of_the_log_does_not_stop_the_ledger(tmp_path):
    fill(tmp_path, 3)
    (tmp_path / "state.db-wal").mkdir()
    with open_ledger(tmp_path) as ledger:
        assert ledger.was_rebuilt
        ledger.record_use("m")


def test_a_word_that_is_no_state_makes_the_database_lost(tmp_path):
    fill(tmp_path, 3)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE models SET lifecycle = 'vAlidated' WHERE name = 'm1'")
    connection.close()
    reader = open_ledger(tmp_path, writable=False)
    assert reader.snapshot().models == {}
    assert reader.is_lost
    with open_ledger(tmp_path) as ledger:
        assert ledger.was_rebuilt


def test_text_that_is_no_text_makes_the_database_lost_to_the_next_who_opens(tmp_path):
    fill(tmp_path, 3)
    path = tmp_path / "state.db"
    path.write_bytes(path.read_bytes().replace(b"m1", b"\xff1"))
    reader = open_ledger(tmp_path, writable=False)
    assert reader.snapshot().models == {}
    assert reader.is_lost
    with open_ledger(tmp_path) as ledger, pytest.raises(Failure) as caught:
        ledger.snapshot()
    assert (caught.value.kind, caught.value.reason) == (FailureKind.PERMANENT, "ledger_corrupt")
    with open_ledger(tmp_path) as ledger:
        assert ledger.was_rebuilt
        assert ledger.snapshot().models == {}


@pytest.mark.parametrize("seed", range(8))
def test_random_damage_ends_in_our_error_or_in_data_never_in_a_crash(tmp_path, seed):
    fill(tmp_path, 200)
    noise = random.Random(seed)
    path = tmp_path / "state.db"
    content = bytearray(path.read_bytes())
    for _ in range(noise.choice([1, 5, 200])):
        content[noise.randrange(len(content))] = noise.randrange(256)
    path.write_bytes(content)
    assert len(open_ledger(tmp_path, writable=False).snapshot().models) in range(201)
    with open_ledger(tmp_path) as ledger:
        install(ledger, "new", 7)
        assert ledger.models.get("new") is not None


@pytest.mark.parametrize("writable", [False, True])
def test_a_database_that_may_not_be_read_is_refused_and_not_moved(open_folder, writable):
    fill(open_folder, 1)
    for path in open_folder.iterdir():
        path.chmod(0)
    code = """
        import os
        from reconciler.adapters.ledger import Ledger
        from reconciler.core.errors import Failure
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        try:
            Ledger.open(sys.argv[1], now=lambda: 1.0, writable=sys.argv[2] == "True").snapshot()
        except Failure as failure:
            print(failure.kind, failure.reason)
    """
    process = run_python(code, open_folder, writable, text=True)
    assert process.communicate()[0] == "refused ledger_unreadable\n"
    assert not list(open_folder.glob("*corrupt*"))


@pytest.fixture
def open_folder(tmp_path_factory):
    """A folder that another user can enter; pytest's own cannot be."""
    with tempfile.TemporaryDirectory(prefix="ledger-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


# --- other writers


def test_a_second_writer_waits_for_the_first_and_then_gives_up_as_busy(tmp_path, monkeypatch):
    monkeypatch.setattr("reconciler.adapters.ledger.opening.BUSY_TIMEOUT_S", 0.2)
    assert BUSY_TIMEOUT_S == 5.0
    with open_ledger(tmp_path) as first, open_ledger(tmp_path) as second:
        with first.transaction():
            first.record_use("a")
            failures = []

            def write():
                try:
                    second.record_use("b")
                except Failure as failure:
                    failures.append(failure)

            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        assert [(failure.kind, failure.reason) for failure in failures] == [(FailureKind.TRANSIENT, "ledger_busy")]
        second.record_use("b")
        assert set(first.models.get_all()) == {"a", "b"}


def test_two_processes_write_side_by_side_and_lose_nothing(tmp_path):
    open_ledger(tmp_path).close()
    code = """
        from reconciler.adapters.ledger import Ledger
        with Ledger.open(sys.argv[1], now=lambda: 1.0, writable=True) as ledger:
            print("opened", flush=True)
            sys.stdin.readline()
            for _ in range(30):
                ledger.record_use("shared")
    """
    processes = [run_python(code, tmp_path, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "opened\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait() for process in processes] == [0, 0]
    for process in processes:
        process.communicate()
    assert open_ledger(tmp_path, writable=False).models.get("shared").use_count == 60
    assert not (tmp_path / "state.db-wal").exists()


def test_two_processes_that_begin_the_database_at_once_both_get_it(tmp_path):
    code = """
        from reconciler.adapters.ledger import Ledger
        sys.stdin.readline()
        with Ledger.open(sys.argv[1], now=lambda: 1.0, writable=True) as ledger:
            ledger.record_use("shared")
    """
    processes = [run_python(code, tmp_path, text=True) for _ in range(3)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert open_ledger(tmp_path, writable=False).models.get("shared").use_count == 3


# --- disks


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MiB; needs root, and that is no reason to skip."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill_disk(folder):
    """Write until nothing more goes."""
    with (folder / "filler").open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def install_many(ledger):
    with ledger.transaction():
        for number in range(5000):
            install(ledger, f"more{number}", 1000 + number)


def test_the_reserves_are_made_while_there_is_room(tmp_path):
    with open_ledger(tmp_path):
        assert (tmp_path / "state.db-wal").stat().st_size >= 1_000_000
    ballast = (tmp_path / "state.db-ballast").stat()
    assert ballast.st_size == BALLAST_BYTES
    assert ballast.st_blocks * 512 >= BALLAST_BYTES


def test_an_open_ledger_goes_on_updating_and_deleting_on_a_full_disk(small_disk):
    fill(small_disk, 100)
    with open_ledger(small_disk) as ledger:
        fill_disk(small_disk)
        for number in range(100):
            ledger.record_use(f"m{number % 50}")
        for number in range(50, 100):
            ledger.record_evicted(f"m{number}", digest(number + 10**6))
        facts = ledger.snapshot()
        assert facts.models["m3"].use_count == 2
        assert len(facts.revisions) == 50
    assert len(open_ledger(small_disk, writable=False).snapshot().revisions) == 50


def test_a_full_disk_can_be_opened_by_giving_up_the_ballast(small_disk):
    fill(small_disk, 100)
    fill_disk(small_disk)
    with open_ledger(small_disk) as ledger:
        assert not (small_disk / "state.db-ballast").exists()
        ledger.record_evicted("m1", digest(1 + 10**6))
        ledger.record_use("m2")
    assert "m1" not in open_ledger(small_disk, writable=False).snapshot().revisions
    (small_disk / "filler").unlink()
    open_ledger(small_disk).close()
    assert (small_disk / "state.db-ballast").stat().st_size == BALLAST_BYTES


def test_a_disk_without_room_or_ballast_is_told_and_damages_nothing(small_disk):
    fill(small_disk, 100)
    (small_disk / "state.db-ballast").unlink()
    fill_disk(small_disk)
    with pytest.raises(Failure) as caught, open_ledger(small_disk) as ledger:
        install_many(ledger)
    assert (caught.value.kind, caught.value.reason) == (FailureKind.TRANSIENT, "disk_full")
    (small_disk / "filler").unlink()
    with open_ledger(small_disk) as ledger:
        assert len(ledger.models.get_all()) == 100
        assert not ledger.was_rebuilt


def test_a_transaction_that_is_too_large_for_the_disk_is_not_there_at_all(small_disk):
    fill(small_disk, 10)
    with open_ledger(small_disk) as ledger:
        fill_disk(small_disk)
        with pytest.raises(Failure, match="no room"):
            install_many(ledger)
        assert not (small_disk / "state.db-ballast").exists()
        assert len(ledger.models.get_all()) == 10
        ledger.record_use("m1")
    assert open_ledger(small_disk, writable=False).models.get("m1").use_count == 1


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_read_only_disk_can_be_read_and_refuses_to_be_written(small_disk, is_clean):
    fill(small_disk, 3)
    if not is_clean:
        code = """
            import os, signal
            from reconciler.adapters.ledger import Ledger
            ledger = Ledger.open(sys.argv[1], now=lambda: 1.0, writable=True)
            ledger.record_use("crashed")
            os.kill(os.getpid(), signal.SIGKILL)
        """
        assert run_to_end(code, small_disk) == -signal.SIGKILL
        (small_disk / "state.db-shm").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    names = set(open_ledger(small_disk, writable=False).snapshot().models)
    assert names == {"m0", "m1", "m2"} | (set() if is_clean else {"crashed"})
    with pytest.raises(Failure) as caught:
        open_ledger(small_disk)
    assert caught.value.kind is FailureKind.REFUSED
    assert caught.value.reason in {"ledger_read_only", "ledger_unreadable"}


def test_a_disk_that_fails_is_a_reason_and_no_fault_of_ours(tmp_path, monkeypatch):
    Ledger.open(str(tmp_path), now=lambda: 0.0, writable=True).close()
    whole = os.stat

    def fail(path, *rest, **more):
        if str(path).endswith("state.db"):
            raise OSError(errno.EIO, "Input/output error", path)
        return whole(path, *rest, **more)

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(Failure) as caught:
        Ledger.open(str(tmp_path), now=lambda: 0.0, writable=False).facts()
    assert caught.value.reason == "ledger_io_error"


def scribble(store):
    """As another program would that writes over the database from its beginning; its log was emptied before."""
    run_to_end(
        "import sqlite3; sqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint(FULL)')", store / "state.db"
    )
    with (store / "state.db").open("r+b") as file:
        file.write(b"\x5a" * 4096)


def test_harm_that_the_writers_own_memory_hides_is_seen(tmp_path):
    with open_ledger(tmp_path) as ledger:
        install(ledger, "one", 1)
        ledger.check()
        scribble(tmp_path)
        install(ledger, "two", 2)
        assert set(ledger.snapshot().models) == {"one", "two"}, "the writer itself notices nothing"
        with pytest.raises(Failure) as caught:
            ledger.check()
        assert caught.value.reason == "ledger_corrupt"
        ledger.reopen()
        assert ledger.was_rebuilt
        ledger.check()


def test_a_look_that_was_hindered_is_taken_again(tmp_path, monkeypatch):
    def busy(*_):
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    with open_ledger(tmp_path) as ledger:
        install(ledger, "one", 1)
        scribble(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr("reconciler.adapters.ledger.writing.connect", busy)
            ledger.check()
        with pytest.raises(Failure):
            ledger.check()


def test_a_reader_and_a_closed_ledger_have_nothing_to_check(tmp_path):
    ledger = open_ledger(tmp_path)
    ledger.close()
    scribble(tmp_path)
    ledger.check()
    with open_ledger(tmp_path, writable=False) as reader:
        reader.check()
        assert reader.is_lost


def test_a_ledger_that_cannot_be_made_anew_reads_until_it_can(tmp_path):
    with open_ledger(tmp_path) as ledger:
        install(ledger, "one", 1)
        os.rename(tmp_path, tmp_path.with_name("away"))
        tmp_path.touch()
        with pytest.raises(Failure):
            ledger.reopen()
        assert not ledger.is_writable
        assert ledger.snapshot().models == {}
        tmp_path.unlink()
        tmp_path.mkdir()
        ledger.reopen()
        install(ledger, "two", 2)
        assert set(ledger.snapshot().models) == {"two"}
