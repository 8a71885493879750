"""The Hugging Face Hub's API, as far as a reconciler needs it: a commit for a branch, the tree of a commit, a token.

Two endpoints: ``/api/models/REPO/revision/REV`` and ``/api/models/REPO/tree/COMMIT`` (paged by ``Link``). Errors are
told apart by ``X-Error-Code``. The token comes from HF_TOKEN, HF_TOKEN_PATH or the place where ``hf auth login`` writes
it; it is bound to the endpoint's origin, and so is every page that ``Link`` names.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from reconciler.adapters.sources.answers import bad_answer, json_of, sort_status
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.names import check_digest, check_path
from reconciler.core.ports import HttpAnswer, SourceContext
from reconciler.core.records import dataclass
from reconciler.core.units import is_byte_count
from reconciler.core.words import Digest

DEFAULT_ENDPOINT = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_PAGES = 1000
_TRUE = ("1", "on", "yes", "true")
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="?next"?')


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository. ``digest`` is known of LFS files only: others carry a git hash, which is no SHA-256."""

    path: str
    size_bytes: int
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class HubClient:
    """One repository of one endpoint."""

    context: SourceContext
    repo: str

    @property
    def endpoint(self) -> str:
        """``HF_ENDPOINT`` or the Hub, without a slash at its end."""
        return (self.context.environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What goes to the endpoint's origin: the manifest's credentials for it, else the hub's own token."""
        declared = self.context.credentials(self.endpoint)
        if declared:
            return declared
        token = read_token(self.context.environment)
        return (("authorization", f"Bearer {token}"),) if token else ()

    def file_url(self, commit: str, path: str) -> str:
        """Where the bytes of one file are."""
        return f"{self.endpoint}/{self.repo}/resolve/{quote(commit, safe='')}/{quote(path)}"

    def commit_of(self, revision: str) -> str:
        """The commit that a branch, tag or commit stands for now.

        Raises:
            Failure: sorted.
        """
        label = f"hf://{self.repo}@{revision}"
        url = f"{self.endpoint}/api/models/{self.repo}/revision/{quote(revision, safe='')}"
        facts = json_of(self.ask(url, label), label)
        commit = facts.get("sha") if isinstance(facts, dict) else None
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise bad_answer(label, "the hub names no commit")
        return commit

    def tree(self, commit: str) -> dict[str, HubFile]:
        """Every file of a commit by its path, sorted.

        Raises:
            Failure: sorted; permanent ``hostile_name`` where one path is unsafe.
        """
        label = f"hf://{self.repo}@{commit}"
        files = [file for page in self._pages(commit, label) for file in _files_of(page, label)]
        return {file.path: file for file in sorted(files, key=lambda file: file.path)}

    def read(self, commit: str, path: str) -> Any:
        """A small JSON file of the repository, such as a shard index."""
        label = f"hf://{self.repo}@{commit}/{path}"
        return json_of(self.ask(self.file_url(commit, path), label), label)

    def ask(self, url: str, label: str) -> HttpAnswer:
        """GET one page.

        Raises:
            Failure: sorted; gated, unauthorized, not_found and rate_limited told apart.
        """
        check_online(self.context.environment, label)
        answer = self.context.http.ask("GET", url, headers=(*self.headers(), ("accept-encoding", "identity")))
        if answer.status != 200:
            raise self._failure(answer, label)
        return answer

    def _pages(self, commit: str, label: str) -> Iterator[Any]:
        url = f"{self.endpoint}/api/models/{self.repo}/tree/{quote(commit, safe='')}?recursive=true&expand=false"
        for _ in range(MAX_PAGES):
            answer = self.ask(url, label)
            yield json_of(answer, label)
            match = _NEXT.search(answer.headers.get("link", ""))
            if match is None:
                return
            url = self._next(url, match[1], label)
        raise permanent("tree_too_large", f"{label}: the repository lists more than {MAX_PAGES} pages of files")

    def _next(self, page: str, link: str, label: str) -> str:
        """Where the next page is, which must be where the first one was: the token goes along."""
        try:
            url = urljoin(page, link)
            here, there = urlsplit(self.endpoint), urlsplit(url)
        except ValueError:
            raise bad_answer(label, "the hub's next page has no address that can be read") from None
        if (there.scheme, there.netloc) != (here.scheme, here.netloc):
            raise bad_answer(label, "the hub's next page lies at another origin")
        return url

    def _failure(self, answer: HttpAnswer, label: str) -> Failure:
        code = answer.headers.get("x-error-code", "")
        has_token = bool(self.headers())
        if code == "GatedRepo":
            hint = f"accept its terms at {self.endpoint}/{self.repo}" + ("" if has_token else " and set HF_TOKEN")
            return permanent("gated", f"{label}: the repository is gated (HTTP {answer.status})", hint=hint)
        if code in _MISSING:
            hint = "check the name" if has_token else "check the name; if it is private, set HF_TOKEN"
            return permanent("not_found", f"{label}: {_MISSING[code]} (HTTP {answer.status})", hint=hint)
        if answer.status == 401:
            hint = "HF_TOKEN is not accepted; make a new one" if has_token else "set HF_TOKEN"
            return permanent("unauthorized", f"{label}: the hub wants a valid token (HTTP 401)", hint=hint)
        return sort_status(answer, label)


_MISSING: Mapping[str, str] = {
    "RepoNotFound": "there is no such repository, or it is private",
    "RevisionNotFound": "the repository has no such revision",
    "EntryNotFound": "the repository has no such file",
    "DisabledRepo": "the hub has disabled the repository",
}


def check_online(environment: Mapping[str, str], label: str) -> None:
    """Refuse to ask where the hub's own switch says offline.

    Raises:
        Failure: transient ``offline``.
    """
    if environment.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        raise transient("offline", f"{label}: HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE")


def read_token(environment: Mapping[str, str]) -> str:
    """The hub's token; empty where there is none. Read at the moment of use."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := environment.get(name, "").strip():
            return _printable(token)
    declared = environment.get("HF_TOKEN_PATH")
    path = Path(declared).expanduser() if declared else hub_home(environment) / "token"
    try:
        with path.open(encoding="utf-8") as file:
            return _printable(file.read(4096).strip())
    except (OSError, ValueError):
        return ""


def hub_home(environment: Mapping[str, str]) -> Path:
    """The folder of the hub's own client: HF_HOME, else ``huggingface`` in the user's cache folder."""
    if home := environment.get("HF_HOME"):
        return Path(home).expanduser()
    if cache := environment.get("XDG_CACHE_HOME"):
        return Path(cache) / "huggingface"
    return Path(environment.get("HOME") or Path.home()) / ".cache" / "huggingface"


def _printable(token: str) -> str:
    return token if token.isascii() and token.isprintable() and " " not in token else ""


def _files_of(page: Any, label: str) -> Iterator[HubFile]:
    if not isinstance(page, list) or not all(isinstance(entry, dict) for entry in page):
        raise bad_answer(label, "the hub's tree is no list of entries")
    for entry in page:
        if entry.get("type") == "file":
            yield _file_of(entry, label)


def _file_of(entry: dict[str, Any], label: str) -> HubFile:
    lfs = entry.get("lfs")
    path, size = entry.get("path"), entry.get("size")
    digest = None
    if isinstance(lfs, dict):
        size = lfs.get("size", size)
        digest = check_digest(str(lfs.get("oid") or lfs.get("sha256")), f"{label}: LFS")
    if not isinstance(path, str) or not is_byte_count(size):
        raise bad_answer(label, "an entry of the hub's tree has no path or size")
    return HubFile(check_path(path, f"{label}: repository file"), size, digest)
