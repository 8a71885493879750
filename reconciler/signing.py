"""Signatures from where they lie: read keys, find and fetch signatures, ask the adapter whether they hold.

A signature is looked for beside what it signs, on each source in turn, or where the manifest says. It is fetched before
any byte of the model: what nobody signed is never downloaded. Keys come from the manifest and its machine alone.
"""

import os
import posixpath
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from reconciler.adapters.signatures import MAX_SIGNATURE_BYTES, SUFFIX, SignedFile, has_support, look, verify
from reconciler.adapters.store import partial_key
from reconciler.core.desired import Artifact, DesiredModel, DesiredState, SignatureRule
from reconciler.core.digests import digest_bytes, digest_value
from reconciler.core.errors import Failure, permanent
from reconciler.core.ports import CancelToken, FetchRequest
from reconciler.core.records import dataclass
from reconciler.core.reference import scheme_of
from reconciler.core.vouching import is_inline, rule_digest
from reconciler.core.words import Digest, SignatureKind
from reconciler.world import World

MAX_KEY_BYTES = 1 << 20
FETCHED_AT_ONCE = 8
_ABSENT = frozenset({"not_found", "gone"})
_NO_SIGNATURE = frozenset({"html_instead_of_model", "too_large", "empty_body"})
_WITHOUT_PATHS = frozenset({"oci", "ollama"})  # nothing lies beside a layer

Signatures = Mapping[str, bytes]  # by path of the signed file; "" for one over all files


@dataclass(frozen=True, slots=True)
class Vouch:
    """Who signed, and under which rule and keys that was found good."""

    signed_by: str = ""
    signed_under: Digest = Digest("")


def key_facts(desired: DesiredState) -> tuple[tuple[str, Digest], ...]:
    """The digest of every key file that the manifest names; empty where one cannot be read."""
    rules = (model.signature for model in desired.models)
    paths = sorted({key for rule in rules if rule is not None for key in rule.keys if not is_inline(key)})
    return tuple((path, digest_bytes(data) if (data := _read(path)) else Digest("")) for path in paths)


def keys_of(rule: SignatureRule) -> tuple[bytes, ...]:
    """The keys of a rule, read now.

    Raises:
        Failure: permanent ``unknown_key``.
    """
    found = []
    for key in rule.keys:
        data = key.encode() if is_inline(key) else _read(key)
        if not data:
            raise permanent(
                "unknown_key",
                f"the key {key} cannot be read",
                hint="put the public key there, or correct signature.key",
            )
        found.append(data)
    return tuple(found)


def _read(path: str) -> bytes:
    """A small regular file; nothing where there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:  # noqa: PTH123 -- a descriptor, so that a FIFO does not hold us
            data = file.read(MAX_KEY_BYTES + 1) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    except OSError:
        return b""
    return data if len(data) <= MAX_KEY_BYTES else b""


def fetch_signatures(
    world: World, desired: DesiredState, model: DesiredModel, files: Sequence[Artifact], cancel: CancelToken
) -> Signatures:
    """The signatures of these files, each fit to be one by an allowed key as far as it tells by itself.

    Raises:
        Failure: permanent ``unsigned``, ``bad_signature``, ``unknown_key``, ``signature_support_missing``; transient
            where a source does not answer.
    """
    rule = model.signature
    if rule is None:
        return {}
    keys = keys_of(rule)

    def fetch(file: Artifact) -> tuple[str, bytes | None]:
        data = _fetch(world, desired, model, rule, file, cancel)
        if data is not None:
            look(rule.kind, keys, data)
        return file.path, data

    if rule.kind is SignatureKind.MODEL_SIGNING:
        data = fetch(files[0])[1] if files else None
        return {} if data is None else {"": data}
    signed = [file for file in files if not is_signature(rule, file.path, [each.path for each in files])]
    with ThreadPoolExecutor(FETCHED_AT_ONCE, thread_name_prefix=f"sign-{model.name}") as pool:
        return {path: data for path, data in pool.map(fetch, signed) if data is not None}


def vouch(model: DesiredModel, rule: SignatureRule, signatures: Signatures, files: Sequence[SignedFile]) -> Vouch:
    """Who signed the files.

    Raises:
        Failure: permanent ``unsigned``, ``bad_signature``, ``unknown_key``, ``signature_support_missing``.
    """
    paths = [file.path for file in files]
    signed = [file for file in files if not is_signature(rule, file.path, paths)]
    wanted = [""] if rule.kind is SignatureKind.MODEL_SIGNING else [file.path for file in signed]
    missing = [path for path in wanted if path not in signatures]
    if missing:
        raise _unsigned(model, missing[0])
    keys = keys_of(rule)
    is_whole = any(not file.path for file in model.artifacts) and not (model.include or model.exclude)
    signer = verify(rule.kind, keys, signatures, signed, is_whole=is_whole)
    digests = {key: digest_bytes(data) for key, data in zip(rule.keys, keys, strict=True)}
    return Vouch(signer, rule_digest(rule, digests))


def is_signature(rule: SignatureRule, path: str, among: Iterable[str]) -> bool:
    """Whether a file of a model is itself the signature, which nobody signs."""
    if rule.kind is SignatureKind.MODEL_SIGNING:
        names = {posixpath.basename(url) for url in rule.sources} or {SUFFIX[rule.kind]}
        return path in names
    suffix = SUFFIX[rule.kind]
    return path.endswith(suffix) and path.removesuffix(suffix) in among


def signature_urls(rule: SignatureRule, file: Artifact) -> tuple[str, ...]:
    """Where the signature of a file (or of the model that it is the first file of) may lie, best first."""
    if rule.sources:
        return rule.sources
    urls = [url for url in file.sources if scheme_of(url) not in _WITHOUT_PATHS]
    return tuple(_beside(url, file.path, rule.kind) for url in urls)


def first_signature_urls(model: DesiredModel) -> tuple[str, ...]:
    """Where the signature of the model's first file is looked for first; nothing where no signature is asked for."""
    rule = model.signature
    if rule is None or not model.artifacts or not model.artifacts[0].path:
        return rule.sources[:1] if rule else ()
    return signature_urls(rule, model.artifacts[0])[:1]


