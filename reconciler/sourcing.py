"""A manifest that is fetched: from options or a bootstrap file to the Git source, and one fetch for a one-shot verb.

A watch fetches again and again (:mod:`reconciler.watch.git_inputs`). ``apply`` fetches once into the store, so that the
commit is the last good one for whoever comes after it. ``plan`` must not write there: it fetches into a folder that is
gone afterwards. Verbs that only read take the last good one and ask nobody. Where the network fails, all take it.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.adapters import manifest
from reconciler.adapters.manifest import Checks, Document
from reconciler.bookkeeping import Noted, save_last_good
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure, FailureKind, permanent
from reconciler.core.git_place import GitPlace, Reach
from reconciler.core.ports import CancelToken
from reconciler.core.remembered import SourceFact
from reconciler.log import get_log, scrub
from reconciler.resolve import NEVER
from reconciler.world import World, installed_extensions, open_world

if TYPE_CHECKING:  # most machines have no manifest in Git: the adapter is imported where one has
    from reconciler.adapters.git import GitManifest, GitSource, Judge

FOLDER = "source.git"  # in the store; it does not count against its limit
NEVER_FETCHED = "source_never_fetched"


def find_place(files: Sequence[str], environ: Mapping[str, str]) -> tuple[GitPlace | None, tuple[str, ...]]:
    """Where the manifest lies if the files are a bootstrap, and their absolute paths; None where they are a manifest.

    Raises:
        ManifestInvalid: a bootstrap that is wrong, with every problem and its place.
    """
    if "-" in files:  # it can be read once, and a manifest is what comes there
        return None, ()
    try:
        documents = manifest.read_documents(files, environ, os.getcwd())  # noqa: PTH109 -- the adapter speaks text
    except Failure:
        return None, ()  # told where the manifest is read
    place = manifest.parse_bootstrap(documents, environ, _checks)
    return place, tuple(document.path for document in documents)


def _checks() -> Checks:
    from reconciler.adapters.git import check_path, check_ref, parse_address  # noqa: PLC0415

    return Checks(parse_address, check_ref, check_path)


def git_source(place: GitPlace, folder: str, environ: Mapping[str, str]) -> "GitSource":
    """The Git adapter for one place, keeping its bare repository at ``folder``."""
    from reconciler.adapters.git import GitSource  # noqa: PLC0415

    return GitSource(
        url=place.url,
        folder=folder,
        ref=place.ref,
        path=place.path,
        environment=environ,
        hostname=socket.gethostname(),
        credential=place.credential,
        signers=place.signers,
        ssh=(place.ssh_key, place.known_hosts),
        timeout_s=place.timeout_s,
    )


def documents_of(fetched: "GitManifest") -> tuple[Document, ...]:
    """The fetched files as the manifest's parser takes them."""
    return tuple(Document(*document) for document in fetched.documents)


def load_from_git(
    place: GitPlace,
    store: str | None,
    environ: Mapping[str, str],
    reach: Reach,
    hosts: Sequence[str] = (),
    cancel: CancelToken = NEVER,
) -> tuple[DesiredState, ...]:
    """The manifest of a place, as far as ``reach`` goes: as each of ``hosts`` reads it, or this machine alone.

    One commit for all of them, and one question to the remote.

    Raises:
        Failure: what the server or the commit is refused for; permanent ``source_never_fetched`` where there is no
            last good commit to go by; refused ``store_busy`` where a watch owns the store that is to be fetched into.
        ManifestInvalid: with every problem of the manifest in Git.
    """
    world = open_world(store, environ)
    kept = git_source(place, f"{world.store.root}/{FOLDER}", environ)
    if reach is Reach.KEEP:
        return (_fetch_and_keep(world, place, kept, cancel),)
    sources = [replace(kept, hostname=host) for host in hosts] or [kept]
    if reach is Reach.LAST:
        return tuple(_load(_last(source, cancel), environ) for source in sources)
    import tempfile  # noqa: PLC0415 -- only for Git

    with tempfile.TemporaryDirectory(prefix="reconciler-git-", ignore_cleanup_errors=True) as folder:
        fetched, found = _fetch(replace(sources[0], folder=f"{folder}/{FOLDER}"), sources[0], cancel)
        others = (_last(replace(found, hostname=source.hostname), cancel) for source in sources[1:])
        return tuple(_load(each, environ) for each in (fetched, *others))


def _fetch_and_keep(world: World, place: GitPlace, source: "GitSource", cancel: CancelToken) -> DesiredState:
    world.store.create()
    with world.store.acquire(), world.ledger() as ledger:
        fetched, _ = _fetch(source, source, cancel, lambda found: is_valid(found, world.environment))
        noted = Noted(world.environment)
        desired = _load(fetched, noted)
        is_verified = True if place.signers is not None else None
        fact = SourceFact(fetched.commit, scrub(source.label), is_verified)
        save_last_good(ledger, documents_of(fetched), desired, fact, fact.url, noted.taken)
    return desired


def _fetch(
    source: "GitSource", kept: "GitSource", cancel: CancelToken, is_good: "Judge | None" = None
) -> tuple["GitManifest", "GitSource"]:
    """Fetch; where nobody answers, the last good one. Also whose last good one it is now."""
    try:
        return source.fetch(cancel, is_good), source
    except Failure as failure:
        if failure.kind is not FailureKind.TRANSIENT or failure.reason == "cancelled":
            raise
        label = scrub(source.label)
        get_log().warning("source_unreachable", source=label, reason=failure.reason, message=scrub(failure.message))
        try:
            return _last(kept, cancel), kept
        except Failure as none:
            raise failure if none.reason == NEVER_FETCHED else none from none


def _last(source: "GitSource", cancel: CancelToken) -> "GitManifest":
    there = os.path.isdir(source.folder)  # noqa: PTH112 -- a reader must not make it
    fetched = source.offline(cancel) if there else None
    if fetched is None:
        hint = "reconciler apply or watch fetches it; plan without --offline looks"
        raise permanent(NEVER_FETCHED, f"nothing was fetched from {scrub(source.label)} yet", hint=hint)
    return fetched


def is_valid(fetched: "GitManifest", environ: Mapping[str, str]) -> bool:
    """Whether it can be in force: a commit whose manifest cannot is never the last good one."""
    try:
        _load(fetched, environ)
    except Failure:
        return False
    return True


def _load(fetched: "GitManifest", environ: Mapping[str, str]) -> DesiredState:
    return manifest.load_documents(documents_of(fetched), environ, installed_extensions)


def with_files(desired: DesiredState, files: Sequence[str]) -> DesiredState:
    """The same, said to come from the bootstrap file: a saved plan reads that again."""
    return replace(desired, files=tuple(files))
