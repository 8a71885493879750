"""Facts of the machine, read from folders that tests make up."""

import os
import time

import pytest

from reconciler.adapters.device import device_facts, device_id, disk_facts, memory_facts, parse_labels
from reconciler.core.errors import Failure

GIB = 1 << 30


def meminfo(total=16 * GIB, available=8 * GIB):
    return f"MemTotal: {total // 1024} kB\nMemFree: 1024 kB\nMemAvailable: {available // 1024} kB\nHugePages_Total: 0\n"


def put(root, path, text):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_the_disk_is_that_of_the_nearest_folder_that_exists(tmp_path):
    found = disk_facts(str(tmp_path / "not" / "there" / "yet"))
    expected = os.statvfs(tmp_path)
    assert found.total_bytes == expected.f_blocks * expected.f_frsize
    assert abs(found.free_bytes - expected.f_bavail * expected.f_frsize) < GIB
    assert found.block_bytes == expected.f_frsize
    assert list(tmp_path.iterdir()) == []


def test_memory_is_what_the_kernel_calls_available(tmp_path):
    put(tmp_path, "proc/meminfo", meminfo())
    found = memory_facts(str(tmp_path))
    assert (found.total_bytes, found.available_bytes) == (16 * GIB, 8 * GIB)


def test_a_version_2_control_group_limits_and_its_file_cache_does_not_count(tmp_path):
    put(tmp_path, "proc/meminfo", meminfo())
    put(tmp_path, "proc/self/cgroup", "0::/a/b\n")
    put(tmp_path, "sys/fs/cgroup/a/b/memory.max", "max\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.max", f"{4 * GIB}\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.current", f"{3 * GIB}\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.stat", f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB}\n")
    found = memory_facts(str(tmp_path))
    assert (found.total_bytes, found.available_bytes) == (4 * GIB, 3 * GIB)


def test_a_version_1_control_group_limits_also_where_its_path_is_the_hosts(tmp_path):
    put(tmp_path, "proc/meminfo", meminfo())
    put(tmp_path, "proc/self/cgroup", "5:cpu:/\n4:memory:/docker/abc\n0::/\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.usage_in_bytes", f"{3 * GIB}\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.stat", f"total_inactive_file {GIB // 2}\ninactive_file 7\n")
    found = memory_facts(str(tmp_path))
    assert (found.total_bytes, found.available_bytes) == (2 * GIB, 0)


def test_no_limit_is_no_limit(tmp_path):
    put(tmp_path, "proc/meminfo", meminfo())
    put(tmp_path, "proc/self/cgroup", "4:memory:/\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_facts(str(tmp_path)).total_bytes == 16 * GIB


def test_a_system_that_does_not_tell_its_memory_is_a_failure(tmp_path):
    with pytest.raises(Failure) as caught:
        memory_facts(str(tmp_path))
    assert caught.value.reason == "memory_unknown"


def test_this_machine_tells_plausible_figures():
    found = memory_facts()
    assert 0 < found.available_bytes <= found.total_bytes


def test_a_machine_has_the_labels_of_its_environment(tmp_path):
    found = device_facts(now=0.0, environment={"RECONCILER_LABELS": "site=home, gpu"}, root=str(tmp_path))
    assert found.labels == (("gpu", ""), ("site", "home"))


@pytest.mark.parametrize(
    ("text", "labels"),
    [("", {}), ("a=b", {"a": "b"}), (" a = b , c=d=e,, =x", {"a": "b", "c": "d=e"}), ("k", {"k": ""})],
)
def test_labels_are_read_leniently(text, labels):
    assert parse_labels(text) == labels


def test_the_device_id_stays_and_does_not_show_the_machines_own(tmp_path):
    put(tmp_path, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    first = device_id("host", str(tmp_path))
    assert first == device_id("renamed", str(tmp_path))
    assert len(first) == 16
    assert first not in "0123456789abcdef0123456789abcdef"
    empty = tmp_path / "empty"
    assert device_id("a", str(empty)) == device_id("a", str(empty)) != device_id("b", str(empty))


def test_accelerators_are_known_by_their_nodes(tmp_path):
    assert device_facts(now=0.0, root=str(tmp_path)).accelerators == ()
    for node in ("nvidia0", "dri/renderD128"):
        put(tmp_path, f"dev/{node}", "")
    assert device_facts(now=0.0, root=str(tmp_path)).accelerators == ("cuda", "gpu", "nvidia")


@pytest.mark.parametrize(("zone", "minute"), [("UTC", 61), ("Asia/Kolkata", 391), ("XXX+1:02", 1439)])
def test_the_minute_is_local(zone, minute, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert device_facts(now=3661.0).local_minute == minute
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("x86_64", "x86_64"), ("AMD64", "x86_64"), ("arm64", "aarch64"), ("aarch64", "aarch64"), ("riscv64", "riscv64")],
)
def test_one_word_for_one_architecture(machine, arch, monkeypatch):
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:4], machine)))
    assert device_facts(now=0.0).arch == arch
