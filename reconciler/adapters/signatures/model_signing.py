"""OpenSSF model signing v1: one Sigstore bundle that signs a list of all files of a model.

The bundle holds a DSSE envelope around an in-toto statement; its predicate lists ``resources`` with a digest each, by
whole files or by shards. Digests by SHA-256 of whole files are compared with those of the download, so nothing is read
again. The envelope must be signed by a key that the manifest names, or by a certificate that one of the manifest's root
certificates vouches for (at the time it became valid, as the reference implementation does). The public Sigstore
instance is not asked: this works offline.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.adapters.signatures.bundle import load_object, part, raw
from reconciler.adapters.signatures.chain import signer_of
from reconciler.adapters.signatures.keys import certificates, fingerprint, is_signed, public_keys
from reconciler.adapters.signatures.signed import SignedFile, bad, unknown

MAX_BYTES = 16 << 20
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_ONE_FILE = "."  # how a model that is a single file is named
_GIT = frozenset({".git", ".gitattributes", ".github", ".gitignore"})  # a repository's own: signers leave them out
_HASHES: dict[str, Any] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b}


class ModelSigning:
    """Signatures by one of some public keys, or by somebody whom one of some root certificates vouches for."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys, self._roots = public_keys(keys), certificates(keys)

    def look(self, signature: bytes) -> None:
        """The envelope itself is signed by whom it should be."""
        self._opened(signature)

    def verify(self, signature: bytes, files: Sequence[SignedFile], *, is_whole: bool) -> str:
        """``model-signing:sha256:<fingerprint of the key>``."""
        signer, payload = self._opened(signature)
        named = _resources(payload)
        by_path = {file.path: file for file in files}
        if named.keys() == {_ONE_FILE} and len(files) == 1:
            named = {files[0].path: named[_ONE_FILE]}
        inert = _GIT & _ignored(payload)
        by_path = {path: file for path, file in by_path.items() if path.partition("/")[0] not in inert}
        if unsigned := sorted(by_path.keys() - named.keys()):
            raise bad(f"the signature does not name {_listed(unsigned)}")
        if is_whole and (absent := sorted(named.keys() - by_path.keys())):
            raise bad(f"the signature names files that the model has not: {_listed(absent)}")
        for path, file in by_path.items():
            _compare(file, named[path])
        return signer

    def _opened(self, signature: bytes) -> tuple[str, Mapping[str, Any]]:
        """(who signed, what) of a bundle whose envelope is good."""
        document = load_object(signature, MAX_BYTES)
        envelope, material = part(document, "dsseEnvelope"), part(document, "verificationMaterial")
        signatures = part(envelope, "signatures")
        if part(envelope, "payloadType") != _PAYLOAD_TYPE or not isinstance(signatures, list) or len(signatures) != 1:
            raise bad("the signature is no bundle of model signing")
        payload = raw(part(envelope, "payload"))
        value = raw(part(signatures[0], "sig"))
        message = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload
        for key in self._candidates(material):
            if is_signed(key, value, lambda: message):
                return f"model-signing:{fingerprint(key)}", load_object(payload, MAX_BYTES)
        raise bad("the list of files is not signed by the key that it should be")

    def _candidates(self, material: Any) -> list[Any]:
        """Keys that are trusted and may have signed this bundle."""
        chain = part(material, "x509CertificateChain", "certificates")
        if isinstance(chain, list) and chain:
            if not self._roots:
                raise unknown("signed by a certificate, and signature.key holds no root certificate")
            return [signer_of([raw(part(entry, "rawBytes")) for entry in chain[:8]], self._roots)]
        if not self._keys:
            raise unknown("signed by a key, and signature.key holds only certificates")
        hint = part(material, "publicKey", "hint")
        named = [key for key in self._keys if _hint(key) == hint] if hint else self._keys
        if not named:
            raise unknown(f"signed by the key {str(hint)[:64]!r}, and the manifest allows others")
        return named


def _hint(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 -- optional

    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


_Named = dict[str, list[tuple[int, int | None, str, bytes]]]  # path → (start, end or None, algorithm, digest)


def _resources(payload: Mapping[str, Any]) -> _Named:
    """What the statement says of each file: digests of the whole, or of shards that follow one another."""
    if payload.get("_type") != _STATEMENT_TYPE or payload.get("predicateType") != _PREDICATE_TYPE:
        raise bad("the signature is of a version that is not known here")
    resources = part(payload, "predicate", "resources")
    is_sharded = part(payload, "predicate", "serialization", "method") == "shards"
    if not isinstance(resources, list):
        raise bad("the signature lists no files")
    named: _Named = {}
    for resource in resources:
        name, algorithm, digest = (part(resource, key) for key in ("name", "algorithm", "digest"))
        if not (isinstance(name, str) and isinstance(algorithm, str) and isinstance(digest, str)):
            raise bad("the signature lists something that is no file")
        path, start, end = _shard(name) if is_sharded else (name, 0, None)
        try:
            named.setdefault(path, []).append((start, end, algorithm, bytes.fromhex(digest)))
        except ValueError as error:
            raise bad(f"the digest of {name!r} is no hexadecimal number") from error
    return named


def _ignored(payload: Mapping[str, Any]) -> set[str]:
    """What the signer left out on purpose, by name."""
    names = part(payload, "predicate", "serialization", "ignore_paths")
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _shard(name: str) -> tuple[str, int, int]:
    path, _, rest = name.partition(":") if name.count(":") == 2 else ("", "", "")
    start, _, end = rest.partition(":")
    if not (path and start.isascii() and start.isdigit() and end.isascii() and end.isdigit() and len(rest) < 40):
        raise bad(f"the signature names a shard strangely: {name[:80]!r}")
    return path, int(start), int(end)


def _compare(file: SignedFile, signed: Sequence[tuple[int, int | None, str, bytes]]) -> None:
    """Every byte of the file is covered once, and is what was signed."""
    covered = 0
    for start, end, algorithm, digest in sorted(signed, key=lambda shard: shard[0]):
        stop = file.size_bytes if end is None else end
        if start != covered or stop < start or stop > file.size_bytes:
            raise bad(f"the signature covers other bytes than {file.path} has")
        if _digest(file, start, stop, algorithm) != digest:
            raise bad(f"{file.path} is not what was signed")
        covered = stop
    if covered != file.size_bytes:
        raise bad(f"the signature covers only the start of {file.path}")


def _digest(file: SignedFile, start: int, end: int, algorithm: str) -> bytes:
    make = _HASHES.get(algorithm.partition("-sharded-")[0])
    if make is None:
        raise bad(f"{file.path} is signed by a digest that is not known here ({algorithm[:40]!r})")
    if algorithm == "sha256" and (start, end) == (0, file.size_bytes):
        return file.sha256
    hasher = make()
    for piece in file.pieces(start, end):
        hasher.update(piece)
    return bytes(hasher.digest())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(ascii(name[:120])[1:-1] for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
