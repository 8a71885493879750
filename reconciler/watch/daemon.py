"""The loop: wait for the bell, look at everything, start a pass where something says so.

One round costs a stat per placed file and one read of the manifest, and happens once a second at the least; it plans
nothing unless something woke it. All that takes long is in other threads: passes, Git, clients, listening.
"""

import collections
import os
import threading
import time

from reconciler.adapters.ledger import EventType, Ledger
from reconciler.core.actions import OutcomeStatus, Request
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.ports import CancelToken, Progress
from reconciler.core.remembered import WatchFact
from reconciler.core.state import DesiredState
from reconciler.core.status import Status
from reconciler.log import get_log
from reconciler.planning import Pass
from reconciler.reconcile import Listeners
from reconciler.watch import bell as triggers
from reconciler.watch.agenda import Agenda
from reconciler.watch.bell import Bell
from reconciler.watch.counts import Counts
from reconciler.watch.drift import Drift
from reconciler.watch.ears import Ears
from reconciler.watch.force import Force
from reconciler.watch.git_inputs import GitInputs
from reconciler.watch.hops import network_folder
from reconciler.watch.inputs import FileInputs
from reconciler.watch.live import NOTHING, Live, status_of
from reconciler.watch.meters import Meters
from reconciler.watch.notify import Notifier
from reconciler.watch.passes import Passes, Run, specs
from reconciler.watch.surroundings import Surroundings
from reconciler.world import World

HEARTBEAT_S = 1.0
GIVE_UP_S = 1.0  # a newer manifest waits no longer for what it gave up
BETWEEN_DRIFTS_S = 2.0  # while passes work they change the store themselves
STOP_S = 4.0
NOBODY_LISTENS = Listeners()
_LOUD = frozenset({triggers.MANIFEST, triggers.GIT, triggers.SIGNAL, triggers.POKE})


