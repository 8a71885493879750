"""Files become blobs: fetched side by side, judged, made durable, committed; nothing is recorded here.

Small files are made durable together: each is held, open and locked, until some have come or the last of the model
has. So the network never waits for the disk, nor one sync for the journal that the one before has just written.
"""

import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace

from reconciler.adapters.ledger import BroughtRow, FileRow
from reconciler.adapters.store import Batch
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, refused, transient
from reconciler.core.ports import Fetched, FetchRequest, Held, Location
from reconciler.execute.aside import bad_copy_for
from reconciler.execute.content import judge_partial
from reconciler.execute.present import Arrived, copy_local, find_blob, find_brought, remember, remember_large
from reconciler.execute.remember import tolerating
from reconciler.execute.window import fetch_in_window
from reconciler.execute.work import Work
from reconciler.observe.partials import key_of
from reconciler.resolve import REFUSED_BY_SOURCE

PLAIN = ("http:", "https:", "file:")  # asked by GET whatever a HEAD answered
_MAY_BE_MISSING = frozenset({"not_found", "gone"})
_HELD_BYTES = 1 << 20  # larger files are synced one by one
_HELD_AT_ONCE = 16
_HELD_TOGETHER_BYTES = 4 << 20  # whose content is in memory until then


def bring(work: Work, model: DesiredModel, files: Sequence[Artifact]) -> list[Arrived]:
    """Every file as a durable blob, in the order asked for; optional ones that the origin does not have are left out.

    The names are made durable together at the end, and nothing is recorded before: whoever places the model records it.
    """
    claims = work.share.claims
    with work.world.store.batch() as batch:
        bringing = _Bringing(work, model, batch, sum(map(is_small, files)))
        ended = claims.hands.do(bringing.arrive, files)
        later = {n: file for n, (file, end) in enumerate(zip(files, ended, strict=True)) if end is _BUSY}
        ended = [end.outcome if isinstance(end, _Held) else end for end in ended]
        for n, end in zip(later, claims.hands.do(bringing.arrive_after_all, later.values()), strict=True):
            ended[n] = end
        with claims.gate.aside():
            batch.sync()
    failures = [failure for failure in ended if isinstance(failure, Exception)]
    arrived = [file for file in ended if isinstance(file, Arrived)]
    if failures:
        remember(work, model, arrived)  # so that they are not fetched again
        raise min(failures, key=_gravity)
    return arrived


def _gravity(failure: Exception) -> int:
    """Which of several failures is told: what stands in the way for good comes first, being cancelled last."""
    if not isinstance(failure, Failure):
        return 0
    if failure.reason == "cancelled":
        return 3
    return 1 if failure.kind.value == "permanent" else 2


def is_small(file: Artifact) -> bool:
    """Whether a file is known to be small, and what it is to be."""
    return file.digest is not None and file.size_bytes is not None and file.size_bytes <= _HELD_BYTES


class _Busy:
    """A file that is under way for another model, or for this one under another name."""


_BUSY = _Busy()


@dataclass(slots=True)
class _Held:
    """A small file that has come and is not a blob yet; its flight's lock is held."""

    file: Artifact
    key: str
    fetched: Fetched
    held: Held
    flight: threading.Lock
    outcome: Arrived | Exception | None = None


