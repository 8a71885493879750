"""The history of one model: the steps of its lifecycle, the time it spent in each state, its revisions."""

from collections.abc import Iterable

from reconciler.core.heading import Document, heading
from reconciler.core.moments import moment_text
from reconciler.core.records import dataclass
from reconciler.core.words import Digest


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of a model's lifecycle; ``seconds`` is the time spent in ``from_state`` before it, None if unknown."""

    time: float
    from_state: str
    to_state: str
    seconds: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RevisionFact:
    """One revision of a model that the ledger knows; ``in_store`` is False where its bytes are gone."""

    spec_digest: Digest
    revision: str
    bytes: int
    installed_at: float
    is_current: bool = False
    in_store: bool = True


@dataclass(frozen=True, slots=True)
class History:
    """What happened to one model: transitions oldest first (the last hundred), revisions newest first."""

    model: str
    lifecycle: str
    transitions: tuple[Transition, ...] = ()
    revisions: tuple[RevisionFact, ...] = ()
    use_count: int = 0
    last_used: float | None = None


def time_in_states(transitions: Iterable[Transition]) -> tuple[tuple[str, int, float], ...]:
    """(state, times left, seconds in all) of each state that was left, by name."""
    totals: dict[str, tuple[int, float]] = {}
    for transition in transitions:
        if transition.seconds is not None:
            count, seconds = totals.get(transition.from_state, (0, 0.0))
            totals[transition.from_state] = (count + 1, seconds + transition.seconds)
    return tuple((state, count, seconds) for state, (count, seconds) in sorted(totals.items()))


def history_document(history: History) -> Document:
    """The ``History`` document."""
    return heading("History") | {
        "model": history.model,
        "lifecycle": history.lifecycle,
        "use_count": history.use_count,
        "last_used": moment_text(history.last_used),
        "transitions": [
            {
                "time": moment_text(step.time),
                "from": step.from_state,
                "to": step.to_state,
                "seconds": None if step.seconds is None else round(step.seconds, 3),
                "message": step.message,
            }
            for step in history.transitions
        ],
        "states": [
            {"state": state, "count": count, "seconds": round(seconds, 3), "average_seconds": round(seconds / count, 3)}
            for state, count, seconds in time_in_states(history.transitions)
        ],
        "revisions": [
            {
                "spec_digest": fact.spec_digest,
                "revision": fact.revision,
                "bytes": fact.bytes,
                "installed_at": moment_text(fact.installed_at),
                "current": fact.is_current,
                "in_store": fact.in_store,
            }
            for fact in history.revisions
        ],
    }
