"""The lock file: what mutable references were resolved to, written down beside the manifest. Pure: text in, values out.

An entry holds while the manifest's entry asks for the same (equal ``spec``): then the model *is* the locked files, with
their digests, sizes and the revision they are from, and nobody is asked. An entry whose model asks for something else
by now is stale and said so. A plain URL is written without its query, which may be a secret; it is found again among
the declared ones; a label that is no declared URL, and not within a declared repository or bucket, is never fetched.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.core.desired import Artifact, DesiredModel, DesiredState, Diagnostic
from reconciler.core.digests import digest_value, spec_digest
from reconciler.core.errors import Failure, permanent
from reconciler.core.heading import Document, heading
from reconciler.core.names import check_collisions, check_digest, check_path, check_segment
from reconciler.core.records import dataclass
from reconciler.core.reference import display, root_of, scheme_of
from reconciler.core.units import is_byte_count
from reconciler.core.words import Digest, Role

LOCK_NAME = "models.lock.json"
_IN_PLACE = ("hf", "oci", "ollama", "s3", "gs", "az")  # a concrete reference of these is written as it stands


@dataclass(frozen=True, slots=True)
class LockedModel:
    """One entry. ``spec_digest`` is that of the manifest's own entry; sources of ``files`` are labels."""

    name: str
    spec_digest: Digest
    revision: str
    files: tuple[Artifact, ...]


def lock_document(models: Iterable[LockedModel]) -> Document:
    """The document of a lock file."""
    return entries_document("Lock", models)


def entries_document(kind: str, models: Iterable[LockedModel]) -> Document:
    """A document of that kind that lists models' files; models and keys in a stable order."""
    entries = {}
    for model in sorted(models, key=lambda model: model.name):
        entries[model.name] = {
            "spec": model.spec_digest,
            "revision": model.revision,
            "files": [_file_entry(file) for file in model.files],
        }
    return heading(kind) | {"models": entries}


def parse_lock(data: bytes) -> tuple[LockedModel, ...]:
    """The entries of a lock file.

    Raises:
        Failure: permanent ``lock_invalid``, ``hostile_name`` or ``bad_digest``.
    """
    return parse_entries(data, "Lock")


