"""Small worlds for the planner's tests: builders with defaults, and strategies that draw whole worlds.

Blobs come from a small pool, so that models share them; a digest fixes a size. Sizes are counted in blocks of 4096.
"""

import hashlib
from dataclasses import replace

from hypothesis import strategies as st

from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.digests import spec_digest
from reconciler.core.observed import DiskFacts, FailureFact, MemoryFacts, ObservedState, RuntimeFact
from reconciler.core.policies import CachePolicy, MemoryPolicy, Size
from reconciler.core.stored import BadCopy, BlobFact, FileStat, PartialFact, StoredFile, StoredModel, StoreFacts
from reconciler.core.words import Condition, Digest, EvictionMode, EvictionPolicy, Priority, WantedState

BLOCK = 4096
NOW = 1_800_000_000.0
DAY = 86400.0
NAMES = ("a", "b", "c", "d", "e")
MIB = 1 << 20


def digest(word: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(word.encode()).hexdigest())


# digest -> size in bytes; not all of them whole blocks
POOL = {
    digest(f"pool{n}"): size for n, size in enumerate((BLOCK, 5000, 2 * BLOCK, 3 * BLOCK, 3 * BLOCK - 1, 5 * BLOCK))
}
DIGESTS = tuple(POOL)


def blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def artifact(path: str = "model.bin", content: Digest | str | None = "x", size: int | None = BLOCK, **rest) -> Artifact:
    found = Digest(content) if content and content.startswith("sha256:") else digest(content) if content else None
    return Artifact(path, (f"https://origin.example/{size}/{path}",), found, size, **rest)


def wanted(name: str, *artifacts: Artifact, **rest) -> DesiredModel:
    model = DesiredModel(name, artifacts=artifacts or (artifact(content=name),), **rest)
    return replace(model, spec_digest=spec_digest(model))


def desired(*models: DesiredModel, limit: int | None = None, **rest) -> DesiredState:
    cache = rest.pop("cache", CachePolicy(min_free=Size(size_bytes=0), max_evictions_percent=None))
    if limit is not None:
        cache = replace(cache, max_size=Size(size_bytes=limit))
    return DesiredState(tuple(sorted(models, key=lambda model: model.name)), cache=cache, **rest)


def file_of(source: Artifact, condition: Condition = Condition.INTACT, **rest) -> StoredFile:
    size = source.size_bytes or 0
    allocated = 0 if condition is Condition.MISSING else blocks(size)
    stat = FileStat(1, abs(hash(source.digest)) % 1000, size, 5)
    return StoredFile(
        source.path, source.digest, size, allocated, condition, source.role, rest.pop("stat", stat), **rest
    )


def held(model: DesiredModel, condition: Condition = Condition.INTACT, **rest) -> StoredModel:
    """``model`` as it lies in the store once it was brought."""
    rest.setdefault("installed_at", NOW - DAY)
    files = tuple(file_of(each, condition) for each in model.artifacts)
    return StoredModel(model.name, rest.pop("spec", model.spec_digest), files, **rest)


def observed(*stored: StoredModel, free: int = 1 << 50, used: int | None = None, **rest) -> ObservedState:
    """A machine; what the store uses is counted from its blobs and partials unless given."""
    blobs: dict[Digest, BlobFact] = {
        file.digest: BlobFact(file.digest, file.size_bytes, file.allocated_bytes, True, file.stat, NOW - DAY / 2)
        for model in stored
        if not model.is_foreign
        for file in model.files
        if file.digest and file.allocated_bytes
    }
    for blob in rest.pop("blobs", ()):
        blobs.setdefault(blob.digest, blob)
    partials = tuple(rest.pop("partials", ()))
    copies = tuple(rest.pop("copies", ()))
    quarantine = rest.pop("quarantine", 0) + sum(copy.allocated_bytes for copy in copies)
    foreign = rest.pop("foreign", 0)
    counted = sum(blob.allocated_bytes for blob in blobs.values()) + sum(each.allocated_bytes for each in partials)
    store = StoreFacts(
        tuple(sorted(stored, key=lambda model: (model.name, not model.is_current, model.spec_digest))),
        tuple(blobs[key] for key in sorted(blobs)),
        partials,
        quarantine,
        foreign,
        counted + quarantine + foreign if used is None else used,
        "/store",
        copies,
    )
    memory = rest.pop("memory", MemoryFacts(8000 * MIB, 6000 * MIB))
    return ObservedState(rest.pop("taken_at", NOW), store, DiskFacts(1 << 50, free), memory, **rest)


# --- strategies -------------------------------------------------------------------------------------------------------