@dataclass(slots=True)
class _Bringing:
    """The files of one model on their way."""

    work: Work
    model: DesiredModel
    batch: Batch
    small_left: int  # small files that have not come, nor failed
    _held: list[_Held] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arrive(self, file: Artifact) -> Arrived | _Held | _Busy | None:
        """One file as a blob: there already, from another cache here, or fetched; None where it is optional and gone.

        Where it is held, its outcome is known when the last small file has come. Nobody waits here for a file that is
        under way for another model, which may wait in turn for one that is held here: it is come back to.
        """
        is_light, key = is_small(file), key_of(self.model.name, file)
        flight = self.work.flight_lock(key)
        came: Arrived | _Held | _Busy | None = _BUSY
        try:
            if flight.acquire(blocking=False):
                try:
                    with nullcontext() if is_light else self.work.share.claims.gate.aside():
                        came = self._arrive(file, key, flight if is_light else None)
                finally:
                    if not isinstance(came, _Held):
                        flight.release()
        finally:
            if is_light:
                self._settle(came)
        return came

    def arrive_after_all(self, file: Artifact) -> Arrived | _Held | None:
        """One file after whoever is at it, when none is held here any more."""
        key = key_of(self.model.name, file)
        with self.work.share.claims.gate.aside(), self.work.flight(key):
            return self._arrive(file, key, None)

    def _arrive(self, file: Artifact, key: str, flight: "threading.Lock | None") -> Arrived | _Held | None:
        work, model = self.work, self.model
        present = find_blob(work, model, file) or find_brought(work, model, file)
        if present is not None:
            if present.row.digest in work.proven:  # another model of this pass may have brought it just now
                self.batch.count_on(present.row.digest)
            return present
        copied = copy_local(work, model, file)
        if copied is not None:
            return copied
        may_hold = flight is not None and work.share.claims.holds.acquire(blocking=False)
        fetched = None
        try:
            fetched = _fetch(work, model, file, self._target(key), may_hold=may_hold)
        except Failure as failure:
            if file.optional and failure.reason in _MAY_BE_MISSING:
                return None
            if failure.reason in REFUSED_BY_SOURCE:
                work.refused[model.name] = file
            if failure.reason == "size_mismatch":
                work.world.store.remove_partial(key)  # of no use to any later try
            raise _against_lock(model, file, failure) from failure
        finally:
            if may_hold and (fetched is None or fetched.held is None):
                work.share.claims.holds.release()
        self._judge(file, key, fetched)
        if flight is not None and fetched.held is not None:
            return _Held(file, key, fetched, fetched.held, flight)
        return self._commit(file, key, fetched)

    def _settle(self, held: object = None) -> None:
        """A small file has come, or failed: make durable what is held where that is enough, or no more will come."""
        with self._lock:
            self.small_left -= 1
            if isinstance(held, _Held):
                self._held.append(held)
            held_bytes = sum(one.fetched.size_bytes for one in self._held)
            if self.small_left and len(self._held) < _HELD_AT_ONCE and held_bytes < _HELD_TOGETHER_BYTES:
                return
            settled, self._held = self._held, []
        with self.work.share.claims.gate.aside():
            for one in settled:
                one.held.begin()
            for one in settled:
                try:
                    self._let_go(one.held)
                except Exception as error:  # noqa: BLE001 -- told with what else ended
                    one.outcome = error
        for one in settled:
            try:
                one.outcome = one.outcome or self._commit(one.file, one.key, one.fetched)
            except Exception as error:  # noqa: BLE001 -- told with what else ended
                one.outcome = error
            finally:
                one.flight.release()

    def _target(self, key: str) -> str:
        return f"{self.work.world.store.root}/partial/{key}"

    def _let_go(self, held: Held) -> None:
        try:
            held.settle()
        finally:
            self.work.share.claims.holds.release()

    def _judge(self, file: Artifact, key: str, fetched: Fetched) -> None:
        """Refuse a file by its content; what is refused leaves nothing behind."""
        try:
            judge_partial(self.work, self.model, file, self._target(key), fetched.content)
        except BaseException:
            if fetched.held is not None:
                with suppress(Failure):
                    self._let_go(fetched.held)
            self.work.world.store.remove_partial(key)
            raise

    def _commit(self, file: Artifact, key: str, fetched: Fetched) -> Arrived:
        """Make a durable file a blob."""
        work, model = self.work, self.model
        row = FileRow(file.path, fetched.digest, fetched.size_bytes, file.role)
        if file.digest is None:
            remember_large(work, model, row, fetched)
        stat = self.batch.commit(self._target(key), fetched.digest, fetched.size_bytes)
        if file.digest is None:
            work.world.store.remove_partial(key)  # the engine's notes, which spoke for the file until now
        work.proven[fetched.digest] = stat
        is_local = fetched.source.startswith("/")  # a path: copied from a file, nothing came over the network
        brought = fetched.size_bytes if is_local else fetched.received_bytes
        return Arrived(row, stat, brought, fetched.received_bytes, fetched.source, True, fetched.revision)


