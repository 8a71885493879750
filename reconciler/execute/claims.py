"""Who works on what: passes of one process may run side by side, but never two of them on one model.

A one-shot command has one pass and claims everything. A watch may start the pass of a newer manifest while a long
download of the last one still runs: the new pass plans for the whole machine, so that room is reckoned right, and then
leaves out what another pass has in hand. What a newer manifest no longer wants is given up model by model; what it
still wants goes on untouched.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from reconciler.core.actions import Action, ActionKind, Plan
from reconciler.core.ports import CancelToken
from reconciler.core.words import Digest
from reconciler.execute.gate import Gate
from reconciler.execute.hands import Hands

HELD_IN_ALL = 128  # far from what a process may have open
_POLL_S = 0.2  # how soon a wait on one model sees that the whole pass was stopped


class ModelToken:
    """Stops the work on one model: given up by itself, or with the whole pass."""

    def __init__(self, whole: CancelToken) -> None:
        self._whole = whole
        self._own = threading.Event()

    def set(self) -> None:
        """Give the model up."""
        self._own.set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._own.is_set() or self._whole.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds; True where it was set."""
        left = timeout
        while not self.is_set() and (left is None or left > 0):
            step = _POLL_S if left is None else min(_POLL_S, left)
            self._own.wait(step)
            left = None if left is None else left - step
        return self.is_set()


class Claims:
    """What all passes of this process have in hand."""

    def __init__(self, on_release: Callable[[], None] = lambda: None) -> None:
        self.guard = threading.RLock()
        self.on_release = on_release  # a model is free again: what was left out may be done now
        self.downloading = 0
        self.gate = Gate()
        self.holds = threading.BoundedSemaphore(HELD_IN_ALL)  # files that stay open to be synced together
        self.hands = Hands(gate=self.gate)  # who brings the files of models
        self._shares: list[Share] = []
        self._flights: dict[str, threading.Lock] = {}

    def open(self, cancel: CancelToken) -> "Share":
        """A new pass's part; :meth:`Share.close` ends it."""
        share = Share(self, cancel)
        with self.guard:
            self._shares.append(share)
        return share

    def remove(self, share: "Share") -> None:
        """The pass ended."""
        with self.guard:
            if share in self._shares:
                self._shares.remove(share)

    def busy(self, but: "Share | None" = None) -> frozenset[str]:
        """The models that passes other than ``but`` have in hand."""
        with self.guard:
            return frozenset(name for share in self._shares if share is not but for name in share.models)

    def is_alone(self, share: "Share") -> bool:
        """Whether no other pass has anything in hand."""
        return not self.busy(share)

    def withhold(self, models: Iterable[str]) -> None:
        """A person holds these back just now: a plan that is being made may not know it yet. The next one does."""
        with self.guard:
            for share in self._shares:
                if not share.is_taken:
                    share.withheld |= frozenset(models)

    def give_up(self, model: str) -> bool:
        """Stop the work on one model, whoever does it; False where nobody does."""
        with self.guard:
            found = [share for share in self._shares if model in share.models]
            for share in found:
                share.cancel_of(model).set()
        return bool(found)

    @contextmanager
    def flight(self, key: str) -> Iterator[None]:
        """One at a time for each key: equal content is fetched once, whoever asks first."""
        with self.flight_lock(key):
            yield

    def flight_lock(self, key: str) -> threading.Lock:
        """What is held for the flight of ``key``."""
        with self.guard:
            return self._flights.setdefault(key, threading.Lock())


class Share:
    """One pass's part of the claims."""

    def __init__(self, claims: Claims, cancel: CancelToken) -> None:
        self.claims = claims
        self.models: set[str] = set()
        self.withheld: frozenset[str] = frozenset()
        self.has_dropped = False  # something was left out that a later pass has to do
        self.is_superseded = False
        self.is_taken = False  # the plan is made, and its models are claimed
        self._cancel = cancel
        self._waits_for: frozenset[str] = frozenset()
        self._started: set[str] = set()
        self._tokens: dict[str, ModelToken] = {}

    def take(self, plan: Plan, before: frozenset[str] = frozenset()) -> Plan:
        """Claim the plan's models; what others have in hand (now, or ``before`` it was made) is left out of it."""
        with self.claims.guard:
            blocked = before | self.claims.busy(self) | self.withheld
            kept = () if self.is_superseded else _without(plan.actions, blocked)
            self.is_taken = True
            self.models = {action.model for action in kept if action.model}
            self._waits_for |= (frozenset(action.model for action in plan.actions) & blocked) - self.withheld
        self.has_dropped = len(kept) < len(plan.actions)
        return replace(plan, actions=kept) if self.has_dropped else plan

    def owed(self) -> frozenset[str]:
        """The models that were left out since other passes had them in hand; each is told once."""
        with self.claims.guard:
            found, self._waits_for = self._waits_for, frozenset()
        return found

    def start(self, action: Action) -> bool:
        """An action begins; False where it must not any more."""
        with self.claims.guard:
            if self.is_dropped(action):
                return False
            self._started.add(action.model)
            self.claims.downloading += action.kind is ActionKind.DOWNLOAD
            return True

    def end(self, action: Action) -> None:
        """An action that had begun ended, however."""
        with self.claims.guard:
            self.claims.downloading -= action.kind is ActionKind.DOWNLOAD

    def release(self, model: str) -> None:
        """Nothing more is to be done for the model in this pass."""
        with self.claims.guard:
            self.models.discard(model)
        self.claims.on_release()

    def close(self) -> None:
        """The pass ended."""
        self.claims.remove(self)
        self.models = set()

    def cancel_of(self, model: str) -> ModelToken:
        """What stops the work on one model."""
        with self.claims.guard:
            return self._tokens.setdefault(model, ModelToken(self._cancel))

    def is_dropped(self, action: Action) -> bool:
        """Whether an action that has not begun must not begin any more.

        Of a superseded plan only the unpacking of what is being fetched goes on: the next plan says all the rest.
        """
        if not self.is_superseded:
            return action.model in self._tokens and self._tokens[action.model].is_set()
        return action.kind is not ActionKind.EXTRACT or self.cancel_of(action.model).is_set()

    def supersede(self, old: Mapping[str, Digest], new: Mapping[str, Digest]) -> frozenset[str]:
        """A newer manifest is in force: give up what it does not want. The models that were given up.

        ``old`` and ``new`` are the spec digests of the models that the manifests want here.
        """
        with self.claims.guard:
            self.is_superseded = True
            self.models &= self._started  # nothing else begins any more
            lost = {name for name in self.models if name in old and new.get(name) != old[name]}
            for name in lost:
                self.cancel_of(name).set()
            return frozenset(lost)


def _without(actions: Iterable[Action], blocked: frozenset[str]) -> tuple[Action, ...]:
    """The actions on models that are free, less those that wait for one that is left out."""
    dropped: set[str] = set()
    kept = []
    for action in actions:
        if action.model in blocked or not dropped.isdisjoint(action.depends_on):
            dropped.add(action.id)
        else:
            kept.append(action)
    return tuple(kept)
