"""Signatures are those that the clouds' own libraries make."""

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.sources.signing import AwsKeys, encode_key, encode_query, sign_aws, sign_azure

NOW = 1_700_000_000.0
KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)


def by_botocore(method: str, url: str, keys: AwsKeys, region: str, extra: dict[str, str]) -> dict[str, str]:
    """The headers that botocore signs the same request with."""
    auth = pytest.importorskip("botocore.auth")
    awsrequest = pytest.importorskip("botocore.awsrequest")
    credentials = pytest.importorskip("botocore.credentials").Credentials(keys.access, keys.secret, keys.token or None)

    class Frozen(auth.S3SigV4Auth):  # type: ignore[misc,name-defined]
        def payload(self, request: Any) -> str:
            return "UNSIGNED-PAYLOAD"

    request = awsrequest.AWSRequest(method, url, headers=extra)
    signer = Frozen(credentials, "s3", region)
    request.context["timestamp"] = "20231114T221320Z"
    request.context["payload_signing_enabled"] = False
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signer._inject_signature_to_request(request, signer.signature(signer.string_to_sign(request, canonical), request))
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    key=KEYS,
    token=st.sampled_from(["", "tok/en=="]),
    prefix=st.text(max_size=8),
    method=st.sampled_from(["GET", "HEAD"]),
)
def test_an_aws_signature_is_botocores(key: str, token: str, prefix: str, method: str) -> None:
    try:
        prefix.encode()
    except UnicodeEncodeError:
        prefix = "p"
    keys = AwsKeys("AKID", "se/cret", token)
    path, query = f"/bucket/{encode_key(key)}", encode_query([("prefix", prefix), ("list-type", "2")])
    extra = {"x-amz-checksum-mode": "ENABLED"}
    ours = dict(sign_aws((method, "127.0.0.1:9000", path, query), keys, "eu-central-1", NOW, extra))
    theirs = by_botocore(method, f"http://127.0.0.1:9000{path}?{query}", keys, "eu-central-1", extra)
    assert ours["x-amz-date"] == theirs["x-amz-date"]
    assert ours["authorization"] == theirs["authorization"]


def test_a_secret_is_in_no_repr() -> None:
    assert "hush" not in repr(AwsKeys("AKID", "hush", "hush-token"))


def test_an_azure_signature_covers_what_it_allows() -> None:
    key = base64.b64encode(b"k" * 32).decode()
    query = {name: values[0] for name, values in parse_qs(sign_azure("acct", key, NOW)).items()}
    assert (query["sp"], query["srt"], query["ss"], query["se"]) == ("rl", "co", "b", "2023-11-14T23:13:20Z")
    text = f"acct\nrl\nb\nco\n\n{query['se']}\n\n\n{query['sv']}\n\n"
    assert base64.b64decode(query["sig"]) == hmac.digest(b"k" * 32, text.encode(), hashlib.sha256)
    with pytest.raises(ValueError):
        sign_azure("acct", "no base64!", NOW)
