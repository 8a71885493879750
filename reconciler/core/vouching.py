"""Whether a stored revision is vouched for as the manifest asks: by which rule, and with which keys.

A revision remembers under which rule it was found good. The rule's digest covers the kind of signature and the content
of the keys, not where they lie: a key that is moved changes nothing, one that is replaced asks for a new look.
"""

from collections.abc import Mapping

from reconciler.core.desired import DesiredModel, SignatureRule
from reconciler.core.digests import digest_bytes, digest_value
from reconciler.core.stored import StoredModel
from reconciler.core.words import Digest

_INLINE = ("-----BEGIN ", "RW")


def is_inline(key: str) -> bool:
    """Whether the text is the key itself, not a path."""
    return key.startswith(_INLINE)


def rule_digest(rule: SignatureRule, keys: Mapping[str, Digest]) -> Digest:
    """What a signature was checked by; empty where a key cannot be read.

    ``keys`` are the digests of key files, by path.
    """
    contents = [digest_bytes(key.encode()) if is_inline(key) else keys.get(key, "") for key in rule.keys]
    return digest_value([rule.kind.value, sorted(contents)]) if all(contents) else Digest("")


def is_vouched(model: DesiredModel, stored: StoredModel, keys: Mapping[str, Digest]) -> bool:
    """Whether the revision was signed as the manifest asks now; always, where it does not ask."""
    if model.signature is None:
        return True
    return bool(stored.signed_by) and stored.signed_under == rule_digest(model.signature, keys)


def is_as_declared(model: DesiredModel, stored: StoredModel) -> bool:
    """Whether no file of a revision has another digest than the manifest gives for its path.

    One of the same spec has, where it came in a bundle before there was a manifest to hold it against.
    """
    if stored.is_unpacked:
        return True
    declared = {file.path: file.digest for file in model.artifacts if file.digest is not None}
    return all(declared.get(file.path, file.digest) == file.digest for file in stored.files) if declared else True