@st.composite
def models(draw, name: str, *, states=tuple(WantedState), with_links: bool = True) -> DesiredModel:
    contents = draw(st.lists(st.sampled_from(DIGESTS), min_size=1, max_size=2, unique=True))
    is_archive = draw(st.integers(0, 7)) == 7
    suffix = "zip" if is_archive else "bin"
    files = [artifact(f"f{place}.{suffix}", content, POOL[content]) for place, content in enumerate(contents)]
    if is_archive:
        size = POOL[contents[0]]
        files = [artifact("f0.zip", digest(f"archive of {size}"), size)]
    if draw(st.integers(0, 5)) == 5:
        files[0] = replace(files[0], digest=None)  # a size is declared, a digest is not
    return wanted(
        name,
        *files,
        state=draw(st.sampled_from(states)),
        priority=draw(st.sampled_from(Priority)),
        pinned=draw(st.integers(0, 7)) == 7,
        memory_bytes=draw(st.sampled_from((None, 300 * MIB, 2500 * MIB))),
        links=(f"/opt/{name}",) if with_links and draw(st.integers(0, 5)) == 5 else (),
    )


@st.composite
def revisions(draw, name: str, blob_states: dict[Digest, Condition], want: DesiredModel | None, **rest) -> StoredModel:
    """A revision in the store: the wanted one where there is one and luck has it, else some other."""
    is_same = want is not None and draw(st.booleans())
    model = want if is_same else draw(models(name, with_links=False))
    files = []
    for source in model.artifacts:
        content = source.digest or digest(f"served {name} {source.path} {source.size_bytes}")
        path = source.path
        size = source.size_bytes or 0
        if path.endswith(".zip"):
            path, content, size = (
                "member.bin",
                digest(f"member {name} {source.digest}{'' if is_same else rest or True}"),
                source.size_bytes or 0,
            )
        condition = blob_states.get(content, Condition.INTACT)
        if condition is Condition.INTACT and draw(st.integers(0, 9)) == 9:
            condition = Condition.UNPLACED
        files.append(file_of(Artifact(path, (), content, size), condition))
    spec = model.spec_digest
    if not is_same:
        spec = digest(f"other {name} {[file.digest for file in files]} {rest}")
    return StoredModel(
        name,
        spec,
        tuple(files),
        pinned=draw(st.integers(0, 7)) == 7,
        in_use=draw(st.integers(0, 7)) == 7,
        installed_at=NOW - draw(st.integers(0, 40)) * DAY,
        last_used=NOW - draw(st.integers(0, 40)) * DAY,
        use_count=draw(st.integers(0, 3)),
        **rest,
    )


@st.composite
def worlds(draw, *, is_calm: bool = False) -> tuple[DesiredState, ObservedState]:
    """Desired and observed state. ``is_calm``: nothing backs off and memory is plenty."""
    want = {name: draw(models(name)) for name in NAMES if draw(st.integers(0, 3))}
    states = st.sampled_from((*[Condition.INTACT] * 6, Condition.UNVERIFIED, Condition.DAMAGED, Condition.MISSING))
    blob_states = {each: draw(states) for each in DIGESTS}
    stored: list[StoredModel] = []
    loaded: list[tuple[str, int]] = []
    for name in NAMES:
        if draw(st.booleans()):
            current = draw(revisions(name, blob_states, want.get(name)))
            if draw(st.integers(0, 4)) == 4:
                size = draw(st.sampled_from((300 * MIB, 1000 * MIB)))
                if name in want and want[name].memory_bytes is not None:
                    size = want[name].memory_bytes
                current = replace(current, loaded=True, runtime="default", memory_bytes=size)
                loaded.append((name, size))
            stored.append(current)
        if draw(st.integers(0, 5)) == 5:
            stored.append(
                replace(draw(revisions(name, blob_states, None)), is_current=False, spec_digest=digest(f"old {name}"))
            )
    stored = _mended(stored, want)
    orphans = [
        BlobFact(each, POOL[each], blocks(POOL[each]), True, None, NOW - draw(st.integers(0, 3)) * DAY)
        for each in DIGESTS
        if blob_states[each] is Condition.INTACT and draw(st.integers(0, 9)) == 9
    ]
    here = {blob.digest for blob in orphans} | {
        file.digest for model in stored for file in model.files if file.allocated_bytes
    }
    state = observed(
        *stored,
        blobs=orphans,
        partials=[each for each in draw(partials(want, blob_states)) if each.digest not in here],
        copies=draw(st.sampled_from(((), (), (BadCopy("old", 2 * BLOCK, NOW - DAY / 2, DIGESTS[0]),)))),
        foreign=draw(st.sampled_from((0, 0, 2 * BLOCK))),
        free=draw(st.sampled_from((1 << 50, 8 * BLOCK))),
        runtimes=(RuntimeFact("default", "page-cache", loaded=tuple(loaded)),),
        failures=() if is_calm else draw(failures(want)),
        memory=MemoryFacts(8000 * MIB, 6000 * MIB if is_calm else draw(st.sampled_from((6000, 2000, 450, 100))) * MIB),
    )
    cache = CachePolicy(
        max_size=Size(size_bytes=draw(st.integers(0, 40)) * BLOCK),
        min_free=Size(size_bytes=draw(st.sampled_from((0, 0, 4 * BLOCK)))),
        policy=draw(st.sampled_from(EvictionPolicy)),
        mode=draw(st.sampled_from(EvictionMode)),
        retention_s=draw(st.sampled_from((None, 30 * DAY))),
        cleanup_interval_s=draw(st.sampled_from((0.0, DAY))),
        max_evictions_percent=None,
    )
    budget = draw(st.sampled_from((None, Size(size_bytes=1500 * MIB), Size(percent=50))))
    return desired(*want.values(), cache=cache, memory=MemoryPolicy(budget=budget)), state


