"""Signatures of models: whether bytes were signed by a key that the manifest names.

Three kinds, each in a file of its own. *minisign* and *cosign* sign one file each, so every file of a model (an archive
as it was packed) has a signature beside it. *model-signing* (OpenSSF) signs a list of all files of a model in one
bundle. Everything is checked offline against keys from the manifest; a key or certificate that travels with a signature
is never trusted by itself. Nothing here fetches anything: bytes in, the signer's name out, or a failure:

``bad_signature`` (it does not fit the bytes, or is no signature), ``unknown_key`` (signed by somebody else, or the key
cannot be read), ``signature_support_missing`` (the extra is not installed). All permanent: they wait for a change.
"""

from collections.abc import Mapping, Sequence

from reconciler.adapters.signatures.keys import has_support, require_support
from reconciler.adapters.signatures.signed import Check, SignedFile
from reconciler.core.errors import permanent
from reconciler.core.words import SignatureKind

__all__ = ["MAX_SIGNATURE_BYTES", "SUFFIX", "Check", "SignedFile", "has_support", "look", "verify"]

MAX_SIGNATURE_BYTES = 16 << 20  # a list of some ten thousand files
# Where a signature is looked for beside what it signs; of model-signing one in the model's folder.
SUFFIX = {SignatureKind.MINISIGN: ".minisig", SignatureKind.COSIGN: ".sig", SignatureKind.MODEL_SIGNING: "model.sig"}


def look(kind: SignatureKind, keys: Sequence[bytes], signature: bytes) -> None:
    """Refuse, before any other byte is fetched, what can be no good signature.

    Args:
        kind: whose format it is.
        keys: the public keys (or root certificates) as they were read; one of them must be the signer's.
        signature: the whole signature file.

    Raises:
        Failure: permanent ``bad_signature``, ``unknown_key``, ``signature_support_missing``.
    """
    _check_of(kind, keys).look(signature)


def verify(
    kind: SignatureKind,
    keys: Sequence[bytes],
    signatures: Mapping[str, bytes],
    files: Sequence[SignedFile],
    *,
    is_whole: bool,
) -> str:
    """Who signed these files: a word such as ``minisign:0F1E2D3C4B5A6978``.

    Args:
        kind: whose format it is.
        keys: as for :func:`look`.
        signatures: by path of the signed file; one under ``""`` where it is for all of them.
        files: what was signed.
        is_whole: whether a list must name no file that is not among ``files``.

    Raises:
        Failure: permanent ``bad_signature``, ``unknown_key``, ``signature_support_missing``.
    """
    check = _check_of(kind, keys)
    if kind is SignatureKind.MODEL_SIGNING:
        return check.verify(signatures[""], files, is_whole=is_whole)
    if not files:
        raise permanent("bad_signature", "there is no file that could be signed")
    signers = {check.verify(signatures[file.path], [file], is_whole=is_whole) for file in files}
    return ", ".join(sorted(signers))


def _check_of(kind: SignatureKind, keys: Sequence[bytes]) -> Check:
    require_support()
    match kind:
        case SignatureKind.MINISIGN:
            from reconciler.adapters.signatures.minisign import Minisign  # noqa: PLC0415 -- an optional extra

            return Minisign(keys)
        case SignatureKind.COSIGN:
            from reconciler.adapters.signatures.cosign import Cosign  # noqa: PLC0415 -- an optional extra

            return Cosign(keys)
        case SignatureKind.MODEL_SIGNING:
            from reconciler.adapters.signatures.model_signing import ModelSigning  # noqa: PLC0415 -- an optional extra

            return ModelSigning(keys)
