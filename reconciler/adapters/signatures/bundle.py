"""Sigstore bundles, read with care: JSON of bounded size whose every part may be missing or something else."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from reconciler.adapters.signatures.signed import bad


def load_object(data: bytes, limit_bytes: int) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        Failure: permanent ``bad_signature``.
    """
    if len(data) > limit_bytes:
        raise bad(f"the signature is larger than {limit_bytes} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise bad("the signature is no JSON document") from error
    if not isinstance(document, dict):
        raise bad("the signature is no JSON object")
    return document


def part(document: Any, *keys: str) -> Any:
    """What lies under these keys; None where there is nothing."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def raw(value: Any) -> bytes:
    """The bytes of a base64 text.

    Raises:
        Failure: permanent ``bad_signature``.
    """
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise bad("the signature holds something that is no base64")
