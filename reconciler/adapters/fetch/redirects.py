"""Where a redirect may lead.

Ours, because clients forward secrets to other origins: https never falls to http, only http and https, no user
information, headers stay with the origin they are bound to. Whether the next *address* is allowed is the wire's to
judge, after resolving (:mod:`reconciler.adapters.fetch.scope`).
"""

from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from reconciler.core.errors import refused, transient

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 10
MAX_URL_CHARS = 16_384
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def origin_of(url: str) -> Origin:
    """What secrets are bound to: scheme, host, port.

    Raises:
        Failure: refused; the URL is no http or https URL with a host.
    """
    end = url.find("/", len("https://"))
    return _origin_of(url if end < 0 else url[: end + 1])  # of many files of one host, the same is asked of each


@lru_cache(maxsize=256)
def _origin_of(url: str) -> Origin:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refused("bad_url", f"not a URL: {label_of(url)}") from None
    if parts.scheme.lower() not in _PORTS or not parts.hostname:
        raise refused("bad_url", f"only http and https URLs are fetched, not {label_of(url)}")
    scheme = parts.scheme.lower()
    return scheme, parts.hostname.rstrip("."), port if port is not None else _PORTS[scheme]


def label_of(url: str) -> str:
    """What people may see of a URL: no user information, no query, no fragment, no control characters."""
    if not url.isprintable():
        url = "".join(char for char in url if char.isprintable())
    text = url[:400].partition("#")[0].partition("?")[0]
    scheme, mark, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else text


def next_url(url: str, location: str | None) -> str:
    """The absolute URL that ``location``, sent as the answer to ``url``, stands for.

    Raises:
        Failure: transient for a redirect without a usable target; refused for an unsafe one.
    """
    if not location or len(location) > MAX_URL_CHARS or not location.isprintable():
        raise transient("malformed_answer", f"{label_of(url)} redirects nowhere")
    try:
        target = urljoin(url, location.strip())
        parts = urlsplit(target)
        parts.port  # noqa: B018 -- raises for a port that is none
    except ValueError:
        raise transient("malformed_answer", f"{label_of(url)} redirects to something that is no URL") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise refused("unsafe_redirect", f"{label_of(url)} redirects to what is no http or https URL")
    if "@" in parts.netloc:
        raise refused("unsafe_redirect", f"{label_of(url)} redirects to a URL with user information")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise refused("unsafe_redirect", f"{label_of(url)} redirects from https to plain http at {label_of(target)}")
    return target.partition("#")[0]


def keep_headers(headers: tuple[tuple[str, str], ...], before: str, after: str) -> tuple[tuple[str, str], ...]:
    """The secret headers that go along from one URL to the next: all within the origin, none to any other."""
    return headers if origin_of(before) == origin_of(after) else ()
