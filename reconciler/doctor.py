"""``doctor``: is everything fit that a pass leans on? One sentence each and, where it is not well, one hint."""

import os
from collections.abc import Iterator

from reconciler.core.errors import Failure
from reconciler.core.registry import Registry
from reconciler.core.report import Check
from reconciler.core.units import format_size
from reconciler.world import World

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
    for kind, registry in (("source", world.sources), ("format", world.formats), ("archive", world.archives)):
        yield from _plugins(kind, registry)
    yield from _plugins("runtime", world.runtimes)


def _store(world: World) -> Iterator[Check]:
    root = world.store.root
    parent = root
    while not os.path.isdir(parent) and os.path.dirname(parent) != parent:  # noqa: PTH112, PTH120 -- text paths
        parent = os.path.dirname(parent)  # noqa: PTH120
    if os.access(parent, os.W_OK | os.X_OK):
        yield Check("store", "ok", f"{root} can be written" if parent == root else f"{root} can be made")
    else:
        yield Check("store", "fail", f"{parent} cannot be written", "name another --store, or mend its owner and mode")
    try:
        disk = world.disk()
        status = "warn" if disk.free_bytes < disk.total_bytes // 20 else "ok"
        yield Check("disk", status, f"{format_size(disk.free_bytes)} of {format_size(disk.total_bytes)} free")
    except Failure as failure:
        yield Check("disk", "fail", failure.message, failure.hint)
    pid = world.store.owner_pid()
    yield Check("owner", "ok", f"process {pid} holds the store" if pid else "nobody holds the store")


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


def _plugins(kind: str, registry: Registry) -> Iterator[Check]:  # type: ignore[type-arg]
    for entry in registry.listing():
        name = f"{kind} {entry.name}"
        if entry.item is None:
            yield Check(name, "warn", f"{entry.package}: {entry.error}", "reinstall or remove that package")
        else:
            yield Check(name, "ok", f"from {entry.package}")
