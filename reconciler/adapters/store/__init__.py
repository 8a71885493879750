"""The store on disk: immutable blobs by digest, and each model's folder of links to them, swapped in one step.

It is dumb and exact: it obeys, returns values, and knows nothing of manifests or the ledger. ``layout`` says where what
lies; ``blobs`` and ``place`` hold the two orders that never lose a byte; ``sweep`` finishes what a crash cut off.
"""

from reconciler.adapters.store.batch import Batch
from reconciler.adapters.store.hashing import Hashed, usable_cores
from reconciler.adapters.store.layout import (
    Blob,
    Partial,
    Placed,
    Quarantined,
    RebuiltModel,
    StoreScan,
    Unplaced,
    partial_key,
)
from reconciler.adapters.store.lock import Lock, StoreBusy
from reconciler.adapters.store.store import Store
from reconciler.core.os_errors import map_os_error

__all__ = [
    "Batch",
    "Blob",
    "Hashed",
    "Lock",
    "Partial",
    "Placed",
    "Quarantined",
    "RebuiltModel",
    "Store",
    "StoreBusy",
    "StoreScan",
    "Unplaced",
    "map_os_error",
    "partial_key",
    "usable_cores",
]
