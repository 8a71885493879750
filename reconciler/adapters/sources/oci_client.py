"""The Distribution API, as far as reading needs it: manifests, blobs, and the token dance before them.

A registry answers 401 with a challenge; the token it wants comes from a *realm*. A realm is asked only where it is the
registry's own host, a host the manifest gives credentials for, or the one partner a public registry is known to have:
otherwise any registry could make this machine call any URL. HTTP is spoken on loopback only. A manifest is believed
only if it has the digest it was asked by, and the one the registry says it has.
"""

import re
import threading
import time
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import quote, urlencode, urlsplit

from reconciler.adapters.sources.answers import bad_answer, json_of, sort_status
from reconciler.core.digests import digest_bytes
from reconciler.core.errors import Failure, permanent
from reconciler.core.ports import HttpAnswer, SourceContext
from reconciler.core.records import dataclass
from reconciler.core.words import Digest

Headers = tuple[tuple[str, str], ...]
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
MAX_MANIFEST_BYTES = 4 << 20  # what the specification asks registries to take at least, and clients at most
DEFAULT_LIFETIME_S = 60.0
_PARAMETER = re.compile(r'([A-Za-z]+)=(?:"([^"\\]*)"|([^\s",]+))')
_BEARER = re.compile(r"(?:^|,)\s*bearer\s+", re.IGNORECASE)
_CHALLENGE = re.compile(r",\s*[A-Za-z][A-Za-z0-9-]*\s+[A-Za-z0-9_-]+\s*=")
_PARTNERS: Mapping[str, str] = {
    "registry-1.docker.io": "auth.docker.io",
    "registry.gitlab.com": "gitlab.com",
}


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository of one registry. ``origin`` is scheme and host, e.g. ``https://ghcr.io``."""

    origin: str
    name: str

    def manifest_url(self, reference: str) -> str:
        """Where a manifest is: by tag or by digest."""
        return f"{self.origin}/v2/{self.name}/manifests/{quote(reference, safe=':')}"

    def blob_url(self, digest: str) -> str:
        """Where a blob is."""
        return f"{self.origin}/v2/{self.name}/blobs/{digest}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's own digest and its JSON object."""

    digest: Digest
    body: dict[str, object]


