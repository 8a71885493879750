"""What a pass writes down that is no action: the generation in force, pins, priorities; and what a crash left lying.

All of it only where it differs from what the ledger says already: a second pass writes nothing.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from reconciler.adapters import manifest
from reconciler.adapters.ledger import Ledger, LedgerFacts, Meta
from reconciler.core.actions import Request
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure
from reconciler.core.observed import Override
from reconciler.core.remembered import ConditionStatus, SourceFact
from reconciler.core.words import Digest, WantedState
from reconciler.observe import Sight
from reconciler.publishing import remove_link
from reconciler.world import World, installed_extensions

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
            if override.kind in {"load", "unload", "rollback", "cancel"} and _is_outdated(
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


def save_conditions(ledger: Ledger, conditions: Sequence[ConditionStatus]) -> None:
    """What holds, since when: a reader's status, and the next watch, go on from it."""
    ledger.become_writer()
    ledger.meta.save_conditions(json.dumps([asdict(condition) for condition in conditions], separators=(",", ":")))


def kept_conditions(meta: Meta) -> tuple[ConditionStatus, ...]:
    """As the last watch told them; none where there was none, or where they do not read well."""
    try:
        return tuple(ConditionStatus(**row) for row in json.loads(meta.conditions or "[]"))
    except (ValueError, TypeError):
        return ()


class LastGood(NamedTuple):
    """The manifest that was valid last, as a watch kept it; ``source`` has its commit where it came out of Git."""

    desired: DesiredState
    source: SourceFact


class Noted(Mapping[str, str]):
    """An environment that notes what a manifest takes from it: its ``${NAME}``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.taken: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        self.taken[name] = self._environ[name]
        return self.taken[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def save_last_good(
    ledger: Ledger,
    documents: Sequence[manifest.Document],
    desired: DesiredState,
    source: SourceFact,
    label: str,
    taken: Mapping[str, str],
) -> None:
    """Keep a valid manifest: its bytes, and what its ``${NAME}`` stood for, since another process has not the same.

    Nothing is written where that is kept already. The query of a URL may be a secret in spite of the rules: what stands
    in one is not kept, and has to be set again where the manifest is read.
    """
    kept = [[doc.label, doc.data.decode("utf-8", "replace"), doc.folder, doc.path] for doc in documents]
    values = {
        name: value for name, value in sorted(taken.items()) if not any(value in each for each in _queries(desired))
    }
    facts = {"revision": source.revision, "is_verified": source.is_verified, "documents": kept, "values": values}
    content = json.dumps(facts, separators=(",", ":")).encode()
    before = ledger.meta.last_good()
    if before is None or before.content != content or before.generation != desired.digest:
        ledger.become_writer()
        ledger.meta.save_last_good(content, label, desired.digest)


def _queries(desired: DesiredState) -> list[str]:
    sources = (url for model in desired.models for artifact in model.artifacts for url in artifact.sources)
    return [query for url in (*sources, *desired.network.mirrors) if (query := url.partition("?")[2])]


def load_last_good(ledger: Ledger, environ: Mapping[str, str]) -> LastGood | None:
    """The manifest that a watch kept, as it meant it; None where there is none, or where it does not parse here."""
    kept = ledger.meta.last_good()
    if kept is None:
        return None
    try:
        content = json.loads(kept.content)
        documents = [
            manifest.Document(label, text.encode(), folder, path) for label, text, folder, path in content["documents"]
        ]
        values = {str(name): str(value) for name, value in content.get("values", {}).items()}
        desired = manifest.load_documents(documents, {**environ, **values}, installed_extensions)
    except (Failure, ValueError, KeyError, TypeError, AttributeError):
        return None
    return LastGood(desired, _source_of(content, kept.label))


def last_source(ledger: Ledger, generation: str) -> SourceFact:
    """Where the manifest of that generation came from, if it is the one that was kept; nothing known otherwise."""
    kept = ledger.meta.last_good()
    if kept is None or kept.generation != generation:
        return SourceFact()
    try:
        return _source_of(json.loads(kept.content), kept.label)
    except (ValueError, TypeError, AttributeError):
        return SourceFact()


def _source_of(content: Mapping[str, Any], label: str) -> SourceFact:
    revision, is_verified = str(content.get("revision", "")), content.get("is_verified")
    return SourceFact(revision, label if revision else "", is_verified if isinstance(is_verified, bool) else None)
