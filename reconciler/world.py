"""The world in one value: every adapter, the clock, the environment and the random source.

What touches the outside is reached through here and nowhere else, so that a test can make another world. Adapters are
made when first used: a plan that fetches nothing pays for no network code.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, TypedDict

from reconciler.adapters import plugins
from reconciler.adapters.device import device_facts, disk_facts, memory_facts
from reconciler.adapters.ledger import Ledger
from reconciler.adapters.manifest import Extensions
from reconciler.adapters.network import network_facts
from reconciler.adapters.sources.registry import Sources, built_in_sources
from reconciler.adapters.store import Store
from reconciler.core.desired import Artifact, DesiredState
from reconciler.core.errors import Failure, permanent
from reconciler.core.observed import DeviceFacts, DiskFacts, MemoryFacts
from reconciler.core.policies import NetworkPolicy, RuntimeSpec
from reconciler.core.ports import (
    CancelToken,
    Extractor,
    Fetcher,
    FormatReader,
    HttpClient,
    Location,
    Runtime,
    RuntimeFactory,
    Source,
)
from reconciler.core.records import dataclass
from reconciler.core.registry import Registry
from reconciler.core.stored import LocalCopy
from reconciler.core.words import Digest

if TYPE_CHECKING:
    from reconciler.adapters.fetch import Engine

STORE_FOLDER = "reconciler"
FILES_AT_ONCE = 8  # fetched by one process, at least


@dataclass(frozen=True, slots=True)
class Context:
    """What a source may use: the client, the environment, and the manifest's credentials for one host at a time."""

    http: HttpClient
    environment: Mapping[str, str]
    cancel: CancelToken
    network: NetworkPolicy

    def credentials(self, url: str) -> tuple[tuple[str, str], ...]:
        """The headers for this URL's host; secrets are read here, at the moment of use."""
        if not self.network.credentials:
            return ()
        from reconciler.adapters.sources.credentials import headers_for  # noqa: PLC0415 -- only where a secret is used

        return headers_for(url, self.network.credentials, self.environment)


