"""The closed words of the product: what a manifest may say and what a file may be found to be.

One enumeration each, as the manifest and the documents spell them; and :data:`Digest`, how bytes are named.
"""

from enum import IntEnum, StrEnum
from typing import NewType

Digest = NewType("Digest", str)  # "sha256:" and 64 lower-case hex digits


class Priority(IntEnum):
    """How much a model matters; higher wins."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """As the manifest spells it."""
        return self.name.lower()


class WantedState(StrEnum):
    """What the manifest asks of a model."""

    PRESENT = "present"
    LOADED = "loaded"
    ABSENT = "absent"


class EvictionPolicy(StrEnum):
    """Who goes first among unwanted models."""

    LRU = "lru"
    LFU = "lfu"
    FIFO = "fifo"
    LARGEST_FIRST = "largest-first"


class EvictionMode(StrEnum):
    """Whether a critical model may be evicted at all."""

    CONSERVATIVE = "conservative"
    AGGRESSIVE = "aggressive"


class ExtractMode(StrEnum):
    """Whether an artifact is unpacked."""

    AUTO = "auto"
    ALWAYS = "true"
    NEVER = "false"


class DownloadPolicy(StrEnum):
    """When a model may be downloaded (row 15)."""

    AUTOMATIC = "automatic"
    UNMETERED = "unmetered"
    MANUAL = "manual"
    NEVER = "never"


class SignatureKind(StrEnum):
    """Whose format a signature is in."""

    MODEL_SIGNING = "model-signing"
    MINISIGN = "minisign"
    COSIGN = "cosign"


class Compression(StrEnum):
    """How blobs lie at rest."""

    NONE = "none"
    ZSTD = "zstd"


class NetworkRequirement(StrEnum):
    """What kind of network downloads need."""

    ANY = "any"
    UNMETERED = "unmetered"
    WIFI = "wifi"
    ETHERNET = "ethernet"


class Role(StrEnum):
    """What a file is for within its model."""

    PRIMARY = "primary"
    COMPANION = "companion"
    VISION_PROJECTOR = "vision-projector"
    TOKENIZER = "tokenizer"
    CONFIG = "config"
    VOCABULARY = "vocabulary"
    MERGES = "merges"
    LABELS = "labels"
    ADAPTER = "adapter"


class Condition(StrEnum):
    """How one file of the store stands against what the ledger remembers of it."""

    INTACT = "intact"  # its stat is the one it was verified with
    UNVERIFIED = "unverified"  # no proof, or the stat changed: it must be hashed before it is believed
    MISSING = "missing"  # neither the blob nor the placed file is there
    DAMAGED = "damaged"  # known bad: wrong size, or hashed and found wrong
    UNPLACED = "unplaced"  # the blob is there and good; the file under models/ is missing, replaced or writable
