"""``publish: [huggingface]``: a model's files are also links in the hub client's cache, planned and kept like any link.

A published file is a declared link whose path follows from what the model was resolved to, so it is added here to the
model's links before planning: the plan shows it, drift mends it, eviction and a changed manifest take it away.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.adapters import hub_cache
from reconciler.adapters.ledger import FileRow, LinkRow
from reconciler.adapters.sources.hub import parse
from reconciler.adapters.sources.hub_client import COMMIT, hub_home
from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.observed import Resolution
from reconciler.core.records import dataclass
from reconciler.core.stored import LinkFact, StoredModel
from reconciler.core.targets import will_extract
from reconciler.core.words import Digest
from reconciler.world import World

HUGGING_FACE = "huggingface"


@dataclass(frozen=True, slots=True)
class Published:
    """One file to publish: where the client looks for it, which file of the model it is, and its digest on the hub."""

    link: str
    path: str
    digest: Digest | None


def with_published(cache: str, desired: DesiredState, resolutions: Iterable[Resolution]) -> DesiredState:
    """The same state, with the links of what is published into ``cache`` added to the links of each model."""
    if not cache or not any(HUGGING_FACE in model.publish for model in desired.models):
        return desired
    told = {(fact.model, fact.spec_digest): fact.files for fact in resolutions if not fact.reason}
    models = []
    for model in desired.models:
        links = [file.link for file in published(cache, model, told.get((model.name, model.spec_digest)))]
        models.append(replace(model, links=(*model.links, *links)) if links else model)
    return replace(desired, models=tuple(models))


def published(cache: str, model: DesiredModel, files: tuple[Artifact, ...] | None) -> tuple[Published, ...]:
    """What is to be published of a model, as far as it is resolved. What is unpacked is no file of a repository."""
    files = files or model.artifacts
    if HUGGING_FACE not in model.publish or will_extract(model, files):
        return ()
    found = []
    for file in files:
        url = next((url for url in file.sources if url.startswith("hf:")), "")
        reference = parse(url) if url and not file.optional else None
        if reference is not None and reference.path and COMMIT.fullmatch(reference.revision):
            link = hub_cache.snapshot_path(cache, reference.repo, reference.revision, reference.file)
            found.append(Published(link, file.path, file.digest))
    return tuple(found)


def fact_of(world: World, stored: StoredModel, link: str, target: str, *, is_own: bool) -> LinkFact:
    """How a declared or published link stands."""
    if not hub_cache.is_snapshot_path(link):
        return world.store.link_fact(link, target, is_own=is_own)
    inodes = {file.stat.inode for file in stored.files if file.stat is not None}
    return hub_cache.published_fact(link, inodes, is_own=is_own)


def publish(world: World, model: DesiredModel, file: Published, rows: Mapping[str, FileRow], *, is_own: bool) -> bool:
    """Publish one file that is in the store; False where somebody else's stands there."""
    row = rows[file.path]
    blob = world.store.blob_path(row.digest)
    etag = hub_cache.etag_of(blob, row.size_bytes, file.digest)
    return hub_cache.publish(file.link, blob, etag, _ref_of(model), is_own=is_own)


def names_elsewhere(blob: str, links: Iterable[LinkRow]) -> int:
    """How many names a blob has in the caches that it is published into."""
    names = {os.path.realpath(link.path) for link in links if hub_cache.is_snapshot_path(link.path)} - {blob}
    return sum(os.path.exists(name) and os.path.samefile(name, blob) for name in names)  # noqa: PTH110, PTH121 -- text


def remove_link(world: World, link: str, *, is_own: bool) -> None:
    """Take a declared or published link away, where it is ours."""
    if not hub_cache.is_snapshot_path(link):
        world.store.remove_link(link)
    elif is_own:
        hub_cache.unpublish(link)


def _ref_of(model: DesiredModel) -> str:
    """The branch or tag that the manifest names; ``main`` where it names a commit."""
    for artifact in model.artifacts:
        for url in artifact.sources:
            if url.startswith("hf:") and not COMMIT.fullmatch(parse(url).revision):
                return parse(url).revision
    return "main"


def cache_folder(environment: Mapping[str, str]) -> str:
    """The hub client's own cache folder on this machine, absolute."""
    declared = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    folder = os.path.expanduser(declared) if declared else str(hub_home(environment) / "hub")  # noqa: PTH111 -- text
    return os.path.realpath(folder)
