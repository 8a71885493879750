"""Public keys and certificates from PEM text. Private keys are refused: they have no place on this machine."""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.adapters.signatures.signed import bad, unknown
from reconciler.core.errors import permanent

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

MAX_KEY_BYTES = 1 << 20
_PEM = b"-----BEGIN "


def has_support() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("cryptography") is not None


def require_support() -> None:
    """The library that knows the mathematics must be here.

    Raises:
        Failure: permanent ``signature_support_missing``.
    """
    if not has_support():
        raise permanent(
            "signature_support_missing",
            "the manifest asks for a signature and the library that checks it is not installed",
            hint="pip install 'reconciler[signatures]'",
        )


def public_keys(texts: Sequence[bytes]) -> list[Any]:
    """The public keys of PEM texts; certificates among them are passed over.

    Raises:
        Failure: permanent ``unknown_key``.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 -- an optional extra
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    found = []
    for text in texts:
        for block in _blocks(text):
            if b"CERTIFICATE" in block.splitlines()[0]:
                continue
            try:
                found.append(load_pem_public_key(block))
            except (ValueError, UnsupportedAlgorithm) as error:
                raise unknown("signature.key is no public key in PEM (-----BEGIN PUBLIC KEY-----)") from error
    return found


def certificates(texts: Sequence[bytes]) -> "list[Certificate]":
    """The certificates of PEM texts; keys among them are passed over.

    Raises:
        Failure: permanent ``unknown_key``.
    """
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415 -- an optional extra

    blocks = [block for text in texts for block in _blocks(text) if b"CERTIFICATE" in block.splitlines()[0]]
    try:
        return [load_pem_x509_certificate(block) for block in blocks]
    except ValueError as error:
        raise unknown("signature.key holds a certificate that cannot be read") from error


def _blocks(text: bytes) -> list[bytes]:
    """The single PEM blocks of a text."""
    parts = [_PEM + part for part in text.split(_PEM)[1:]]
    if not parts:
        raise unknown("signature.key is no PEM text (-----BEGIN PUBLIC KEY-----)")
    return parts


def fingerprint(key: Any) -> str:
    """``sha256:<hex>`` of the key's DER, as ``openssl pkey -pubin -outform DER | sha256sum`` tells it."""
    from cryptography.hazmat.primitives.hashes import SHA256, Hash  # noqa: PLC0415 -- an optional extra
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    hasher = Hash(SHA256())
    hasher.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return f"sha256:{hasher.finalize().hex()}"


def is_signed(key: Any, signature: bytes, data: Any, *, digest: bytes | None = None) -> bool:
    """Whether ``signature`` is ``key``'s over ``data``; ``digest`` is data's SHA-256 where it is known already.

    ECDSA hashes by the size of its curve, as Sigstore says; RSA is PKCS #1 with SHA-256.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 -- an optional extra
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils  # noqa: PLC0415

    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            by_size = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
            chosen: Any = by_size.get(key.curve.key_size)
            if chosen is None:
                raise bad(f"a key of the curve {key.curve.name} signs nothing that is known here")
            if digest is not None and key.curve.key_size == 256:
                key.verify(signature, digest, ec.ECDSA(utils.Prehashed(chosen)))
            else:
                key.verify(signature, data(), ec.ECDSA(chosen))
        elif isinstance(key, rsa.RSAPublicKey):
            prehashed: Any = hashes.SHA256() if digest is None else utils.Prehashed(hashes.SHA256())
            key.verify(signature, data() if digest is None else digest, padding.PKCS1v15(), prehashed)
        else:
            return False
    except InvalidSignature:
        return False
    return True
