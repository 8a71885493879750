"""What the downloads of one engine share."""

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.limiter import Limiter
from reconciler.adapters.fetch.settings import Settings
from reconciler.adapters.fetch.slots import Connections, Slots
from reconciler.core.records import dataclass


@dataclass(frozen=True, slots=True)
class Tools:
    """One of each for the whole process."""

    settings: Settings
    client: Client
    limiter: Limiter
    connections: Connections
    slots: Slots

    @classmethod
    def of(cls, settings: Settings) -> "Tools":
        """Made from the settings."""
        return cls(
            settings,
            Client(settings),
            Limiter(settings.bandwidth_bytes),
            Connections(settings.host_connections),
            Slots(settings.files),
        )
