"""Since when each condition has been as it is, while a watch runs and after it.

The conditions are judged anew at every look, also between two passes: a manifest that is rejected, a repository that is
not reached and a pass that begins change them without a plan. They are kept in the ledger whenever one of them turns,
so that a status without a watch, and the next watch, tell the same times.
"""

import threading
from dataclasses import dataclass, field, replace

from reconciler.adapters.ledger import Ledger
from reconciler.bookkeeping import kept_conditions, save_conditions
from reconciler.core.conditions import conditions
from reconciler.core.errors import Failure
from reconciler.core.remembered import ConditionStatus
from reconciler.log import get_log
from reconciler.planning import Pass
from reconciler.watch.live import Live, remembered_of
from reconciler.world import World

_FLEETING = frozenset({"Reconciling", "WatchHealthy"})  # of a running watch alone: not kept


@dataclass(slots=True)
class Told:
    """What was told last. ``made`` is the newest plan; before the first one there is nothing to judge."""

    world: World
    ledger: Ledger
    made: Pass | None = None
    _conditions: tuple[ConditionStatus, ...] = ()
    _kept: tuple[tuple[str, str], ...] = ()
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def judge(self, facts: Live) -> tuple[ConditionStatus, ...]:
        """The conditions now, by the newest plan and these facts."""
        with self._guard:
            made, before = self.made, self._conditions or kept_conditions(self.ledger.meta.get())
            if made is None:
                return before
            now = replace(made.sight.observed, taken_at=self.world.now())
            remembered = remembered_of(replace(facts, conditions=before))
            self._conditions = conditions(made.desired, now, made.plan, remembered)
            return self._conditions

    def keep(self, facts: Live) -> None:
        """Write them down where one turned since they were kept."""
        found = [one for one in self.judge(facts) if one.type not in _FLEETING]
        words = tuple((one.type, one.status) for one in found)
        if self.made is None or words == self._kept:
            return
        self._kept = words
        try:
            save_conditions(self.ledger, found)
        except Failure as failure:
            get_log().warning("ledger_unwritable", error=failure.message, path=self.ledger.path)
