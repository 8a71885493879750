"""What this machine is: its disk, memory, name, kind and labels. Only reads files; every root can be another for tests.

Memory is what the kernel says is *available* (``MemAvailable``), never total minus our own use, and never more than the
control group of this process leaves: in a container the smaller figure is the true one.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.core.errors import transient
from reconciler.core.observed import DeviceFacts, DiskFacts, MemoryFacts
from reconciler.core.os_errors import map_os_error

LABELS_VARIABLE = "RECONCILER_LABELS"  # k=v,k2=v2; wins over the manifest's labels

_ARCHITECTURES = {
    "amd64": "x86_64",
    "x64": "x86_64",
    "arm64": "aarch64",
    "armv8l": "aarch64",
    "i686": "x86",
    "i386": "x86",
}
_SYSTEMS = {"darwin": "darwin", "win32": "windows", "linux": "linux"}
# A device node and the words a manifest may select it by. Looking at a node loads no driver.
_ACCELERATORS = (
    ("nvidia0", ("cuda", "nvidia")),
    ("nvhost-gpu", ("cuda", "nvidia")),
    ("kfd", ("amd", "rocm")),
    ("dri/renderD128", ("gpu",)),
    ("accel/accel0", ("npu",)),
    ("apex_0", ("edgetpu",)),
    ("hailo0", ("hailo",)),
    ("davinci0", ("ascend",)),
)
_NO_LIMIT = 1 << 60  # cgroup v1 writes a number near 2**63 for "no limit"


def disk_facts(path: str) -> DiskFacts:
    """The file system of ``path``, or of its nearest parent that exists. ``free_bytes`` is what a plain user may take.

    Raises:
        Failure: what the operating system says.
    """
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        found = os.statvfs(place)
    except OSError as error:
        raise map_os_error(error, f"cannot measure the disk at {place}") from error
    return DiskFacts(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_frsize)


def memory_facts(root: str = "/") -> MemoryFacts:
    """Total and available RAM, within this process's control groups (version 1 and 2).

    Args:
        root: where ``proc`` and ``sys`` are looked for.

    Raises:
        Failure: transient ``memory_unknown`` where the system does not tell.
    """
    if root == "/" and not sys.platform.startswith("linux"):
        return _memory_elsewhere()
    try:
        lines = Path(root, "proc/meminfo").read_text().splitlines()
        pairs = (line.partition(":")[::2] for line in lines)
        figures = {name: int(rest.split()[0]) * 1024 for name, rest in pairs if rest}
        total_bytes, available_bytes = figures["MemTotal"], figures.get("MemAvailable", figures["MemFree"])
    except (OSError, LookupError, ValueError) as error:
        raise transient("memory_unknown", "the system does not tell how much memory there is") from error
    for limit_bytes, used_bytes in _group_limits(Path(root)):
        total_bytes = min(total_bytes, limit_bytes)
        available_bytes = min(available_bytes, max(0, limit_bytes - used_bytes))
    return MemoryFacts(total_bytes, available_bytes)


def _memory_elsewhere() -> MemoryFacts:
    import psutil  # noqa: PLC0415 -- slow to import, and never needed on Linux

    found = psutil.virtual_memory()
    return MemoryFacts(found.total, found.available)


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes used that cannot be given back) of each control group from this process's up to the root."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            yield from _limits_up(root / "sys/fs/cgroup", path, ("memory.max", "memory.current", ""))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            yield from _limits_up(root / "sys/fs/cgroup/memory", path, names)


def _limits_up(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[tuple[int, int]]:
    """In a container the path may be the host's and not exist here; then the mount itself is our group."""
    limit_name, usage_name, prefix = names
    group = mount / path.strip("/")
    while True:
        limit = _text(group / limit_name).strip()
        if limit.isdecimal() and int(limit) < _NO_LIMIT:
            yield int(limit), max(0, int(_text(group / usage_name).strip() or 0) - _reclaimable(group, prefix))
        if group in {mount, group.parent}:
            return
        group = group.parent


def _reclaimable(group: Path, prefix: str) -> int:
    """Cached file pages: counted as used by the group, given back on demand, as ``MemAvailable`` counts them too."""
    total_bytes = 0
    for line in _text(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {f"{prefix}inactive_file", f"{prefix}active_file"} and value.isdecimal():
            total_bytes += int(value)
    return total_bytes


def device_facts(
    *,
    now: float,
    environment: Mapping[str, str] | None = None,
    network: str = "unknown",
    is_metered: bool | None = None,
    root: str = "/",
) -> DeviceFacts:
    """What ``when:`` selects by.

    Args:
        now: seconds since the epoch, for the local time of day.
        environment: of the process; the machine's own labels are in its ``RECONCILER_LABELS``.
        network: as :func:`reconciler.adapters.network.network_facts` tells.
        is_metered: likewise.
        root: where ``dev`` and ``etc`` are looked for.
    """
    hostname = _hostname()
    local = time.localtime(now)
    return DeviceFacts(
        hostname=hostname,
        os=_SYSTEMS.get(sys.platform, sys.platform),
        arch=_architecture(),
        labels=tuple(sorted(parse_labels((environment or {}).get(LABELS_VARIABLE, "")).items())),
        accelerators=_accelerators(root),
        device_id=device_id(hostname, root),
        network=network,
        is_metered=is_metered,
        local_minute=local.tm_hour * 60 + local.tm_min,
    )


def parse_labels(text: str) -> dict[str, str]:
    """``k=v,k2=v2``; a bare ``k`` has the empty value."""
    pairs = (part.strip().partition("=") for part in text.split(","))
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip()}


def device_id(hostname: str, root: str = "/") -> str:
    """Sixteen hex digits that stay the same for this machine. Its own id is no stranger's business, so it is hashed."""
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        machine_id = _text(Path(root, name)).strip()
        if machine_id and machine_id != "uninitialized":
            return hashlib.sha256(f"reconciler\0{machine_id}".encode()).hexdigest()[:16]
    return hashlib.sha256(f"reconciler\0hostname\0{hostname}".encode()).hexdigest()[:16]


def _accelerators(root: str) -> tuple[str, ...]:
    words = {word for node, names in _ACCELERATORS if Path(root, "dev", node).exists() for word in names}
    if sys.platform == "darwin" and _architecture() == "aarch64":
        words |= {"metal"}
    return tuple(sorted(words))


def _architecture() -> str:
    machine = _machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def _machine() -> str:
    if hasattr(os, "uname"):
        return os.uname().machine
    import platform  # noqa: PLC0415 -- only off POSIX

    return platform.machine()


def _hostname() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import platform  # noqa: PLC0415 -- only off POSIX

    return platform.node()


def _text(path: Path) -> str:
    """A file's text, empty where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
