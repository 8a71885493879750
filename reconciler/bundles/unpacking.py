"""Import: from a file that nobody vouches for to verified blobs and placed models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.adapters import formats
from reconciler.adapters.archives.tar import TarExtractor
from reconciler.adapters.ledger import FileRow, Installed, Ledger
from reconciler.bundles.carried import BLOBS, INDEX, KIND, Carried
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.errors import Failure, permanent, refused
from reconciler.core.locked import LockedModel, check_carried, locked_model, parse_entries
from reconciler.core.observed import Resolution
from reconciler.core.ports import CancelToken, Member, Proof
from reconciler.core.reference import scheme_of
from reconciler.core.stored import FileStat
from reconciler.core.units import format_size
from reconciler.core.words import Digest
from reconciler.execute.placing import Revision, make_record
from reconciler.world import World

MAX_INDEX_BYTES = 64 << 20
_Blobs = Mapping[Digest, Member]


def import_bundle(
    world: World, desired: DesiredState | None, ledger: Ledger, path: str, cancel: CancelToken
) -> Carried:
    """Take a bundle into the store, whose owner the caller is. Blobs come all or not at all.

    Raises:
        Failure: permanent ``bundle_invalid``, ``archive_unsafe``, ``archive_damaged`` and their kin;
            ``digest_mismatch`` or ``not_checkable`` where it is not what the manifest declares; refused ``no_room`` or
            ``unsafe_pickle``.
    """
    store = world.store
    stage = store.make_stage()
    try:
        members = _unpack(world, desired, path, stage, cancel)
        entries = _read_index(stage, members)
        blobs = _match(members, entries)
        models = {model.name: model for model in desired.models} if desired is not None else {}
        for entry in entries:
            if entry.name in models:
                check_carried(models[entry.name], entry)
        words = {entry.name: _judge(world, entry, models.get(entry.name), stage, blobs) for entry in entries}
        finished = [(f"{stage}/{member.path}", member.digest, member.size_bytes) for member in blobs.values()]
        stats = dict(zip(blobs, store.commit_many(finished), strict=True))
    finally:
        store.drop_stage(stage)
    ledger.become_writer()
    placed = tuple(
        entry.name
        for entry in entries
        if _take_in(world, ledger, entry, words[entry.name], stats, models.get(entry.name))
    )
    size = sum(member.size_bytes for member in blobs.values())
    return Carried(tuple(entry.name for entry in entries), len(blobs), size, placed)


def _unpack(
    world: World, desired: DesiredState | None, path: str, stage: str, cancel: CancelToken
) -> tuple[Member, ...]:
    extractor = TarExtractor()
    try:
        size = Path(path).stat().st_size
        is_ours = Path(path).is_file() and extractor.recognises(path, "bundle.tar")
    except OSError as error:
        raise permanent("bundle_unreadable", f"cannot read {path}: {error.strerror}") from error
    if not is_ours:
        raise _invalid(f"{path} is no tar")
    room = _room(world, desired)
    if size > room:
        message = f"{path} needs {format_size(size)} and {format_size(room)} can be had"
        raise refused("no_room", message, hint="make room, or raise cache.maxSize")
    return extractor.extract(path, stage, limit_bytes=room, progress=lambda _: None, cancel=cancel)


def _room(world: World, desired: DesiredState | None) -> int:
    """Bytes that may come: below the manifest's limit where there is one; what must stay free stays free."""
    disk = world.disk()
    if desired is None:
        return disk.free_bytes
    free = disk.free_bytes - desired.cache.min_free.of(disk.total_bytes)
    left = desired.cache.max_size.of(disk.total_bytes) - world.store.scan().used_bytes
    return max(0, min(free, left))


def _read_index(stage: str, members: Sequence[Member]) -> tuple[LockedModel, ...]:
    index = next((member for member in members if member.path == INDEX), None)
    if index is None or index.size_bytes > MAX_INDEX_BYTES:
        raise _invalid(f"it has no {INDEX} of a sensible size")
    try:
        entries = parse_entries(Path(f"{stage}/{INDEX}").read_bytes(), KIND)
    except Failure as failure:
        raise _invalid(failure.message) from failure
    unknown = next((file.path for entry in entries for file in entry.files if file.digest is None), None)
    if unknown is not None:
        raise _invalid(f"{unknown} has no digest")
    return entries


