"""An open store and, where there is one, the manifest that it should hold: what every verb of the library needs."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from reconciler.adapters import manifest
from reconciler.adapters.ledger import Ledger
from reconciler.bookkeeping import load_last_good
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure
from reconciler.core.lifecycle import Lifecycle
from reconciler.core.ports import Extractor, FormatReader, ProgressSink, RuntimeFactory, Source
from reconciler.core.registry import Registry
from reconciler.core.remembered import WatchFact
from reconciler.watch import client
from reconciler.watch.live import NOBODY, Live
from reconciler.world import World, open_world

EMPTY = DesiredState(models=())
LifecycleObserver = Callable[[str, Lifecycle, Lifecycle], None]


class Opened:
    """A store, its world, and what is wanted of it.

    Args:
        desired: what is wanted; None for verbs that only read or change one thing.
        store: the store's folder; None for the default.
        environ: the environment to use in place of the process's own.
    """

    def __init__(
        self,
        desired: DesiredState | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.desired = desired
        self.world: World = open_world(os.fspath(store) if store is not None else None, environ)
        self._observers: list[LifecycleObserver] = []
        self._progress: list[ProgressSink] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self.world.close()

    @property
    def store_path(self) -> str:
        """The store's folder, absolute."""
        return self.world.store.root

    def in_force(self) -> DesiredState | None:
        """The manifest that was given, else the one that a watch of this store has in force, else None."""
        with self.world.ledger() as ledger:
            return self._in_force(ledger)

    def _in_force(self, ledger: Ledger) -> DesiredState | None:
        """The manifest that was given, else the one that a watch has in force."""
        if self.desired is not None:
            return self.desired
        kept = load_last_good(ledger, self.world.environment)
        return kept.desired if kept else None

    def _live(self) -> Live:
        """What a running watch adds; one that does not answer adds that."""
        if not os.path.exists(f"{self.store_path}/{client.SOCKET_NAME}"):  # noqa: PTH110 -- the store speaks text
            return NOBODY
        try:
            answer = client.ask(self.store_path, "live")
        except Failure as failure:
            return Live(watch=WatchFact(is_healthy=False, mode="silent", message=failure.message))
        return Live.from_document(answer["live"]) if answer else NOBODY

    def _wanted(self) -> DesiredState:
        return self.desired or EMPTY

    @contextmanager
    def _owned(self) -> Iterator[Ledger]:
        self.world.store.create()
        with self.world.store.acquire(), self.world.ledger() as ledger:
            ledger.become_writer()
            yield ledger

    def register(self, item: Source | FormatReader | Extractor | RuntimeFactory) -> None:
        """Put a source, format, archive or runtime of one's own before all others.

        Raises:
            TypeError: it is none of them.
        """
        world = self.world
        kinds: tuple[tuple[str, Registry[Any]], ...] = (
            ("locate", world.sources),
            ("extract", world.archives),
            ("read", world.formats),
            ("type", world.runtimes),
        )
        registry = next((registry for method, registry in kinds if hasattr(item, method)), None)
        if registry is None:
            raise TypeError(f"{item!r} is no source (locate), archive (extract), format (read) or runtime (type)")
        registry.register(item)

    def extensions(self) -> manifest.Extensions:
        """What :func:`load_manifest` must know to read a manifest that uses what was registered here."""
        return self.world.extensions()
