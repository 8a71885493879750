"""The machine around the watch: memory pressure, the network and, where a model lacks it, room; every few seconds."""

import math
from dataclasses import dataclass

from reconciler.adapters.device import memory_facts
from reconciler.adapters.network import network_facts
from reconciler.core.actions import Plan
from reconciler.core.errors import Failure
from reconciler.core.policies import MemoryPolicy
from reconciler.log import get_log
from reconciler.watch.bell import MEMORY, NETWORK, ROOM
from reconciler.world import World

EVERY_S = 4.0
_ROUTES = ("/proc/net/route", "/proc/net/ipv6_route")


@dataclass(slots=True)
class Surroundings:
    """What was seen last. A level or a route that differs from it is a trigger."""

    world: World
    level: str = ""
    network: object = None
    _room_at: float = math.inf  # free bytes with which a model that has no room may fit
    _due: float = 0.0  # of the monotonic clock

    def look_now(self) -> None:
        """Somebody heard something: do not wait for the next look."""
        self._due = 0.0

    def note_plan(self, plan: Plan, free_bytes: int) -> None:
        """What has no room by this plan is planned anew once so much more is free, whoever freed it."""
        lacking = (
            max(1, (deferred.needs_bytes or 0) - (deferred.available_bytes or 0))
            for deferred in plan.deferred
            if deferred.reason == "no_room"
        )
        self._room_at = free_bytes + min(lacking, default=math.inf)

    @property
    def is_online(self) -> bool:
        """Whether there is any way out, as far as can be told."""
        return not isinstance(self.network, tuple) or self.network[0][0] != "none" or bool(self.network[1])

    def changes(self, policy: MemoryPolicy) -> frozenset[str]:
        """The triggers there are now; none where it is not yet time to look."""
        now = self.world.monotonic()
        if now < self._due:
            return frozenset()
        self._due = now + EVERY_S
        found = set()
        if self._memory_changed(policy):
            found.add(MEMORY)
        if self._network_changed():
            found.add(NETWORK)
        if self._room_at < math.inf and self.world.disk().free_bytes >= self._room_at:
            self._room_at = math.inf
            found.add(ROOM)
        return frozenset(found)

    def _memory_changed(self, policy: MemoryPolicy) -> bool:
        try:
            available = memory_facts().available_bytes
        except Failure:
            return False
        level = (
            "critical" if available < policy.critical_bytes else "warning" if available < policy.warning_bytes else "ok"
        )
        before, self.level = self.level, level
        if not before or before == level:
            return False
        get_log().warning("pressure_changed", resource="memory", level=level, available_bytes=available)
        return True

    def _network_changed(self) -> bool:
        seen = (network_facts(self.world.environment), _routes())
        before, self.network = self.network, seen
        return before is not None and before != seen


def _routes() -> tuple[str, ...]:
    """The lines of the kernel's tables that lead out: every route of version 4, the default ones of version 6."""
    found: list[str] = []
    for path in _ROUTES:
        try:
            with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
                lines = file.read().splitlines()
        except OSError:
            continue
        for words in map(str.split, lines):
            is_6 = path.endswith("6_route")
            if is_6 and len(words) == 10 and words[1] == "00" and words[-1] != "lo":
                found.append(f"{words[-1]} {words[4]}")
            elif not is_6 and len(words) >= 8 and words[0] not in {"Iface", "lo"}:
                found.append(f"{words[0]} {words[1]} {words[2]}")
    return tuple(sorted(found))
