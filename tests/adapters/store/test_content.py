"""Hashing, and asking whether a file is in use."""

import hashlib
import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reconciler.adapters.runtimes.page_cache import PageCache
from reconciler.adapters.store import Hashed
from reconciler.core.errors import Failure
from reconciler.core.ports import RuntimeModel
from reconciler.core.words import Role

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 4 * MIB, 4 * MIB + 1, 13 * MIB + 77])
def test_the_digest_is_right_at_every_edge_of_the_buffers(bench, tmp_path, size):
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    seen = []
    hashed = bench.store.hash_file(str(path), seen.append)
    assert hashed.digest == "sha256:" + hashlib.sha256(content).hexdigest()
    assert hashed.stat.size_bytes == size
    assert seen == sorted(seen)
    assert (seen or [0])[-1] == size


def test_hashing_leaves_the_page_cache_as_it_is(bench, tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(os.urandom(16 * MIB))
        os.fsync(file.fileno())
    model = RuntimeModel("m", ((str(path), Role.PRIMARY),), "gguf", 16 * MIB, None)
    runtime = PageCache()
    runtime.unload(model, threading.Event())
    bench.store.hash_file(str(path))
    assert runtime.observe([model]) == {}
    runtime.load(model, threading.Event())
    bench.store.hash_file(str(path))
    assert runtime.observe([model]) == {"m": 16 * MIB}


def test_hashing_leaves_the_access_time(bench, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    bench.store.hash_file(str(path))
    assert path.stat().st_atime_ns == 1_000_000_000


def test_many_files_come_in_order_and_a_bad_one_spoils_no_other(bench, tmp_path):
    paths = [str(tmp_path / str(number)) for number in range(6)]
    for number, path in enumerate(paths):
        if number != 3:
            Path(path).write_bytes(b"%d" % number)
    results = list(bench.store.hash_many(paths))
    good = [item for item in results if isinstance(item, Hashed)]
    (bad,) = [item for item in results if not isinstance(item, Hashed)]
    assert [item.path for item in good] == [path for path in paths if path != paths[3]]
    assert (bad[0], bad[1].reason) == (paths[3], "file_vanished")


def test_cancel_ends_it(bench, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (9 * MIB))
    cancel = threading.Event()
    with pytest.raises(Failure) as caught:
        bench.store.hash_file(str(path), lambda _: cancel.set(), cancel)
    assert caught.value.reason == "cancelled"


def test_a_file_written_to_meanwhile_gives_no_digest(bench, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (9 * MIB))

    def write_to_it(_done):
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(Failure) as caught:
        bench.store.hash_file(str(path), write_to_it)
    assert caught.value.reason == "changed_while_reading"


def test_a_pipe_or_a_folder_is_no_file(bench, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(Failure) as caught:
            bench.store.hash_file(str(tmp_path / name))
        assert caught.value.reason == "not_a_file"


HOLD = {
    "open": "f = open(sys.argv[1], 'rb')",
    "mapped": "f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); f.close()",
}


@pytest.mark.parametrize("how", sorted(HOLD))
def test_a_file_that_another_process_holds_is_in_use(bench, how):
    digest = bench.blob(b"x" * 5000)
    bench.store.place("m", [("f", digest)], b"", {})
    path = bench.store.blob_path(digest)
    assert not bench.store.is_in_use(path)
    script = f"import mmap, sys; {HOLD[how]}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, bench.store.placed_path("m", "f")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        assert bench.store.is_in_use(path)
        process.stdin.close()
    assert not bench.store.is_in_use(path)


def test_a_file_this_process_has_mapped_is_in_use(bench):
    path = bench.store.blob_path(bench.blob(b"x" * 5000))
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert bench.store.is_in_use(path)
    mapping.close()
    assert not bench.store.is_in_use(path)


def test_opening_in_the_very_moment_of_the_question_kills_nobody(bench):
    path = bench.store.blob_path(bench.blob(b"x"))
    stop = threading.Event()

    def open_and_close():
        while not stop.is_set():
            with open(path, "rb"):
                pass

    thread = threading.Thread(target=open_and_close)
    thread.start()
    try:
        answers = {bench.store.is_in_use(path) for _ in range(2000)}
    finally:
        stop.set()
        thread.join()
    assert answers <= {True, False}


def test_what_cannot_be_asked_is_not_known_to_be_in_use(bench):
    assert not bench.store.is_in_use("/nowhere/at/all")
