"""What the watch asks origins, beside its passes: a silent origin holds up nobody but its own model.

Each question has a thread, so many at once for each host, and goes on when the pass that asked it does not wait any
longer. The answer then rings the bell, and the pass that comes takes it. A question that a pass asks again while it is
open is the same question.

What failed for good is looked at again only where somebody asks for it, or by the full pass, and not all the time:
a pass that mends a file, or does one thing for a person, has no business at another model's origin.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from reconciler.core.actions import Request
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.observed import Resolution
from reconciler.core.ports import CancelToken
from reconciler.core.words import Digest
from reconciler.execute.claims import ModelToken
from reconciler.resolve import ASKED_AT_ONCE, Failed, has_changed, resolve_one
from reconciler.watch import bell as triggers
from reconciler.world import World

PATIENCE_S = 0.6  # of a whole pass, for all that it asks
FOR_EVER_S = 3600.0  # of what a person asked about by name: until it is answered or the person gives up
SPACING_S = 1.0  # between two passes for answers while more are to come
KEPT_S = 60.0  # an answer that no pass came for
PROBE_EVERY_S = 30.0
_POLL_S = 0.05
_WIDE = frozenset({triggers.INTERVAL, triggers.MANIFEST, triggers.NETWORK})  # all is looked at, but not every second

Key = tuple[str, ...]  # what is asked, of which model, of which spec


@dataclass(slots=True, eq=False)
class _Question:
    """``is_missed``: a pass went on without the answer. ``crash``: a fault of the program, raised where it is taken."""

    model: str
    spec: Digest
    ask: Callable[[CancelToken], Any]
    token: ModelToken
    is_news: Callable[[Any], bool]
    asked_at: float
    is_missed: bool = False
    answer: Any = None
    crash: BaseException | None = None
    ended_at: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)


class Questions:
    """All that is being asked, and the answers nobody took yet."""

    def __init__(self, cancel: CancelToken, on_answer: Callable[[], None]) -> None:
        self._cancel, self._on_answer = cancel, on_answer
        self._guard = threading.Lock()
        self._open: dict[Key, _Question] = {}
        self._queues: dict[str, deque[_Question]] = {}
        self._threads: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._told_at = 0.0
        self._probed_at: dict[str, float] = {}

    def asker(self, request: Request, trigger: frozenset[str], cancel: CancelToken) -> "PassAsker":
        """For one pass."""
        return PassAsker(self, request, trigger, cancel)

    def unanswered(self) -> frozenset[str]:
        """The models that a pass left out since their sources are silent."""
        with self._guard:
            return frozenset(each.model for each in self._open.values() if each.is_missed and not each.ended.is_set())

    def has_news(self) -> bool:
        """Whether an answer came that a pass went on without; while others are to come, so often at the most."""
        now = time.monotonic()
        with self._guard:
            for key, each in list(self._open.items()):
                if each.ended.is_set() and now - each.ended_at > KEPT_S:
                    del self._open[key]
            missed = [each for each in self._open.values() if each.is_missed]
            come = [each for each in missed if each.ended.is_set()]
            if not come or (len(come) < len(missed) and now - self._told_at < SPACING_S):
                return False
            for each in come:
                each.is_missed = False
            self._told_at = now
        return True

    def drop_unwanted(self, wanted: Mapping[str, Digest]) -> None:
        """A newer manifest is in force: what is asked about other models is not waited for any more."""
        with self._guard:
            for key, each in list(self._open.items()):
                if wanted.get(each.model) != each.spec:
                    each.token.set()
                    del self._open[key]

    def may_probe(self, model: str) -> bool:
        """Whether a source that failed for good is due to be looked at again; from then on it is not."""
        now = time.monotonic()
        with self._guard:
            before = self._probed_at.get(model)
            if before is not None and now - before < PROBE_EVERY_S:
                return False
            self._probed_at[model] = now
        return True

    def is_open(self, key: Key) -> bool:
        """Whether it is being asked, or answered and not taken."""
        with self._guard:
            return key in self._open

    def put(
        self,
        key: Key,
        model: DesiredModel,
        ask: Callable[[CancelToken], Any],
        is_news: Callable[[Any], bool] = lambda _: True,
    ) -> _Question:
        """The open question of this key; a new one where there is none."""
        with self._guard:
            if key not in self._open:
                token = ModelToken(self._cancel)
                question = _Question(model.name, model.spec_digest, ask, token, is_news, time.monotonic())
                self._open[key] = question
                self._queue(_place_of(model), question)
            return self._open[key]

    def take(
        self, asked: Mapping[Key, _Question], until: float, patience_s: float, cancel: CancelToken
    ) -> dict[Key, Any]:
        """The answers that come until then, by key; the bell is rung for those that come later.

        Nobody waits longer than ``patience_s`` for one question, however many passes ask it.
        """
        for question in asked.values():
            end = min(until, question.asked_at + patience_s)
            while not question.ended.is_set() and not cancel.is_set() and time.monotonic() < end:
                question.ended.wait(_POLL_S)
        found = {}
        with self._guard:
            for key, question in asked.items():
                if not question.ended.is_set():
                    question.is_missed = True
                    continue
                if self._open.get(key) is question:
                    del self._open[key]
                found[key] = question
        for question in found.values():
            if question.crash is not None:
                raise question.crash
        return {key: question.answer for key, question in found.items()}

    # --- threads ---------------------------------------------------------------------------------------------------

    def _queue(self, place: str, question: _Question) -> None:
        self._queues.setdefault(place, deque()).append(question)
        if self._threads.get(place, 0) < ASKED_AT_ONCE:
            self._threads[place] = self._threads.get(place, 0) + 1
            name = f"ask-{next(self._numbers)}"
            threading.Thread(target=self._work, args=(place,), name=name, daemon=True).start()

    def _work(self, place: str) -> None:
        while True:
            with self._guard:
                if not self._queues[place]:
                    self._threads[place] -= 1
                    return
                question = self._queues[place].popleft()
            if not question.token.is_set():
                try:
                    question.answer = question.ask(question.token)
                except BaseException as error:  # noqa: BLE001 -- raised again in the pass that takes the answer
                    question.crash = error
            self._end(question)

    def _end(self, question: _Question) -> None:
        with self._guard:
            question.ended_at = time.monotonic()
            is_news = question.crash is not None or question.is_news(question.answer)
            if question.token.is_set() or (question.is_missed and not is_news):
                self._open = {key: each for key, each in self._open.items() if each is not question}
            question.ended.set()
            is_missed = question.is_missed
        if is_missed:
            self._on_answer()


class PassAsker:
    """The asker of one pass: see :class:`reconciler.resolve.Asker`."""

    def __init__(self, questions: Questions, request: Request, trigger: frozenset[str], cancel: CancelToken) -> None:
        self._questions, self._request, self._trigger, self._cancel = questions, request, trigger, cancel
        self._patience_s = FOR_EVER_S if request.models else PATIENCE_S
        self._until: float | None = None

    def resolve(self, world: World, desired: DesiredState, models: Sequence[DesiredModel]) -> tuple[Resolution, ...]:
        """What has been answered."""
        asked: dict[Key, _Question] = {
            key: self._questions.put(key, model, partial(resolve_one, world, desired, model))
            for model in models
            for key in [("resolve", model.name, model.spec_digest)]
        }
        return tuple(self._take(asked).values())

    def changed(
        self, world: World, desired: DesiredState, failed: Failed, told: Sequence[Resolution]
    ) -> frozenset[str]:
        """What has been answered, of those that are due."""
        models = {model.name: model for model in desired.models}
        asked: dict[Key, _Question] = {}
        for fact, then in failed:
            key = ("probe", fact.model, fact.spec_digest, then)
            if self._questions.is_open(key) or self._is_due(fact.model):
                ask = partial(has_changed, world, desired, (fact, then), told)
                asked[key] = self._questions.put(key, models[fact.model], ask, is_news=bool)
        return frozenset(key[1] for key, is_other in self._take(asked).items() if is_other)

    def _take(self, asked: Mapping[Key, _Question]) -> dict[Key, Any]:
        if self._until is None:
            self._until = time.monotonic() + self._patience_s
        return self._questions.take(asked, self._until, self._patience_s, self._cancel)

    def _is_due(self, model: str) -> bool:
        if self._request.verb or triggers.SIGNAL in self._trigger:
            return True
        return bool(self._trigger & _WIDE) and self._questions.may_probe(model)


def _place_of(model: DesiredModel) -> str:
    """The host that is asked first: each has threads of its own."""
    url = next((url for artifact in model.artifacts for url in artifact.sources), "")
    return "://".join(urlsplit(url)[:2])
