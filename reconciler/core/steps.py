"""Actions, written out: id, reason, sentence and preconditions of each kind.

An id is ``kind:model``, with a suffix where a model has several of a kind, so it is the same in every plan for the same
work. A precondition is a fact that the action leans on; it is checked again right before the action.
"""

from collections.abc import Container, Iterable
from dataclasses import replace
from enum import Enum
from typing import Any

from reconciler.core.actions import Action, ActionKind, Cause, Precondition
from reconciler.core.digests import digest_value
from reconciler.core.policies import CachePolicy, MemoryPolicy
from reconciler.core.schedule import Eviction
from reconciler.core.stored import StoredFile, StoredModel
from reconciler.core.targets import UNVOUCHED, Need
from reconciler.core.units import format_size
from reconciler.core.words import Digest

ABSENT = "absent"
_REASON_WORDS = {
    "not_in_store": "not in the store",
    "spec_changed": "the manifest asks for another revision",
    "missing": "files are missing",
    "damaged": "files are damaged",
    "no_proof": "no proof that the bytes are right",
    "stat_changed": "the file changed since it was verified",
    "unplaced": "not in its place under models/",
    "link_missing": "a declared link is missing",
    "signature_required": "the manifest asks for a signature that was not checked yet",
    "blob_in_store": "the bytes are in the store already",
    "local_copy": "the bytes lie elsewhere on this machine",
    "over_limit": "the store is over its limit",
    "room_needed": "room is needed",
    "absent": "the manifest says absent",
    "pruned": "not wanted and pruning was asked for",
    "given_up": "no wanted model has use for it",
    "retention": "not used for longer than cache.retention",
    "requested": "asked for by name",
    "wanted_loaded": "the manifest wants it loaded",
    "loaded_by_hand": "loaded by hand",
    "not_wanted_loaded": "nobody wants it loaded",
    "memory_needed": "its memory is needed by what comes before it",
    "memory_pressure": "memory is short",
    "reload": "its files changed",
}


def words(reason: str) -> str:
    """A reason for people."""
    return _REASON_WORDS.get(reason, reason.replace("_", " "))


def size_words(size_bytes: int | None) -> str:
    """A size for people, also where it is unknown."""
    return "size unknown" if size_bytes is None else format_size(size_bytes)


def policy_precondition(section: str, policy: CachePolicy | MemoryPolicy) -> Precondition:
    """The section of the manifest that a decision leans on."""
    values: dict[str, Any] = {name: _plain(getattr(policy, name)) for name in policy.__slots__}
    return Precondition("policy", section, digest_value(values))


def _plain(value: Any) -> Any:
    if hasattr(value, "__slots__") and not isinstance(value, Enum):
        return {name: _plain(getattr(value, name)) for name in value.__slots__}
    return value.value if isinstance(value, Enum) else value


def _stored_precondition(name: str, stored: StoredModel | None) -> Precondition:
    return Precondition("stored", name, stored.spec_digest if stored is not None else ABSENT)


def file_preconditions(name: str, files: Iterable[StoredFile]) -> tuple[Precondition, ...]:
    """The stat of each placed file, where it is known."""
    return tuple(
        Precondition("file", f"models/{name}/{file.path}", file.stat.word) for file in files if file.stat is not None
    )


def _for_need(need: Need, kind: ActionKind, cause: Cause, reason: str, **rest: Any) -> Action:
    name = need.model.name
    suffix = rest.pop("suffix", "")
    spec = Precondition("spec", name, need.model.spec_digest)
    preconditions = (spec, _stored_precondition(name, need.stored), *rest.pop("preconditions", ()))
    verb = rest.pop("verb", kind.value)
    text = f"{verb} {name} ({size_words(rest.get('bytes'))}): {words(reason)}"
    if note := rest.pop("note", ""):
        text = f"{text}; {note}"
    return Action(
        f"{kind.value}:{name}{suffix}",
        kind,
        name,
        reason,
        text,
        cause,
        preconditions=preconditions,
        spec_digest=need.model.spec_digest,
        **rest,
    )


def need_actions(need: Need, after: tuple[str, ...]) -> list[Action]:
    """Everything that brings one wanted model to where it should be, in order; ``after`` makes room for it."""
    cause = Cause.INTENT if need.is_new or need.reason == UNVOUCHED else Cause.DRIFT
    actions: list[Action] = []
    if need.verify:
        actions.append(verify_action(need.model.name, need.verify, need.model.spec_digest, need.stored))
    if need.place:
        actions.append(_place_action(need))
    if need.fetch:
        actions.append(_download_action(need, cause, after))
    elif need.copy or need.relink:
        actions.append(_bring_by_link_action(need, cause, after))
    if need.is_extracted:
        size = sum(size for _, size in need.arrivals) or None
        archive = (actions[-1].id,)
        actions.append(_for_need(need, ActionKind.EXTRACT, cause, need.reason, bytes=size, depends_on=archive))
    if need.links:
        last = (actions[-1].id,) if actions else ()
        actions.append(
            _for_need(
                need,
                ActionKind.LINK,
                cause if need.is_new else Cause.DRIFT,
                "link_missing",
                suffix=":links",
                verb="make declared links of",
                bytes=0,
                depends_on=last,
                paths=need.links,
                subject="links",
            )
        )
    return actions