class Daemon:
    """A running watch. The caller owns the store and gives a ledger that may write."""

    def __init__(  # noqa: PLR0913, PLR0917 -- one part each, made by the entry
        self,
        world: World,
        ledger: Ledger,
        inputs: FileInputs | GitInputs,
        cancel: CancelToken,
        agenda: Agenda,
        bell: Bell,
        listeners: Listeners = NOBODY_LISTENS,
    ) -> None:
        self.world, self.ledger, self.cancel, self.bell = world, ledger, cancel, bell
        self.agenda, self._listeners = agenda, listeners
        self.meters, self.counts = Meters(), Counts()
        self.notifier = Notifier(world.environment)
        self.force = Force(ledger, world.environment)
        own = Listeners(
            progress=self._report,
            on_outcome=self.counts.count,
            on_change=listeners.on_change,
            on_pass=self._on_pass,
        )
        self.passes = Passes(world, ledger, cancel, own, self._on_end, lambda: bell.ring(triggers.RELEASED))
        self.seen: Status | None = None
        self.beat_at = time.monotonic()
        self._inputs = inputs
        self._ears, self._drift = Ears(bell), Drift(world.store.root)
        self._surroundings = Surroundings(world)
        self._ended: collections.deque[Run] = collections.deque()
        self._reasons: set[str] = set()
        self._is_owed = False  # something was left out of a plan because another pass had it in hand
        self._is_ready = False
        self._last_start = 0.0
        self._last_event_at: float | None = None
        self._far_folder = ""
        self._was_cut_off = False
        self._guard = threading.Lock()

    @property
    def desired(self) -> DesiredState | None:
        """The manifest in force."""
        return self.force.desired

    # --- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until cancelled."""
        self.force.restore()
        self._listen()
        rung = frozenset({triggers.MANIFEST, triggers.INTERVAL})
        while not self.cancel.is_set():
            self._round(rung)
            rung = self.bell.wait(min(HEARTBEAT_S, self.agenda.next_s() if self.desired else HEARTBEAT_S))
        self._was_cut_off = self._was_cut_off or any(run.is_at_work for run in self.passes.runs)

    def stop(self) -> tuple[bool, bool]:
        """After the loop: wait for passes to keep what they have.

        Returns:
            Whether a pass was cut off, and whether all ended in time.
        """
        self.notifier.stopping()
        self._ears.close()
        has_ended = self.passes.join(STOP_S)
        was_cut_off = self._was_cut_off or not has_ended or any(run.was_cut_off() for run in self._ended)
        return was_cut_off, has_ended

    def _round(self, rung: frozenset[str]) -> None:
        self.beat_at = time.monotonic()
        self.notifier.feed()
        if triggers.SIGNAL in rung:
            self.notifier.reloading()
            self._is_ready = False
        if isinstance(self._inputs, GitInputs) and rung & {triggers.SIGNAL, triggers.POKE}:
            self._inputs.fetch_now()
        if triggers.MANIFEST in rung:
            self._last_event_at = self.world.now()
        self._take_manifest()
        self._settle_ended()
        self._collect(rung)
        if self.desired is None:
            self._tell_ready()
        elif self._reasons and self.passes.can_start:
            self._start()
        self.notifier.status(self._sentence())

    def _collect(self, rung: frozenset[str]) -> None:
        """Everything that is a reason for a pass."""
        self._reasons |= rung & (_LOUD - {triggers.MANIFEST, triggers.GIT})
        if triggers.RELEASED in rung and self._is_owed:
            self._is_owed = False
            self._reasons.add(triggers.ENDED)
        self._reasons |= self.agenda.due()
        found = self._surroundings.changes((self.desired or NOTHING).memory)
        if triggers.NETWORK in found and self._surroundings.is_online:
            self._forget_faults()
        self._reasons |= found
        is_calm = not self.passes.claims.busy() or time.monotonic() - self._last_start >= BETWEEN_DRIFTS_S
        if is_calm and self._drift.has_changed():
            self._reasons.add(triggers.DRIFT)

    def _start(self) -> None:
        desired = self.desired or NOTHING
        trigger = ",".join(sorted(self._reasons))
        get_log().debug("watch_woken", trigger=trigger)
        self._reasons.clear()
        self._is_owed = False
        self._reopen_ledger()
        self.agenda.plan_full()
        self._drift.rebase(link for model in desired.models for link in model.links)
        self._last_start = time.monotonic()
        self.passes.start(desired, Request(), trigger)

    def _reopen_ledger(self) -> None:
        """Somebody took the database away: it is made anew, and rebuilt from the store."""
        if not os.path.exists(self.ledger.path) and not self.passes.runs:  # noqa: PTH110 -- the ledger speaks text
            self.world.store.create()
            self.ledger.reopen()

    # --- the manifest ----------------------------------------------------------------------------------------------

    def _take_manifest(self) -> None:
        self._listen()
        reading = self._inputs.read()
        if not reading.digest or not self.force.is_news(reading):
            return
        reading = self._inputs.read_quiet(reading, self.cancel)
        if self.cancel.is_set() or not self.force.is_news(reading):
            return
        before = self.desired
        if not self.force.offer(reading) or self.desired is None:
            self._tell_ready()
            return
        self._reasons.add(triggers.MANIFEST)
        changed = {name for name, spec in specs(before or NOTHING).items() if specs(self.desired).get(name) != spec}
        self.passes.claims.held -= changed
        lost = self.passes.supersede(self.desired)
        if lost:
            self.passes.wait_given_up(lost, GIVE_UP_S)

    def _listen(self) -> None:
        folders = self._inputs.folders()
        if self._ears.listen(folders):
            self._far_folder = network_folder(folders)

    def _forget_faults(self) -> None:
        """Another network: what failed for want of one may work now."""
        for row in self.ledger.failures.get_all():
            if row.fact.kind == FailureKind.TRANSIENT:
                self.ledger.clear_failure(row.fact.model, step=row.fact.step)

    # --- passes ----------------------------------------------------------------------------------------------------

    def _on_pass(self, made: Pass) -> None:
        """A pass has its plan. Called in the pass's thread."""
        deferred = [entry.retry_at for entry in made.plan.deferred]
        self.agenda.set_moments([*deferred, made.sight.observed.suspended_until])
        with self._guard:
            before = self.seen
            self.seen = status_of(made.desired, made, self.live())
            self.counts.plans += 1
        self._tell_change(before, self.seen)
        self._tell_ready()

    def _on_end(self, run: Run) -> None:
        """A pass ended. Called in the pass's thread."""
        self._ended.append(run)
        self.bell.ring(triggers.ENDED)

    def _settle_ended(self) -> None:
        while self._ended:
            self._settle(self._ended.popleft())

    def _settle(self, run: Run) -> None:
        if run.crash is not None:
            raise run.crash
        for model in {outcome.model for outcome in run.result.outcomes} if run.result else ():
            if model not in self.passes.claims.busy():
                self.meters.forget(model)
        if self.cancel.is_set():
            self._was_cut_off = self._was_cut_off or run.was_cut_off()
        self._is_owed = self._is_owed or run.share.has_dropped
        if not run.is_ordinary or run.share.is_superseded:
            return
        outcomes = run.result.outcomes if run.result else ()
        has_progressed = any(outcome.status is OutcomeStatus.DONE for outcome in outcomes)
        retries = [outcome.retry_at for outcome in outcomes if outcome.retry_at is not None]
        self.agenda.set_moments([*self.agenda.moments, *retries])
        is_stuck = run.failure is not None or any(
            o.status is OutcomeStatus.FAILED and o.retry_at is None for o in outcomes
        )
        self.agenda.note(was_fruitless=is_stuck and not has_progressed)
        if has_progressed:
            self._reasons.add(triggers.ENDED)

    def _report(self, frame: Progress) -> None:
        self.meters.report(frame)
        self._listeners.progress(frame)

    # --- telling ---------------------------------------------------------------------------------------------------

    def live(self) -> Live:
        """What only the watch knows."""
        running = self.passes.claims.busy()
        sums = self.meters.sums()
        return Live(
            pid=os.getpid(),
            is_running=bool(running),
            running=tuple(sorted(running)),
            held=tuple(sorted(self.passes.claims.held)),
            next_run_at=self.agenda.next_run_at() if self.desired else None,
            manifest_problem=self.force.problem,
            source=self.force.source,
            watch=self._health(),
            conditions=self.seen.conditions if self.seen else (),
            progress=tuple(row for row in sums if row[0] in running),
        )

    def _health(self) -> WatchFact:
        if isinstance(self._inputs, GitInputs):
            trouble = self._inputs.trouble
            return WatchFact(not trouble, "git", trouble or f"fetched from {self._inputs.label}")
        checked = f"last check {max(0.0, time.monotonic() - self.beat_at):.0f} s ago"
        if self._far_folder:
            return WatchFact(True, "heartbeat", f"{self._far_folder} is on a network file system; {checked}")
        if self._ears.trouble:
            return WatchFact(False, "heartbeat", f"no file events: {self._ears.trouble}; {checked}")
        heard = (
            "none yet"
            if self._last_event_at is None
            else f"{max(0.0, self.world.now() - self._last_event_at):.0f} s ago"
        )
        return WatchFact(True, "events", f"last event {heard}, {checked}")

    def _tell_change(self, before: Status | None, now: Status) -> None:
        """Ready or stalled, or no more: one event each time it turns."""
        for kind, bad in (("Ready", "False"), ("Stalled", "True")):
            new = now.condition(kind)
            old = before.condition(kind).status if before else None
            if old is None or old == new.status:
                continue
            event = EventType.WARNING if new.status == bad and kind == "Stalled" else EventType.NORMAL
            word = kind.lower() if new.status == "True" else f"not_{kind.lower()}"
            try:
                self.ledger.events.record(event, word, new.message)
            except Failure as failure:
                get_log().warning("ledger_unwritable", error=failure.message, path=self.ledger.path)

    def _tell_ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self.notifier.ready()

    def _sentence(self) -> str:
        busy = self.passes.claims.busy()
        if busy:
            return self.meters.sentence() or f"working on {', '.join(sorted(busy)[:3])}"
        if self.desired is None:
            return "waiting for a manifest"
        ready = self.seen.condition("Ready") if self.seen else None
        return ready.message if ready else "looking at the store"
