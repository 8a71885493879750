"""What a pass writes down that is no action: the generation in force, pins, priorities; and what a crash left lying.

All of it only where it differs from what the ledger says already: a second pass writes nothing.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reconciler.adapters import manifest
from reconciler.adapters.ledger import Ledger, LedgerFacts
from reconciler.core.actions import Request
from reconciler.core.errors import Failure
from reconciler.core.state import DesiredState, Digest, Override, WantedState
from reconciler.observe import Sight
from reconciler.publishing import remove_link
from reconciler.world import World

QUARANTINE_S = 86400.0  # how long a bad copy is kept
FOLDERS = ("blobs", "models", "partial", "quarantine")


def tidy(world: World) -> None:
    """Make the store where it is missing."""
    root = world.store.root
    if not all(os.path.isdir(f"{root}/{folder}") for folder in FOLDERS):  # noqa: PTH112 -- the store speaks text
        world.store.create()


def remember_request(world: World, ledger: Ledger, desired: DesiredState, request: Request) -> None:
    """``load`` and ``unload`` by hand hold against the manifest until the opposite is asked for."""
    if request.verb not in {"load", "unload"}:
        return
    models = {model.name: model for model in desired.models}
    known = ledger.models.get_all()
    wish = WantedState.LOADED if request.verb == "load" else WantedState.PRESENT
    ledger.become_writer()
    with ledger.transaction():
        for name in request.models:
            model = models.get(name)
            if model is not None and model.state is wish:
                ledger.overrides.clear(name, kind="load" if request.verb == "unload" else "unload")
            elif name in known or model is not None:
                spec = model.spec_digest if model else Digest("")
                ledger.overrides.save(Override(name, request.verb, world.now(), spec))


def keep_books(world: World, ledger: Ledger, desired: DesiredState, sight: Sight, *, is_alone: bool = True) -> None:
    """Bring the ledger's notes up to the manifest, and clear what crashes and time left in the store."""
    if is_alone:  # what another pass is making now looks like what a crash left
        sweep(world, sight)
    is_cut_off = is_alone and _is_cut_off(sight.facts)
    changes = _changes(desired, sight.facts)
    dropped = _dropped_links(desired, sight.facts)
    if not changes and not dropped and sight.facts.meta.generation == desired.digest and not is_cut_off:
        return
    ledger.become_writer()
    with ledger.transaction():
        ledger.meta.set_generation(desired.digest)
        if is_cut_off:
            loaded = [name for runtime in sight.observed.runtimes for name, _ in runtime.loaded]
            ledger.lives.recover(loaded)
        for name, columns in changes.items():
            ledger.models.update(name, columns)
        for path in dropped:
            remove_link(world, path, is_own=True)
            ledger.links.forget(path)
        for override in sight.facts.overrides:
            if override.kind in {"load", "unload", "rollback"} and _is_outdated(
                override.model, override.spec_digest, desired
            ):
                ledger.overrides.clear(override.model, kind=override.kind)


def _dropped_links(desired: DesiredState, facts: LedgerFacts) -> list[str]:
    """Links that the tool made for a model whose entry does not declare them any more."""
    declared = {model.name: model.links for model in desired.models}
    return [link.path for link in facts.links if link.model in declared and link.path not in declared[link.model]]


def _is_outdated(name: str, spec: str, desired: DesiredState) -> bool:
    """An override holds until the manifest asks for other bytes, or for the model no more."""
    model = next((model for model in desired.models if model.name == name), None)
    return model is not None and spec not in {"", model.spec_digest}


def _is_cut_off(facts: LedgerFacts) -> bool:
    return False if not facts.models else any(row.lifecycle.value in _IN_PROGRESS for row in facts.models.values())


_IN_PROGRESS = frozenset({"downloading", "extracting", "validating", "initializing", "loading", "executing", "cleanup"})


def _changes(desired: DesiredState, facts: LedgerFacts) -> dict[str, dict[str, object]]:
    """The catalogue columns that the manifest changes, by model."""
    changes: dict[str, dict[str, object]] = {}
    unpinned = {override.model for override in facts.overrides if override.kind == "unpin"}
    for model in desired.models:
        row = facts.models.get(model.name)
        if row is None or not row.spec_digest:
            continue
        columns: dict[str, object] = {}
        if row.priority != model.priority:
            columns["priority"] = model.priority
        if model.pinned and not row.pinned and model.name not in unpinned:
            columns["pinned"] = True
        if columns:
            changes[model.name] = columns
    return changes


def sweep(world: World, sight: Sight) -> None:
    """Clear what a crash left half-made, and bad copies that were kept for a day."""
    if sight.scan.leftovers:
        world.store.sweep()
    oldest = world.now() - QUARANTINE_S
    if any(copy.since < oldest for copy in sight.scan.quarantined):
        world.store.clean_quarantine(oldest)


class LastGood(NamedTuple):
    """The manifest that was valid last, as a watch kept it. ``revision`` is its commit where it came out of Git."""

    desired: DesiredState
    revision: str
    label: str


def save_last_good(
    ledger: Ledger, documents: Sequence[manifest.Document], generation: str, revision: str, label: str
) -> None:
    """Keep a valid manifest's bytes; nothing is written where they are kept already."""
    kept = [[doc.label, doc.data.decode("utf-8", "replace"), doc.folder, doc.path] for doc in documents]
    content = json.dumps({"revision": revision, "documents": kept}, separators=(",", ":")).encode()
    before = ledger.meta.last_good()
    if before is None or before.content != content or before.generation != generation:
        ledger.become_writer()
        ledger.meta.save_last_good(content, label, generation)


def load_last_good(ledger: Ledger, environ: Mapping[str, str]) -> LastGood | None:
    """The manifest that a watch kept; None where there is none, or where it does not parse here and now."""
    kept = ledger.meta.last_good()
    if kept is None:
        return None
    try:
        content = json.loads(kept.content)
        documents = [
            manifest.Document(label, text.encode(), folder, path) for label, text, folder, path in content["documents"]
        ]
        desired = manifest.load_documents(documents, environ)
    except (Failure, ValueError, KeyError, TypeError):
        return None
    return LastGood(desired, str(content.get("revision", "")), kept.label)
