"""What lies in the store: models, blobs, partials, each as the disk shows it and the ledger remembers it.

Sizes are bytes; "allocated" ones are blocks on disk. Times are seconds since the epoch, 0.0 where unknown.
"""

from reconciler.core.records import dataclass
from reconciler.core.words import Condition, Digest, Priority, Role


@dataclass(frozen=True, slots=True)
class FileStat:
    """What identifies one version of one file without reading it."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    mode: int = 0o444

    @property
    def word(self) -> str:
        """For a precondition: changes whenever the file does."""
        return f"{self.device}:{self.inode}:{self.size_bytes}:{self.mtime_ns}:{self.mode:o}"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a model in the store.

    ``allocated_bytes`` is what the blob takes on disk (blocks), 0 where it is missing.
    """

    path: str
    digest: Digest | None
    size_bytes: int
    allocated_bytes: int
    condition: Condition = Condition.INTACT
    role: Role = Role.PRIMARY
    stat: FileStat | None = None
    detail: str = ""  # why it is not intact, for the message


@dataclass(frozen=True, slots=True)
class LinkFact:
    """A declared link that the tool made: absolute path, and whether it still points at the placed file."""

    path: str
    is_right: bool
    is_foreign: bool = False  # something else stands there; it is never replaced


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One revision of a model as it lies in the store.

    ``is_current`` is False for a superseded revision that is kept for rollback. ``is_foreign`` marks files that the
    tool did not place (``models/<name>`` without a ledger row and without a blob behind it).
    """

    name: str
    spec_digest: Digest
    files: tuple[StoredFile, ...]
    is_current: bool = True
    is_foreign: bool = False
    revision: str = ""  # the commit or tag a mutable reference was resolved to
    pinned: bool = False
    loaded: bool = False  # observed in a runtime, and loaded by this tool
    runtime: str = ""
    in_use: bool = False
    links: tuple[LinkFact, ...] = ()
    installed_at: float = 0.0
    last_used: float = 0.0
    use_count: int = 0
    verified_at: float | None = None
    format: str = ""
    memory_bytes: int | None = None  # RAM measured or estimated, where known
    priority: Priority | None = None  # the last priority a manifest gave it
    signed_by: str = ""  # who signed it, where that was asked for and found good
    signed_under: Digest = Digest("")  # the rule and the keys by which it was
    is_unpacked: bool = False  # its files came out of an archive: a declared digest is that of the archive


@dataclass(frozen=True, slots=True)
class PartialFact:
    """An unfinished download: which bytes, for whom, how many are done, and what they take on disk."""

    key: str
    model: str
    done_bytes: int
    allocated_bytes: int
    modified_at: float
    digest: Digest | None = None
    size_bytes: int | None = None
    path: str = ""  # the artifact's path within its model


@dataclass(frozen=True, slots=True)
class BadCopy:
    """A file in quarantine: its name there, of which digest it should have been where that is known, since when."""

    key: str
    allocated_bytes: int
    since: float
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class BlobFact:
    """A blob in the store, whoever uses it."""

    digest: Digest
    size_bytes: int
    allocated_bytes: int
    is_verified: bool
    stat: FileStat | None = None
    modified_at: float = 0.0


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A file outside the store (a hub cache, an Ollama folder) whose name promises a digest that is wanted."""

    digest: Digest
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store on disk. Everything counted is in allocated bytes, each inode once."""

    models: tuple[StoredModel, ...] = ()  # sorted by (name, not is_current, spec_digest)
    blobs: tuple[BlobFact, ...] = ()  # sorted by digest
    partials: tuple[PartialFact, ...] = ()
    quarantine_bytes: int = 0
    foreign_bytes: int = 0
    used_bytes: int = 0  # all of blobs, models, partial, quarantine and foreign files
    path: str = ""
    bad_copies: tuple[BadCopy, ...] = ()  # what ``quarantine_bytes`` are, sorted by key
