"""What the shell's parts look like to each other: protocols only, so that adapters need not know one another.

A third party registers its own source, format, archive or runtime by satisfying one of these.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.observed import Resolution
from reconciler.core.policies import RuntimeSpec
from reconciler.core.records import dataclass
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest, Role


class CancelToken(Protocol):
    """Asked often by everything that takes long; :class:`threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether to stop now, keeping what can be resumed."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds; True where it was set."""
        ...


@dataclass(frozen=True, slots=True)
class Location:
    """One place to fetch one file from, ready to be asked.

    ``headers`` hold secrets and are sent to ``url``'s own origin only. ``url`` may be signed: it is never printed;
    ``label`` is what people see (no user information, no query). ``origin`` names the host for limits and breakers.
    ``refresh`` asks the source for a new signed URL after a 401 or 403 in the middle.
    """

    url: str = field(repr=False)
    label: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    refresh: Callable[[], "Location"] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one file stands. Rates in bytes per second, times in seconds; None where unknown."""

    model: str
    path: str
    stage: str  # connecting | downloading | verifying | extracting | waiting | done
    done_bytes: int
    total_bytes: int | None
    rate: float | None = None
    seconds_left: float | None = None
    attempt: int = 1
    source: str = ""
    message: str = ""


ProgressSink = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One file to bring onto the disk.

    ``target`` is the absolute path of the partial file inside ``partial/``; the engine may keep a sidecar beside it
    (``<target>.json``) and removes both names' leftovers itself except the finished file. ``size_bytes`` is declared
    and binds; ``expected_bytes`` was measured before: the object may be another by now. ``limit_bytes`` bounds what
    nobody declared the size of. ``min_free_bytes`` is re-checked while running.
    """

    model: str
    path: str
    locations: tuple[Location, ...]
    target: str
    digest: Digest | None = None
    size_bytes: int | None = None
    expected_bytes: int | None = None
    limit_bytes: int | None = None
    min_free_bytes: int = 0
    connections: int = 8
    timeout_s: float = 30.0
    priority: int = 1
    reuse: str | None = None  # a damaged copy (absolute path) whose good chunks may be kept; ``digest`` is its own then
    may_hold: bool = False  # a small file may come unsynced: see :attr:`Fetched.held`
    is_listed: bool = False  # the origin's own listing told ``size_bytes``: of that size, it is no page in its place
    accepts_newer: bool = False  # nobody declared ``digest``: it was the copy's, and the object may be another by now

    @property
    def declared(self) -> Digest | None:
        """What the content must have, whatever the source gives."""
        return None if self.accepts_newer else self.digest

    @property
    def likely_bytes(self) -> int | None:
        """How large the file will be, as far as anybody knows."""
        return self.expected_bytes if self.size_bytes is None else self.size_bytes


class Held(Protocol):
    """A file that is whole and verified, but not durable yet; it stays open and locked until it is settled."""

    def begin(self) -> None:
        """Have the disk begin with it, and do not wait: of several files, before the first is settled."""
        ...

    def settle(self) -> None:
        """Sync it and let go of it; to be called once.

        Raises:
            Failure: transient, from the disk; the file is gone.
        """
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is complete, durable (fdatasync) and verified at ``target``; the caller commits it.

    It is durable only once ``held`` is settled, where there is one; many syncs in a row cost less than each by itself.
    Where it has not the digest asked for, its sidecar is left too, which speaks for it until it is committed.
    """

    digest: Digest
    size_bytes: int
    source: str  # the label it came from
    received_bytes: int  # over the wire, this time
    revision: str = ""  # ETag or Last-Modified, for people
    content: memoryview | None = field(default=None, repr=False, compare=False)  # of a small file: all its bytes
    held: Held | None = field(default=None, repr=False, compare=False)


class Fetcher(Protocol):
    """The download engine."""

    def fetch(self, request: FetchRequest, progress: ProgressSink, cancel: CancelToken) -> Fetched:
        """Fetch, verify and sync one file.

        Raises:
            Failure: sorted; ``cancelled`` (transient) where ``cancel`` was set, the partial kept.
        """
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A small answer, read whole. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = field(repr=False, default="")


class HttpClient(Protocol):
    """What sources use to ask an origin: redirects, secrets and limits are already taken care of."""

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        max_bytes: int = 16 << 20,
        timeout_s: float = 30.0,
    ) -> HttpAnswer:
        """Send one request and read the answer, whatever its status.

        Raises:
            Failure: transient for network faults; refused for an unsafe redirect.
        """
        ...


class SourceContext(Protocol):
    """What a source may use while it resolves."""

    @property
    def http(self) -> HttpClient:
        """Ask an origin."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The process environment (HF_TOKEN, AWS_…)."""
        ...

    @property
    def cancel(self) -> CancelToken:
        """Whether to stop."""
        ...

    def credentials(self, url: str) -> tuple[tuple[str, str], ...]:
        """The headers that the manifest gives for this URL's host, secrets read now; empty for other hosts."""
        ...


class Source(Protocol):
    """One kind of place that models come from, chosen by URL scheme."""

    name: str
    schemes: tuple[str, ...]

    def needs_resolving(self, artifact: Artifact) -> bool:
        """Whether the manifest alone does not tell what the artifact is made of (a tree, a mutable reference)."""
        ...

    def resolve(self, model: DesiredModel, artifact: Artifact, url: str, context: SourceContext) -> Resolution:
        """What ``url`` stands for now: concrete files with sizes and digests as far as the source knows them.

        Raises:
            Failure: sorted.
        """
        ...

    def locate(self, artifact: Artifact, url: str, context: SourceContext) -> Location:
        """Where the engine reads this one file from."""
        ...


@dataclass(frozen=True, slots=True)
class FormatReport:
    """What a file turned out to be. ``metadata`` values are JSON scalars."""

    format: str  # gguf, safetensors, onnx, …, or "unknown"
    is_unsafe: bool = False  # holds a pickle
    errors: tuple[str, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()  # (severity, text)
    metadata: tuple[tuple[str, str | int | float | bool], ...] = ()


class FormatReader(Protocol):
    """Recognises one file format by content and reads its header within strict bounds."""

    name: str

    def read(self, path: str, size_bytes: int) -> FormatReport | None:
        """The report, or None where the file is something else. Never raises for what the file holds."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file that came out of an archive into the staging folder: relative POSIX path, bytes, digest."""

    path: str
    size_bytes: int
    digest: Digest


class Extractor(Protocol):
    """Unpacks one kind of archive, safely or not at all."""

    name: str

    def recognises(self, path: str, name: str) -> bool:
        """Whether the file's content (first) or name says it is one of ours."""
        ...

    def measure(self, path: str) -> int | None:
        """Bytes the unpacked tree will take, where the archive tells; None where only unpacking tells."""
        ...

    def extract(
        self, path: str, into: str, *, limit_bytes: int, progress: Callable[[int], None], cancel: CancelToken
    ) -> tuple[Member, ...]:
        """Write every member below ``into`` (an empty folder), durable.

        Raises:
            Failure: permanent where one member is unsafe or damaged; the caller removes ``into``.
        """
        ...


@dataclass(frozen=True, slots=True)
class RuntimeModel:
    """What a runtime needs to know of a model: its files are absolute paths, the primary first."""

    name: str
    files: tuple[tuple[str, Role], ...]
    format: str
    size_bytes: int
    memory_bytes: int | None  # declared
    folder: str = ""


class Runtime(Protocol):
    """Where a model is loaded to."""

    type: str

    def observe(self, models: Sequence[RuntimeModel]) -> Mapping[str, int]:
        """Of ``models``, those that are loaded, with the bytes of RAM they hold now.

        Raises:
            Failure: transient where the runtime does not answer.
        """
        ...

    def load(self, model: RuntimeModel, cancel: CancelToken) -> int:
        """Load and wait until it is observed loaded; the bytes of RAM it holds. Loading a loaded one is no error."""
        ...

    def unload(self, model: RuntimeModel, cancel: CancelToken) -> None:
        """Unload and wait until it is observed gone. Unloading one that is not loaded is no error."""
        ...

    def estimate(self, model: RuntimeModel) -> int:
        """Bytes of RAM that loading would take."""
        ...


RuntimeFactory = Callable[[RuntimeSpec], Runtime]


class StagedTree(Protocol):
    """A folder being prepared; iterating yields (relative path, digest, size)."""

    def __iter__(self) -> Iterator[tuple[str, Digest, int]]:
        """The files staged so far."""
        ...


@dataclass(frozen=True, slots=True)
class Proof:
    """The stat a blob had when its content was last hashed and found right."""

    digest: Digest
    stat: FileStat
    verified_at: float
