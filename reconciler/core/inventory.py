"""The observed state, looked up by name and by digest: every index a plan needs, built once.

Nothing is decided here. Two words matter to all who read it: a digest is *held* by each revision that has a file with
it, and *usable* where its bytes lie in the store and nothing is known against them.
"""

from collections.abc import Iterable

from reconciler.core.desired import Artifact
from reconciler.core.observed import HOLDS, BroughtFact, FailureFact, ObservedState, Override, Resolution, RuntimeFact
from reconciler.core.stored import LocalCopy, PartialFact, StoredModel
from reconciler.core.words import Condition, Digest


class Inventory:
    """Indexes over one :class:`ObservedState`.

    Attributes:
        now: seconds since the epoch, as observed.
        current: the placed revision of each model that is ours.
        foreign: ``models/<name>`` that the tool did not place.
        superseded: older revisions kept for rollback, newest first.
        allocated: bytes on disk of every blob, good or bad.
        memory: bytes of RAM of every loaded model.
    """

    def __init__(self, observed: ObservedState) -> None:
        self.observed = observed
        self.now = observed.taken_at
        self.current: dict[str, StoredModel] = {}
        self.foreign: dict[str, StoredModel] = {}
        self.superseded: dict[str, list[StoredModel]] = {}
        self.allocated: dict[Digest, int] = {}
        self._bad: set[Digest] = set()
        self._sort_models(observed.store.models)
        self._index_blobs()
        self.copies: dict[Digest, LocalCopy] = {copy.digest: copy for copy in reversed(observed.local_copies)}
        self.resolutions: dict[tuple[str, Digest], Resolution] = {
            (resolution.model, resolution.spec_digest): resolution for resolution in observed.resolutions
        }
        self.failures: dict[str, list[FailureFact]] = {}
        for failure in observed.failures:
            self.failures.setdefault(failure.model, []).append(failure)
        self.runtimes: dict[str, RuntimeFact] = {runtime.name: runtime for runtime in observed.runtimes}
        self.memory: dict[str, int] = {model: size for runtime in observed.runtimes for model, size in runtime.loaded}
        self.keys: dict[str, Digest] = dict(observed.keys)
        self.brought: dict[tuple[str, str], BroughtFact] = {(fact.model, fact.path): fact for fact in observed.brought}
        self.load_overrides: dict[str, bool] = {}
        self.pin_overrides: dict[str, bool] = {}
        self.holds: dict[str, Override] = {}  # downloads that a person holds back
        self._partials_by_digest: dict[Digest, PartialFact] = {}
        self._partials_by_place: dict[tuple[str, str], PartialFact] = {}
        self._index_partials()
        self._index_overrides()

    def _sort_models(self, models: Iterable[StoredModel]) -> None:
        for stored in models:
            if stored.is_foreign:
                self.foreign[stored.name] = stored
            elif stored.is_current:
                self.current[stored.name] = stored
            else:
                self.superseded.setdefault(stored.name, []).append(stored)
        for revisions in self.superseded.values():
            revisions.sort(key=lambda stored: (-stored.installed_at, stored.spec_digest))

    def _index_blobs(self) -> None:
        allocated = self.allocated
        for stored in self.revisions():
            for file in stored.files:
                if file.digest is None:
                    continue
                if file.allocated_bytes:
                    allocated[file.digest] = file.allocated_bytes
                if file.condition is Condition.DAMAGED or file.condition is Condition.MISSING:
                    self._bad.add(file.digest)
        for blob in self.observed.store.blobs:
            allocated[blob.digest] = blob.allocated_bytes

    def _index_partials(self) -> None:
        for partial in sorted(self.observed.store.partials, key=lambda partial: partial.key, reverse=True):
            if partial.digest is not None:
                self._partials_by_digest[partial.digest] = partial
            self._partials_by_place[partial.model, partial.path] = partial

    def _index_overrides(self) -> None:
        for override in sorted(self.observed.overrides, key=lambda item: (item.made_at, item.kind)):
            if override.kind in {"load", "unload"}:
                self.load_overrides[override.model] = override.kind == "load"
            elif override.kind in {"pin", "unpin"}:
                self.pin_overrides[override.model] = override.kind == "pin"
            elif override.kind in HOLDS:
                self.holds[override.model] = override

    def revisions(self) -> Iterable[StoredModel]:
        """Every revision that is ours, current and superseded."""
        yield from self.current.values()
        for revisions in self.superseded.values():
            yield from revisions

    def is_usable(self, digest: Digest | None) -> bool:
        """Whether the bytes of ``digest`` lie in the store with nothing known against them."""
        return digest is not None and digest in self.allocated and digest not in self._bad

    def owner_of(self, digest: Digest | None) -> str:
        """The first model, by name, that has a file of this digest; empty where none has."""
        if digest is None:
            return ""
        owners = (stored.name for stored in self.revisions() if any(file.digest == digest for file in stored.files))
        return min(owners, default="")

    def is_loaded(self, name: str) -> bool:
        """Whether a runtime holds the model now."""
        stored = self.current.get(name)
        return name in self.memory or (stored is not None and stored.loaded)

    def partial_of(self, model: str, artifact: Artifact) -> PartialFact | None:
        """The unfinished download of this very file: the same digest, or the same place where one is unknown."""
        if artifact.digest is not None and artifact.digest in self._partials_by_digest:
            return self._partials_by_digest[artifact.digest]
        partial = self._partials_by_place.get((model, artifact.path))
        if partial is None or (artifact.digest and partial.digest):
            return None
        return partial


def held(stored: StoredModel) -> tuple[Digest, ...]:
    """The digests that a revision holds on disk, each once."""
    return tuple(
        dict.fromkeys(file.digest for file in stored.files if file.digest is not None and file.allocated_bytes)
    )


def stored_bytes(stored: StoredModel) -> int:
    """What a revision takes on disk, shared blobs included."""
    return sum({file.digest: file.allocated_bytes for file in stored.files}.values())
