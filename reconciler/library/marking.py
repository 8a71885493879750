"""The verbs that record one thing by hand: as the owner of the store, or through the watch that owns it."""

from collections.abc import Callable, Sequence
from typing import Any

from reconciler.adapters.ledger import Ledger
from reconciler.core.errors import Failure
from reconciler.core.observed import Override
from reconciler.library.opened import EMPTY, Opened
from reconciler.watch import client, marks


class Marking(Opened):
    """Pins, uses, what is held back, past failures forgotten."""

    def pin(self, name: str) -> None:
        """Keep a model whatever the manifest and the policies say, until it is unpinned."""
        self._set_pin(name, pinned=True)

    def unpin(self, name: str) -> None:
        """Let a model be evicted again."""
        self._set_pin(name, pinned=False)

    def _set_pin(self, name: str, *, pinned: bool) -> None:
        now = self.world.now()
        self._mark(
            "pin" if pinned else "unpin",
            lambda ledger: marks.set_pin(ledger, self._in_force(ledger) or EMPTY, name, now, pinned=pinned),
            models=[name],
        )

    def touch(self, name: str, at: float | None = None) -> None:
        """Record a use now (or at ``at``): eviction by least recent or least frequent use goes by this."""
        self._mark("touch", lambda ledger: marks.touch(ledger, name, at), models=[name], at=at)

    def record_use(self, name: str) -> None:
        """The application used the model."""
        self.touch(name)

    def suspend(self, until: float | None = None) -> None:
        """Do nothing by itself until then, or until resumed."""
        self._mark("suspend", lambda ledger: marks.suspend(ledger, until), until=until)

    def pause(self, names: Sequence[str] = ()) -> None:
        """Download these models no further until they are resumed; with none named, do nothing at all."""
        self._hold("pause", names)

    def cancel(self, names: Sequence[str], *, discard: bool = False) -> None:
        """Give up these downloads until they are resumed or their entries change; ``discard``: partials go too."""
        self._hold("cancel", names, discard=discard)

    def _hold(self, kind: str, names: Sequence[str], *, discard: bool = False) -> None:
        def record(ledger: Ledger) -> None:
            desired = self._in_force(ledger) or EMPTY
            if not names:
                marks.suspend(ledger, None)
                return
            marks.hold(ledger, desired, names, self.world.now(), kind)
            if discard:
                marks.discard(self.world, ledger, desired, names)

        self._mark(kind, record, models=list(names), discard=discard)

    def resume(self, names: Sequence[str] = ()) -> None:
        """Go on with these models; with none named, with everything: the suspension ends too."""
        self._mark("resume", lambda ledger: marks.release(ledger, names), models=list(names))

    def poke(self) -> None:
        """Look again now: a running watch does; past failures are forgotten, so that everything is tried at once."""
        self._mark("poke", lambda ledger: ledger.clear_failure())

    def override(self, name: str, kind: str) -> None:
        """Remember a manual decision that outlives this command: ``load`` or ``unload``."""
        with self._owned() as ledger:
            marks.known(ledger, name)
            spec = next((model.spec_digest for model in self._wanted().models if model.name == name), "")
            ledger.overrides.save(Override(name, kind, self.world.now(), spec))  # type: ignore[arg-type]

    def forget_override(self, name: str, kind: str) -> None:
        """Take back one manual decision."""
        with self._owned() as ledger:
            ledger.overrides.clear(name, kind=kind)

    def _mark(self, op: str, record: Callable[[Ledger], object], **keys: Any) -> None:
        """Record something as the owner, or let the watch that owns the store do it."""
        try:
            with self._owned() as ledger:
                record(ledger)
        except Failure as failure:
            if failure.reason != "store_busy" or client.ask(self.store_path, op, **keys) is None:
                raise
