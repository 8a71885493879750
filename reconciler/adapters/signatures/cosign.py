"""cosign: what ``cosign sign-blob --key`` writes, checked with ``cosign.pub``; the same as ``openssl dgst -sign``.

A signature is base64 (or plain DER) of one signature over the file, or one of two bundles: cosign's own
(``base64Signature``) and Sigstore's (``messageSignature``). A transparency log's entry in a bundle is not looked at:
what counts is the key that the manifest names.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from reconciler.adapters.signatures.bundle import load_object, part, raw
from reconciler.adapters.signatures.keys import fingerprint, is_signed, public_keys
from reconciler.adapters.signatures.signed import SignedFile, bad, unknown

MAX_BYTES = 1 << 20
_MAX_PLAIN_BYTES = 4 << 10
_MIN_BYTES = 32
_DER_SEQUENCE = 0x30


class Cosign:
    """Signatures by one of some public keys."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys: list[Any] = public_keys(keys)
        if not self._keys:
            raise unknown("signature.key holds no public key; cosign signatures are checked with one")

    def look(self, signature: bytes) -> None:
        """It reads as a signature."""
        _value(signature)

    def verify(self, signature: bytes, files: Sequence[SignedFile], *, is_whole: bool) -> str:  # noqa: ARG002 -- as Check
        """``cosign:sha256:<fingerprint of the key>``."""
        file, value = files[0], _value(signature)
        with file.mapped() as content:
            for key in self._keys:
                if is_signed(key, value, lambda: content, digest=file.sha256):
                    return f"cosign:{fingerprint(key)}"
        raise bad(f"the signature does not fit {file.path} and the key")


def _value(signature: bytes) -> bytes:
    """The bytes of the signature proper."""
    value = _raw_value(signature)
    if len(value) < _MIN_BYTES:
        raise bad("the signature is too short to be one")
    return value


def _raw_value(signature: bytes) -> bytes:
    stripped = signature.strip()
    if not stripped.startswith(b"{"):
        if not stripped or len(signature) > _MAX_PLAIN_BYTES:
            raise bad("the signature is no cosign signature")
        return signature if signature[0] == _DER_SEQUENCE else raw(stripped.decode("ascii", "replace"))
    document = load_object(signature, MAX_BYTES)
    value = document.get("base64Signature") or part(document, "messageSignature", "signature")
    algorithm = part(document, "messageSignature", "messageDigest", "algorithm")
    if algorithm not in {None, "SHA2_256", hashlib.sha256().name}:
        raise bad(f"the signature is over a digest of another kind ({str(algorithm)[:40]!r})")
    return raw(value)