def parse_entries(data: bytes, kind: str) -> tuple[LockedModel, ...]:
    """The entries of a document of that kind, checked like everything that comes from outside.

    Raises:
        Failure: permanent ``lock_invalid``, ``hostile_name`` or ``bad_digest``.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid("it is no JSON document") from error
    models = document.get("models") if isinstance(document, dict) and document.get("kind") == kind else None
    if not isinstance(models, dict) or not str(document.get("format_version", "")).startswith("1."):
        raise _invalid(f"it is no {kind} document of version 1")
    return tuple(_entry(check_segment(name, "locked model"), value) for name, value in sorted(models.items()))


def honour(desired: DesiredState, entries: Sequence[LockedModel]) -> DesiredState:
    """The same state with each locked model made of its locked files.

    Raises:
        Failure: permanent ``lock_invalid`` where an entry leads somewhere that its model does not.
    """
    by_name = {entry.name: entry for entry in entries}
    models, diagnostics = [], list(desired.diagnostics)
    for model in desired.models:
        entry = by_name.get(model.name)
        if entry is not None and entry.spec_digest != model.spec_digest:
            message = f"{model.name}: its entry changed since it was locked; the lock is passed over"
            diagnostics.append(Diagnostic("lock_stale", f"{message} (reconciler lock --upgrade {model.name})"))
            entry = None
        models.append(model if entry is None else locked_model(model, entry))
    digest = digest_value([desired.digest, lock_document(entries)["models"]])
    return replace(desired, models=tuple(models), diagnostics=tuple(diagnostics), digest=digest)


def locked_model(model: DesiredModel, entry: LockedModel) -> DesiredModel:
    """The model made of its locked files; its spec changes exactly where they do.

    Raises:
        Failure: permanent ``lock_invalid``.
    """
    files = tuple(replace(file, sources=_sources_of(model, file)) for file in entry.files)
    locked = replace(model, artifacts=files, revision=entry.revision, is_locked=True)
    return replace(locked, spec_digest=spec_digest(locked))


def check_carried(model: DesiredModel, entry: LockedModel) -> None:
    """Refuse files from a stranger that are not what the model declares; what it leaves open may be anything.

    Raises:
        Failure: permanent ``digest_mismatch``; ``not_checkable`` where a declared digest is of no file that is there,
            such as that of an archive which was unpacked since.
    """
    for declared in model.artifacts:
        found = [file for file in entry.files if _is_meant(declared, file)]
        if not found and declared.digest is not None and not declared.optional:
            message = f"{model.name}: its declared digest is of {declared.path or 'a file'}, which is not there"
            hint = "what an archive unpacked to cannot be checked: name the other models, or apply with a network"
            raise permanent("not_checkable", message, hint=hint)
        if not all(_is_as_declared(declared, file) for file in found):
            raise _not_declared(model.name, declared.path)
    is_told = all(file.digest for file in model.artifacts)
    brings_more = not model.is_locked and any(url.startswith("hf:") for file in model.artifacts for url in file.sources)
    more = sorted({file.path for file in entry.files} - {file.path for file in model.artifacts if file.path})
    if more and is_told and not brings_more and all(file.path for file in model.artifacts):
        raise _not_declared(model.name, more[0])


def _is_meant(declared: Artifact, file: Artifact) -> bool:
    return file.path == declared.path if declared.path else file.digest == declared.digest


def _is_as_declared(declared: Artifact, file: Artifact) -> bool:
    return declared.digest in {None, file.digest} and declared.size_bytes in {None, file.size_bytes}


def _not_declared(model: str, path: str) -> Failure:
    message = f"{model}: {path} is not what the manifest (or its lock) declares"
    return permanent("digest_mismatch", message, hint="find out who made it, or correct sha256 and size")


def label_of(url: str) -> str:
    """How the lock spells a source: no query of a plain URL."""
    return url if scheme_of(url) in _IN_PLACE else display(url)


def _sources_of(model: DesiredModel, file: Artifact) -> tuple[str, ...]:
    declared = {label_of(url): url for artifact in model.artifacts for url in artifact.sources}
    roots = {root_of(url) for url in declared.values()}
    found = []
    for label in file.sources:
        if label in declared:
            found.append(declared[label])
        elif scheme_of(label) in _IN_PLACE and root_of(label) in roots:
            found.append(label)
    if not found:
        found = [url for artifact in model.artifacts if artifact.path == file.path for url in artifact.sources]
    if not found:
        raise _invalid(f"{model.name}: {file.path} has no source that the manifest declares")
    return tuple(found)


def _file_entry(file: Artifact) -> Document:
    entry: Document = {
        "path": file.path,
        "sources": [label_of(url) for url in file.sources],
        "digest": file.digest,
        "size": file.size_bytes,
        "role": file.role.value,
    }
    return entry | ({"optional": True} if file.optional else {})


def _entry(name: str, value: Any) -> LockedModel:
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, list) or not files:
        raise _invalid(f"{name} has no list of files")
    found = tuple(_artifact(name, file) for file in files)
    check_collisions([file.path for file in found], f"lock of {name}: file")
    spec, revision = value.get("spec"), value.get("revision")
    if not _is_texts([spec, revision]):
        raise _invalid(f"{name} has no spec or revision")
    return LockedModel(name, Digest(spec), revision, found)


def _artifact(name: str, value: Any) -> Artifact:
    if not isinstance(value, Mapping):
        raise _invalid(f"a file of {name} is no object")
    path, sources, size, digest = (value.get(key) for key in ("path", "sources", "size", "digest"))
    is_size = size is None or is_byte_count(size)
    if not isinstance(path, str) or not is_size or not _is_texts(sources):
        raise _invalid(f"a file of {name} has no path, sources or size")
    role = next((role for role in Role if role.value == value.get("role")), Role.COMPANION)
    known = None if digest is None else check_digest(str(digest), f"lock of {name}: digest")
    checked = check_path(path, f"lock of {name}: file")
    return Artifact(checked, tuple(sources or ()), known, size, role, value.get("optional") is True)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text.isprintable() for text in value)


def _invalid(trouble: str) -> Failure:
    return permanent("lock_invalid", f"{LOCK_NAME}: {trouble}", hint="mend it, or delete it and run reconciler lock")
