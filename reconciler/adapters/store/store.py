"""The store as one thing: every operation on it by name. What each does stands in the module that does it."""

# ruff: noqa: PTH100, PTH119 -- paths are plain strings here, as the system calls want them

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from reconciler.adapters.store import blobs, hashing, intake, links, lock, place, quarantine, sweep, usage
from reconciler.adapters.store import record as records
from reconciler.adapters.store.batch import Batch, commit_many, open_batch
from reconciler.adapters.store.folders import failing, open_below, open_root, remove_tree
from reconciler.adapters.store.layout import (
    FOLDERS,
    MODELS,
    PARTIAL,
    QUARANTINE,
    STAGE_PREFIX,
    RebuiltModel,
    StoreScan,
    Unplaced,
    blob_parts,
    partial_key,
    temporary,
)
from reconciler.adapters.store.scan import scan
from reconciler.core.errors import Failure
from reconciler.core.names import check_path, check_segment
from reconciler.core.ports import CancelToken
from reconciler.core.stored import FileStat, LinkFact
from reconciler.core.words import Digest


class Store:
    """A store at ``root``. Dumb and exact: it does not know the ledger, and nothing is created before it is needed.

    Every method raises :class:`Failure` for what goes wrong. Methods that change something want the owner's lock to be
    held; they do not check it.
    """

    def __init__(self, root: str, now: Callable[[], float]) -> None:
        """Args: root: any path, made absolute; now: seconds since the epoch, names what is quarantined."""
        self.root = os.path.abspath(root)
        self._now = now

    # --- paths ---------------------------------------------------------------------------------------------------

    def blob_path(self, digest: Digest) -> str:
        """Where a blob lies (or would), absolute."""
        folders, name = blob_parts(digest)
        return "/".join((self.root, *folders, name))

    def model_folder(self, model: str) -> str:
        """Where a model's files lie, absolute."""
        return f"{self.root}/{MODELS}/{check_segment(model, 'model name')}"

    def placed_path(self, model: str, path: str = "") -> str:
        """Where one of a model's files lies, absolute; the model's folder where ``path`` is empty."""
        folder = self.model_folder(model)
        return f"{folder}/{check_path(path)}" if path else folder

    def partial_path(self, model: str, path: str, identity: str) -> str:
        """Where an unfinished download lies, absolute. ``identity``: the digest, or the URL where none is known."""
        return f"{self.root}/{PARTIAL}/{partial_key(model, path, identity)}"

    def quarantine_path(self, name: str) -> str:
        """Where a bad copy lies, absolute."""
        return f"{self.root}/{QUARANTINE}/{check_segment(name)}"

    # --- the whole -----------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the folders, mode 0755, where they are missing."""
        with failing(f"cannot make the store {self.root}"), open_root(self.root, create=True) as root_fd:
            for name in FOLDERS:
                with open_below(root_fd, (name,), create=True):
                    pass

    def acquire(self, *, exclusive: bool = True) -> lock.Lock:
        """Own the store, or raise :class:`StoreBusy` at once. The root must exist."""
        return lock.acquire(self.root, exclusive=exclusive)

    def owner_pid(self) -> int | None:
        """The process that owns the store now, where one does and the kernel tells."""
        return lock.owner_pid(self.root)

    def scan(self) -> StoreScan:
        """All that lies in the store; changes nothing."""
        return scan(self.root)

    def sweep(self) -> tuple[str, ...]:
        """Finish or undo what a crash left; the names that were cleared. For the owner, before it observes."""
        return sweep.sweep(self.root)

    def rebuild(self) -> tuple[RebuiltModel, ...]:
        """What the store tells without a ledger: each model's record and its files with the blobs behind them."""
        found = self.scan()
        by_model: dict[str, list[int]] = {model: [] for model in found.models}
        for index, file in enumerate(found.placed):
            by_model[file.model].append(index)
        return tuple(
            RebuiltModel(model, self.read_record(model), tuple(found.placed[index] for index in indexes))
            for model, indexes in by_model.items()
        )

    # --- blobs ---------------------------------------------------------------------------------------------------

    def batch(self) -> AbstractContextManager[Batch]:
        """Make finished files (verified and synced by their engine) blobs, one by one; durable after its ``sync``."""
        return open_batch(self.root)

    def commit(self, partial_path: str, digest: Digest, size_bytes: int) -> FileStat:
        """Make one finished file a durable blob."""
        return commit_many(self.root, [(partial_path, digest, size_bytes)])[0]

    def commit_many(self, finished: Sequence[tuple[str, Digest, int]]) -> tuple[FileStat, ...]:
        """The same for many (path, digest, size), with one sync per folder."""
        return commit_many(self.root, finished)

    def import_file(
        self,
        source: str,
        digest: Digest,
        progress: Callable[[int], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> FileStat:
        """Make a file outside the store a blob, by link, shared blocks or copy; the file itself stays as it is."""
        return intake.import_file(self.root, source, digest, progress, cancel)

    def adopt_file(
        self,
        model: str,
        path: str,
        progress: Callable[[int], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> tuple[Digest, FileStat]:
        """Make a foreign file below ``models/<model>/`` a blob that is placed there."""
        return intake.adopt_file(self.root, model, path, progress, cancel)

    def stat_blob(self, digest: Digest) -> FileStat | None:
        """A blob's stat; None where it is missing."""
        return blobs.stat_blob(self.root, digest)

    def seal_blob(self, digest: Digest, placed: Sequence[tuple[str, str]] = (), others: int = 0) -> FileStat:
        """Give a blob its mode 0444 back, by a copy of its own where strangers share its inode.

        ``placed`` are the (model, path) where it lies under ``models/``; ``others`` counts names of ours elsewhere.
        """
        return intake.seal_blob(self.root, digest, placed, others)

    def remove_blob(self, digest: Digest) -> int:
        """Delete a blob; the allocated bytes freed. Fine where it is gone."""
        return blobs.remove_blob(self.root, digest)

    def remove_partial(self, name: str) -> None:
        """Delete an unfinished download and the engine's notes on it. Fine where it is gone."""
        check_segment(name, "partial")
        with failing(f"cannot delete partial/{name}"), open_root(self.root) as root_fd:
            try:
                with open_below(root_fd, (PARTIAL,)) as partial_fd:
                    for each in (name, f"{name}.json"):
                        blobs.unlink_missing_ok(each, partial_fd)
            except FileNotFoundError:
                return

    def make_stage(self) -> str:
        """A fresh empty folder below ``partial/`` to unpack into, absolute."""
        name = temporary(STAGE_PREFIX)
        with (
            failing(f"cannot stage in the store {self.root}"),
            open_root(self.root) as root_fd,
            open_below(root_fd, (PARTIAL, name), create=True),
        ):
            return f"{self.root}/{PARTIAL}/{name}"

    def drop_stage(self, path: str) -> None:
        """Delete a stage and all in it. Fine where it is gone."""
        name = check_segment(os.path.basename(path), "stage")
        if not name.startswith(STAGE_PREFIX):
            raise ValueError(f"{path} is no stage")
        with (
            failing(f"cannot delete {path}"),
            open_root(self.root) as root_fd,
            open_below(root_fd, (PARTIAL,)) as partial_fd,
        ):
            remove_tree(partial_fd, name)

    # --- models --------------------------------------------------------------------------------------------------

    def place(
        self,
        model: str,
        files: Sequence[tuple[str, Digest]],
        record: bytes,
        known: Mapping[str, Digest],
        *,
        syncing: place.Syncing = nullcontext,
    ) -> Unplaced:
        """Swap in a model's folder with exactly ``files``; foreign files stay.

        ``known`` is what the ledger says was placed there before: path and digest. ``syncing`` is held while the disk
        is waited for.
        """
        return place.place(self.root, model, files, record, known, now=self._now(), syncing=syncing)

    def unplace(self, model: str, known: Mapping[str, Digest]) -> Unplaced:
        """Remove a model's files from ``models/``; foreign ones stay and are told. Blobs are not touched."""
        return place.place(self.root, model, (), b"", known, now=self._now())

    def read_record(self, model: str) -> bytes | None:
        """The record that the model's folder bears."""
        return records.read_record(self.root, model)

    def write_record(self, model: str, record: bytes) -> bool:
        """Replace the record, where it differs; False where the file system keeps none."""
        return records.write_record(self.root, model, record)

    # --- bad copies ----------------------------------------------------------------------------------------------

    def quarantine(self, what: str, reason: str, digest: Digest | None = None) -> str:
        """Set a blob (digest) or a file of the store (path, meant to have ``digest``) aside; its name there."""
        return quarantine.quarantine(self.root, what, reason, self._now(), digest or "")

    def drop_name(self, path: str) -> None:
        """Remove a placed file that is but another name of what was set aside."""
        quarantine.drop_name(self.root, path)

    def clean_quarantine(self, older_than: float) -> int:
        """Delete what was set aside before ``older_than`` (epoch seconds); the allocated bytes freed."""
        return quarantine.clean_quarantine(self.root, older_than)

    def remove_quarantined(self, name: str) -> None:
        """Delete one bad copy."""
        quarantine.remove_quarantined(self.root, name)

    # --- links ---------------------------------------------------------------------------------------------------

    def make_link(self, target: str, link: str, *, is_own: bool = False) -> bool:
        """Make a declared link; True where something was written."""
        return links.make_link(self.root, target, link, is_own=is_own)

    def link_fact(self, link: str, target: str, *, is_own: bool = False) -> LinkFact:
        """How a declared link stands."""
        return links.link_fact(self.root, link, target, is_own=is_own)

    def remove_link(self, link: str) -> bool:
        """Remove a link where it still points into this store."""
        return links.remove_link(self.root, link)

    # --- content -------------------------------------------------------------------------------------------------

    def hash_file(
        self, path: str, progress: Callable[[int], None] | None = None, cancel: CancelToken | None = None
    ) -> hashing.Hashed:
        """The digest of any file, with the stat it had."""
        return hashing.hash_file(path, progress, cancel)

    def hash_many(
        self,
        paths: Sequence[str],
        progress: Callable[[str, int], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[hashing.Hashed | tuple[str, Failure]]:
        """The digests of many files, on all cores, in order."""
        return hashing.hash_many(paths, progress, cancel)

    def is_in_use(self, path: str) -> bool:
        """Whether some process has the file open or mapped, as far as can be told."""
        return usage.is_in_use(path)
