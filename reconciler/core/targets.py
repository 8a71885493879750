"""What a wanted model still lacks: the difference between what the manifest asks for and what lies in the store.

:func:`assess` answers for one model, without a thought for room, network or other models; those come later and only
ever say *not now*. A stored revision satisfies a model where it has the same spec, or where every required file has a
declared digest and stands there under the same path. Of a revision that satisfies, only what is bad is mended; any
other revision stays beside the new one until that is placed.

Sizes are blocks on disk: each file rounded up. What an archive unpacks to is unknown until it is here; weights hardly
compress, so it is taken to be as large as the archive, and both lie on disk together until the archive is dropped.
"""

from collections.abc import Iterable

from reconciler.core.arrivals import (
    arrivals_of,
    as_brought,
    blocks_of,
    network_bytes_of,
    on_disk_of,
    repairs_of,
    size_of,
    total_of,
)
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.inventory import Inventory
from reconciler.core.records import dataclass
from reconciler.core.stored import StoredFile, StoredModel
from reconciler.core.vouching import is_as_declared, is_vouched
from reconciler.core.words import Condition, Digest, ExtractMode

ARCHIVE_SUFFIXES = (
    *(".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tzst"),
    *(".gz", ".bz2", ".xz", ".zst"),  # also .tar.gz and its kin, and single compressed files
)
TEMPORARY = "temporary"
UNVOUCHED = "signature_required"  # it is here, and nobody has vouched for it as the manifest asks
_BAD = (Condition.MISSING, Condition.DAMAGED)