def _match(members: Sequence[Member], entries: Sequence[LockedModel]) -> dict[Digest, Member]:
    """The blobs by digest: each is what its name says, and exactly those that the index needs are there."""
    named = {member.path: member for member in members if member.path != INDEX}
    wanted = {file.digest: file.size_bytes for entry in entries for file in entry.files if file.digest is not None}
    expected = {f"{BLOBS}/{digest.removeprefix('sha256:')}": digest for digest in wanted}
    if strange := sorted(named.keys() - expected.keys()):
        raise _invalid(f"{strange[0]} belongs to no model")
    if missing := sorted(expected.keys() - named.keys()):
        raise _invalid(f"{missing[0]} is missing")
    for path, digest in expected.items():
        if named[path].digest != digest or wanted[digest] != named[path].size_bytes:
            raise permanent("digest_mismatch", f"{path} is not what its name says", hint="export the bundle again")
    return {digest: named[path] for path, digest in sorted(expected.items())}


def _judge(world: World, entry: LockedModel, model: DesiredModel | None, stage: str, blobs: _Blobs) -> str:
    """The format's word. What holds a pickle that the manifest does not allow is refused, as from any source."""
    pairs = [(file.path, f"{stage}/{blobs[file.digest].path}") for file in entry.files if file.digest is not None]
    readers = (*world.formats, *formats.BUILTIN)
    try:
        return formats.check(
            pairs, "auto", allow_unsafe=model is not None and model.allow_unsafe, readers=readers
        ).format
    except Failure as failure:
        if failure.reason != "wrong_format":
            raise
        return formats.read_folder(pairs, readers).format  # the very bytes that were exported


def _take_in(
    world: World,
    ledger: Ledger,
    entry: LockedModel,
    word: str,
    stats: Mapping[Digest, FileStat],
    model: DesiredModel | None,
) -> bool:
    """Remember what came; place the model where the store has none of its name. Whether it was placed."""
    now, resolution = world.now(), _resolution_of(entry, model)
    rows = tuple(
        FileRow(file.path, file.digest, file.size_bytes or 0, file.role)
        for file in entry.files
        if file.digest is not None
    )
    proofs = tuple(Proof(row.digest, stats[row.digest], now) for row in rows)
    is_vouched = model is None or model.signature is None  # else the next apply checks who signed, and places it
    is_new = is_vouched and ledger.revisions.current(entry.name) is None
    if is_new:
        revision = Revision(entry.name, entry.spec_digest, rows, revision=entry.revision, format=word)
        record = make_record(revision, pinned=False)
        world.store.place(entry.name, [(row.path, row.digest) for row in rows], record, {})
    with ledger.transaction():
        if resolution is not None:
            ledger.resolutions.save(resolution)
        if is_new:
            ledger.record_installed(
                Installed(
                    model=entry.name,
                    spec_digest=entry.spec_digest,
                    files=rows,
                    proofs=proofs,
                    revision=entry.revision,
                    source="bundle",
                    format=word,
                    message="imported from a bundle",
                )
            )
        for proof in () if is_new else proofs:
            ledger.record_verified_blob(proof.digest, proof.stat)
    return is_new


def _resolution_of(entry: LockedModel, model: DesiredModel | None) -> Resolution | None:
    """What the model stands for, for a later apply; only sources that the manifest declares, and no digest of its own.

    None where the manifest does not have the model, where a file has no source (what an archive unpacked to), and of
    an image, whose layers cannot be found without their digests.
    """
    if model is None or model.spec_digest != entry.spec_digest:
        return None
    declared = {file.path: file.digest for file in model.artifacts}
    try:
        files = locked_model(model, entry).artifacts
    except Failure:
        return None
    if any(scheme_of(url) in ("oci", "ollama") for file in files for url in file.sources):
        return None
    if model.signature is None:  # else that is what vouches for them
        files = tuple(replace(file, digest=declared.get(file.path)) for file in files)
    return Resolution(entry.name, entry.spec_digest, files, entry.revision)


def _invalid(trouble: str) -> Failure:
    return permanent("bundle_invalid", f"this is no bundle: {trouble}", hint="reconciler bundle export makes one")
