"""Which manifest is in force: the newest valid one.

One that is invalid, empty or gone changes nothing: the last good one stays in force, over restarts too, since its
bytes are kept in the ledger. That is told once for each such manifest, not every second.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.adapters import manifest
from reconciler.adapters.ledger import EventType, Ledger
from reconciler.bookkeeping import load_last_good, save_last_good
from reconciler.core.errors import Failure, ManifestInvalid
from reconciler.core.remembered import SourceFact
from reconciler.core.state import DesiredState
from reconciler.log import get_log, scrub
from reconciler.watch.inputs import Reading


@dataclass(slots=True)
class Force:
    """The manifest in force, and why the newest one is not where it is not."""

    ledger: Ledger
    environ: Mapping[str, str]
    desired: DesiredState | None = None
    problem: str = ""
    source: SourceFact = field(default_factory=SourceFact)
    _seen: str = ""

    def restore(self) -> None:
        """Begin with the last good manifest: what a watch before this one had in force."""
        kept = load_last_good(self.ledger, self.environ)
        if kept is not None:
            self.desired = kept.desired
            self.source = SourceFact(kept.revision, kept.label)

    def is_news(self, reading: Reading) -> bool:
        """Whether this is not what was taken up last."""
        return reading.digest + reading.revision != self._seen

    def offer(self, reading: Reading) -> bool:
        """Take up what was read; True where another manifest is in force now."""
        self._seen = reading.digest + reading.revision
        if reading.documents is None:
            return self._reject(reading.problem, reading)
        try:
            desired = manifest.load_documents(reading.documents, self.environ)
        except ManifestInvalid as invalid:
            text = "; ".join(str(problem) for problem in invalid.problems[:3])
            more = len(invalid.problems) - 3
            return self._reject(f"{text} and {more} more" if more > 0 else text, reading)
        return self._accept(desired, reading)

    def _accept(self, desired: DesiredState, reading: Reading) -> bool:
        before = self.desired
        is_other = before is None or before.digest != desired.digest or bool(self.problem)
        self.desired, self.problem = desired, ""
        self.source = SourceFact(reading.revision, reading.label if reading.revision else "")
        get_log().info(
            "manifest_loaded",
            generation=desired.digest,
            models=len(desired.models),
            path=reading.label,
            revision=reading.revision,
        )
        try:
            save_last_good(self.ledger, reading.documents or (), desired.digest, reading.revision, reading.label)
        except Failure as failure:
            get_log().warning("ledger_unwritable", error=failure.message, path=self.ledger.path)
        return is_other

    def _reject(self, problem: str, reading: Reading) -> bool:
        text = scrub(problem)
        is_kept = self.desired is not None
        message = f"{text}; {'the last good one stays in force' if is_kept else 'there is no last good one to go by'}"
        if self.problem != message:
            self.problem = message
            get_log().warning("manifest_rejected", message=text, path=reading.label, revision=reading.revision)
            if self.desired is not None:
                get_log().info("manifest_kept", generation=self.desired.digest, reason="manifest_invalid")
            try:
                self.ledger.events.record(EventType.WARNING, "manifest_invalid", message)
            except Failure as failure:
                get_log().warning("ledger_unwritable", error=failure.message, path=self.ledger.path)
        return False
