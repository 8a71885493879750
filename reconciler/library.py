"""The library: the same reconciler that the command runs, inside an application.

::

    from reconciler import Reconciler, load_manifest

    with Reconciler(load_manifest("models.yaml")) as reconciler:
        for action in reconciler.plan().actions:
            print(action.kind, action.model, action.message)
        reconciler.apply()
        model = open(reconciler.path("whisper-base"), "rb")

Reading never writes below the store. What changes the store takes the owner's lock for as long as it lasts.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from reconciler.adapters import manifest
from reconciler.adapters.ledger import Change, EventRow, Ledger
from reconciler.bookkeeping import load_last_good
from reconciler.core.actions import Outcome, Plan, Request
from reconciler.core.document import observed_digest
from reconciler.core.errors import Failure, ManifestInvalid, permanent
from reconciler.core.lifecycle import Lifecycle
from reconciler.core.ports import CancelToken, Extractor, FormatReader, Progress, ProgressSink, RuntimeFactory, Source
from reconciler.core.remembered import WatchFact
from reconciler.core.report import ApplyResult, Check, Df, Event, History, RevisionFact, Transition
from reconciler.core.state import DesiredState, ObservedState, Override, Role
from reconciler.core.status import Status
from reconciler.core.usage import measure_df
from reconciler.core.why import Why, why
from reconciler.planning import NOTHING_ASKED, plan_pass
from reconciler.reconcile import Listeners, apply_pass
from reconciler.resolve import NEVER
from reconciler.watch import client, marks
from reconciler.watch.live import NOBODY, Live, see_status
from reconciler.world import World, open_world

LifecycleObserver = Callable[[str, Lifecycle, Lifecycle], None]
EMPTY = DesiredState(models=())


def load_manifest(
    paths: str | Sequence[str] = (), environ: Mapping[str, str] | None = None, *, is_locked: bool = True
) -> DesiredState:
    """Read, merge and check manifests; with no paths, the default ones. ``is_locked``: with the lock file beside them.

    Raises:
        ManifestInvalid: with every problem and its place.
        Failure: ``manifest_missing`` where there is none.
    """
    names = [paths] if isinstance(paths, str) else list(paths)
    environment = dict(os.environ if environ is None else environ)
    stdin = sys.stdin.buffer if "-" in names else None
    try:
        here = os.getcwd()  # noqa: PTH109 -- the adapter speaks text
        return manifest.load(names, environment, here, stdin, is_locked=is_locked)
    except ManifestInvalid as invalid:
        if not names and invalid.problems[0].found == "no manifest":
            invalid.reason = "manifest_missing"
        raise


class Reconciler:
    """A store and, where there is one, the manifest that it should hold.

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
        self._uses: dict[str, int] = {}
        self._guard = threading.Lock()

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

    # --- the two main verbs --------------------------------------------------------------------------------------

    def plan(
        self, request: Request = NOTHING_ASKED, *, offline: bool = False, observed: ObservedState | None = None
    ) -> Plan:
        """What :meth:`apply` would do now, and why; with ``observed`` for another machine."""
        if observed is not None:
            from reconciler.core.plan import plan as decide  # noqa: PLC0415
            from reconciler.planning import with_rollbacks  # noqa: PLC0415

            current = {model.name: model.spec_digest for model in observed.store.models if model.is_current}
            return decide(with_rollbacks(self._wanted(), observed.overrides, current), observed, request)
        with self.world.ledger() as ledger:
            made = plan_pass(self.world, self._in_force(ledger) or EMPTY, ledger, request, offline=offline)
        return replace(made.plan, observed_digest=observed_digest(made.sight.observed))

    def apply(  # noqa: PLR0913 -- one value each for what, how and who
        self,
        request: Request = NOTHING_ASKED,
        *,
        saved: Plan | None = None,
        timeout_s: float | None = None,
        cancel: CancelToken | None = None,
        progress: ProgressSink | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
        on_plan: Callable[[Plan], None] | None = None,
    ) -> ApplyResult:
        """Make it so, once. A failing model is an outcome; what keeps the whole pass from running is raised."""
        sinks = [*self._progress, *([progress] if progress else [])]

        def report(frame: object) -> None:
            for sink in sinks:
                sink(frame)  # type: ignore[arg-type]

        listeners = Listeners(report, on_outcome or _ignore, on_plan or _ignore, self._tell)
        try:
            return apply_pass(
                self.world,
                self._wanted(),
                request,
                saved=saved,
                cancel=cancel or NEVER,
                timeout_s=timeout_s,
                listeners=listeners,
            )
        except Failure as failure:
            if failure.reason != "store_busy" or not request.verb:
                raise
            return self._apply_in_watch(request, failure, on_outcome or _ignore)

    def _apply_in_watch(self, request: Request, busy: Failure, on_outcome: Callable[[Outcome], None]) -> ApplyResult:
        """A watch owns the store: it does the one thing beside its own passes."""
        keys = {"models": list(request.models), "allow_evict": request.allow_evict}
        answer = client.ask(self.store_path, request.verb, timeout_s=None, **keys)
        if answer is None:
            raise busy
        result = client.result_from(answer["result"])
        for outcome in result.outcomes:
            on_outcome(outcome)
        return result

    def watch(self, *, interval_s: float = 300.0, cancel: CancelToken | None = None) -> int:
        """Keep applying until ``cancel`` is set; see :mod:`reconciler.watch`."""
        from reconciler.watch import watch  # noqa: PLC0415

        files = self.desired.files if self.desired else ()
        return watch(
            files=files,
            cancel=cancel or threading.Event(),
            interval_s=interval_s,
            world=self.world,
            listeners=Listeners(progress=self._report, on_change=self._tell),
        )

    # --- reading -------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """State, conditions and reasons of every model."""
        live = self._live()
        with self.world.ledger() as ledger:
            return see_status(self.world, ledger, self._in_force(ledger), live)

    def _live(self) -> Live:
        """What a running watch adds; one that does not answer adds that."""
        if not os.path.exists(f"{self.store_path}/{client.SOCKET_NAME}"):  # noqa: PTH110 -- the store speaks text
            return NOBODY
        try:
            answer = client.ask(self.store_path, "live")
        except Failure as failure:
            return Live(watch=WatchFact(is_healthy=False, mode="silent", message=failure.message))
        return Live.from_document(answer["live"]) if answer else NOBODY

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

    def why(self, name: str) -> Why:
        """The chain of facts behind the present decision on one model, and the smallest change that would turn it."""
        with self.world.ledger() as ledger:
            made = plan_pass(self.world, self._in_force(ledger) or EMPTY, ledger, offline=True)
            return why(made.desired, made.sight.observed, name)

    def snapshot(self) -> ObservedState:
        """Everything that a plan for this machine needs, and no secret."""
        with self.world.ledger() as ledger:
            observed = plan_pass(self.world, self._in_force(ledger) or EMPTY, ledger).sight.observed
        return replace(observed, digest=observed_digest(observed))

    def path(self, name: str) -> str:
        """The absolute path of a model's primary file.

        Raises:
            Failure: permanent ``not_present``.
        """
        with self.world.ledger() as ledger:
            row = ledger.revisions.current(name)
        primary = next((file for file in row.files if file.role is Role.PRIMARY), None) if row else None
        path = self.world.store.placed_path(name, primary.path) if primary else ""
        if not path or not os.path.exists(path):  # noqa: PTH110
            raise permanent("not_present", f"{name} is not in the store", hint="run reconciler apply")
        return path

    def events(self, after: int = 0, model: str | None = None, limit: int | None = None) -> Sequence[Event]:
        """What happened, oldest first: after a sequence number, or the last ``limit``."""
        with self.world.ledger() as ledger:
            if model is None and after:
                rows = ledger.events.since(after, limit=limit or 10_000)
            else:
                rows = ledger.events.latest(limit or 10_000, model=model)
            return [_event(row) for row in rows if row.seq > after]

    def history(self, name: str) -> History:
        """One model's lifecycle and revisions.

        Raises:
            Failure: permanent ``unknown_model``.
        """
        with self.world.ledger() as ledger:
            row = ledger.models.get(name)
            if row is None:
                raise permanent(
                    "unknown_model", f"nothing is known of a model {name}", hint="reconciler status lists all"
                )
            steps = ledger.lives.history(name)
            stored = ledger.revisions.of(name)
        return History(
            model=name,
            lifecycle=row.lifecycle.value,
            transitions=tuple(Transition(s.at, s.source.value, s.target.value, s.lasted_s) for s in steps),
            revisions=tuple(
                RevisionFact(
                    r.spec_digest, r.revision, sum(f.size_bytes for f in r.files), r.installed_at, r.is_current
                )
                for r in stored
            ),
            use_count=row.use_count,
            last_used=row.last_used or None,
        )

    def df(self) -> Df:
        """What the store takes, by part, format and model."""
        with self.world.ledger() as ledger:
            desired = self._in_force(ledger) or EMPTY
            made = plan_pass(self.world, desired, ledger, offline=True)
        return measure_df(desired.cache, made.sight.observed)

    def doctor(self) -> Sequence[Check]:
        """Whether store, clock, disk, database and plug-ins are fit."""
        from reconciler.doctor import examine  # noqa: PLC0415

        return examine(self.world)

    # --- one thing each ------------------------------------------------------------------------------------------

    def pin(self, name: str) -> None:
        """Keep a model whatever the manifest and the policies say, until it is unpinned."""
        self._set_pin(name, pinned=True)

    def unpin(self, name: str) -> None:
        """Let a model be evicted again."""
        self._set_pin(name, pinned=False)

    def touch(self, name: str, at: float | None = None) -> None:
        """Record a use now (or at ``at``): eviction by least recent or least frequent use goes by this."""
        self._mark("touch", lambda ledger: marks.touch(ledger, name, at), models=[name], at=at)

    def record_use(self, name: str) -> None:
        """The application used the model."""
        self.touch(name)

    @contextmanager
    def using(self, name: str) -> Iterator[str]:
        """Use a model: its path, with the file held open so that it is never evicted meanwhile."""
        path = self.path(name)
        with open(path, "rb"):  # noqa: PTH123
            yield path
        self.record_use(name)

    def suspend(self, until: float | None = None) -> None:
        """Do nothing by itself until then, or until resumed."""
        self._mark("suspend", lambda ledger: marks.suspend(ledger, until), until=until)

    def resume(self) -> None:
        """End a suspension."""
        self._mark("resume", lambda ledger: ledger.meta.resume())

    def poke(self) -> None:
        """Look again now: a running watch does; past failures are forgotten, so that everything is tried at once."""
        self._mark("poke", lambda ledger: ledger.clear_failure())

    def forget_override(self, name: str, kind: str) -> None:
        """Take back one manual decision."""
        with self._owned() as ledger:
            ledger.overrides.clear(name, kind=kind)

    def override(self, name: str, kind: str) -> None:
        """Remember a manual decision that outlives this command: ``load`` or ``unload``."""
        with self._owned() as ledger:
            marks.known(ledger, name)
            spec = next((model.spec_digest for model in self._wanted().models if model.name == name), "")
            ledger.overrides.save(Override(name, kind, self.world.now(), spec))  # type: ignore[arg-type]

    # --- registration and observers --------------------------------------------------------------------------------

    def register(self, item: Source | FormatReader | Extractor | RuntimeFactory) -> None:
        """Put a source, format, archive or runtime of one's own before all others."""
        registry = (
            self.world.sources
            if hasattr(item, "locate")
            else self.world.archives
            if hasattr(item, "extract")
            else self.world.formats
            if hasattr(item, "read")
            else self.world.runtimes
        )
        registry.register(item)  # type: ignore[arg-type]

    def on_lifecycle(self, observer: LifecycleObserver) -> Callable[[], None]:
        """Be told (model, from, to) of each change of state; the answer takes the observer away."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def on_progress(self, sink: ProgressSink) -> Callable[[], None]:
        """Be told of progress during :meth:`apply`; the answer takes the observer away."""
        self._progress.append(sink)
        return lambda: self._progress.remove(sink)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _report(self, frame: Progress) -> None:
        for sink in list(self._progress):
            sink(frame)

    def _tell(self, ledger: Ledger, change: Change) -> None:
        if change.noun != "lifecycle" or not self._observers:
            return
        step = next(iter(reversed(ledger.lives.history(change.key))), None)
        for observer in list(self._observers) if step else ():
            try:
                observer(change.key, step.source, step.target)  # type: ignore[union-attr]
            except Exception:  # noqa: BLE001 -- an observer of somebody else's must not break the machine
                from reconciler.log import get_log  # noqa: PLC0415

                get_log().warning("observer_failed", model=change.key, error="an observer raised")

    def _wanted(self) -> DesiredState:
        return self.desired or EMPTY

    @contextmanager
    def _owned(self) -> Iterator[Ledger]:
        self.world.store.create()
        with self.world.store.acquire(), self.world.ledger() as ledger:
            ledger.become_writer()
            yield ledger

    def _mark(self, op: str, record: Callable[[Ledger], object], **keys: Any) -> None:
        """Record something as the owner, or let the watch that owns the store do it."""
        try:
            with self._owned() as ledger:
                record(ledger)
        except Failure as failure:
            if failure.reason != "store_busy" or client.ask(self.store_path, op, **keys) is None:
                raise

    def _set_pin(self, name: str, *, pinned: bool) -> None:
        now = self.world.now()
        self._mark(
            "pin" if pinned else "unpin",
            lambda ledger: marks.set_pin(ledger, name, now, pinned=pinned),
            models=[name],
        )


def _ignore(_: object) -> None:
    """Nobody wants to know."""


def _event(row: EventRow) -> Event:
    return Event(row.seq, row.time, row.type.value, row.reason, row.model, row.message, row.count)


__all__ = ["Reconciler", "load_manifest"]
