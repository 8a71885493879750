"""Asking origins what the manifest does not tell: sizes, a repository's files, whether a failed source changed.

Asked only for models whose plan cannot be complete without it, several at once, and never where the pass is offline.
What an origin answers becomes a fact (:class:`Resolution`) like any other; a mutable reference is resolved once and
then remembered, so later passes keep it.
"""

import re
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.digests import terms_digest
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.names import check_collisions, check_path
from reconciler.core.observed import FailureFact, Resolution
from reconciler.core.ports import CancelToken, Location
from reconciler.core.records import dataclass
from reconciler.core.words import WantedState
from reconciler.signing import first_signature_urls, signature_word
from reconciler.world import Context, World

ASKED_AT_ONCE = 8
REFUSED_BY_SOURCE = frozenset(
    {"bad_request", "unauthorized", "payment_required", "forbidden", "gated", "not_found", "gone"}
)
_GET = "GET "
_REFUSAL = re.compile(r"failure:|absent$|4\d\d\|")  # what a source's own fingerprint says of a refusal
_MAX_PROBE_BYTES = 1 << 16
NEVER = threading.Event()  # a token that nobody sets

Failed = Sequence[tuple[FailureFact, str]]  # what failed for good, each with the fingerprint of then


class Asker(Protocol):
    """How a pass asks origins. What is not answered in the time that the pass has is left out of the answer."""

    def resolve(self, world: World, desired: DesiredState, models: Sequence[DesiredModel]) -> tuple[Resolution, ...]:
        """What these models are made of."""
        ...

    def changed(
        self, world: World, desired: DesiredState, failed: Failed, told: Sequence[Resolution]
    ) -> frozenset[str]:
        """Of models that failed for good, those whose source answers otherwise now; see :func:`has_changed`."""
        ...


@dataclass(frozen=True, slots=True)
class Patient:
    """Waits for every answer: the asker of a command that is run once."""

    cancel: CancelToken = NEVER

    def resolve(self, world: World, desired: DesiredState, models: Sequence[DesiredModel]) -> tuple[Resolution, ...]:
        """See :class:`Asker`."""
        return resolve_all(world, desired, models, self.cancel)

    def changed(
        self, world: World, desired: DesiredState, failed: Failed, told: Sequence[Resolution]
    ) -> frozenset[str]:
        """See :class:`Asker`."""
        if not failed:
            return frozenset()
        with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(failed)), thread_name_prefix="probe") as pool:
            found = pool.map(lambda pair: has_changed(world, desired, pair, told, self.cancel), failed)
            return frozenset(fact.model for (fact, _), is_other in zip(failed, found, strict=True) if is_other)


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
        return tuple(pool.map(lambda model: resolve_one(world, desired, model, cancel), models))


def resolve_one(world: World, desired: DesiredState, model: DesiredModel, cancel: CancelToken) -> Resolution:
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


def fingerprint_of(
    world: World,
    desired: DesiredState,
    model: DesiredModel | None,
    cancel: CancelToken,
    refused: Artifact | None = None,
) -> str:
    """The terms (:func:`terms_digest`) and what the sources answer now: changes where either does. Never raises.

    ``refused`` is the file that a source did not give out, where it was that: a repository may list what it does not
    serve, and HEAD may be allowed where GET is not. The last line names it, for the next time.
    """
    if model is None:
        return ""
    words = [terms_digest(model, desired.network.mirrors), signature_word(desired, model) if model.signature else ""]
    context = world.source_context(desired, cancel)
    urls = [url for artifact in model.artifacts for url in artifact.sources]
    for url in (*urls, *first_signature_urls(model)):
        try:
            ask = getattr(world.sources.for_url(url), "fingerprint", None)
            words.append(ask(url, context) if callable(ask) else "")
        except Failure as failure:
            words.append(f"failure:{failure.reason}")
    if refused is not None and not any(map(_REFUSAL.match, words)):
        words.append(f"{_GET}{refused.path}:{_first_byte(world, refused, context)}")
    return "\n".join(words)


def refused_path(fingerprint: str) -> str | None:
    """The file whose bytes were refused when a fingerprint was taken; None where it was not that."""
    last = fingerprint.rpartition("\n")[2]
    return last.removeprefix(_GET).rpartition(":")[0] if last.startswith(_GET) else None


def _first_byte(world: World, file: Artifact, context: Context) -> str:
    """What each source answers to a GET of the file's first byte."""
    try:
        places = world.locate_all([(file, url) for url in file.sources], context)
    except Failure as failure:
        return failure.reason
    return ",".join(_status(place, context) for place in places if place.url.startswith("http"))


def _status(place: Location, context: Context) -> str:
    headers = (*place.headers, ("range", "bytes=0-0"), ("accept-encoding", "identity"))
    try:
        return str(context.http.ask("GET", place.url, headers=headers, max_bytes=_MAX_PROBE_BYTES).status)
    except Failure as failure:
        return failure.reason


def has_changed(
    world: World,
    desired: DesiredState,
    failed: tuple[FailureFact, str],
    told: Iterable[Resolution],
    cancel: CancelToken,
) -> bool:
    """Whether the source of a model that failed for good answers otherwise than it did then.

    ``told`` is what models are known to be made of.
    """
    fact, then = failed
    model, path = next(model for model in desired.models if model.name == fact.model), refused_path(then)
    files = {file.path: file for file in model.artifacts}
    for resolution in told:
        if (resolution.model, resolution.spec_digest) == (model.name, model.spec_digest):
            files |= {file.path: file for file in resolution.files}
    refused = None if path is None else files.get(path)
    return fingerprint_of(world, desired, model, cancel, refused) != then
