"""One round of the watch: look at everything, say what is a reason for a pass, give up what a newer manifest drops.

Here stands all of "when to run, what to cancel", and nothing else does: no thread is started, no clock is read but the
world's, nothing is waited for but (for a second) what is being given up. The daemon goes round once a second at the
least; a test goes round the same way under a clock of its own, in a world that it makes up (tests/loop/simulation.py).

Level-triggered: what was rung only means "look again". A ring that is lost, repeated or late changes nothing but, at
the most, the second in which something is seen.
"""

import collections
import os

from reconciler.adapters.ledger import Ledger
from reconciler.core.actions import OutcomeStatus, Request
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.gates import OUTSIDE_WINDOW
from reconciler.core.ports import CancelToken
from reconciler.log import get_log
from reconciler.watch import bell as triggers
from reconciler.watch.force import Force
from reconciler.watch.live import NOTHING
from reconciler.watch.parts import Parts
from reconciler.watch.passes import Passes, Run
from reconciler.world import World

GIVE_UP_S = 1.0  # a newer manifest waits no longer for what it gave up
CHECK_EVERY_S = 5.0  # how long a database that was harmed from outside may go unseen
BETWEEN_DRIFTS_S = 2.0  # while passes work they change the store themselves
_LOUD = frozenset(
    {triggers.SIGNAL, triggers.POKE, triggers.SCRUB}
)  # reasons by themselves; all others only mean: look again


