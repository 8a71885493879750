"""The verbs that plan, act and watch, and those who are told of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from reconciler.adapters.ledger import Change, Ledger
from reconciler.core.actions import Outcome, Plan, Request
from reconciler.core.desired import DesiredState
from reconciler.core.document import observed_digest
from reconciler.core.errors import Failure, manifest_missing
from reconciler.core.observed import ObservedState
from reconciler.core.ports import CancelToken, Progress, ProgressSink
from reconciler.core.report import ApplyResult
from reconciler.library.marking import Marking
from reconciler.library.opened import EMPTY, LifecycleObserver
from reconciler.library.reading import Reading
from reconciler.log import get_log
from reconciler.planning import NOTHING_ASKED, plan_elsewhere, plan_pass
from reconciler.reconcile import Listeners, apply_pass
from reconciler.resolve import NEVER
from reconciler.watch import client

NEEDS_MANIFEST = frozenset({"", "prune"})  # other verbs name what they do


class Reconciler(Reading, Marking):
    """A store and, where there is one, the manifest that it should hold; see :class:`Opened` for its arguments."""

    def plan(
        self, request: Request = NOTHING_ASKED, *, offline: bool = False, observed: ObservedState | None = None
    ) -> Plan:
        """What :meth:`apply` would do now, and why; with ``observed`` for another machine."""
        if observed is not None:
            return plan_elsewhere(self._wanted(), observed, request)
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
        """Make it so, once. A failing model is an outcome; what keeps the whole pass from running is raised.

        Raises:
            ManifestInvalid: ``manifest_missing`` where none was given and no watch has one in force: that is no wish
                for nothing.
        """

        def report(frame: Progress) -> None:
            if progress is not None:
                progress(frame)
            self._report(frame)

        listeners = Listeners(report, on_outcome or _ignore, on_plan or _ignore, self._tell)
        try:
            return apply_pass(
                self.world,
                self._wanted_by(request),
                request,
                saved=saved,
                cancel=cancel or NEVER,
                timeout_s=timeout_s,
                listeners=listeners,
            )
        except Failure as failure:
            if failure.reason != "store_busy" or not request.verb:
                raise
            return self._apply_in_watch(request, failure, listeners, cancel or NEVER)

    def _wanted_by(self, request: Request) -> DesiredState:
        desired = self.in_force()
        if desired is None and request.verb in NEEDS_MANIFEST:
            raise manifest_missing()
        return desired or EMPTY

    def _apply_in_watch(
        self, request: Request, busy: Failure, listeners: Listeners, cancel: CancelToken
    ) -> ApplyResult:
        """A watch owns the store: it does the one thing beside its own passes. What it will be is planned here too."""
        if not self._live().pid:
            raise busy
        listeners.on_plan(self.plan(request))
        keys = {"models": list(request.models), "allow_evict": request.allow_evict}
        told = (listeners.progress, listeners.on_outcome)
        result = client.perform(self.store_path, request.verb, told, cancel, **keys)
        if result is None:
            raise busy
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

    @contextmanager
    def using(self, name: str) -> Iterator[str]:
        """Use a model: its path, with the file held open so that it is never evicted meanwhile."""
        path = self.path(name)
        with open(path, "rb"):  # noqa: PTH123
            yield path
        self.record_use(name)

    def on_lifecycle(self, observer: LifecycleObserver) -> Callable[[], None]:
        """Be told (model, from, to) of each change of state; the answer takes the observer away."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def on_progress(self, sink: ProgressSink) -> Callable[[], None]:
        """Be told of progress during :meth:`apply`; the answer takes the observer away."""
        self._progress.append(sink)
        return lambda: self._progress.remove(sink)

    def _report(self, frame: Progress) -> None:
        for sink in list(self._progress):
            _tell_observer(frame.model, sink, frame)

    def _tell(self, _: Ledger, change: Change) -> None:
        if change.noun != "lifecycle":
            return
        for observer in list(self._observers):
            for source, target in change.steps:
                _tell_observer(change.key, observer, change.key, source, target)


def _tell_observer(model: str, observer: Callable[..., object], *told: object) -> None:
    """An observer of somebody else's must not break the machine."""
    try:
        observer(*told)
    except Exception as error:  # noqa: BLE001 -- theirs, whatever it is
        get_log().warning("observer_failed", model=model, error=f"an observer raised {type(error).__name__}")


def _ignore(_: object) -> None:
    """Nobody wants to know."""
