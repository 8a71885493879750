"""Doing what a plan says: in the order of its dependencies, several models side by side, failures kept apart.

One handler per kind of action, in one table. Every handler first asks "already true?". A failure is sorted, recorded
with its next try and holds back only what depends on it. The scheduler itself never waits for a retry: back-off is
state in the ledger.
"""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reconciler.core.actions import Action, ActionKind, Outcome, OutcomeStatus
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.gates import OUTSIDE_WINDOW
from reconciler.execute.download import download
from reconciler.execute.extract import extract
from reconciler.execute.loading import load, unload
from reconciler.execute.remember import remember_end, remember_failure, remember_start, remember_success
from reconciler.execute.removal import evict
from reconciler.execute.storing import adopt, link, verify
from reconciler.execute.work import Done, Handler, Work
from reconciler.log import get_log

if TYPE_CHECKING:
    from reconciler.execute.partner import Partner

HANDLERS: dict[ActionKind, Handler] = {
    ActionKind.DOWNLOAD: download,
    ActionKind.VERIFY: verify,
    ActionKind.EXTRACT: extract,
    ActionKind.LOAD: load,
    ActionKind.UNLOAD: unload,
    ActionKind.EVICT: evict,
    ActionKind.LINK: link,
    ActionKind.ADOPT: adopt,
}

OTHERS_AT_ONCE = 4  # actions that are no downloads
MANY_FILES = 100  # fewer are brought as fast by one process
POLL_S = 0.1  # how soon a cancellation is taken up by what has not started

_SUPERSEDED = ("superseded", "given up before it began: it is planned anew")

OutcomeSink = Callable[[Outcome], None]


@dataclass(slots=True)
class _Schedule:
    """What still waits, what runs, what ended."""

    waiting: list[Action]
    running: dict[Future[Outcome], Action]
    ended: dict[str, Outcome]

    def is_busy_with(self, model: str) -> bool:
        """Whether something of the model waits or runs."""
        actions = (*self.waiting, *self.running.values())
        return any(action.model == model and action.id not in self.ended for action in actions)

    def check(self) -> None:
        """Something runs, or something that waits can begin.

        Raises:
            RuntimeError: the plan is wrong: its actions wait for each other, or for one that is not in it.
        """
        if self.waiting and not self.running and not any(self.ended.keys() >= {*a.depends_on} for a in self.waiting):
            raise RuntimeError(
                f"{self.waiting[0].id} waits for what never ends: {', '.join(self.waiting[0].depends_on)}"
            )


