"""From a signing certificate to a root that the manifest names: a short path, checked link by link.

The moment that counts is when the signing certificate became valid, as in the reference implementation of model
signing: there is no trusted time in such a bundle. A certificate with a critical extension that is not known here is
refused.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reconciler.adapters.signatures.signed import bad, unknown

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MAX_LINKS = 6


def signer_of(chain: Sequence[bytes], roots: "Sequence[Certificate]") -> Any:
    """The public key of the first certificate (DER), where one of ``roots`` vouches for it.

    Raises:
        Failure: permanent ``bad_signature`` or ``unknown_key``.
    """
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 -- an optional extra

    try:
        leaf, *others = [load_der_x509_certificate(data) for data in chain]
        _check_leaf(leaf)
        at = leaf.not_valid_before_utc
        current, below = leaf, 0
        for _ in range(_MAX_LINKS):
            if _issuer(current, roots, at, below) is not None or current in roots:
                return leaf.public_key()
            found = _issuer(current, others, at, below)
            if found is None:
                break
            current, below = found, below + 1
    except (ValueError, TypeError) as error:
        raise bad("the signature holds a certificate that cannot be read") from error
    raise unknown("no certificate that the manifest names vouches for the signer")


def _check_leaf(leaf: "Certificate") -> None:
    """The certificate is for signing."""
    from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound, KeyUsage  # noqa: PLC0415 -- an optional extra
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

    _check_critical(leaf)
    try:
        if leaf.extensions.get_extension_for_class(KeyUsage).value.digital_signature:
            return
    except ExtensionNotFound:
        pass
    try:
        if ExtendedKeyUsageOID.CODE_SIGNING in leaf.extensions.get_extension_for_class(ExtendedKeyUsage).value:
            return
    except ExtensionNotFound:
        pass
    raise bad("the signer's certificate is not for signing")


def _issuer(
    certificate: "Certificate", candidates: "Sequence[Certificate]", at: datetime, below: int
) -> "Certificate | None":
    """The authority among ``candidates`` that issued the certificate and may have; ``below``: authorities under it."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 -- an optional extra

    for candidate in candidates:
        try:
            certificate.verify_directly_issued_by(candidate)
        except (ValueError, TypeError, InvalidSignature):
            continue
        if _is_authority(candidate, below) and candidate.not_valid_before_utc <= at <= candidate.not_valid_after_utc:
            return candidate
    return None


def _is_authority(certificate: "Certificate", below: int) -> bool:
    from cryptography.x509 import BasicConstraints, ExtensionNotFound, KeyUsage  # noqa: PLC0415 -- an optional extra

    _check_critical(certificate)
    try:
        limits = certificate.extensions.get_extension_for_class(BasicConstraints).value
    except ExtensionNotFound:
        return False
    try:
        may_sign = certificate.extensions.get_extension_for_class(KeyUsage).value.key_cert_sign
    except ExtensionNotFound:
        may_sign = True
    return limits.ca and may_sign and (limits.path_length is None or limits.path_length >= below)


def _check_critical(certificate: "Certificate") -> None:
    from cryptography.x509 import BasicConstraints, ExtendedKeyUsage, KeyUsage  # noqa: PLC0415 -- an optional extra

    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, (BasicConstraints, KeyUsage, ExtendedKeyUsage)):
            raise bad("the signature holds a certificate with a condition that is not known here")
