"""The machine around the watch: memory pressure and the network, looked at every few seconds."""

import time
from dataclasses import dataclass

from reconciler.adapters.device import memory_facts
from reconciler.adapters.network import network_facts
from reconciler.core.errors import Failure
from reconciler.core.state import MemoryPolicy
from reconciler.log import get_log
from reconciler.watch.bell import MEMORY, NETWORK
from reconciler.world import World

EVERY_S = 4.0
_ROUTES = ("/proc/net/route", "/proc/net/ipv6_route")


@dataclass(slots=True)
class Surroundings:
    """What was seen last. A level or a route that differs from it is a trigger."""

    world: World
    level: str = ""
    network: object = None
    _due: float = 0.0

    @property
    def is_online(self) -> bool:
        """Whether there is any way out, as far as can be told."""
        return not isinstance(self.network, tuple) or self.network[0][0] != "none"

    def changes(self, policy: MemoryPolicy) -> frozenset[str]:
        """The triggers there are now; none where it is not yet time to look."""
        now = time.monotonic()
        if now < self._due:
            return frozenset()
        self._due = now + EVERY_S
        found = set()
        if self._memory_changed(policy):
            found.add(MEMORY)
        if self._network_changed():
            found.add(NETWORK)
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
        seen = (network_facts(self.world.environment), _default_routes())
        before, self.network = self.network, seen
        return before is not None and before != seen


def _default_routes() -> tuple[str, ...]:
    """The lines of the kernel's tables that lead everywhere: interface and gateway."""
    found: list[str] = []
    for path in _ROUTES:
        try:
            with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) >= 8 and words[1].strip("0") == "" and words[-1] != "lo":
                found.append(f"{words[0]} {words[2]} {words[-1] if path.endswith('6_route') else ''}")
    return tuple(sorted(found))