@dataclass(frozen=True, slots=True)
class Need:
    """What one wanted model lacks. Sizes in bytes; None where nobody knows yet.

    Attributes:
        reason: why, as the actions will say it.
        is_new: no revision in the store satisfies the model (``replaces`` may be an older one).
        replaces: the current revision that a new one will supersede.
        fetch: files that come over the network; ``copy`` from elsewhere on this machine; ``relink`` are in the store.
        verify / place: stored files without proof; stored files whose blob is good and whose place is not.
        links: declared links to make; ``blocked_links`` are places where something foreign stands.
        arrivals: room that the finished files take, by blob, so that what two models share is counted once.
        temporary_bytes: room needed only until the model is placed.
        on_disk: what unfinished downloads take already, by the same keys; ``TEMPORARY`` for what is needed meanwhile.
        keeps: digests in the store that the finished model uses.
        bad: digests whose bad copies lie in their places; set aside by the repair, and given up where room is short.
        network_bytes: left to download; ``size_bytes`` the whole of what is missing.
        message: what a source answered where it could not tell what the model is made of.
    """

    model: DesiredModel
    stored: StoredModel | None
    reason: str
    is_new: bool = False
    is_extracted: bool = False
    fetch: tuple[Artifact, ...] = ()
    copy: tuple[Artifact, ...] = ()
    relink: tuple[Artifact, ...] = ()
    verify: tuple[StoredFile, ...] = ()
    place: tuple[StoredFile, ...] = ()
    links: tuple[str, ...] = ()
    blocked_links: tuple[str, ...] = ()
    arrivals: tuple[tuple[str, int], ...] = ()
    temporary_bytes: int = 0
    on_disk: tuple[tuple[str, int], ...] = ()
    keeps: tuple[Digest, ...] = ()
    bad: tuple[Digest, ...] = ()
    network_bytes: int | None = 0
    size_bytes: int | None = 0
    message: str = ""

    @property
    def replaces(self) -> StoredModel | None:
        """The revision that a new one will supersede."""
        return self.stored if self.is_new else None

    @property
    def is_network_needed(self) -> bool:
        """Whether bytes must come from another machine."""
        return any(not is_local(artifact) for artifact in self.fetch)

    @property
    def still_to_come(self) -> tuple[tuple[str, int], ...]:
        """``arrivals`` without what is on disk already."""
        if not self.on_disk:
            return self.arrivals
        on_disk = dict(self.on_disk)
        return tuple((key, max(0, size - on_disk.get(key, 0))) for key, size in self.arrivals)

    @property
    def temporary_to_come(self) -> int:
        """``temporary_bytes`` without what is on disk already."""
        return max(0, self.temporary_bytes - dict(self.on_disk).get(TEMPORARY, 0))

    @property
    def room_bytes(self) -> int:
        """Room to come for good, shared blobs included."""
        return sum(size for _, size in self.arrivals)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files a repair is limited to; empty for the whole model."""
        if self.is_new or self.is_extracted:
            return ()
        return tuple(artifact.path for artifact in (*self.fetch, *self.copy, *self.relink))


def is_local(artifact: Artifact) -> bool:
    """Whether the first source is a file of this machine."""
    return bool(artifact.sources) and artifact.sources[0].startswith("file:")


def is_archive_name(path: str) -> bool:
    """Whether ``extract: auto`` would unpack a file of this name; content decides when it is here."""
    return path.lower().endswith(ARCHIVE_SUFFIXES)


def will_extract(model: DesiredModel, files: Iterable[Artifact]) -> bool:
    """Whether an ``extract`` follows the download, as far as names tell."""
    if model.extract is ExtractMode.AUTO:
        return any(is_archive_name(file.path) for file in files)
    return model.extract is ExtractMode.ALWAYS


def target_files(model: DesiredModel, inventory: Inventory) -> tuple[Artifact, ...]:
    """The files a wanted model is made of: as its source resolved it, else as declared."""
    resolution = inventory.resolutions.get((model.name, model.spec_digest))
    return resolution.files if resolution is not None and resolution.files else model.artifacts


def is_satisfying(model: DesiredModel, stored: StoredModel, files: tuple[Artifact, ...]) -> bool:
    """Whether a revision of another or unknown spec is what the manifest asks for, whatever state its files are in."""
    is_rebuilt = not stored.spec_digest  # the database was lost: what it was made from is not known
    if will_extract(model, files):
        return is_rebuilt and bool(stored.files)
    by_path = {file.path: file for file in stored.files}
    required = [file for file in files if not file.optional]
    if is_rebuilt:
        return bool(required) and all(_agrees(file, by_path.get(file.path)) for file in required)
    if not by_path.keys() <= {file.path for file in files}:
        return False  # it has files that are not asked for any more
    return bool(required) and all(
        file.digest is not None and file.path in by_path and by_path[file.path].digest == file.digest
        for file in required
    )


def _agrees(file: Artifact, stored: StoredFile | None) -> bool:
    if stored is None:
        return False
    if file.digest is not None and stored.digest is not None:
        return file.digest == stored.digest
    return file.size_bytes is None or file.size_bytes == stored.size_bytes


def assess(model: DesiredModel, inventory: Inventory, stored: StoredModel | None) -> Need | None:
    """What ``model`` lacks where ``stored`` is its current revision (or None); None where it lacks nothing."""
    if stored is not None and stored.spec_digest == model.spec_digest and is_as_declared(model, stored):
        is_whole = not model.links and all(file.condition is Condition.INTACT for file in stored.files)
        if is_whole and is_vouched(model, stored, inventory.keys):
            return None  # the common case, kept short: a thousand of these are planned in milliseconds
        return _mend(model, inventory, stored)
    if stored is not None and is_satisfying(model, stored, target_files(model, inventory)):
        return _mend(model, inventory, stored)
    return _bring(model, inventory, stored)


def _bring(model: DesiredModel, inventory: Inventory, stored: StoredModel | None) -> Need:
    files = as_brought(model.name, target_files(model, inventory), inventory)
    fetch, copy, relink = _sorted_by_origin(files, inventory)
    is_extracted = will_extract(model, files)
    reason = "spec_changed" if stored is not None else "not_in_store"
    if not fetch and stored is None:
        reason = "local_copy" if copy else "blob_in_store"
    arrivals = tuple(arrivals_of(model.name, (*fetch, *copy), inventory))
    on_disk = tuple(on_disk_of(model.name, fetch, inventory))
    temporary = 0
    if is_extracted:
        temporary = sum(size for _, size in arrivals)
        whole = sum(blocks_of(file.size_bytes or 0, inventory) for file in files)
        arrivals, on_disk = ((f"{model.name}/", whole),), ((TEMPORARY, sum(size for _, size in on_disk)),)
    resolution = inventory.resolutions.get((model.name, model.spec_digest))
    return Need(
        model,
        stored,
        reason,
        is_new=True,
        is_extracted=is_extracted,
        fetch=fetch,
        copy=copy,
        relink=relink,
        links=model.links if stored is None else _link_work(model, stored)[0],
        blocked_links=() if stored is None else _link_work(model, stored)[1],
        arrivals=arrivals,
        temporary_bytes=temporary,
        on_disk=on_disk,
        keeps=tuple(dict.fromkeys(file.digest for file in files if file.digest in inventory.allocated)),
        network_bytes=network_bytes_of(model.name, fetch, inventory),
        size_bytes=total_of(size_of(model.name, file, inventory) for file in (*fetch, *copy)),
        message="" if resolution is None else resolution.message,
    )


def _mend(model: DesiredModel, inventory: Inventory, stored: StoredModel) -> Need | None:
    bad = [file for file in stored.files if file.condition in _BAD]
    verify = tuple(file for file in stored.files if file.condition is Condition.UNVERIFIED)
    place = tuple(file for file in stored.files if file.condition is Condition.UNPLACED)
    links, blocked = _link_work(model, stored)
    is_signed = is_vouched(model, stored, inventory.keys)
    if is_signed and not (bad or verify or place or links or blocked):
        return None
    if is_signed and not bad:
        reason = _mend_reason(verify, place)
        return Need(model, stored, reason, verify=verify, place=place, links=links, blocked_links=blocked)
    reason = _lack_reason(bad)
    files = target_files(model, inventory)
    lacking = bad or stored.files  # a signature is checked over all files; of an archive, over the archive
    is_extracted = will_extract(model, files) and not {file.path for file in lacking} <= {file.path for file in files}
    wanted = files if is_extracted else tuple(_artifact_of(file, files) for file in lacking)
    fetch, copy, relink = _sorted_by_origin(wanted, inventory)
    archive_bytes = sum(size for _, size in arrivals_of(model.name, (*fetch, *copy), inventory)) if is_extracted else 0
    on_disk = tuple(on_disk_of(model.name, fetch, inventory))
    if is_extracted:
        on_disk = ((TEMPORARY, sum(size for _, size in on_disk)),)
    good_bytes = sum(blocks_of(file.size_bytes, inventory) for file in stored.files if file not in bad)
    return Need(
        model,
        stored,
        reason,
        is_extracted=is_extracted,
        fetch=fetch,
        copy=copy,
        relink=relink,
        verify=() if is_extracted else verify,
        place=() if is_extracted else place,
        links=links,
        blocked_links=blocked,
        arrivals=tuple(repairs_of(model.name, bad, inventory)),
        bad=_bad_copies(bad),
        on_disk=on_disk,
        temporary_bytes=archive_bytes + good_bytes if is_extracted else 0,
        network_bytes=network_bytes_of(model.name, fetch, inventory),
        size_bytes=total_of(file.size_bytes for file in (*fetch, *copy)),
    )


def _bad_copies(bad: Iterable[StoredFile]) -> tuple[Digest, ...]:
    """Digests of the blobs that are there and damaged, each once."""
    is_there = (file.digest for file in bad if file.condition is Condition.DAMAGED and file.allocated_bytes)
    return tuple(dict.fromkeys(digest for digest in is_there if digest is not None))


def _lack_reason(bad: list[StoredFile]) -> str:
    if not bad:
        return UNVOUCHED
    return "damaged" if any(file.condition is Condition.DAMAGED for file in bad) else "missing"


def _mend_reason(verify: tuple[StoredFile, ...], place: tuple[StoredFile, ...]) -> str:
    if verify:
        return "no_proof" if any(file.stat is None for file in verify) else "stat_changed"
    return "unplaced" if place else "link_missing"


def _artifact_of(stored: StoredFile, files: tuple[Artifact, ...]) -> Artifact:
    """Where a bad file is fetched from again; the digest that was verified once holds."""
    for file in files:
        if file.path == stored.path:
            size = stored.size_bytes if file.size_bytes is None and stored.size_bytes else file.size_bytes
            return Artifact(file.path, file.sources, file.digest or stored.digest, size, file.role, file.optional)
    return Artifact(stored.path, (), stored.digest, stored.size_bytes, stored.role)


_Origins = tuple[tuple[Artifact, ...], tuple[Artifact, ...], tuple[Artifact, ...]]


def _sorted_by_origin(files: tuple[Artifact, ...], inventory: Inventory) -> _Origins:
    """Files to fetch, to copy from elsewhere on this machine, and to link from the store."""
    fetch, copy, relink = [], [], []
    for file in files:
        if inventory.is_usable(file.digest):
            relink.append(file)
        elif file.digest is not None and file.digest in inventory.copies:
            copy.append(file)
        else:
            fetch.append(file)
    return tuple(fetch), tuple(copy), tuple(relink)


def _link_work(model: DesiredModel, stored: StoredModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Declared links that are missing or wrong, and those whose place is taken by something foreign."""
    facts = {fact.path: fact for fact in stored.links}
    missing = tuple(path for path in model.links if path not in facts or not facts[path].is_right)
    blocked = tuple(path for path in missing if path in facts and facts[path].is_foreign)
    return tuple(path for path in missing if path not in blocked), blocked
