"""AWS Signature Version 4 and Azure account SAS: pure functions from a request and a key to headers or a query.

Source: "Create a signed AWS API request" (Amazon) and "Create an account SAS" (Microsoft). Method, path, query, host
and time are signed, ``Range`` and ``If-Range`` are not, so that the download engine may add them. Checked against
botocore in the tests.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from reconciler.core.records import dataclass

UNSIGNED = "UNSIGNED-PAYLOAD"
SAS_VERSION = "2020-12-06"


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """An access key; ``token`` is set for temporary ones."""

    access: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


def encode_key(key: str) -> str:
    """An object key as a URL path: every byte but unreserved ones and ``/`` percent-encoded, once."""
    return quote(key, safe="/-_.~")


def encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    """A query string in canonical order and coding, the same one that is sent and signed."""
    return urlencode(sorted(pairs), quote_via=quote, safe="-_.~")


def sign_aws(
    request: tuple[str, str, str, str], keys: AwsKeys, region: str, now: float, extra: Mapping[str, str] | None = None
) -> tuple[tuple[str, str], ...]:
    """The headers that make a request authentic for 15 minutes.

    Args:
        request: method, host (with a port that is not the scheme's own), encoded path, canonical query.
        keys: who asks.
        region: e.g. ``eu-central-1``.
        now: seconds since the epoch.
        extra: further headers, lower case, to sign and send.

    Returns:
        (name, value) pairs, the authorization and ``extra`` among them; never the host.
    """
    method, host, path, query = request
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": UNSIGNED, "x-amz-date": stamp, **(extra or {})}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{UNSIGNED}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{keys.secret}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    del headers["host"]
    return (*headers.items(), ("authorization", credential))


def sign_azure(account: str, key: str, now: float, lifetime_s: float = 3600.0) -> str:
    """A query that may read and list every blob of an account for an hour.

    Args:
        account: the storage account.
        key: its key, base64.
        now: seconds since the epoch.
        lifetime_s: how long the query is good for.

    Raises:
        ValueError: ``key`` is no base64.
    """
    expiry = datetime.fromtimestamp(now + lifetime_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"{account}\nrl\nb\nco\n\n{expiry}\n\n\n{SAS_VERSION}\n\n"
    signature = hmac.digest(base64.b64decode(key, validate=True), text.encode(), "sha256")
    fields = {"sv": SAS_VERSION, "ss": "b", "srt": "co", "sp": "rl", "se": expiry}
    return encode_query([*fields.items(), ("sig", base64.b64encode(signature).decode())])
