"""Google Cloud Storage's way to say it: the JSON API, with a bearer token where the environment gives one.

Tokens: GOOGLE_OAUTH_ACCESS_TOKEN, CLOUDSDK_AUTH_ACCESS_TOKEN (what ``gcloud auth print-access-token`` prints), or the
manifest's credentials for ``storage.googleapis.com``. STORAGE_EMULATOR_HOST names another server. Public buckets need
nothing. Key files of service accounts are not read: that needs RSA, which the standard library has not.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from reconciler.adapters.sources.answers import bad_answer, json_of, sort_status
from reconciler.adapters.sources.objects import MAX_PAGES, ObjectFacts, split_endpoint
from reconciler.adapters.sources.signing import encode_query
from reconciler.core.errors import Failure, permanent
from reconciler.core.ports import HttpAnswer, SourceContext
from reconciler.core.records import dataclass

Headers = tuple[tuple[str, str], ...]
_TOKENS = ("GOOGLE_OAUTH_ACCESS_TOKEN", "CLOUDSDK_AUTH_ACCESS_TOKEN")
_DIGITS = re.compile(r"\d{1,18}")
_GENERATION = re.compile(r"\d{1,30}")


@dataclass(frozen=True, slots=True)
class GcsDialect:
    """Google's buckets and their emulators."""

    scheme: str = "gs"

    def look(self, bucket: str, key: str, context: SourceContext) -> ObjectFacts | None:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        label = f"gs://{bucket}/{key}"
        answer = _ask(f"{_folder(bucket, context)}/{quote(key, safe='')}", context)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise _failure(answer, label)
        return _facts_of(json_of(answer, label), label)

    def walk(self, bucket: str, prefix: str, context: SourceContext) -> Iterator[ObjectFacts]:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        label = f"gs://{bucket}/{prefix}"
        token = ""
        for _ in range(MAX_PAGES):
            query = encode_query([("prefix", prefix)] + ([("pageToken", token)] if token else []))
            answer = _ask(f"{_folder(bucket, context)}?{query}", context)
            if answer.status != 200:
                raise _failure(answer, label)
            page = json_of(answer, label)
            if not isinstance(page, dict) or not isinstance(page.get("items", []), list):
                raise bad_answer(label, "the listing is none")
            for item in page.get("items", []):
                yield _facts_of(item, label)
            token = page.get("nextPageToken") or ""
            if not isinstance(token, str) or not token:
                return
        raise permanent("tree_too_large", f"{label}: more than {MAX_PAGES} pages of objects")

    def place(self, bucket: str, key: str, context: SourceContext) -> tuple[str, Headers]:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        url = f"{_folder(bucket, context)}/{quote(key, safe='')}?alt=media"
        return url, _headers(url, context)


def _folder(bucket: str, context: SourceContext) -> str:
    """The URL of a bucket's objects."""
    emulator = context.environment.get("STORAGE_EMULATOR_HOST")
    base = "https://storage.googleapis.com"
    if emulator:
        base = "{}://{}{}".format(*split_endpoint(emulator, "STORAGE_EMULATOR_HOST"))
    return f"{base}/storage/v1/b/{quote(bucket, safe='')}/o"


def _headers(url: str, context: SourceContext) -> Headers:
    if declared := context.credentials(url):
        return declared
    token = next((context.environment[name] for name in _TOKENS if context.environment.get(name)), "")
    return (("authorization", f"Bearer {token}"),) if token else ()


def _ask(url: str, context: SourceContext) -> HttpAnswer:
    return context.http.ask("GET", url, headers=_headers(url, context))


def _failure(answer: HttpAnswer, label: str) -> Failure:
    failure = sort_status(answer, label)
    if answer.status in (401, 403):
        failure.hint = "set GOOGLE_OAUTH_ACCESS_TOKEN, or give credentials for storage.googleapis.com"
    return failure


def _facts_of(item: Any, label: str) -> ObjectFacts:
    key = item.get("name") if isinstance(item, dict) else None
    size = str(item.get("size", "")) if isinstance(item, dict) else ""
    if not isinstance(key, str) or not _DIGITS.fullmatch(size):
        raise bad_answer(label, "an object has no name or size")
    generation = str(item.get("generation", ""))
    return ObjectFacts(key, int(size), generation if _GENERATION.fullmatch(generation) else "")
