"""The page cache as a runtime, and an in-memory fake that shows the conformance class is fair."""

import errno
import mmap
import os
import subprocess
import threading
from dataclasses import replace

import pytest

from reconciler.adapters.runtimes import page_cache
from reconciler.adapters.runtimes.page_cache import PageCache
from reconciler.core.errors import Failure, transient
from reconciler.core.ports import RuntimeModel
from reconciler.core.words import Role
from tests.adapters.runtimes.conformance import NEVER, RuntimeConformance

MIB = 1 << 20


def write(path, size):
    """On disk and clean, as a blob is."""
    with open(path, "wb") as file:
        file.write(os.urandom(size))
        os.fsync(file.fileno())
    os.chmod(path, 0o444)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@pytest.fixture
def model(tmp_path):
    write(tmp_path / "weights.bin", 9 * MIB + 123)
    write(tmp_path / "tokenizer.json", 777)
    write(tmp_path / "empty", 0)
    files = (("weights.bin", Role.PRIMARY), ("tokenizer.json", Role.TOKENIZER), ("empty", Role.CONFIG))
    return RuntimeModel(
        "m", tuple((str(tmp_path / name), role) for name, role in files), "gguf", 9 * MIB + 900, None, str(tmp_path)
    )


@pytest.fixture
def damaged(tmp_path):
    write(tmp_path / "good", 5000)
    files = ((str(tmp_path / "good"), Role.PRIMARY), (str(tmp_path / "missing"), Role.TOKENIZER))
    return RuntimeModel("broken", files, "gguf", 5000, None, str(tmp_path))


class TestPageCache(RuntimeConformance):
    @pytest.fixture
    def runtime(self):
        return PageCache()


class TestPageCacheByMincore(RuntimeConformance):
    """As on a kernel before 6.5."""

    @pytest.fixture
    def runtime(self, monkeypatch):
        monkeypatch.setattr(page_cache, "_ask_cachestat", lambda _fd: None)
        return PageCache()


class InMemory:
    """A runtime that holds bytes itself."""

    type = "in-memory"

    def __init__(self):
        self.held = {}

    def observe(self, models):
        return {model.name: len(self.held[model.name]) for model in models if model.name in self.held}

    def load(self, model, cancel):
        content = b""
        for path, _ in model.files:
            if cancel.is_set():
                raise transient("cancelled", model.name)
            try:
                with open(path, "rb") as file:
                    content += file.read()
            except OSError as error:
                raise transient("file_vanished", f"{path} of {model.name}") from error
        self.held[model.name] = content
        return len(content)

    def unload(self, model, cancel):
        self.held.pop(model.name, None)

    def estimate(self, model):
        return model.size_bytes


class TestInMemory(RuntimeConformance):
    @pytest.fixture
    def runtime(self):
        return InMemory()


def test_half_a_model_in_memory_is_not_loaded(model):
    runtime = PageCache()
    runtime.load(model, NEVER)
    fd = os.open(model.files[0][0], os.O_RDONLY)
    os.posix_fadvise(fd, 0, MIB, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    assert runtime.observe([model]) == {}
    assert runtime.load(model, NEVER) == runtime.observe([model])["m"]


def test_both_ways_of_asking_give_the_same_pages(model):
    with open(model.files[0][0], "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead, which only one of them counts
        os.pread(file.fileno(), 3 * MIB, 0)
        size = os.fstat(file.fileno()).st_size
        pages = -(-size // mmap.PAGESIZE)
        asked = page_cache._ask_cachestat(file.fileno())
        assert asked == page_cache._ask_mincore(file.fileno(), size, pages)
        assert 0 < asked < pages


def test_a_process_that_has_the_file_mapped_keeps_it_in_memory_and_unload_says_so(model):
    runtime = PageCache()
    runtime.load(model, NEVER)
    model = replace(model, files=model.files[:1])
    with open(model.files[0][0], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        assert sum(mapping[offset] for offset in range(0, len(mapping), mmap.PAGESIZE))
        with pytest.raises(Failure) as caught:
            runtime.unload(model, NEVER)
        assert caught.value.reason == "in_use"
    runtime.unload(model, NEVER)
    assert runtime.observe([model]) == {}


def test_cancel_in_the_middle_stops_the_reading(model):
    class AfterTheFirstChunk(threading.Event):
        asked = 0

        def is_set(self):
            self.asked += 1
            return self.asked > 1

    with pytest.raises(Failure) as caught:
        PageCache().load(model, AfterTheFirstChunk())
    assert caught.value.reason == "cancelled"


def test_a_file_that_cannot_be_read_is_told_with_its_reason(model, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(Failure) as caught:
        PageCache().load(model, NEVER)
    assert (caught.value.reason, model.files[0][0] in caught.value.message) == ("io_error", True)


def test_the_estimate_is_the_size_of_the_files(model, damaged):
    assert PageCache().estimate(model) == 9 * MIB + 123 + 777
    assert PageCache().estimate(damaged) == damaged.size_bytes


def test_asking_about_a_thousand_models_is_cheap(model):
    runtime = PageCache()
    runtime.load(model, NEVER)
    many = [RuntimeModel(f"m{number}", model.files, "gguf", 1, None) for number in range(1000)]
    start = os.times().elapsed
    assert len(runtime.observe(many)) == 1000
    assert os.times().elapsed - start < 1.0  # 0.1 s here


@pytest.mark.slow
def test_on_a_file_system_that_is_memory_unload_has_nothing_to_do(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], check=True)
    try:
        (tmp_path / "f").write_bytes(b"x" * 100_000)
        model = RuntimeModel("m", ((str(tmp_path / "f"), Role.PRIMARY),), "gguf", 100_000, None)
        runtime = PageCache()
        assert runtime.load(model, NEVER) >= 100_000
        runtime.unload(model, NEVER)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
