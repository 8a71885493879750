"""``network.credentials``: which secret goes to which host. Only references are read here, never a secret."""

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.findings import HIDDEN, quoted, step
from reconciler.adapters.manifest.tree import Node
from reconciler.core.policies import Credential, SecretReference

# What the download engine sets itself; a manifest that set it could break framing or ranges.
_OURS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "range",
        "if-range",
        "accept-encoding",
        "te",
        "upgrade",
    }
    | {"proxy-authorization", "proxy-connection", "keep-alive", "trailer", "expect", "te", "upgrade"}
)


def parse_credentials(node: Node | None, border: Border) -> tuple[Credential, ...]:
    """The credentials, sorted by host and port; two for one host are a problem."""
    found: dict[tuple[str, int], Credential] = {}
    for key, child in (node.value if node is not None else {}).items():
        if child.kind != "object":
            continue
        path = step("network.credentials", key)
        host, port = _split(key)
        if port == 0 or (port or 0) > 65535:
            border.findings.add(child.key_place, f"the port of {quoted(key)}", "a port from 1 to 65535", path=path)
            continue
        if (host, port or 0) in found:
            border.findings.add(child.key_place, f"the host {quoted(key)} again", "every host once", path=path)
            continue
        found[host, port or 0] = Credential(
            host=host,
            port=port,
            bearer=parse_secret(child.child("bearer"), f"{path}.bearer", border),
            basic=parse_basic(child.child("basic"), f"{path}.basic", border),
            headers=parse_headers(child.child("headers"), f"{path}.headers", border),
        )
    return tuple(found[key] for key in sorted(found))


def _split(key: str) -> tuple[str, int | None]:
    """``host[:port]``; the colons of an IPv6 address stand in brackets."""
    host, colon, port = key.rpartition(":")
    if not colon or key.endswith("]"):
        return key.lower(), None
    return host.lower(), int(port)


def parse_secret(node: Node | None, path: str, border: Border) -> SecretReference | None:
    """A reference to a secret; None where there is none or it reads wrong."""
    if node is None or node.kind != "object":
        return None
    env, file = node.child("env"), node.child("file")
    if env is not None:
        return SecretReference(env=env.value)
    if file is not None and (absolute := border.local_path(file, f"{path}.file")):
        return SecretReference(file=absolute)
    return None


def parse_basic(node: Node | None, path: str, border: Border) -> tuple[str | SecretReference, SecretReference] | None:
    """User and password of HTTP Basic."""
    if node is None:
        return None
    user, password = node.child("user"), parse_secret(node.child("password"), f"{path}.password", border)
    if user is None or password is None:
        return None
    if user.kind == "object":
        reference = parse_secret(user, f"{path}.user", border)
        return None if reference is None else (reference, password)
    if ":" in user.value:
        border.findings.value(user, f"{path}.user", "a user name without a colon (RFC 7617)")
    return user.value, password


def parse_headers(node: Node | None, path: str, border: Border) -> tuple[tuple[str, SecretReference], ...]:
    """Headers that carry secrets, sorted by name."""
    headers: dict[str, tuple[str, SecretReference]] = {}
    for name, child in (node.value if node is not None else {}).items():
        lowered = name.lower()
        if lowered in _OURS:
            border.findings.add(
                child.key_place, f"the header {quoted(name)}", "a header that the download does not set"
            )
        elif lowered in headers:
            border.findings.add(child.key_place, "a header again", "every header once")
        elif (secret := parse_secret(child, f"{path}.{HIDDEN}", border)) is not None:
            headers[lowered] = (name, secret)
    return tuple(headers[name] for name in sorted(headers))
