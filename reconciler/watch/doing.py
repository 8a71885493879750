"""Verbs of the control socket that change the store: through planner and executor, beside the watch's own passes.

With ``"progress": true`` the answers before the last are what happens meanwhile: ``{"ok": true, "progress": {…}}`` (the
fields of :class:`~reconciler.core.ports.Progress`) and ``{"ok": true, "outcome": {…}}`` (as in the result); the last is
the ``result``. Who asked for progress may close its sending side: the work stops, partials kept, and the result tells
so. Where the caller hangs up altogether the work stops too: a person who types Ctrl-C means it.
"""

import queue
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from reconciler.core.actions import Outcome, Request
from reconciler.core.desired import DesiredState
from reconciler.core.errors import permanent, refused
from reconciler.core.ports import Progress
from reconciler.core.report import apply_result_document, outcome_document
from reconciler.reconcile import Listeners
from reconciler.watch.caller import Caller
from reconciler.watch.passes import Run

LOOK_EVERY_S = 0.1

Start = Callable[[Request, Listeners], Run]
NOTHING = DesiredState(models=())


def act(start: Start, request: Request, caller: Caller, *, is_followed: bool) -> Iterator[Mapping[str, Any]]:
    """Run one request; what happens meanwhile where it is followed, and the result.

    Raises:
        Failure: what kept the pass from running; refused ``model_busy`` where others have all its models in hand.
    """
    frames: queue.SimpleQueue[Progress | Outcome] = queue.SimpleQueue()
    run = start(request, Listeners(progress=frames.put, on_outcome=frames.put) if is_followed else Listeners())
    try:
        has_ended = False
        while not has_ended:
            has_ended = run.ended.wait(LOOK_EVERY_S)
            yield from _drained(frames)
            if caller.is_gone() or (is_followed and caller.has_finished()):
                run.token.set()
    finally:
        run.token.set()  # nobody listens any more; no matter where it has ended
    yield {"result": apply_result_document(_result(run, request))}


def _result(run: Run, request: Request) -> Any:
    if run.failure is not None:
        raise run.failure
    if run.result is None:
        raise permanent("pass_crashed", f"{request.verb} ended with a fault of the program; see the log of the watch")
    if run.share.has_dropped and not run.result.outcomes:
        raise refused(
            "model_busy", f"a pass is working on {', '.join(request.models) or 'the store'}", hint="wait for it"
        )
    return run.result


def _drained(frames: "queue.SimpleQueue[Progress | Outcome]") -> Iterator[Mapping[str, Any]]:
    while True:
        try:
            frame = frames.get_nowait()
        except queue.Empty:
            return
        if isinstance(frame, Progress):
            yield {"progress": asdict(frame)}
        else:
            yield {"outcome": outcome_document(frame)}
