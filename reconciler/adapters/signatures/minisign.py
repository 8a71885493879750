"""minisign: Ed25519 over a file's BLAKE2b-512 (``ED``), or over the file itself (``Ed``, the old way).

The format is that of jedisct1/minisign: a comment nobody vouches for, 74 bytes (algorithm, key id, signature), a
trusted comment, and a *global* signature over signature and trusted comment. Both must hold, so the trusted comment
can be shown to people.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence

from reconciler.adapters.signatures.signed import SignedFile, bad, unknown
from reconciler.core.records import dataclass

MAX_BYTES = 16 << 10
_UNTRUSTED, _TRUSTED = b"untrusted comment:", b"trusted comment: "
_PREHASHED, _LEGACY = b"ED", b"Ed"


@dataclass(frozen=True, slots=True)
class _Signature:
    algorithm: bytes
    key_id: bytes
    value: bytes
    trusted_comment: bytes
    global_value: bytes


class Minisign:
    """Signatures by one of some minisign keys."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = dict(map(_key, keys))

    def look(self, signature: bytes) -> None:
        """It reads as a minisign signature, and by one of the keys."""
        self._signer(_parse(signature))

    def verify(self, signature: bytes, files: Sequence[SignedFile], *, is_whole: bool) -> str:  # noqa: ARG002 -- as Check
        """``minisign:<key id as minisign prints it>``."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 -- an optional extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        parsed, file = _parse(signature), files[0]
        key = Ed25519PublicKey.from_public_bytes(self._signer(parsed))
        try:
            key.verify(parsed.global_value, parsed.value + parsed.trusted_comment)
        except InvalidSignature as error:
            raise bad(f"the trusted comment of the signature of {file.path} is forged") from error
        try:
            if parsed.algorithm == _PREHASHED:
                hasher = hashlib.blake2b(digest_size=64)
                for piece in file.pieces():
                    hasher.update(piece)
                key.verify(parsed.value, hasher.digest())
            else:
                with file.mapped() as content:
                    key.verify(parsed.value, content)
        except InvalidSignature as error:
            raise bad(f"the signature does not fit {file.path}") from error
        return f"minisign:{_shown(parsed.key_id)}"

    def _signer(self, parsed: _Signature) -> bytes:
        if parsed.key_id not in self._keys:
            known = ", ".join(map(_shown, self._keys))
            raise unknown(f"signed by the minisign key {_shown(parsed.key_id)}, and the manifest allows {known}")
        return self._keys[parsed.key_id]


def _shown(key_id: bytes) -> str:
    return key_id[::-1].hex().upper()


def _key(text: bytes) -> tuple[bytes, bytes]:
    """(key id, Ed25519 key) of a public key file, or of its second line alone."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_UNTRUSTED)]
    data = _decoded(lines[0]) if len(lines) == 1 else b""
    if len(data) != 42 or data[:2] != _LEGACY:
        raise unknown("signature.key is no minisign public key (RW…)")
    return data[2:10], data[10:]


def _parse(text: bytes) -> _Signature:
    lines = text.splitlines() if len(text) <= MAX_BYTES else []
    if len(lines) < 4 or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise bad("the signature is no minisign signature")
    first, last = _decoded(lines[1]), _decoded(lines[3])
    if len(first) != 74 or len(last) != 64 or first[:2] not in {_PREHASHED, _LEGACY}:
        raise bad("the signature is no minisign signature")
    return _Signature(first[:2], first[2:10], first[10:], lines[2].removeprefix(_TRUSTED), last)


def _decoded(line: bytes) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        return b""
