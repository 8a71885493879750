"""Passes in threads, several side by side, never two on one model; newest wins.

One ordinary pass plans at a time. Once it has its plan and works, another may plan: for a newer manifest, for drift,
for a retry. What the older one has in hand is left to it (:mod:`reconciler.execute.claims`). A newer manifest makes the
older passes give up what it does not want; a pass that had not got as far as a plan is dropped whole.
"""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.adapters.ledger import Ledger
from reconciler.core.actions import Outcome, OutcomeStatus, Request
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure
from reconciler.core.ports import CancelToken, Progress
from reconciler.core.report import ApplyResult
from reconciler.core.words import Digest, WantedState
from reconciler.execute.claims import Claims, ModelToken, Share
from reconciler.log import get_log
from reconciler.planning import Pass
from reconciler.reconcile import Deadline, Listeners, run_pass
from reconciler.watch import bell as triggers
from reconciler.watch.pulse import Pulse
from reconciler.watch.questions import Questions
from reconciler.world import World

MAX_SIDE_BY_SIDE = 4
LEDGER_LOST = "ledger_corrupt"
NOBODY = Listeners()


@dataclass(slots=True, eq=False)
class Run:
    """One pass under way, or ended: then there is a ``result``, or the ``failure`` that ended it."""

    number: int
    desired: DesiredState
    request: Request
    trigger: str
    token: ModelToken
    share: Share
    also: Listeners = NOBODY
    pulse: Pulse = field(default_factory=Pulse)
    made: Pass | None = None
    result: ApplyResult | None = None
    failure: Failure | None = None
    crash: BaseException | None = None  # a fault of the program: the loop ends with it
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def is_ordinary(self) -> bool:
        """Whether it answers to the manifest, not to one person's request."""
        return not self.request.verb

    @property
    def has_lost_ledger(self) -> bool:
        """Whether it found the database damaged."""
        outcomes = self.result.outcomes if self.result else ()
        found = [self.failure, *outcomes]
        return any(each is not None and each.reason == LEDGER_LOST for each in found)

    def was_cut_off(self) -> bool:
        """Whether it left something undone because it was stopped."""
        outcomes = self.result.outcomes if self.result else ()
        return any(outcome.status is OutcomeStatus.CANCELLED for outcome in outcomes)


class Passes:
    """Starts passes and knows which are under way. What is told of them is told in the pass's own thread."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        cancel: CancelToken,
        listeners: Listeners,
        told: tuple[Callable[[Run], None], Callable[[str], None]],
        spawn: Callable[[Callable[[], None], str], None],
    ) -> None:
        """Args: told: of a pass's end, and of what rings the bell; spawn: runs a pass beside the loop."""
        self._on_end, ring = told
        self.claims = Claims(lambda: ring(triggers.RELEASED))
        self.questions = Questions(cancel, lambda: ring(triggers.ANSWER))
        self._world, self._ledger, self._cancel = world, ledger, cancel
        self._listeners, self._spawn = listeners, spawn
        self._guard = threading.Lock()
        self._runs: list[Run] = []
        self._untold: list[Run] = []  # those whose end was not yet told of: whoever stops waits for these too
        self._numbers = itertools.count(1)

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those under way, oldest first."""
        with self._guard:
            return tuple(self._runs)

    @property
    def can_start(self) -> bool:
        """Whether an ordinary pass may begin: none is planning, and not too many work."""
        ordinary = [run for run in self.runs if run.is_ordinary and not run.share.is_superseded]
        return all(run.share.is_taken for run in ordinary) and len(ordinary) < MAX_SIDE_BY_SIDE

    def start(self, desired: DesiredState, request: Request, trigger: str, also: Listeners = NOBODY) -> Run:
        """Begin a pass in a thread of its own; ``also`` is told of its progress and outcomes."""
        token = ModelToken(self._cancel)
        run = Run(next(self._numbers), desired, request, trigger, token, self.claims.open(token), also)
        with self._guard:
            self._runs.append(run)
            self._untold.append(run)
        self._spawn(lambda: self._run(run), f"pass-{run.number}")
        return run

    def silent_s(self) -> float:
        """For how long the pass that told least of late has told nothing new; 0 where none is under way."""
        return max((run.pulse.silent_s() for run in self.runs), default=0.0)

    def supersede(self, desired: DesiredState) -> frozenset[str]:
        """A newer manifest is in force; the models whose work is given up."""
        new = specs(desired)
        self.questions.drop_unwanted(new)
        lost: set[str] = set()
        for run in self.runs:
            if run.is_ordinary:
                lost |= run.share.supersede(specs(run.desired), new)
                if not run.share.is_taken:
                    run.token.set()
        return frozenset(lost)

    def wait_given_up(self, models: frozenset[str], timeout_s: float) -> None:
        """Wait until nobody has these models in hand any more, but not for ever."""
        end = self._world.monotonic() + timeout_s
        while models & self.claims.busy() and self._world.monotonic() < end:
            self._cancel.wait(0.02)

    def join(self, timeout_s: float) -> bool:
        """Wait for all to end, and to be told of; False where one did not in time."""
        end = time.monotonic() + timeout_s
        with self._guard:
            untold = tuple(self._untold)
        return all(run.ended.wait(max(0.0, end - time.monotonic())) for run in untold)

    def _run(self, run: Run) -> None:
        log = get_log()
        log.debug("pass_started", generation=run.desired.digest, trigger=run.trigger)
        listeners = Listeners(
            progress=lambda frame: self._on_progress(run, frame),
            on_outcome=lambda outcome: self._on_outcome(run, outcome),
            on_change=self._listeners.on_change,
            on_pass=lambda made: self._on_pass(run, made),
        )
        try:
            run.result = run_pass(
                self._world,
                self._ledger,
                run.desired,
                run.request,
                deadline=Deadline(run.token),
                listeners=listeners,
                share=run.share,
                asker=self.questions.asker(run.request, frozenset(run.trigger.split(",")), run.token),
            )
        except Failure as failure:
            run.failure = failure
            if failure.reason != "cancelled":
                log.warning("pass_refused", reason=failure.reason, message=failure.message, hint=failure.hint)
        except BaseException as error:  # noqa: BLE001 -- raised again in the loop, which is the thread that may crash
            run.crash = error
        finally:
            self._end(run)

    def _on_progress(self, run: Run, frame: Progress) -> None:
        run.pulse.see(frame)
        self._listeners.progress(frame)
        run.also.progress(frame)

    def _on_outcome(self, run: Run, outcome: Outcome) -> None:
        run.pulse.beat()
        self._listeners.on_outcome(outcome)
        run.also.on_outcome(outcome)

    def _on_pass(self, run: Run, made: Pass) -> None:
        run.pulse.beat()
        run.made = made
        if not run.share.is_superseded and run.is_ordinary:
            self._listeners.on_pass(made)

    def _end(self, run: Run) -> None:
        run.share.close()
        with self._guard:
            self._runs.remove(run)
        if run.result is not None and run.result.outcomes:
            summary = run.result.summary
            get_log().info(
                "pass_finished",
                generation=run.desired.digest,
                done=summary.done,
                failed=summary.failed,
                skipped=summary.skipped,
                cancelled=summary.cancelled,
                deferred=summary.deferred,
                seconds=round(summary.seconds, 3),
            )
        try:
            self._on_end(run)
        finally:
            run.ended.set()
            with self._guard:
                self._untold.remove(run)


def specs(desired: DesiredState) -> dict[str, Digest]:
    """What a manifest wants to be here: each model with what it is made of."""
    return {model.name: model.spec_digest for model in desired.models if model.state is not WantedState.ABSENT}
