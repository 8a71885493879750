"""Export: write models into one file, hashing what is read."""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from reconciler.adapters.ledger import LedgerFacts, RevisionRow
from reconciler.bundles.carried import BLOBS, INDEX, KIND, Carried
from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.errors import permanent, transient
from reconciler.core.locked import LockedModel, check_carried, entries_document, label_of
from reconciler.core.ports import CancelToken
from reconciler.core.selector import labelled, why_not_here
from reconciler.core.words import Digest, WantedState
from reconciler.world import World

_PIECE = 1 << 20


def export_bundle(
    world: World, desired: DesiredState | None, facts: LedgerFacts, names: Sequence[str], path: str, cancel: CancelToken
) -> Carried:
    """Write the models that are named, or else all that the manifest wants here (without one: all in the store).

    Raises:
        Failure: permanent ``not_present`` where one is not in the store, ``damaged`` where a blob is not its digest,
            ``not_checkable`` or ``digest_mismatch`` where it is not what the manifest declares.
    """
    wanted = {model.name: model for model in desired.models} if desired is not None else {}
    chosen = names or (sorted(facts.revisions) if desired is None or not wanted else _wanted_here(world, desired))
    entries = []
    for name in chosen:
        row = next((row for row in facts.revisions.get(name, ()) if row.is_current), None)
        if row is None:
            raise permanent("not_present", f"{name} is not in the store", hint="run reconciler apply first")
        entry = _entry_of(row, _sources(name, row, facts, wanted))
        if name in wanted:
            check_carried(wanted[name], entry)  # the far machine would refuse it
        entries.append(entry)
    sizes = {file.digest: file.size_bytes or 0 for entry in entries for file in entry.files if file.digest}
    with _replacing(path) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as bundle:
        index = json.dumps(entries_document(KIND, entries), indent=2, ensure_ascii=False).encode()
        bundle.addfile(_header(INDEX, len(index)), io.BytesIO(index))
        for digest, size in sorted(sizes.items()):
            _add_blob(bundle, world, digest, size, cancel)
    return Carried(tuple(entry.name for entry in entries), len(sizes), sum(sizes.values()))


def _wanted_here(world: World, desired: DesiredState) -> list[str]:
    device = labelled(world.device(), desired.labels)
    memory, disk = world.memory(), world.disk()
    wanted = [model for model in desired.models if model.state is not WantedState.ABSENT]
    return [model.name for model in wanted if not why_not_here(model, device, memory, disk)]


def _sources(
    name: str, row: RevisionRow, facts: LedgerFacts, wanted: Mapping[str, DesiredModel]
) -> dict[str, tuple[str, ...]]:
    """Where each file of a revision came from, as labels; nothing for members of an archive."""
    known = facts.resolutions.get((name, row.spec_digest))
    model = wanted.get(name)
    files = known.resolution.files if known is not None else (model.artifacts if model else ())
    return {file.path: tuple(label_of(url) for url in file.sources) for file in files}


def _entry_of(row: RevisionRow, sources: Mapping[str, tuple[str, ...]]) -> LockedModel:
    files = tuple(
        Artifact(file.path, sources.get(file.path, ()), file.digest, file.size_bytes, file.role) for file in row.files
    )
    return LockedModel(row.model, row.spec_digest, row.revision, files)


class _Hashing:
    """Reads a file and hashes what goes by."""

    def __init__(self, file: BinaryIO, cancel: CancelToken) -> None:
        self._file, self._cancel = file, cancel
        self.hasher = hashlib.sha256()

    def read(self, size: int = _PIECE) -> bytes:
        if self._cancel.is_set():
            raise transient("cancelled", "stopped while a bundle was written")
        data = self._file.read(size)
        self.hasher.update(data)
        return data


def _add_blob(bundle: tarfile.TarFile, world: World, digest: Digest, size: int, cancel: CancelToken) -> None:
    try:
        with Path(world.store.blob_path(digest)).open("rb") as file:
            reader = _Hashing(file, cancel)
            bundle.addfile(_header(f"{BLOBS}/{digest.removeprefix('sha256:')}", size), reader)
    except FileNotFoundError:
        raise permanent("not_present", f"the blob {digest} is not in the store", hint="run reconciler apply") from None
    except OSError as error:
        raise permanent("bundle_unwritable", f"cannot bundle {digest}: {error.strerror or error}") from error
    if reader.hasher.hexdigest() != digest.removeprefix("sha256:"):
        raise permanent("damaged", f"the blob {digest} is damaged", hint="run reconciler verify --repair")


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o444
    return header


class _replacing:  # noqa: N801 -- a context manager that reads as a verb
    """A new file that takes its name only when it is whole and synced."""

    def __init__(self, path: str) -> None:
        self._target = Path(path).absolute()

    def __enter__(self) -> BinaryIO:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self._target.name}.", dir=self._target.parent)
        except OSError as error:
            raise permanent("bundle_unwritable", f"cannot write {self._target}: {error.strerror}") from error
        self._temporary = Path(name)
        self._stream = os.fdopen(handle, "wb")
        return self._stream

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._temporary.chmod(0o644)
                self._temporary.replace(self._target)
        except OSError as error:
            raise permanent("bundle_unwritable", f"cannot write {self._target}: {error.strerror}") from error
        finally:
            self._stream.close()
            self._temporary.unlink(missing_ok=True)
