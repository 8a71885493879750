"""``signature`` of a model, and ``network.signatures`` of a host: who must have signed.

Keys are named here; they are read where a signature is checked.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field, replace

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.findings import quoted, step
from reconciler.adapters.manifest.hosts import hosts_of
from reconciler.adapters.manifest.tree import BROKEN, Node
from reconciler.core.desired import Artifact, SignatureRule
from reconciler.core.records import dataclass
from reconciler.core.reference import scheme_of
from reconciler.core.vouching import is_inline
from reconciler.core.words import SignatureKind

_PLAIN = frozenset({"http", "https", "file"})  # the only sources that tell no digest to ask a mirror for
_MINISIGN_KEY = re.compile(r"RW[A-Za-z0-9+/]{54}")
_PEM = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class Hosts:
    """Rules by host, or host:port, in lower case; ``mirror`` is that of the first mirror that has one."""

    rules: Mapping[str, SignatureRule] = field(default_factory=dict)
    mirror: SignatureRule | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def rule_of(self, urls: Iterable[str]) -> SignatureRule | None:
        """The rule of the first host of these that has one."""
        names = (name for url in urls for name in hosts_of(url, self.environ))
        return next((self.rules[name] for name in names if name in self.rules), None)


def parse_hosts(network: Node | None, border: Border) -> Hosts:
    """What ``network.signatures`` asks of every model that comes from a host."""
    node = network.child("signatures") if network is not None else None
    found: dict[str, SignatureRule] = {}
    for key, child in (node.value if node is not None else {}).items():
        path = step("network.signatures", key)
        if key.lower() in found:
            border.findings.add(child.key_place, f"the host {quoted(key)} again", "every host once", path=path)
            continue
        source = child.child("source") if child.kind == "object" else None
        if source is not None:
            expected = "no source: a host's signatures lie beside what they sign"
            border.findings.value(source, f"{path}.source", expected)
        rule = parse_signature(child, path, border)
        if rule is not None:
            found[key.lower()] = rule
    hosts = Hosts(found, environ=border.environ)
    mirrors = [child.value for child in _each(network.child("mirrors") if network is not None else None)]
    return replace(hosts, mirror=hosts.rule_of(mirrors) if found else None)


def parse_signature(node: Node | None, path: str, border: Border) -> SignatureRule | None:
    """One rule; None where there is none, or where it is broken (which is told)."""
    if node is None or node.kind != "object":
        return None
    kind, key, source = node.child("type"), node.child("key"), node.child("source")
    if kind is None or key is None:
        return None
    keys = [_key(child, f"{path}.key", SignatureKind(kind.value), border) for child in _each(key)]
    urls = []
    for child in _each(source):
        reference = border.reference(child, f"{path}.source")
        if reference is not None and (reference.is_tree or reference.scheme in {"oci", "ollama"}):
            border.findings.value(child, f"{path}.source", "the source of one file: the signature")
        elif reference is not None:
            urls.append(reference.url)
    return SignatureRule(SignatureKind(kind.value), tuple(word for word in keys if word), tuple(urls))


def rule_of_hosts(artifacts: tuple[Artifact, ...], hosts: Hosts) -> SignatureRule | None:
    """The rule of the first host that a model may come from and that has one; a mirror serves what has a digest."""
    if not hosts.rules:
        return None
    urls = [url for artifact in artifacts for url in artifact.sources]
    has_digest = any(artifact.digest for artifact in artifacts) or not all(scheme_of(url) in _PLAIN for url in urls)
    return hosts.rule_of(urls) or (hosts.mirror if has_digest else None)


def check_signature_source(rule: SignatureRule | None, node: Node, path: str, border: Border, count: int) -> None:
    """One place cannot hold the signatures of several files, where each has its own."""
    source = node.child("source")
    if rule is not None and source is not None and count != 1 and rule.kind is not SignatureKind.MODEL_SIGNING:
        expected = f"no source: {rule.kind.value} signs each file, and looks beside each"
        border.findings.value(source, f"{path}.source", expected)


def _each(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return [child for child in (node.value if node.kind == "array" else [node]) if child.kind != BROKEN]


def _key(node: Node, path: str, kind: SignatureKind, border: Border) -> str:
    """The text of a key as it stands, or the absolute path of its file."""
    text: str = node.value.strip()
    is_text = bool(_MINISIGN_KEY.fullmatch(text)) if kind is SignatureKind.MINISIGN else text.startswith(_PEM)
    if "PRIVATE KEY" in text:
        border.findings.add(node.place, "a private key", "the public key; the private one stays with the signer")
        return ""
    if is_text:
        return text
    if is_inline(text) and "/" not in text and "." not in text:
        expected = "the path of a minisign public key, or its text (RW…)"
        border.findings.value(
            node, path, expected if kind is SignatureKind.MINISIGN else "the path or the PEM of a key"
        )
        return ""
    return border.local_path(node, path) or ""
