"""Which manifest is in force: the newest valid one.

One that is invalid, empty or gone changes nothing: the last good one stays in force, over restarts too, since its
bytes are kept in the ledger. That is told once for each such manifest, not every second.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.adapters import manifest
from reconciler.adapters.ledger import EventType, LastGood, Ledger
from reconciler.bookkeeping import Noted, load_last_good, save_last_good
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure, ManifestInvalid
from reconciler.core.remembered import SourceFact
from reconciler.log import get_log, scrub
from reconciler.watch.inputs import Reading
from reconciler.world import installed_extensions


@dataclass(slots=True)
class Force:
    """The manifest in force, and why the newest one is not where it is not."""

    ledger: Ledger
    environ: Mapping[str, str]
    desired: DesiredState | None = None
    problem: str = ""
    must_verify: bool = False  # then what was kept counts only where its signature was checked again
    source: SourceFact = field(default_factory=SourceFact)
    _seen: str = ""
    _kept: LastGood | None = None  # as the ledger has it

    def restore(self) -> None:
        """Begin with the last good manifest: what a watch before this one had in force."""
        self._kept = self.ledger.meta.last_good()
        kept = None if self.must_verify else load_last_good(self.ledger, self.environ)
        if kept is not None:
            self.desired = kept.desired
            self.source = kept.source

    def is_news(self, reading: Reading) -> bool:
        """Whether this is not what was taken up last."""
        return reading.digest + reading.revision != self._seen

    def keep_again(self) -> None:
        """The ledger began anew: the last good one is kept at once, and what is there is read once more."""
        self._seen = ""
        if self._kept is not None and self.ledger.meta.last_good() is None:
            self.ledger.meta.save_last_good(self._kept.content, self._kept.label, self._kept.generation)

    def offer(self, reading: Reading) -> bool:
        """Take up what was read; True where another manifest is in force now."""
        self._seen = reading.digest + reading.revision
        if reading.is_verified is False:
            return self._refuse(reading)
        if reading.documents is None:
            return self._reject(reading.problem, reading)
        noted = Noted(self.environ)
        try:
            desired = manifest.load_documents(reading.documents, noted, installed_extensions)
        except ManifestInvalid as invalid:
            text = "; ".join(str(problem) for problem in invalid.problems[:3])
            more = len(invalid.problems) - 3
            return self._reject(f"{text} and {more} more" if more > 0 else text, reading)
        return self._accept(desired, reading, noted.taken)

    def _accept(self, desired: DesiredState, reading: Reading, taken: Mapping[str, str]) -> bool:
        before = self.desired
        is_other = before is None or before.digest != desired.digest or bool(self.problem)
        self.desired, self.problem = desired, ""
        label = reading.label if reading.revision else ""
        self.source = SourceFact(reading.revision, label, reading.is_verified)
        get_log().info(
            "manifest_loaded",
            generation=desired.digest,
            models=len(desired.models),
            path=reading.label,
            revision=reading.revision,
        )
        try:
            save_last_good(self.ledger, reading.documents or (), desired, self.source, reading.label, taken)
            self._kept = self.ledger.meta.last_good()
            if reading.revision and (before is None or before.digest != desired.digest):
                told = f"commit {reading.revision} of {reading.label} is in force"
                self.ledger.events.record(EventType.NORMAL, "source_taken_up", told)
        except Failure as failure:
            get_log().warning("ledger_unwritable", error=failure.message, path=self.ledger.path)
        return is_other

    def _refuse(self, reading: Reading) -> bool:
        """A commit without the signature that is asked for: what is in force stays, and ``SourceVerified`` says why."""
        kept = f"; commit {self.source.revision} stays in force" if self.source.revision else ""
        message = f"{reading.problem}{kept}"
        self.source = replace(self.source, is_verified=False, message=message)
        get_log().warning("source_refused", source=reading.label, reason="signature_bad", message=message)
        try:
            self.ledger.events.record(EventType.WARNING, "signature_bad", message)
        except Failure as failure:
            get_log().warning("ledger_unwritable", error=failure.message, path=self.ledger.path)
        return False

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