def _mended(stored: list[StoredModel], want: dict[str, DesiredModel]) -> list[StoredModel]:
    """Bad blobs are those of wanted revisions only: whether a bad copy nobody wants is set aside depends on the order."""
    bad = {Condition.DAMAGED, Condition.MISSING}
    others = {
        file.digest
        for model in stored
        if model.name not in want
        or not model.is_current
        or model.spec_digest != want[model.name].spec_digest
        or want[model.name].state is WantedState.ABSENT
        for file in model.files
    } | {
        file.digest
        for model in want.values()
        for file in model.artifacts
        if model.name not in {each.name for each in stored}
    }

    def mend(file: StoredFile) -> StoredFile:
        if file.condition in bad and file.digest in others:
            return replace(file, condition=Condition.INTACT, allocated_bytes=blocks(file.size_bytes))
        return file

    return [replace(model, files=tuple(mend(file) for file in model.files)) for model in stored]


@st.composite
def partials(draw, want: dict[str, DesiredModel], blob_states: dict[Digest, Condition]) -> tuple[PartialFact, ...]:
    found = []
    for model in want.values():
        source = model.artifacts[0]
        if draw(st.integers(0, 3)) == 3 and source.digest and blob_states.get(source.digest) is not Condition.INTACT:
            found.append(
                PartialFact(
                    f"p{model.name}", model.name, BLOCK, BLOCK, NOW - DAY, source.digest, source.size_bytes, source.path
                )
            )
    if draw(st.integers(0, 3)) == 3:
        found.append(
            PartialFact("stale", "z", BLOCK, BLOCK, NOW - draw(st.integers(0, 9)) * DAY, digest("gone"), BLOCK, "z")
        )
    return tuple({partial.digest: partial for partial in found}.values())


@st.composite
def failures(draw, want: dict[str, DesiredModel]) -> tuple[FailureFact, ...]:
    found = []
    for model in want.values():
        if draw(st.integers(0, 4)) == 4:
            kind = draw(st.sampled_from(("transient", "permanent", "refused")))
            retry_at = None if kind == "permanent" else NOW + draw(st.sampled_from((-5, 60)))
            step = draw(
                st.sampled_from(("download", "download", "extract", "verify", "link", "load", "unload", "evict"))
            )
            spec = draw(st.sampled_from((model.spec_digest, model.spec_digest, digest("elsewhere"))))
            found.append(
                FailureFact(model.name, spec, kind, "broken", "it broke", 2, retry_at, draw(st.booleans()), step)
            )
    return tuple(found)


def has_shared_arrivals(desired: DesiredState, plan) -> bool:
    """Whether bytes that come for one model are also those of a model that is held back: they will change its lot."""
    targets = {model.name: {file.digest for file in model.artifacts if file.digest} for model in desired.models}
    bringing = {action.model for action in plan.actions if action.kind in {"download", "link"}}
    coming = {each for action in plan.actions if action.kind == "download" for each in targets[action.model]}
    fine = bringing | {satisfied.model for satisfied in plan.satisfied}
    return any(coming & found for name, found in targets.items() if name not in fine)


def is_tangled(desired: DesiredState, state: ObservedState, plan) -> bool:
    """Room is short while a revision is replaced or an archive unpacked: what that frees may be used by a later pass."""
    current = {stored.name: stored.spec_digest for stored in state.store.models if stored.is_current}
    is_replacing = any(current.get(model.name, model.spec_digest) != model.spec_digest for model in desired.models)
    is_unpacking = any(file.path.endswith(".zip") for model in desired.models for file in model.artifacts)
    is_short = state.store.used_bytes > plan.summary.disk_limit_bytes or any(
        action.cause == "pressure" and action.kind == "evict" for action in plan.actions
    )
    has_refused = any(deferred.reason == "no_room" for deferred in plan.deferred)
    return (is_replacing or is_unpacking) and (is_short or has_refused)