@dataclass(slots=True)
class World:
    """Everything outside. ``sleep`` waits on a token, so that a stop is never slept through."""

    store: Store
    environment: Mapping[str, str]
    may_fork: bool = field(default=False, kw_only=True)  # the process is ours alone, and ends with the verb
    now: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic  # for spans: no clock that is set changes them
    sources: Sources = field(init=False)
    formats: Registry[FormatReader] = field(init=False)
    archives: Registry[Extractor] = field(init=False)
    runtimes: Registry[RuntimeFactory] = field(init=False)
    _engine: "Engine | None" = field(init=False, default=None)
    _network: NetworkPolicy | None = field(init=False, default=None)  # in force
    _processes: int = field(init=False, default=1)  # that keep its limits together
    _runtimes: dict[RuntimeSpec, Runtime] = field(init=False, default_factory=dict)
    _guard: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.sources = Sources(built_in_sources(self.now), plugins.discoverer(plugins.SOURCES))
        self.formats = Registry((), plugins.discoverer(plugins.FORMATS))
        self.archives = Registry((), plugins.discoverer(plugins.ARCHIVES))
        self.runtimes = Registry((), plugins.discoverer(plugins.RUNTIMES))

    def extensions(self) -> Extensions:
        """The words that a manifest may use because of what code and packages registered."""
        return _extensions(self.sources, self.formats, self.runtimes)

    # --- facts ---------------------------------------------------------------------------------------------------

    def disk(self) -> DiskFacts:
        """The file system that holds the store."""
        return disk_facts(self.store.root)

    def memory(self) -> MemoryFacts:
        """The RAM now."""
        return memory_facts()

    def device(self) -> DeviceFacts:
        """What this machine is, whatever its manifest says."""
        kind, is_metered = network_facts(self.environment)
        return device_facts(
            now=self.now(),
            environment=self.environment,
            network=kind,
            is_metered=is_metered,
        )

    def ledger(self) -> Ledger:
        """The store's memory, to read; it becomes a writer where something is to be done."""
        return Ledger.open(self.store.root, now=self.now, writable=False)

    def local_copies(self, wanted: Mapping[Digest, int | None]) -> tuple[LocalCopy, ...]:
        """What other tools' caches on this machine promise to hold of these digests."""
        from reconciler.adapters.sources.local_caches import find_copies  # noqa: PLC0415 -- only where bytes are missing

        return find_copies(wanted, self.environment)

    # --- the network ---------------------------------------------------------------------------------------------

    def fetcher(self, desired: DesiredState) -> Fetcher:
        """The download engine; one for the process."""
        return self._engine_for(desired.network)

    def source_context(self, desired: DesiredState, cancel: CancelToken) -> Context:
        """What sources use to ask their origins."""
        return Context(self._engine_for(desired.network).asking(cancel), self.environment, cancel, desired.network)

    def locate_all(self, places: Iterable[tuple[Artifact, str]], context: Context) -> tuple[Location, ...]:
        """Where the engine reads each (file, URL) from; one that cannot be told is left out while another can.

        Raises:
            Failure: the first, where none can be told.
        """
        found: list[Location] = []
        first: Failure | None = None
        for file, url in places:
            try:
                found.append(self.sources.for_url(url).locate(file, url, context))
            except Failure as failure:
                if failure.reason == "cancelled":
                    raise
                first = first or failure
        if first is not None and not found:
            raise first
        return tuple(found)

    def set_network(self, network: NetworkPolicy) -> None:
        """This policy is in force: its limits hold for the whole process from now on, also for what is under way."""
        with self._guard:
            self._network = network
            self._adjust()

    def divide_network(self, processes: int) -> None:
        """So many processes keep the limits together from now on; each has an equal part."""
        with self._guard:
            self._processes = processes
            self._adjust()

    def become_fork(self) -> None:
        """In a process that was forked: chance is its own, and so are connections; those that are open stay alone."""
        random.seed()
        self._engine = None

    def _adjust(self) -> None:
        if self._engine is not None and self._network is not None:
            self._engine.adjust(**_limits_of(self._network, self._processes))

    def _engine_for(self, network: NetworkPolicy) -> "Engine":
        """The engine; where no policy was put in force yet, with the limits of this one."""
        with self._guard:
            if self._engine is None:
                from reconciler.adapters.fetch import Engine, Settings  # noqa: PLC0415 -- only where bytes are missing

                self._engine = Engine(Settings(environment=self.environment, now=self.now, random=self.random))
                self._engine.adjust(**_limits_of(self._network or network, self._processes))
            return self._engine

    # --- runtimes ------------------------------------------------------------------------------------------------

    def runtime(self, spec: RuntimeSpec) -> Runtime:
        """The runtime that a manifest's entry names.

        Raises:
            Failure: permanent ``unknown_runtime``.
        """
        with self._guard:
            if spec not in self._runtimes:
                self._runtimes[spec] = self._make_runtime(spec)
            return self._runtimes[spec]

    def _make_runtime(self, spec: RuntimeSpec) -> Runtime:
        factory = self.runtimes.find(lambda item: getattr(item, "type", None) == spec.type)
        if factory is not None:
            return factory(spec)
        if spec.type == "page-cache":
            from reconciler.adapters.runtimes.page_cache import PageCache  # noqa: PLC0415

            return PageCache()
        raise permanent(
            "unknown_runtime",
            f"no runtime of type {spec.type} is installed",
            hint="use page-cache, or install the package that brings it",
        )

    def close(self) -> None:
        """Close idle connections."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


class _Limits(TypedDict):
    bandwidth_bytes: int | None
    files: int
    processes: int
    ask_timeout_s: float


def _limits_of(network: NetworkPolicy, processes: int) -> _Limits:
    """A policy in the engine's words. The files of one model may come side by side, however few models do."""
    return {
        "bandwidth_bytes": network.bandwidth_bytes_per_s,
        "files": max(FILES_AT_ONCE, network.models) // processes,
        "processes": processes,
        "ask_timeout_s": network.timeout_s,
    }


def store_root(option: str | None, environment: Mapping[str, str]) -> str:
    """Where the store is: ``--store``, else $RECONCILER_STORE, $STATE_DIRECTORY, else the user's data folder."""
    named = option or environment.get("RECONCILER_STORE") or environment.get("STATE_DIRECTORY", "").split(":")[0]
    if named:
        return os.path.abspath(named)  # noqa: PTH100 -- the store wants text
    data = environment.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):  # noqa: PTH117
        return f"{data}/{STORE_FOLDER}"
    import platformdirs  # noqa: PLC0415 -- only where nothing else says where

    return platformdirs.user_data_dir(STORE_FOLDER, appauthor=False)


def open_world(option: str | None = None, environment: Mapping[str, str] | None = None) -> World:
    """The real world. Nothing is created."""
    environ = dict(os.environ) if environment is None else dict(environment)
    return World(Store(store_root(option, environ), time.time), environ)


def installed_extensions() -> Extensions:
    """The words that a manifest may use because of installed packages, where there is no World yet."""
    found = (plugins.discover(group) for group in (plugins.SOURCES, plugins.FORMATS, plugins.RUNTIMES))
    return _extensions(*([entry.item for entry in entries if entry.item is not None] for entries in found))


def _extensions(sources: Iterable[Source], formats: Iterable[FormatReader], runtimes: Iterable[object]) -> Extensions:
    return Extensions(
        frozenset(scheme for source in sources for scheme in source.schemes),
        frozenset(reader.name for reader in formats),
        frozenset(str(getattr(factory, "type", "")) for factory in runtimes),
    )


def wall_clock() -> float:
    """Now, in seconds since the epoch, for what needs no world."""
    return time.time()
