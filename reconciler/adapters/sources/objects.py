"""What a bucket tells of one object; the value that all clouds' dialects speak in."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from reconciler.core.errors import Failure, permanent
from reconciler.core.records import dataclass
from reconciler.core.words import Digest

MAX_OBJECTS = 100_000
MAX_PAGES = 1000


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """One object.

    ``revision`` is its ETag, generation or version; ``digest`` is set where the cloud keeps a SHA-256.
    """

    key: str
    size_bytes: int
    revision: str = ""
    digest: Digest | None = None


def is_address(host: str) -> bool:
    """Whether a host is written as an address (or is this machine), so that no name can be put before it."""
    try:
        return bool(ip_address(host.strip("[]")))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def split_endpoint(text: str, name: str) -> tuple[str, str, str]:
    """Scheme, host with port, and path (without a slash at its end) of an endpoint from the environment.

    Raises:
        Failure: permanent ``bad_endpoint`` naming the variable.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise bad_endpoint(name)
    return parts.scheme, parts.netloc, parts.path.rstrip("/")


def bad_endpoint(name: str) -> Failure:
    """The variable ``name`` holds no endpoint."""
    return permanent("bad_endpoint", f"{name} is no http or https URL", hint=f"set {name}=https://HOST[:PORT]")
