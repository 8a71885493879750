"""The loop: wait for the bell, go round (:mod:`rounds` decides what follows), tell whoever wants to know.

One round costs a stat per placed file and one read of the manifest, and happens once a second at the least; it plans
nothing unless something woke it. All that takes long is in other threads: passes, Git, clients, listening.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import replace

from reconciler.adapters.ledger import EventType, Ledger
from reconciler.core.actions import Outcome
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure
from reconciler.core.ports import CancelToken, Progress
from reconciler.core.remembered import WatchFact
from reconciler.core.status import Status
from reconciler.log import get_log
from reconciler.planning import Pass
from reconciler.reconcile import Listeners
from reconciler.watch import bell as triggers
from reconciler.watch.counts import Counts
from reconciler.watch.git_inputs import GitInputs
from reconciler.watch.hops import network_folder
from reconciler.watch.live import Live, status_of
from reconciler.watch.meters import Meters
from reconciler.watch.notify import Notifier
from reconciler.watch.parts import Parts
from reconciler.watch.passes import LEDGER_LOST, Passes, Run
from reconciler.watch.rounds import Rounds
from reconciler.watch.told import Told
from reconciler.world import World

HEARTBEAT_S = 1.0
STOP_S = 4.0
NOBODY_LISTENS = Listeners()


class Daemon:
    """A running watch. The caller owns the store and gives a ledger that may write."""

    def __init__(
        self, world: World, ledger: Ledger, cancel: CancelToken, parts: Parts, listeners: Listeners = NOBODY_LISTENS
    ) -> None:
        self.world, self.ledger, self.cancel = world, ledger, cancel
        self.bell, self._parts, self._listeners = parts.bell, parts, listeners
        self.meters, self.counts = Meters(), Counts()
        self.notifier = Notifier(world.environment)
        own = Listeners(
            progress=self._report,
            on_outcome=self._on_outcome,
            on_change=listeners.on_change,
            on_pass=self._on_pass,
        )
        self.passes = Passes(world, ledger, cancel, own, (self._on_end, parts.bell.ring), parts.spawn)
        self.rounds = Rounds(world, ledger, cancel, parts, self.passes)
        self.seen: Status | None = None
        self._told = Told(world, ledger)
        self.beat_at = world.monotonic()
        self.keep_doors: Callable[[], None] = lambda: None  # once round: what others reach the store by is still there
        self._is_ready = self._was_ready = False
        self._last_event_at: float | None = None
        self._guard = threading.Lock()

    @property
    def desired(self) -> DesiredState | None:
        """The manifest in force."""
        return self.rounds.desired

    # --- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until cancelled."""
        self.rounds.begin()
        rung = frozenset({triggers.MANIFEST})
        while not self.cancel.is_set():
            try:
                self._round(rung)
            except Failure as failure:
                if failure.reason != LEDGER_LOST:
                    raise
                self.rounds.lose_ledger()
            rung = self.bell.wait(min(HEARTBEAT_S, self._parts.agenda.next_s() if self.desired else HEARTBEAT_S))

    def stop(self) -> tuple[bool, bool]:
        """After the loop: wait for passes to keep what they have.

        Returns:
            Whether a pass was cut off, and whether all ended in time.
        """
        self.notifier.stopping()
        self._parts.ears.close()
        self._parts.drift.close()
        has_ended = self.passes.join(STOP_S)
        self._told.keep(self._facts())
        return self.rounds.finish() or not has_ended, has_ended

    def _round(self, rung: frozenset[str]) -> None:
        self.beat_at = self.world.monotonic()
        self.keep_doors()
        self.notifier.feed(self.passes.silent_s())
        if triggers.SIGNAL in rung:
            self.notifier.reloading()
            self._is_ready = False
        if triggers.MANIFEST in rung:
            self._last_event_at = self.world.now()
        self.rounds.step(rung)
        if self.desired is None:
            self._tell_ready()
        self.notifier.status(self._sentence())
        self._told.keep(self._facts())

    # --- what passes tell, in their threads ------------------------------------------------------------------------

    def _on_pass(self, made: Pass) -> None:
        """A pass has its plan."""
        observed = made.sight.observed
        moments = [*(entry.retry_at for entry in made.plan.deferred), observed.suspended_until]
        self._parts.agenda.set_moments(at for at in moments if at is not None and at > observed.taken_at)
        self._parts.surroundings.note_plan(made.plan, observed.disk.free_bytes)
        with self._guard:
            before = self.seen
            self._told.made = made
            self.seen = status_of(made.desired, made, self.live())
            self.counts.plans += 1
        self._tell_change(before, self.seen)
        self._tell_ready()

    def _on_outcome(self, outcome: Outcome) -> None:
        self.counts.count(outcome)
        if outcome.retry_at is not None:
            self._parts.agenda.add_moment(outcome.retry_at)

    def _on_end(self, run: Run) -> None:
        for model in {outcome.model for outcome in run.result.outcomes} if run.result else ():
            if model not in self.passes.claims.busy():
                self.meters.forget(model)
        if run.failure is not None and self._was_ready:
            self._tell_ready()  # a reload is over, though nothing could be observed
        self.rounds.end(run)

    def _report(self, frame: Progress) -> None:
        self.meters.report(frame)
        self._listeners.progress(frame)

    # --- telling ---------------------------------------------------------------------------------------------------

    def live(self) -> Live:
        """What only the watch knows, and since when each condition has been as it is."""
        facts = self._facts()
        return replace(facts, conditions=self._told.judge(facts))

    def _facts(self) -> Live:
        running = self.passes.claims.busy()
        sums = self.meters.sums()
        return Live(
            pid=os.getpid(),
            is_running=bool(running),
            running=tuple(sorted(running)),
            unanswered=tuple(sorted(self.passes.questions.unanswered())),
            next_run_at=self._parts.agenda.next_run_at() if self.desired else None,
            manifest_problem=self.rounds.force.problem,
            source=self.rounds.force.source,
            watch=self._health(),
            transfers={name: transfer for name, transfer in sums.items() if name in running},
            arrived={name: self.meters.arrived(name) for name in running},
        )

    def _health(self) -> WatchFact:
        if isinstance(self._parts.inputs, GitInputs):
            return self._parts.inputs.health()
        checked = f"last check {max(0.0, self.world.monotonic() - self.beat_at):.0f} s ago"
        far_folder = network_folder(self._parts.ears.folders)
        if far_folder:
            return WatchFact(True, "heartbeat", f"by heartbeat: {far_folder} is on a network file system; {checked}")
        if self._parts.ears.trouble:
            return WatchFact(False, "heartbeat", f"by heartbeat: no file events: {self._parts.ears.trouble}; {checked}")
        heard = (
            "none yet"
            if self._last_event_at is None
            else f"{max(0.0, self.world.now() - self._last_event_at):.0f} s ago"
        )
        slow = f"; looked for every few seconds only: {self._parts.slow_for}" if self._parts.slow_for else ""
        return WatchFact(True, "events", f"by events: last event {heard}, {checked}{slow}")

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
            self._is_ready = self._was_ready = True
            self.notifier.ready()

    def _sentence(self) -> str:
        busy = self.passes.claims.busy()
        if busy:
            return self.meters.sentence() or f"working on {', '.join(sorted(busy)[:3])}"
        if self.desired is None:
            return "waiting for a manifest"
        ready = self.seen.condition("Ready") if self.seen else None
        return ready.message if ready else "looking at the store"
