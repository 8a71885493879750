"""One model's walk through the lifecycle: a frozen value that steps, and a hub that tells who wants to know.

A :class:`Machine` remembers the last hundred steps with how long each state lasted, and refuses what the table does
not allow. It is a value: :meth:`Machine.to` gives the next one. :class:`Observers` is a plain list of callables; one
that raises is reported to ``on_failure`` and breaks neither the others nor the caller.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Any

from reconciler.core.lifecycle import Lifecycle, path, transition
from reconciler.core.records import dataclass

HISTORY_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Step:
    """One transition: when (seconds since the epoch), and how long the state that was left had lasted (seconds)."""

    source: Lifecycle
    target: Lifecycle
    at: float
    lasted_s: float


@dataclass(frozen=True, slots=True)
class Machine:
    """Where one model stands, since when, and how it came there (oldest first)."""

    model: str
    state: Lifecycle = Lifecycle.UNINITIALIZED
    since: float = 0.0
    history: tuple[Step, ...] = ()

    def to(self, state: Lifecycle, at: float) -> "Machine":
        """The machine one legal step further. A clock that went backwards gives a duration of 0.

        Raises:
            Failure: permanent ``illegal_transition``.
        """
        step = Step(self.state, transition(self.state, state), at, max(at - self.since, 0.0))
        return replace(self, state=state, since=at, history=(*self.history, step)[-HISTORY_LENGTH:])

    def reach(self, state: Lifecycle, at: float) -> "Machine":
        """The machine at ``state``, by the shortest legal way; itself where it is there already.

        Raises:
            Failure: permanent ``illegal_transition`` where no way leads there.
        """
        machine = self
        for step in path(self.state, state):
            machine = machine.to(step, at)
        return machine

    def time_in_state(self, now: float) -> float:
        """Seconds in the present state."""
        return max(now - self.since, 0.0)

    def count(self, state: Lifecycle) -> int:
        """How often the state was entered, as far as the history goes."""
        return sum(step.target is state for step in self.history)

    def average_s(self, state: Lifecycle) -> float | None:
        """The mean duration of a state in seconds, over the times it was left; None where it never was."""
        lasted = [step.lasted_s for step in self.history if step.source is state]
        return sum(lasted) / len(lasted) if lasted else None


class Topic(StrEnum):
    """What can be observed."""

    TRANSITION = "transition"  # called with (model, Step)
    ERROR = "error"  # called with (model, Step) where a step leads to error
    PROGRESS = "progress"  # called with (model, StageProgress)


Observer = Callable[[str, Any], None]


class Observers:
    """Who is told. Not guarded against threads: the caller publishes from one place or under its own lock."""

    def __init__(self, on_failure: Callable[[Topic, Exception], None] | None = None) -> None:
        self._observers: dict[int, tuple[Topic, Observer]] = {}
        self._next = 0
        self._on_failure = on_failure

    def add(self, topic: Topic, observer: Observer) -> Callable[[], None]:
        """Tell ``observer`` from now on; the answer takes it away again (twice is no error)."""
        key = self._next
        self._next += 1
        self._observers[key] = (topic, observer)

        def remove() -> None:
            self._observers.pop(key, None)

        return remove

    def publish(self, topic: Topic, model: str, value: Any) -> None:
        """Tell all who observe ``topic``, in the order they came. Nothing they raise gets out."""
        for wanted, observer in tuple(self._observers.values()):
            if wanted is topic:
                self._tell(topic, observer, model, value)

    def step(self, model: str, step: Step) -> None:
        """Publish a transition, and an error where it leads to one."""
        self.publish(Topic.TRANSITION, model, step)
        if step.target is Lifecycle.ERROR:
            self.publish(Topic.ERROR, model, step)

    def _tell(self, topic: Topic, observer: Observer, model: str, value: Any) -> None:
        try:
            observer(model, value)
        except Exception as error:  # noqa: BLE001 -- a stranger's callable must not break the walk
            if self._on_failure is not None:
                self._on_failure(topic, error)