def execute(work: Work, on_outcome: OutcomeSink) -> tuple[Outcome, ...]:
    """Execute the work's plan; one outcome per action, in the order they ended."""
    downloads = max(1, work.desired.network.models)
    schedule = _Schedule(list(work.plan.actions), {}, {})

    def end(outcome: Outcome) -> None:
        schedule.ended[outcome.id] = outcome
        on_outcome(outcome)
        if not schedule.is_busy_with(outcome.model):
            work.share.release(outcome.model)

    remember_start(work)
    if any(action.kind is ActionKind.DOWNLOAD for action in work.plan.actions):
        for registry in (work.world.sources, work.world.formats, work.world.archives):
            registry.listing()  # what packages bring is looked up here once, not by every thread at the same time
        _ = work.fetcher, work.context  # nor does one wait for what another imports
    with _partner_for(work) as partner, ThreadPoolExecutor(downloads + OTHERS_AT_ONCE, "action") as pool:
        while schedule.waiting or schedule.running:
            schedule.check()
            for action in _next(schedule, work, downloads, end):
                if work.share.start(action):
                    schedule.running[pool.submit(_perform, action, work, partner)] = action
                else:
                    end(_cancelled(action, *_SUPERSEDED))
            if partner is not None and work.cancel.is_set():
                partner.stop()
            if schedule.waiting and not schedule.running:  # another pass has all the places for downloads
                work.cancel.wait(POLL_S)
            done, _ = wait(schedule.running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                work.share.end(schedule.running.pop(future))
                end(future.result())
    remember_end(work)
    return tuple(schedule.ended.values())


def _partner_for(work: Work) -> "AbstractContextManager[Partner | None]":
    """A second process for very many files; None for all others, which shall not pay for its code."""
    models = (work.models.get(action.model) for action in work.plan.actions if action.kind is ActionKind.DOWNLOAD)
    files = sum(len(work.targets(model)) for model in models if model is not None)
    if not work.world.may_fork or files < MANY_FILES:
        return nullcontext()
    from reconciler.execute.partner import partner_for  # noqa: PLC0415

    return partner_for(work, MANY_FILES)


def _next(schedule: _Schedule, work: Work, downloads: int, end: Callable[[Outcome], None]) -> list[Action]:
    """The actions to start now, in plan order; what cannot run any more ends as cancelled."""
    others = sum(action.kind is not ActionKind.DOWNLOAD for action in schedule.running.values())
    room = {True: downloads - work.share.claims.downloading, False: OTHERS_AT_ONCE - others}
    is_stopped = work.cancel.is_set()
    started, kept = [], []
    for action in schedule.waiting:
        broken = next((name for name in action.depends_on if _has_failed(schedule.ended.get(name))), None)
        is_download = action.kind is ActionKind.DOWNLOAD
        if is_stopped:
            end(_cancelled(action, "cancelled", "stopped before it began"))
        elif work.share.is_dropped(action):
            end(_cancelled(action, *_SUPERSEDED))
        elif broken is not None:
            end(_cancelled(action, "dependency_failed", f"{broken} did not succeed"))
        elif room[is_download] > 0 and all(name in schedule.ended for name in action.depends_on):
            room[is_download] -= 1
            started.append(action)
        else:
            kept.append(action)
    schedule.waiting[:] = kept
    return started


def _has_failed(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status in {OutcomeStatus.FAILED, OutcomeStatus.CANCELLED}


def _cancelled(action: Action, reason: str, message: str) -> Outcome:
    return Outcome(action.id, action.kind, action.model, OutcomeStatus.CANCELLED, reason, message)


def _perform(action: Action, work: Work, partner: "Partner | None") -> Outcome:
    """Run one handler and sort how it ended."""
    started = time.monotonic()
    log = get_log()
    log.info("action_started", id=action.id, model=action.model, kind=action.kind.value, cause=action.cause.value)
    try:
        done = partner.try_bring(action) if partner is not None else None
        done = done or HANDLERS[action.kind](action, work)
    except Failure as failure:
        seconds = time.monotonic() - started
        if failure.reason in {"cancelled", OUTSIDE_WINDOW}:
            return replace(_cancelled(action, failure.reason, failure.message), seconds=seconds)
        retry_at = remember_failure(work, action, failure)
        log.warning(
            "action_failed",
            id=action.id,
            model=action.model,
            kind=action.kind.value,
            reason=failure.reason,
            message=failure.message,
            failure=failure.kind.value,
        )
        return Outcome(
            action.id,
            action.kind,
            action.model,
            OutcomeStatus.FAILED,
            failure.reason,
            _with_hint(failure),
            seconds=seconds,
            kind_of_failure=failure.kind.value,
            retry_at=retry_at if failure.kind is FailureKind.TRANSIENT else None,
        )
    return _succeeded(action, work, done, time.monotonic() - started)


def _with_hint(failure: Failure) -> str:
    return f"{failure.message} ({failure.hint})" if failure.hint else failure.message


def _succeeded(action: Action, work: Work, done: Done, seconds: float) -> Outcome:
    remember_success(work, action, done, seconds)
    status = OutcomeStatus.SKIPPED if done.is_skipped else OutcomeStatus.DONE
    if done.is_damaged:
        status = OutcomeStatus.FAILED
    get_log().info(
        "action_finished",
        id=action.id,
        model=action.model,
        kind=action.kind.value,
        status=status.value,
        bytes=done.bytes,
        seconds=round(seconds, 3),
    )
    return Outcome(
        action.id,
        action.kind,
        action.model,
        status,
        done.reason or action.reason,
        done.message or action.message,
        done.bytes,
        seconds,
        kind_of_failure=FailureKind.TRANSIENT.value if done.is_damaged else "",
    )