class RegistryClient:
    """Asks registries; remembers tokens until shortly before they expire."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str], tuple[float, Headers]] = {}
        self._guard = threading.Lock()

    def manifest(self, repository: Repository, reference: str, label: str, context: SourceContext) -> Manifest:
        """The manifest or index behind a tag or digest, checked.

        Raises:
            Failure: sorted; permanent ``digest_mismatch`` where it is not what its digest says.
        """
        url = repository.manifest_url(reference)
        answer = self._ask(url, repository, label, context)
        digest = digest_bytes(answer.body)
        promised = answer.headers.get("docker-content-digest", "")
        for wanted in (reference if ":" in reference else "", promised if promised.startswith("sha256:") else ""):
            if wanted and wanted != digest:
                raise permanent("digest_mismatch", f"{label}: the manifest has digest {digest}, not {wanted[:71]}")
        body = json_of(answer, label)
        if not isinstance(body, dict):
            raise bad_answer(label, "the manifest is no JSON object")
        return Manifest(digest, body)

    def headers(self, repository: Repository, label: str, context: SourceContext) -> Headers:
        """What a blob of the repository is asked with; the registry is asked once whether it wants a token."""
        kept = self._kept(repository)
        if kept is not None:
            return kept
        answer = context.http.ask("GET", f"{repository.origin}/v2/", headers=())
        return self._answer_challenge(answer, repository, label, context)

    def forget(self, repository: Repository) -> None:
        """Drop a token that the registry no longer takes."""
        with self._guard:
            self._tokens.pop((repository.origin, repository.name), None)

    def _ask(self, url: str, repository: Repository, label: str, context: SourceContext) -> HttpAnswer:
        accept = (("accept", ", ".join(MANIFEST_TYPES)),)
        kept = self._kept(repository) or ()
        answer = context.http.ask("GET", url, headers=(*accept, *kept), max_bytes=MAX_MANIFEST_BYTES)
        if answer.status == 401:
            self.forget(repository)
            headers = self._answer_challenge(answer, repository, label, context)
            answer = context.http.ask("GET", url, headers=(*accept, *headers), max_bytes=MAX_MANIFEST_BYTES)
        if answer.status != 200:
            raise sort_status(answer, label)
        return answer

    def _answer_challenge(
        self, answer: HttpAnswer, repository: Repository, label: str, context: SourceContext
    ) -> Headers:
        """Headers that satisfy a 401, remembered; none where nothing was challenged."""
        lifetime_s = DEFAULT_LIFETIME_S
        headers: Headers = ()
        if answer.status == 401:
            parameters = bearer_parameters(answer.headers.get("www-authenticate", ""))
            if parameters is not None:
                headers, lifetime_s = _fetch_token(parameters, repository, label, context)
            else:
                headers = context.credentials(repository.origin + "/")
                if not headers:
                    raise sort_status(answer, label)
        with self._guard:
            self._tokens[repository.origin, repository.name] = (time.monotonic() + 0.8 * lifetime_s, headers)
        return headers

    def _kept(self, repository: Repository) -> Headers | None:
        with self._guard:
            until, headers = self._tokens.get((repository.origin, repository.name), (0.0, ()))
        return headers if time.monotonic() < until else None


def bearer_parameters(header: str) -> dict[str, str] | None:
    """The parameters of the bearer challenge, among however many there are; None where there is none."""
    bare = re.sub(r'"[^"]*"', lambda match: '"' * len(match[0]), header)  # a quoted text may read like a challenge
    found = _BEARER.search(bare)
    if found is None:
        return None
    after = _CHALLENGE.search(bare, found.end())
    text = header[found.end() : after.start() if after else None]
    return {name.lower(): plain or word for name, plain, word in _PARAMETER.findall(text)}


def origin_of(host: str) -> str:
    """Scheme and host of a registry: HTTPS, but HTTP on loopback."""
    return f"{'http' if is_loopback(host) else 'https'}://{host}"


def is_loopback(netloc: str) -> bool:
    """Whether a host (with or without port) is this machine by its very name."""
    host = urlsplit(f"//{netloc}").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _fetch_token(
    parameters: Mapping[str, str], repository: Repository, label: str, context: SourceContext
) -> tuple[Headers, float]:
    """A bearer header and the seconds it lives."""
    realm = parameters.get("realm", "")
    _check_realm(realm, repository, label, context)
    pairs = [("scope", f"repository:{repository.name}:pull")]
    if service := parameters.get("service"):
        pairs.insert(0, ("service", service))
    url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(pairs)}"
    answer = context.http.ask("GET", url, headers=context.credentials(realm), max_bytes=1 << 20)
    if answer.status != 200:
        raise sort_status(answer, f"{label}: token")
    facts = json_of(answer, f"{label}: token")
    token = (facts.get("token") or facts.get("access_token")) if isinstance(facts, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise bad_answer(label, "the realm gave no token")
    lifetime = facts.get("expires_in")
    is_number = isinstance(lifetime, int | float) and 0 < lifetime < 86400 * 30
    return (("authorization", f"Bearer {token}"),), float(lifetime) if is_number else DEFAULT_LIFETIME_S


def _check_realm(realm: str, repository: Repository, label: str, context: SourceContext) -> None:
    """Refuse a realm that the registry has no business to send us to."""
    try:
        there = urlsplit(realm)
        host = there.hostname or ""
    except ValueError:
        raise _foreign_realm("", label) from None
    own = urlsplit(repository.origin).hostname or ""
    is_safe = there.scheme == "https" or (there.scheme == "http" and is_loopback(host))
    is_known = host == own or _PARTNERS.get(own) == host or bool(host and context.credentials(realm))
    if not host or "@" in there.netloc or not is_safe or not is_known:
        raise _foreign_realm(host, label)


def _foreign_realm(host: str, label: str) -> Failure:
    where = host if host.isprintable() and len(host) < 256 else "a strange host"
    return permanent(
        "foreign_realm",
        f"{label}: the registry wants a token from {where or 'nowhere'}, which is not its own host",
        hint="give credentials for that host under network.credentials to allow it",
    )