def _against_lock(model: DesiredModel, file: Artifact, failure: Failure) -> Failure:
    """Other bytes than were locked are no mere bad download: somebody has to look."""
    if not model.is_locked or failure.reason not in {"digest_mismatch", "size_mismatch"}:
        return failure
    message = f"{model.name}: {file.path} is not what was locked: {failure.message}"
    hint = f"find out why; to accept it: reconciler lock --upgrade {model.name}"
    return refused("lock_mismatch", message, hint=hint)


def _fetch(work: Work, model: DesiredModel, file: Artifact, target: str, *, may_hold: bool) -> Fetched:
    network = work.desired.network
    observed = work.sight.observed
    bad_copy = bad_copy_for(work, model, file)
    digest, reuse = bad_copy or (file.digest, None)
    is_listed = file.size_bytes is not None and not any(url.startswith(PLAIN) for url in file.sources[:1])
    size = file.size_bytes if is_listed or _has_declared_size(model, file) else None
    request = FetchRequest(
        model=model.name,
        path=file.path,
        locations=_locations(work, file),
        target=target,
        digest=digest,
        size_bytes=size,
        expected_bytes=file.size_bytes,
        limit_bytes=work.room_bytes() + (file.size_bytes or 0) if size is None else None,
        min_free_bytes=work.desired.cache.min_free.of(observed.disk.total_bytes),
        connections=network.connections,
        timeout_s=network.timeout_s,
        priority=int(model.priority),
        reuse=reuse,
        may_hold=may_hold,
        is_listed=is_listed,
        accepts_newer=file.digest is None,
    )
    if file.size_bytes is None:
        return _fetch_within(work, model, file, request)
    return fetch_in_window(work, request, file)


def _fetch_within(work: Work, model: DesiredModel, file: Artifact, request: FetchRequest) -> Fetched:
    """Fetch a file whose size nobody knows; what is too large is remembered, so that the next plan reckons with it.

    Raises:
        Failure: transient ``no_room``, and whatever keeps it from being fetched.
    """
    cancel = work.cancel_of(model.name)
    fact = next(
        (fact for fact in work.sight.observed.brought if (fact.model, fact.path) == (model.name, file.path)), None
    )
    with work.room.hold(request.target, fact.size_bytes if fact else 0, cancel) as limit_bytes:
        try:
            return fetch_in_window(work, replace(request, limit_bytes=limit_bytes), file)
        except Failure as failure:
            if failure.reason != "too_large":
                raise
            work.world.store.remove_partial(key_of(model.name, file))
            row = BroughtRow(model.name, file.path, model.spec_digest, limit_bytes + 1)
            tolerating(lambda: work.ledger.brought.save([row]))
            raise transient("no_room", failure.message, hint=failure.hint) from failure


def _has_declared_size(model: DesiredModel, file: Artifact) -> bool:
    """Whether the manifest, or its lock, says how large the file is; what a plain URL was asked is only measured."""
    return any(artifact.path == file.path and artifact.size_bytes is not None for artifact in model.artifacts)


def _locations(work: Work, file: Artifact) -> tuple[Location, ...]:
    """The sources in order, then the mirrors by digest."""
    digest = (file.digest or "").removeprefix("sha256:")
    mirrors = [mirror.replace("{sha256}", digest) for mirror in work.desired.network.mirrors] if digest else []
    return work.world.locate_all([(file, url) for url in (*file.sources, *mirrors)], work.context)
