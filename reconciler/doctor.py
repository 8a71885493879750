"""``doctor``: is all fit that a pass or a watch leans on? One sentence each and, where it is not well, one hint."""

import os
from collections.abc import Iterator, Sequence

from reconciler.adapters import archives, formats
from reconciler.adapters.kernel_events import open_file_events, open_memory_trigger, open_network_events
from reconciler.core.errors import Failure
from reconciler.core.notices import Check
from reconciler.core.registry import BUILT_IN, Registration, Registry
from reconciler.core.units import format_size
from reconciler.world import World

STORE_FOLDERS = ("blobs", "models", "partial", "quarantine")
YEAR_2024 = 1_704_067_200.0  # a clock before this was never set


def examine(world: World) -> tuple[Check, ...]:
    """Look at store, database, clock, memory, links and plug-ins; changes nothing."""
    return tuple(_examine(world))


def _examine(world: World) -> Iterator[Check]:
    yield from _store(world)
    yield _ledger(world)
    yield _clock(world.now())
    memory = world.memory()
    yield Check("memory", "ok", f"{format_size(memory.available_bytes)} of {format_size(memory.total_bytes)} available")
    yield from _kernel_news(world.store.root)
    yield from _plugins("source", world.sources)
    yield from _plugins("format", world.formats, [reader.name for reader in formats.BUILTIN])
    yield from _plugins("archive", world.archives, [extractor.name for extractor in archives.BUILTIN])
    yield from _plugins("runtime", world.runtimes, ["page-cache"])


def _store(world: World) -> Iterator[Check]:
    yield _place(world.store.root)
    try:
        disk = world.disk()
        status = "warn" if disk.free_bytes < disk.total_bytes // 20 else "ok"
        yield Check("disk", status, f"{format_size(disk.free_bytes)} of {format_size(disk.total_bytes)} free")
    except Failure as failure:
        yield Check("disk", "fail", failure.message, failure.hint)
    pid = world.store.owner_pid()
    yield Check("owner", "ok", f"process {pid} holds the store" if pid else "nobody holds the store")


def _place(root: str) -> Check:
    """Whether the store's folder is there, or can be made, and holds nothing in the place of its own folders."""
    parent = root
    while not os.path.lexists(parent) and os.path.dirname(parent) != parent:  # noqa: PTH120 -- text paths
        parent = os.path.dirname(parent)  # noqa: PTH120
    inside = [f"{root}/{name}" for name in STORE_FOLDERS]
    for path in (parent, *inside):
        if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112
            return Check("store", "fail", f"{path} is not a folder", "move it away, or name another --store")
    if os.path.isdir(f"{root}/lock"):  # noqa: PTH112
        return Check("store", "fail", f"{root}/lock is a folder", "move it away")
    if os.access(parent, os.W_OK | os.X_OK):
        return Check("store", "ok", f"{root} can be written" if parent == root else f"{root} can be made")
    return Check("store", "fail", f"{parent} cannot be written", "name another --store, or mend its owner and mode")


def _ledger(world: World) -> Check:
    try:
        with world.ledger() as ledger:
            ledger.snapshot()
            if ledger.is_lost:
                return Check("database", "warn", f"{ledger.path} cannot be believed", "the next apply rebuilds it")
            return Check("database", "ok", f"{ledger.path} is readable")
    except Failure as failure:
        return Check("database", "fail", failure.message, failure.hint)


def _clock(now: float) -> Check:
    if now < YEAR_2024:
        return Check("clock", "warn", "the clock is before 2024", "set it: ages and Retry-After dates go by it")
    return Check("clock", "ok", "the clock is plausible")


def _kernel_news(root: str) -> Iterator[Check]:
    """Whether the kernel wakes a watch at once; where it does not, the watch looks by itself, some seconds later."""
    files, trouble = open_file_events([root])
    yield _news("file events", trouble, "raise fs.inotify.max_user_instances and max_user_watches")
    memory, memory_trouble = open_memory_trigger()
    yield _news("memory events", memory_trouble, "boot with psi=1, or give the process its own control group")
    for fd in (files, memory):
        if fd >= 0:
            os.close(fd)
    network, network_trouble = open_network_events()
    yield _news("network events", network_trouble, "allow AF_NETLINK (systemd: RestrictAddressFamilies)")
    if network is not None:
        network.close()


def _news(name: str, trouble: str, hint: str) -> Check:
    if trouble:
        return Check(name, "warn", f"none, so a watch looks every few seconds: {trouble}", hint)
    return Check(name, "ok", "the kernel tells at once")


def _plugins(kind: str, registry: Registry, built_in: Sequence[str] = ()) -> Iterator[Check]:  # type: ignore[type-arg]
    """What is registered, newest first; ``built_in`` names what stands behind the registry."""
    ours = (Registration(name, BUILT_IN, name) for name in dict.fromkeys(built_in))
    for entry in (*registry.listing(), *ours):
        name = f"{kind} {entry.name}"
        if entry.item is None:
            yield Check(name, "warn", f"{entry.package}: {entry.error}", "reinstall or remove that package")
        else:
            yield Check(name, "ok", f"from {entry.package}")
