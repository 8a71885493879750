"""The bootstrap file: no models, but where the manifest lies. ``schemas/bootstrap.v1.schema.json`` is its grammar.

It is given with ``-f`` as a manifest is, and told from one by its ``source:`` at the top level, which no manifest has,
or by ``kind: Bootstrap``. It stands alone: what is said here is not merged with anything.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.credentials import parse_basic, parse_headers, parse_secret
from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.reader import read
from reconciler.adapters.manifest.rules import Schema
from reconciler.adapters.manifest.schemas import load_schema
from reconciler.adapters.manifest.search import Document
from reconciler.adapters.manifest.tree import Node
from reconciler.adapters.manifest.walker import Walker
from reconciler.core.errors import Failure, ManifestInvalid
from reconciler.core.git_place import GIT_INTERVAL_S, GIT_PATH, GIT_TIMEOUT_S, GitPlace
from reconciler.core.policies import Credential
from reconciler.core.records import dataclass
from reconciler.core.units import parse_duration

TOKEN_USER = "x-access-token"  # noqa: S105 -- a user name: the forges take a token as any user's password
_MARK = re.compile(rb"""^(?:\{|(?:source|"source"|'source')[ \t]*:|kind[ \t]*:[ \t]*['"]?Bootstrap\b)""", re.MULTILINE)
_SAFE_SIZE = 64 << 10


@dataclass(frozen=True, slots=True)
class Checks:
    """What only the Git adapter knows: each raises a Failure for a value that it would refuse."""

    url: Callable[[str], object]
    ref: Callable[[str], object]
    path: Callable[[str], object]


def parse_bootstrap(
    documents: Sequence[Document], environ: Mapping[str, str], checks: Callable[[], Checks]
) -> GitPlace | None:
    """Where the manifest lies; None where the files are a manifest themselves.

    Raises:
        ManifestInvalid: with every problem of a bootstrap file.
    """
    found = [document for document in documents if _is_marked(document)]
    findings = Findings()
    for document in found:
        roots = read(document.data, document.label, environ, findings).documents
        if any(_is_bootstrap(root) for root in roots):
            break
    else:
        return None
    if len(documents) > 1 or len(roots) > 1:
        findings.add((document.label, 1, 1), "a bootstrap beside other manifests", "a bootstrap file alone")
        raise ManifestInvalid(findings.problems)
    place = _parse(roots[0], document, findings, checks())
    if place is None or len(findings):
        raise ManifestInvalid(findings.problems)
    return place


def _is_marked(document: Document) -> bool:
    """A cheap look: most files are manifests, and those are not parsed twice."""
    return len(document.data) <= _SAFE_SIZE and _MARK.search(document.data) is not None


def _is_bootstrap(root: Node) -> bool:
    kind = root.child("kind")
    return root.has("source") or (kind is not None and kind.value == "Bootstrap")


@cache
def _schema() -> Schema:
    return Schema(load_schema("bootstrap"))


def _parse(root: Node, document: Document, findings: Findings, checks: Checks) -> GitPlace | None:
    Walker(_schema(), findings).check(root)
    source = root.child("source")
    git = source.child("git") if source is not None else None
    url = git.child("url") if git is not None else None
    if git is None or url is None:
        return None
    border = Border(findings, {document.label: document.folder})
    verify, credentials = git.child("verify"), git.child("credentials")
    known_hosts = git.child("knownHosts")
    key = credentials.child("sshKey") if credentials is not None else None
    return GitPlace(
        url=_checked(url, "source.git.url", border, checks.url) or "",
        ref=_checked(git.child("ref"), "source.git.ref", border, checks.ref),
        path=_checked(git.child("path"), "source.git.path", border, checks.path) or GIT_PATH,
        interval_s=border.convert(git.child("interval"), "source.git.interval", _span, GIT_INTERVAL_S),
        timeout_s=border.convert(git.child("timeout"), "source.git.timeout", _span, GIT_TIMEOUT_S),
        signers=_local(verify.child("signers") if verify is not None else None, "source.git.verify.signers", border),
        credential=_credential(credentials, border),
        ssh_key=_local(key.child("file") if key is not None else None, "source.git.credentials.sshKey.file", border),
        known_hosts=_local(known_hosts, "source.git.knownHosts", border),
    )


def _checked(node: Node | None, path: str, border: Border, check: Callable[[str], object]) -> str | None:
    if node is None:
        return None
    text: str = node.value
    try:
        check(text)
    except Failure as failure:
        border.findings.value(node, path, failure.hint or failure.message, hint=failure.message)
        return None
    return text


def _span(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 1:
        raise ValueError("a duration of at least 1s")
    return seconds


def _local(node: Node | None, path: str, border: Border) -> str | None:
    return None if node is None else border.local_path(node, path)


def _credential(node: Node | None, border: Border) -> Credential | None:
    """For the URL's own host; None where there is none, or a key for ssh."""
    if node is None:
        return None
    path = "source.git.credentials"
    token = parse_secret(node.child("token"), f"{path}.token", border)
    basic = (TOKEN_USER, token) if token is not None else parse_basic(node.child("basic"), f"{path}.basic", border)
    bearer = parse_secret(node.child("bearer"), f"{path}.bearer", border)
    headers = parse_headers(node.child("headers"), f"{path}.headers", border)
    if basic is None and bearer is None and not headers:
        return None
    return Credential(host="", bearer=bearer, basic=basic, headers=headers)
