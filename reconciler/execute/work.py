"""What the handlers share during one pass: the world, what was seen, and the few things that threads must agree on."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field

from reconciler.adapters.ledger import FileRow, Ledger
from reconciler.core.actions import Action, Plan
from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.ports import CancelToken, Fetcher, ProgressSink
from reconciler.core.records import dataclass
from reconciler.core.stored import FileStat, StoredFile, StoredModel
from reconciler.core.words import Digest, WantedState
from reconciler.execute.claims import Share
from reconciler.execute.room import Room
from reconciler.observe import Sight
from reconciler.resolve import fingerprint_of
from reconciler.signing import Signatures, Vouch
from reconciler.world import Context, World


@dataclass(frozen=True, slots=True)
class Done:
    """What a handler did. ``bytes`` were brought in, freed, hashed or loaded; ``is_skipped`` where it was already true.

    ``network_bytes`` of them came over the network: they tell how fast that is.
    ``is_damaged`` marks a verify that found files bad (set aside by now), gone or out of place: a repair is due.
    """

    bytes: int = 0
    reason: str = ""
    message: str = ""
    is_skipped: bool = False
    is_damaged: bool = False
    network_bytes: int = 0


@dataclass(slots=True)
class Work:
    """The context of one pass. Only ``share`` and the ledger change while it runs, each behind a lock of its own."""

    world: World
    ledger: Ledger
    desired: DesiredState
    sight: Sight
    plan: Plan
    cancel: CancelToken
    progress: ProgressSink
    share: Share  # which models this pass has in hand, beside other passes of the process
    models: Mapping[str, DesiredModel] = field(init=False)
    stored: Mapping[str, StoredModel] = field(init=False)
    blobs: frozenset[Digest] = field(init=False)  # in the store when the pass began
    arrivals: dict[tuple[str, str], FileRow] = field(init=False, default_factory=dict)  # (model, path) → what came
    throughput: list[tuple[int, float, float]] = field(init=False, default_factory=list)  # bytes, from, to (seconds)
    proven: dict[Digest, FileStat] = field(init=False, default_factory=dict)  # hashed in this pass, not recorded yet
    signatures: dict[str, Signatures] = field(init=False, default_factory=dict)  # fetched in this pass, by model
    vouched: dict[str, Vouch] = field(init=False, default_factory=dict)  # whose signatures were found good
    refused: dict[str, Artifact] = field(init=False, default_factory=dict)  # the file a source did not give, by model
    bad_copies: dict[Digest, str] = field(init=False, default_factory=dict)  # set aside; good parts may be reused
    room: Room = field(init=False)  # for what nobody knows the size of
    _context: Context | None = field(init=False, default=None)
    _fetcher: Fetcher | None = field(init=False, default=None)
    _targets: dict[str, tuple[Artifact, ...]] = field(init=False)

    def __post_init__(self) -> None:
        observed = self.sight.observed
        store = self.world.store
        self.room = Room(self.plan.summary.disk_limit_bytes - self.plan.summary.disk_final_bytes)
        for copy in sorted(self.sight.scan.quarantined, key=lambda copy: copy.since):  # the newest wins
            if copy.digest is not None:
                self.bad_copies[copy.digest] = store.quarantine_path(copy.name)
        self.models = {model.name: model for model in self.desired.models}
        self.blobs = frozenset(blob.digest for blob in self.sight.scan.blobs)
        self.stored = {model.name: model for model in observed.store.models if model.is_current}
        self._targets = {
            resolution.model: resolution.files
            for resolution in observed.resolutions
            if resolution.model in self.models
            and self.models[resolution.model].spec_digest == resolution.spec_digest
            and resolution.files
        }

    @property
    def context(self) -> Context:
        """What sources may use to say where a file lies; one for the pass."""
        if self._context is None:
            self._context = self.world.source_context(self.desired, self.cancel)
        return self._context

    @property
    def fetcher(self) -> Fetcher:
        """The download engine for this manifest's network policy."""
        if self._fetcher is None:
            self._fetcher = self.world.fetcher(self.desired)
        return self._fetcher

    def targets(self, model: DesiredModel) -> tuple[Artifact, ...]:
        """The concrete files that a wanted model is made of."""
        return self._targets.get(model.name, model.artifacts)

    def revision_of(self, model: DesiredModel) -> str:
        """The commit or tag that a mutable reference was resolved to; empty where there is none."""
        if model.is_locked:
            return model.revision
        for resolution in self.sight.observed.resolutions:
            if resolution.model == model.name and resolution.spec_digest == model.spec_digest:
                return resolution.revision
        return ""

    def is_needed(self, digest: Digest, by_others_than: str) -> bool:
        """Whether another model that this plan keeps or brings is made of this blob."""
        without_room = {deferred.model for deferred in self.plan.deferred if deferred.reason == "no_room"}
        return any(
            artifact.digest == digest
            for model in self.models.values()
            if model.name != by_others_than and model.name not in without_room and model.state is not WantedState.ABSENT
            for artifact in self.targets(model)
        )

    def is_referenced(
        self, digest: Digest, *, except_model: str = "", except_revision: tuple[str, Digest] | None = None
    ) -> bool:
        """Whether a revision that the ledger knows, but for the excepted ones, is made of this blob."""
        users = set(self.ledger.revisions.users_of([digest]).get(digest, ())) - {except_model}
        if except_revision is None or except_revision[0] not in users:
            return bool(users)
        others = (row for row in self.ledger.revisions.of(except_revision[0]) if row.spec_digest != except_revision[1])
        return len(users) > 1 or any(file.digest == digest for row in others for file in row.files)

    def stored_revision(self, action: Action) -> StoredModel | None:
        """The revision that an action is about, as it was observed; None where it was not."""
        return next(
            (
                model
                for model in self.sight.observed.store.models
                if model.name == action.model
                and (model.is_current if action.subject != "revision" else model.spec_digest == action.spec_digest)
            ),
            None,
        )

    def placed_now(self, name: str) -> StoredModel | None:
        """A model as the ledger says it is placed at this moment, after what this pass did; None where it is not."""
        row = self.ledger.revisions.current(name)
        if row is None:
            return None
        files = tuple(StoredFile(file.path, file.digest, file.size_bytes, 0, role=file.role) for file in row.files)
        return StoredModel(name, row.spec_digest, files, format=row.format)

    def room_bytes(self) -> int:
        """What unpacking may take: the limit less all that is planned to lie there."""
        summary = self.plan.summary
        return max(0, summary.disk_limit_bytes - summary.disk_final_bytes)

    def cancel_of(self, model: str) -> CancelToken:
        """What stops the work on one model."""
        return self.share.cancel_of(model)

    def fingerprint(self, model: str) -> str:
        """What the model's sources answer now, in a word; empty where that cannot be told."""
        refused = self.refused.get(model)
        return fingerprint_of(self.world, self.desired, self.models.get(model), self.cancel, refused)

    def is_planned(self, action_kind: str, model: str) -> bool:
        """Whether the plan has an action of that kind for the model."""
        return any(action.kind == action_kind and action.model == model for action in self.plan.actions)

    @contextmanager
    def flight(self, key: str) -> Iterator[None]:
        """One at a time for each key: equal content is fetched once, whoever asks first."""
        with self.share.claims.flight(key):
            yield

    def flight_lock(self, key: str) -> threading.Lock:
        """What is held for the flight of ``key``."""
        return self.share.claims.flight_lock(key)


Handler = Callable[[Action, Work], Done]
