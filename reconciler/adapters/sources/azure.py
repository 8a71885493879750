"""Azure Blob Storage's way to say it: ``az://CONTAINER/BLOB``, with a shared access signature in the query.

AZURE_STORAGE_ACCOUNT (or ``_ACCOUNT_NAME``) names the account; AZURE_STORAGE_SAS_TOKEN is used as it is;
AZURE_STORAGE_KEY (or ``_ACCOUNT_KEY``) makes one that is good for an hour: Azure's own header signatures cover
``Range``, which the engine must be free to set. AZURE_STORAGE_CONNECTION_STRING may hold all of these and the endpoint;
AZURE_STORAGE_ENDPOINT names another server. Public containers need the account only.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from reconciler.adapters.sources.answers import bad_answer, etag_of, length_of, sort_status, xml_of
from reconciler.adapters.sources.objects import MAX_PAGES, ObjectFacts, split_endpoint
from reconciler.adapters.sources.signing import SAS_VERSION, encode_key, encode_query, sign_azure
from reconciler.core.errors import Failure, permanent
from reconciler.core.ports import HttpAnswer, SourceContext
from reconciler.core.records import dataclass

Headers = tuple[tuple[str, str], ...]
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")


@dataclass(frozen=True, slots=True)
class _Account:
    endpoint: str  # with the account, without a slash at its end
    query: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AzureDialect:
    """Azure's containers and Azurite."""

    now: Callable[[], float]
    scheme: str = "az"

    def look(self, bucket: str, key: str, context: SourceContext) -> ObjectFacts | None:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        label = f"az://{bucket}/{key}"
        url, headers = self.place(bucket, key, context)
        answer = context.http.ask("HEAD", url, headers=headers)
        if answer.status == 404:
            return None
        size = length_of(answer.headers)
        if answer.status != 200:
            raise _failure(answer, label)
        if size is None:
            raise bad_answer(label, "the server tells no size")
        return ObjectFacts(key, size, etag_of(answer.headers))

    def walk(self, bucket: str, prefix: str, context: SourceContext) -> Iterator[ObjectFacts]:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        label = f"az://{bucket}/{prefix}"
        account = self._account(context.environment)
        marker = ""
        for _ in range(MAX_PAGES):
            pairs = [("restype", "container"), ("comp", "list"), ("prefix", prefix)]
            query = encode_query([*pairs, ("marker", marker)] if marker else pairs)
            url = _join(f"{account.endpoint}/{encode_key(bucket)}?{query}", account.query)
            answer = context.http.ask("GET", url, headers=_headers(url, context))
            if answer.status != 200:
                raise _failure(answer, label)
            root = xml_of(answer, label)
            for blob in root.iter("Blob"):
                size, etag = (blob.findtext(f"Properties/{name}") for name in ("Content-Length", "Etag"))
                yield _listed(blob.findtext("Name"), size, etag, label)
            marker = root.findtext("NextMarker") or ""
            if not marker:
                return
        raise permanent("tree_too_large", f"{label}: more than {MAX_PAGES} pages of blobs")

    def place(self, bucket: str, key: str, context: SourceContext) -> tuple[str, Headers]:
        """See :class:`~reconciler.adapters.sources.bucket.Dialect`."""
        account = self._account(context.environment)
        url = _join(f"{account.endpoint}/{encode_key(bucket)}/{encode_key(key)}", account.query)
        return url, _headers(url, context)

    def _account(self, environment: Mapping[str, str]) -> _Account:
        """Where the account is and the query that opens it."""
        said = _connection(environment.get("AZURE_STORAGE_CONNECTION_STRING", ""))
        name = _first(environment, "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME") or said.get("accountname", "")
        if not _ACCOUNT.fullmatch(name):
            raise permanent("no_account", "no Azure storage account is named", hint="set AZURE_STORAGE_ACCOUNT")
        endpoint = _first(environment, "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT") or said.get("blobendpoint", "")
        base = "{}://{}{}".format(
            *split_endpoint(endpoint or f"https://{name}.blob.core.windows.net", "AZURE_STORAGE_ENDPOINT")
        )
        query = _first(environment, "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY") or said.get(
            "sharedaccesssignature", ""
        )
        key = _first(environment, "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY") or said.get("accountkey", "")
        if not query and key:
            try:
                query = sign_azure(name, key, self.now())
            except ValueError:
                raise permanent(
                    "bad_key", "AZURE_STORAGE_KEY is no base64", hint="copy the account's key again"
                ) from None
        return _Account(base, query.lstrip("?"))


def _connection(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";") if "=" in part)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _join(url: str, query: str) -> str:
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _headers(url: str, context: SourceContext) -> Headers:
    return (("x-ms-version", SAS_VERSION), *context.credentials(url))


def _listed(key: str | None, size: str | None, etag: str | None, label: str) -> ObjectFacts:
    if key is None or size is None or not size.isascii() or not size.isdigit() or len(size) > 18:
        raise bad_answer(label, "an entry of the listing has no name or size")
    return ObjectFacts(key, int(size), etag_of({"etag": etag or ""}))


def _failure(answer: HttpAnswer, label: str) -> Failure:
    failure = sort_status(answer, label)
    if answer.status in (401, 403):
        failure.hint = "set AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_KEY, and check the clock"
    return failure
