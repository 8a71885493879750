"""S3's way to say it: HEAD, ListObjectsV2, headers signed with Signature Version 4 and bound to the origin.

AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL names another server, asked with the bucket in the path (any server knows that
form, and an address can have no bucket before it) unless AWS_VIRTUAL_HOSTED_STYLE_REQUEST is true. Without keys nothing
is signed. A bucket that lives in another region says so once and is asked there from then on.
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from reconciler.adapters.sources.answers import (
    bad_answer,
    code_of,
    etag_of,
    length_of,
    sort_status,
    xml_of,
)
from reconciler.adapters.sources.objects import MAX_PAGES, ObjectFacts, is_address, split_endpoint
from reconciler.adapters.sources.signing import AwsKeys, encode_key, encode_query, sign_aws
from reconciler.core.errors import Failure, permanent
from reconciler.core.ports import HttpAnswer, SourceContext
from reconciler.core.records import dataclass
from reconciler.core.words import Digest

Headers = tuple[tuple[str, str], ...]
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z0-9]+){1,4}")
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId")
_CHECKSUM_MODE = {"x-amz-checksum-mode": "ENABLED"}


@dataclass(frozen=True, slots=True)
class S3Dialect:
    """Amazon S3 and the many servers that speak like it."""

    now: Callable[[], float]
    scheme: str = "s3"
    regions: dict[str, str] = field(default_factory=dict)  # bucket: where it said it lives

    def look(self, bucket: str, key: str, context: SourceContext) -> ObjectFacts | None:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        answer = self._ask("HEAD", (bucket, key, ""), context)
        if answer.status == 404:
            return None
        label = f"s3://{bucket}/{key}"
        size = length_of(answer.headers)
        if answer.status != 200:
            raise _failure(self._reasoned(answer, bucket, key, context), label)
        if size is None:
            raise bad_answer(label, "the server tells no size")
        revision = _word(answer.headers.get("x-amz-version-id", "")) or etag_of(answer.headers)
        return ObjectFacts(key, size, revision, digest_of(answer.headers))

    def walk(self, bucket: str, prefix: str, context: SourceContext) -> Iterator[ObjectFacts]:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        label = f"s3://{bucket}/{prefix}"
        token = ""
        for _ in range(MAX_PAGES):
            pairs = [("list-type", "2"), ("prefix", prefix)] + ([("continuation-token", token)] if token else [])
            answer = self._ask("GET", (bucket, "", encode_query(pairs)), context)
            if answer.status != 200:
                raise _failure(answer, label)
            root = xml_of(answer, label)
            for element in root.iter("Contents"):
                yield _listed(element.findtext("Key"), element.findtext("Size"), element.findtext("ETag"), label)
            token = root.findtext("NextContinuationToken") or ""
            if root.findtext("IsTruncated") != "true" or not token:
                return
        raise permanent("tree_too_large", f"{label}: more than {MAX_PAGES} pages of objects")

    def place(self, bucket: str, key: str, context: SourceContext) -> tuple[str, Headers]:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        return self._request("GET", (bucket, key, ""), context)

    def _ask(self, method: str, what: tuple[str, str, str], context: SourceContext) -> HttpAnswer:
        """One signed request; once more where the bucket says that it lives in another region."""
        url, headers = self._request(method, what, context)
        answer = context.http.ask(method, url, headers=headers)
        region = answer.headers.get("x-amz-bucket-region", "")
        if (
            answer.status in (301, 307, 400, 403)
            and _REGION.fullmatch(region)
            and region != self._region(what[0], context)
        ):
            self.regions[what[0]] = region
            url, headers = self._request(method, what, context)
            answer = context.http.ask(method, url, headers=headers)
        return answer

    def _reasoned(self, answer: HttpAnswer, bucket: str, key: str, context: SourceContext) -> HttpAnswer:
        """The same refusal with the body that tells why: an answer to HEAD has none."""
        if answer.status not in (400, 403, 503):
            return answer
        url, headers = self._request("GET", (bucket, key, ""), context)
        told = context.http.ask("GET", url, headers=(*headers, ("range", "bytes=0-0")))
        return told if told.status == answer.status else answer

    def _region(self, bucket: str, context: SourceContext) -> str:
        environment = context.environment
        named = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        return self.regions.get(bucket, named)

    def _request(self, method: str, what: tuple[str, str, str], context: SourceContext) -> tuple[str, Headers]:
        bucket, key, query = what
        region = self._region(bucket, context)
        scheme, host, path = _address(bucket, key, region, context.environment)
        url = f"{scheme}://{host}{path}" + (f"?{query}" if query else "")
        keys = read_keys(context.environment)
        extra = _CHECKSUM_MODE if method == "HEAD" else {}
        if keys is None:
            return url, (*context.credentials(url), *extra.items())
        return url, sign_aws((method, host, path, query), keys, region, self.now(), extra)


def read_keys(environment: Mapping[str, str]) -> AwsKeys | None:
    """The access key of the environment; None where there is none: then nothing is signed."""
    access, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
    if not access or not secret or environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return None
    return AwsKeys(access, secret, environment.get("AWS_SESSION_TOKEN", ""))


def digest_of(headers: Mapping[str, str]) -> Digest | None:
    """The SHA-256 of the whole object where the server keeps one; a composite one (``…-3``) is of its parts only."""
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() != "FULL_OBJECT":
        return None
    try:
        raw = base64.b64decode(headers.get("x-amz-checksum-sha256", ""), validate=True)
    except ValueError:  # no base64, or no ASCII
        return None
    return Digest(f"sha256:{raw.hex()}") if len(raw) == 32 else None


def _address(bucket: str, key: str, region: str, environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Scheme, host and encoded path of an object, or of the bucket where ``key`` is empty."""
    path = f"/{encode_key(key)}"
    name = "AWS_ENDPOINT_URL_S3" if environment.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
    if not environment.get(name):
        has_plain_name = re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket) is not None  # TLS allows no dots
        host = f"s3.{region}.amazonaws.com"
        return (
            ("https", f"{bucket}.{host}", path) if has_plain_name else ("https", host, f"/{encode_key(bucket)}{path}")
        )
    scheme, host, folder = split_endpoint(environment[name], name)
    is_virtual = environment.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in ("1", "true")
    if is_virtual and not is_address(host.rpartition(":")[0] or host):
        return scheme, f"{bucket}.{host}", f"{folder}{path}"
    return scheme, host, f"{folder}/{encode_key(bucket)}{path}"


