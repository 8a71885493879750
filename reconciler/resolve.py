"""Asking origins what the manifest does not tell: sizes, a repository's files, whether a failed source changed.

Asked only for models whose plan cannot be complete without it, several at once, and never where the pass is offline.
What an origin answers becomes a fact (:class:`Resolution`) like any other; a mutable reference is resolved once and
then remembered, so later passes keep it.
"""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from reconciler.core.errors import Failure, FailureKind
from reconciler.core.names import check_collisions, check_path
from reconciler.core.ports import CancelToken
from reconciler.core.state import Artifact, DesiredModel, DesiredState, FailureFact, Resolution, WantedState
from reconciler.world import World

ASKED_AT_ONCE = 8


def needs_asking(world: World, model: DesiredModel, known: Iterable[Artifact] | None) -> bool:
    """Whether an origin has to be asked: a size is missing, or the reference stands for more than one file."""
    files = tuple(known) if known is not None else model.artifacts
    if model.state is WantedState.ABSENT or not files:
        return False
    return any(
        (file.size_bytes is None and (known is None or not file.optional))
        or any(world.sources.for_url(url).needs_resolving(file) for url in file.sources[:1])
        for file in files
    )


def resolve_all(
    world: World, desired: DesiredState, models: Sequence[DesiredModel], cancel: CancelToken
) -> tuple[Resolution, ...]:
    """Ask the origins of ``models``, several at once; one answer each, in their order."""
    if not models:
        return ()
    with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(models)), thread_name_prefix="resolve") as pool:
        return tuple(pool.map(lambda model: _resolve(world, desired, model, cancel), models))


def _resolve(world: World, desired: DesiredState, model: DesiredModel, cancel: CancelToken) -> Resolution:
    """What one model is made of. What an origin cannot say is told in ``reason`` and ``message``."""
    files: list[Artifact] = []
    revision, trouble = "", None
    for artifact in model.artifacts:
        answer, failure = _first_answer(world, desired, model, artifact, cancel)
        trouble = trouble or (failure if not artifact.optional else None)
        if answer is None:
            files.append(artifact)
            continue
        files.extend(_with_mirrors(artifact, file) for file in answer.files)
        revision = revision or (answer.revision if _is_mutable(artifact) else "")
    if trouble is None:
        trouble = _name_trouble(files)
        files = files if trouble is None else list(model.artifacts)
    if trouble is None:
        return Resolution(model.name, model.spec_digest, tuple(files), revision)
    return Resolution(
        model.name,
        model.spec_digest,
        tuple(files),
        revision,
        trouble.reason,
        trouble.message,
        trouble.kind is not FailureKind.TRANSIENT,
        trouble.hint,
        trouble.retry_after_s,
    )


def failure_of(resolution: Resolution) -> Failure:
    """Why a source could not say what the model is made of, as the failure it was."""
    kind = FailureKind.PERMANENT if resolution.is_permanent else FailureKind.TRANSIENT
    return Failure(
        kind, resolution.reason, resolution.message, hint=resolution.hint, retry_after_s=resolution.retry_after_s
    )


def _first_answer(
    world: World, desired: DesiredState, model: DesiredModel, artifact: Artifact, cancel: CancelToken
) -> tuple[Resolution | None, Failure | None]:
    """The answer of the first source that gives one; else the first failure."""
    first: Failure | None = None
    context = world.source_context(desired, cancel)
    for url in artifact.sources:
        try:
            source = world.sources.for_url(url)
            if not source.needs_resolving(artifact):
                return None, None
            return source.resolve(model, artifact, url, context), None
        except Failure as failure:
            first = first or failure
    return None, first


def _is_mutable(artifact: Artifact) -> bool:
    """A plain URL's ETag is no revision that a person knows it by."""
    return bool(artifact.sources) and not artifact.sources[0].startswith(("http:", "https:", "file:"))


def _with_mirrors(artifact: Artifact, file: Artifact) -> Artifact:
    """A single file keeps all its sources; a tree's files have only those that the answer named."""
    return replace(file, sources=artifact.sources) if artifact.path and file.sources == artifact.sources[:1] else file


def _name_trouble(files: Sequence[Artifact]) -> Failure | None:
    """Names that a stranger chose are checked once more before anything is made of them."""
    try:
        for file in files:
            if file.path:
                check_path(file.path)
        check_collisions([file.path for file in files if file.path])
    except Failure as failure:
        return failure
    return None


def fingerprint_of(world: World, desired: DesiredState, model: DesiredModel | None, cancel: CancelToken) -> str:
    """What the model's sources answer now, in a word that changes when they answer otherwise. Never raises."""
    if model is None:
        return ""
    words = []
    context = world.source_context(desired, cancel)
    for url in [url for artifact in model.artifacts for url in artifact.sources]:
        try:
            ask = getattr(world.sources.for_url(url), "fingerprint", None)
            words.append(ask(url, context) if callable(ask) else "")
        except Failure as failure:
            words.append(f"failure:{failure.reason}")
    return "\n".join(words)


def changed_sources(
    world: World, desired: DesiredState, failed: Sequence[tuple[FailureFact, str]], cancel: CancelToken
) -> frozenset[str]:
    """Of models that failed for good (with the fingerprint of then), those whose source answers otherwise now."""
    models = {model.name: model for model in desired.models}
    asked = [
        (fact, fingerprint)
        for fact, fingerprint in failed
        if fingerprint and fact.model in models and models[fact.model].spec_digest == fact.spec_digest
    ]
    if not asked:
        return frozenset()
    with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(asked)), thread_name_prefix="probe") as pool:
        now = pool.map(lambda pair: fingerprint_of(world, desired, models[pair[0].model], cancel), asked)
        return frozenset(fact.model for (fact, then), word in zip(asked, now, strict=True) if word != then)


NEVER = threading.Event()  # a token that nobody sets