def signature_word(desired: DesiredState, model: DesiredModel) -> str:
    """Changes where the manifest asks for another signature, a key's content is another, or support was installed."""
    rule = model.signature
    if rule is None:
        return ""
    under = rule_digest(rule, dict(key_facts(desired)))
    return digest_value([under, list(rule.sources), has_support()])


def _beside(url: str, path: str, kind: SignatureKind) -> str:
    """The signature's place, by the place of what it signs; a query stays."""
    is_web = scheme_of(url) in {"http", "https"}
    place, mark, query = url.partition("?") if is_web else (url, "", "")
    if kind is not SignatureKind.MODEL_SIGNING:
        return f"{place}{SUFFIX[kind]}{mark}{query}"
    root = posixpath.dirname(place)
    for spelling in (path, quote(path)):
        if path and place.endswith(f"/{spelling}"):
            root = place.removesuffix(f"/{spelling}")
    return f"{root}/{SUFFIX[kind]}{mark}{query}"


def _fetch(
    world: World, desired: DesiredState, model: DesiredModel, rule: SignatureRule, file: Artifact, cancel: CancelToken
) -> bytes | None:
    """The bytes of one signature; None where an optional file has none."""
    context = world.source_context(desired, cancel)
    urls = signature_urls(rule, file)
    located = world.locate_all([(Artifact(posixpath.basename(url), (url,)), url) for url in urls], context)
    key = partial_key(model.name, f"{file.path}\0signature", urls[0] if urls else "")
    request = FetchRequest(
        model=model.name,
        path=f"{file.path} (signature)",
        locations=located,
        target=f"{world.store.root}/partial/{key}",
        limit_bytes=MAX_SIGNATURE_BYTES,
        connections=1,
        timeout_s=desired.network.timeout_s,
        priority=int(model.priority),
    )
    try:
        if not located:
            raise _unsigned(model, file.path)
        world.fetcher(desired).fetch(request, lambda _: None, cancel)
        with open(request.target, "rb") as stream:  # noqa: PTH123 -- paths are text throughout the store
            return stream.read(MAX_SIGNATURE_BYTES + 1)
    except Failure as failure:
        if failure.reason in _ABSENT:
            if file.optional:
                return None
            raise _unsigned(model, file.path, located[0].label) from failure
        if failure.reason in _NO_SIGNATURE:
            raise permanent("bad_signature", f"{model.name}: {failure.message}", hint=failure.hint) from failure
        raise
    finally:
        world.store.remove_partial(key)


def _unsigned(model: DesiredModel, path: str, place: str = "") -> Failure:
    what = f"{model.name}: nobody signed {path}" if path else f"{model.name}: nobody signed it"
    where = f"; there is no {place}" if place else ""
    return permanent("unsigned", f"{what}{where}", hint="name its place as signature.source, or have it signed")