def _listed(key: str | None, size: str | None, etag: str | None, label: str) -> ObjectFacts:
    if key is None or size is None or not size.isascii() or not size.isdigit() or len(size) > 18:
        raise bad_answer(label, "an entry of the listing has no key or size")
    return ObjectFacts(key, int(size), etag_of({"etag": etag or ""}))


def _failure(answer: HttpAnswer, label: str) -> Failure:
    """S3 says more in its body than by its status; only the code is believed and quoted."""
    code = ""
    if answer.body[:5] in (b"<?xml", b"<Erro"):
        code = code_of(xml_of(answer, label).findtext("Code"))
    if code == "NoSuchBucket":
        return permanent("not_found", f"{label}: there is no such bucket", hint="check the source")
    if code in _EXPIRED:
        hint = "get new temporary keys: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN go together"
        return permanent("unauthorized", f"{label}: the credentials are not valid ({code})", hint=hint)
    if code == "SlowDown":
        return sort_status(HttpAnswer(429, answer.headers, b""), label)
    failure = sort_status(answer, f"{label} ({code})" if code else label)
    if answer.status in (401, 403):
        failure.hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION), and check the clock"
    return failure


def _word(text: str) -> str:
    return text if text != "null" and re.fullmatch(r"[A-Za-z0-9._~+/=-]{1,200}", text) else ""
