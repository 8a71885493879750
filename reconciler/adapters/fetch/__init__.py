"""The download engine: verified and durable at the speed of hashing.

Reading order: :mod:`engine` (turn, lock, places) → :mod:`download` (attempts at one place, :mod:`patience` between) →
:mod:`opening` (ask and judge) → :mod:`crew` (receivers) → :mod:`ring` and :mod:`pipeline` (hash in order, write,
checkpoint) → :mod:`resume` and :mod:`record` (what survives), :mod:`repair`. Below them the HTTP client: :mod:`client`,
:mod:`redirects`, :mod:`answers`, :mod:`quoting`, :mod:`body`, :mod:`transport`, :mod:`wire`. Importing the package does
not import httpx.
"""

from reconciler.adapters.fetch.client import Client
from reconciler.adapters.fetch.engine import Engine
from reconciler.adapters.fetch.settings import Settings

__all__ = ["Client", "Engine", "Settings"]
