"""What the downloads of one engine share."""

from dataclasses import dataclass

from reconciler.adapters.fetch.breaker import Breaker
from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.limiter import Limiter
from reconciler.adapters.fetch.settings import Settings
from reconciler.adapters.fetch.slots import Connections, Slots
from reconciler.core.ports import CancelToken


@dataclass(frozen=True, slots=True)
class Tools:
    """One of each for the whole process."""

    settings: Settings
    client: Client
    limiter: Limiter
    breaker: Breaker
    connections: Connections
    slots: Slots

    @classmethod
    def of(cls, settings: Settings, cancel: CancelToken | None = None) -> "Tools":
        """Made from the settings."""
        return cls(
            settings,
            Client(settings, cancel),
            Limiter(settings.bandwidth_bytes),
            Breaker(settings.breaker_failures, settings.breaker_pause_s),
            Connections(settings.host_connections),
            Slots(settings.files),
        )