class Rounds:
    """What is wanted, why the next pass starts, and what the passes that ended left to do."""

    def __init__(self, world: World, ledger: Ledger, cancel: CancelToken, parts: Parts, passes: Passes) -> None:
        self.force = Force(ledger, world.environment)
        self.was_cut_off = False
        self._world, self._ledger, self._cancel = world, ledger, cancel
        self._parts, self._passes = parts, passes
        self._ended: collections.deque[Run] = collections.deque()
        self._reasons: set[str] = set()
        self._owed: frozenset[str] = frozenset()  # models left out of a plan because another pass had them in hand
        self._last_start = 0.0
        self._is_ledger_lost = False
        self._check_due = 0.0

    @property
    def desired(self) -> DesiredState | None:
        """The manifest in force."""
        return self.force.desired

    def begin(self) -> None:
        """Before the first round: what a watch before this one had in force."""
        self.force.restore()

    def end(self, run: Run) -> None:
        """A pass ended. Called in the pass's thread."""
        self._ended.append(run)
        self._parts.bell.ring(triggers.ENDED)

    def step(self, rung: frozenset[str]) -> None:
        """Once round."""
        self._check_ledger()
        if rung & {triggers.SIGNAL, triggers.POKE}:
            self._parts.inputs.fetch_now()
        self._take_manifest()
        self._settle_ended()
        self._collect(rung)
        if self._is_ledger_lost:
            self._give_up_all()
        elif self.desired is not None and self._reasons and self._passes.can_start:
            self._start(self.desired)

    def _check_ledger(self) -> None:
        """What is found bad is no reason to forget what was rung: the round goes on."""
        if self._is_ledger_lost or self._world.monotonic() < self._check_due:
            return
        self._check_due = self._world.monotonic() + CHECK_EVERY_S
        try:
            self._ledger.check()
        except Failure:  # it raises for nothing else
            self.lose_ledger()

    def lose_ledger(self) -> None:
        """The database turned out to be damaged."""
        self._is_ledger_lost = True

    def finish(self) -> bool:
        """After the last round: whether a pass was cut off."""
        return self.was_cut_off or any(run.was_cut_off() for run in self._ended)

    # --- reasons ---------------------------------------------------------------------------------------------------

    def _collect(self, rung: frozenset[str]) -> None:
        """Everything that is a reason for a pass."""
        parts = self._parts
        self._reasons |= rung & _LOUD
        self._collect_owed()
        if self._passes.questions.has_news():
            self._reasons.add(triggers.ANSWER)
        self._reasons |= parts.agenda.due()
        found = parts.surroundings.changes((self.desired or NOTHING).memory)
        if triggers.NETWORK in found and parts.surroundings.is_online:
            self._forget_faults()
        self._reasons |= found
        is_calm = not self._passes.claims.busy() or self._world.monotonic() - self._last_start >= BETWEEN_DRIFTS_S
        if is_calm and parts.drift.has_changed():
            self._reasons.add(triggers.DRIFT)

    def _collect_owed(self) -> None:
        """Models that a plan left to another pass: once that is done with them, they are looked at again."""
        claims = self._passes.claims
        for run in self._passes.runs:
            self._owed |= run.share.owed() if run.is_ordinary else frozenset()
        free = self._owed - claims.busy()
        self._owed -= free
        if free:
            self._reasons.add(triggers.RELEASED)

    def _forget_faults(self) -> None:
        """Another network: what failed for want of one may work now."""
        for row in self._ledger.failures.get_all():
            if row.fact.kind == FailureKind.TRANSIENT:
                self._ledger.clear_failure(row.fact.model, step=row.fact.step)

    def _start(self, desired: DesiredState) -> None:
        trigger = ",".join(sorted(self._reasons))
        get_log().debug("watch_woken", trigger=trigger)
        self._reasons.clear()
        self._owed = frozenset()
        if not os.path.exists(self._ledger.path) and not self._passes.runs:  # noqa: PTH110 -- the ledger speaks text
            self._reopen_ledger()
        self._parts.agenda.plan_full()
        self._parts.drift.rebase(link for model in desired.models for link in model.links)
        self._last_start = self._world.monotonic()
        self._passes.start(desired, Request(keeps_partials=True), trigger)

    def _give_up_all(self) -> None:
        """Nothing can be recorded in a damaged database: passes end, with their partials, and then it is made anew."""
        for run in self._passes.runs:
            run.token.set()
        if self._passes.runs:
            return
        if not self._reopen_ledger():
            return
        self._is_ledger_lost = False
        if self._ledger.was_rebuilt:  # else it is whole: what failed is tried again later, not at once
            self._reasons.add(triggers.DRIFT)

    def _reopen_ledger(self) -> bool:
        """Somebody took the database away, or harmed it: made anew, rebuilt from the store; whether it was."""
        try:
            self._world.store.create()
            self._ledger.reopen()
            self.force.keep_again()
        except Failure as failure:
            get_log().warning("ledger_unwritable", error=failure.message, path=self._ledger.path)
            return False
        return True

    # --- the manifest ----------------------------------------------------------------------------------------------

    def _take_manifest(self) -> None:
        self._parts.ears.listen(self._parts.inputs.folders())
        reading = self._parts.inputs.read()
        if not reading.digest or not self.force.is_news(reading):
            return
        reading = self._parts.inputs.read_quiet(reading, self._cancel)
        if self._cancel.is_set() or not self.force.is_news(reading):
            return
        if not self.force.offer(reading) or self.desired is None:
            return
        self._reasons.add(triggers.MANIFEST)
        lost = self._passes.supersede(self.desired)
        if lost:
            self._passes.wait_given_up(lost, GIVE_UP_S)

    # --- passes that ended -----------------------------------------------------------------------------------------

    def _settle_ended(self) -> None:
        while self._ended:
            self._settle(self._ended.popleft())

    def _settle(self, run: Run) -> None:
        if run.crash is not None:
            raise run.crash
        if self._cancel.is_set():
            self.was_cut_off = self.was_cut_off or run.was_cut_off()
        self._is_ledger_lost |= run.has_lost_ledger
        if not run.is_ordinary or run.share.is_superseded:
            return
        self._owed |= run.share.owed()
        outcomes = run.result.outcomes if run.result else ()
        has_progressed = any(outcome.status is OutcomeStatus.DONE for outcome in outcomes)
        is_stuck = run.failure is not None or any(
            o.status is OutcomeStatus.FAILED and o.retry_at is None for o in outcomes
        )
        self._parts.agenda.note(was_fruitless=is_stuck and not has_progressed)
        is_shut = any(outcome.reason == OUTSIDE_WINDOW for outcome in outcomes)  # the plan of now says when it opens
        if has_progressed or is_shut:
            self._reasons.add(triggers.ENDED)