def _download_action(need: Need, cause: Cause, after: tuple[str, ...]) -> Action:
    note = need.message
    if need.size_bytes is not None and need.network_bytes is not None and need.network_bytes < _fetch_bytes(need):
        note = f"{format_size(_fetch_bytes(need) - need.network_bytes)} are on disk already"
    return _for_need(
        need,
        ActionKind.DOWNLOAD,
        cause,
        need.reason,
        bytes=need.network_bytes,
        depends_on=after,
        paths=need.paths,
        note=note,
    )


def _fetch_bytes(need: Need) -> int:
    return sum(file.size_bytes or 0 for file in need.fetch)


def _bring_by_link_action(need: Need, cause: Cause, after: tuple[str, ...]) -> Action:
    reason = need.reason
    if reason != UNVOUCHED and (not need.is_new or need.stored is None):
        reason = "local_copy" if need.copy else "blob_in_store"
    size = sum(file.size_bytes or 0 for file in (*need.copy, *need.relink))
    return _for_need(need, ActionKind.LINK, cause, reason, verb="place", bytes=size, depends_on=after, paths=need.paths)


def _place_action(need: Need) -> Action:
    details = sorted({file.detail for file in need.place if file.detail})
    return _for_need(
        need,
        ActionKind.LINK,
        Cause.DRIFT,
        "unplaced",
        suffix=":place" if not need.fetch and (need.copy or need.relink) else "",
        verb="place",
        bytes=sum(file.size_bytes for file in need.place),
        paths=tuple(file.path for file in need.place),
        note="; ".join(details),
    )


def verify_action(
    name: str, files: Iterable[StoredFile], spec: Digest, stored: StoredModel | None, cause: Cause = Cause.DRIFT
) -> Action:
    """Hash these files again."""
    chosen = tuple(files)
    reason = "no_proof" if any(file.stat is None for file in chosen) else "stat_changed"
    reason = "requested" if cause is Cause.REQUEST else reason
    size = sum(file.size_bytes for file in chosen)
    return Action(
        f"verify:{name}",
        ActionKind.VERIFY,
        name,
        reason,
        f"verify {name} ({format_size(size)}): {words(reason)}",
        cause,
        bytes=size,
        preconditions=(_stored_precondition(name, stored), *file_preconditions(name, chosen)),
        spec_digest=spec,
        paths=tuple(file.path for file in chosen),
    )


def eviction_action(eviction: Eviction, policy: Precondition) -> Action:
    """One thing leaves the store."""
    candidate = eviction.candidate
    stored = candidate.stored
    what = {
        "": candidate.name,
        "revision": f"an older revision of {candidate.name}",
        "partial": f"an unfinished download of {candidate.name or 'what is not wanted any more'}",
        "blob": f"the blob {candidate.key.removeprefix('sha256:')[:12]}",
        "quarantine": f"a bad copy of {candidate.name or 'a file that no model has'}",
    }[candidate.subject]
    preconditions: tuple[Precondition, ...] = (policy,) if eviction.cause in {Cause.PRESSURE, Cause.RETENTION} else ()
    if stored is not None and not candidate.subject:
        preconditions += (
            _stored_precondition(candidate.name, stored),
            Precondition("pinned", candidate.name, "false"),
            *(() if candidate.after else (Precondition("loaded", candidate.name, "false"),)),
            *file_preconditions(candidate.name, stored.files),
        )
    reason = eviction.reason
    detail = f" ({candidate.detail})" if candidate.detail and eviction.cause is Cause.PRESSURE else ""
    return Action(
        candidate.id,
        ActionKind.EVICT,
        candidate.name,
        reason,
        f"evict {what}, frees {format_size(eviction.freed_bytes)}: {words(reason)}{detail}",
        eviction.cause,
        bytes=eviction.freed_bytes,
        depends_on=eviction.after,
        preconditions=preconditions,
        spec_digest=stored.spec_digest if stored is not None else Digest(""),
        paths=(candidate.key,) if candidate.subject else (),
        subject=candidate.subject,
        score=eviction.score,
    )


def load_action(name: str, size: int, reason: str, cause: Cause, spec: Digest, policy: Precondition) -> Action:
    """Bring a model into its runtime; what it waits for is set by the caller."""
    text = f"load {name} ({format_size(size)} of memory): {words(reason)}"
    preconditions = (policy,) if reason == "reload" else (Precondition("loaded", name, "false"), policy)
    return Action(
        f"load:{name}", ActionKind.LOAD, name, reason, text, cause, size, preconditions=preconditions, spec_digest=spec
    )


def unload_action(name: str, size: int, reason: str, cause: Cause, spec: Digest) -> Action:
    """Let a model go from its runtime."""
    text = f"unload {name} ({format_size(size)} of memory): {words(reason)}"
    preconditions = (Precondition("loaded", name, "true"),)
    return Action(
        f"unload:{name}",
        ActionKind.UNLOAD,
        name,
        reason,
        text,
        cause,
        size,
        preconditions=preconditions,
        spec_digest=spec,
    )


def waiting_for(action: Action, after: Iterable[str]) -> Action:
    """The same action, done only after these."""
    return replace(action, depends_on=tuple(dict.fromkeys((*action.depends_on, *after))))


def waiting_only_for(action: Action, ids: Container[str]) -> Action:
    """The same action, waiting for none but these: only actions of one plan can be waited for."""
    if all(each in ids for each in action.depends_on):
        return action
    return replace(action, depends_on=tuple(each for each in action.depends_on if each in ids))
