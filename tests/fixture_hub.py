"""A small hub: the part of the Hugging Face Hub's API that clients need, over files in memory.

It knows LFS files (with SHA-256) and plain ones (with a git hash), branches and commits, pages, gated and private
repositories, and hands LFS files out from another origin, as the real one does. The real client reads it in the tests.
"""

import hashlib
import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from scripted import Answer, Seen

LFS_BYTES = 1000


@dataclass
class Repo:
    files: dict[str, bytes]
    commit: str = "c" * 40
    branches: dict[str, str] = field(default_factory=lambda: {"main": "c" * 40})
    access: str = "public"  # public | gated | private


@dataclass
class Hub:
    repos: dict[str, Repo]
    cdn: str = ""  # the origin that LFS files come from
    token: str = "hf_secret"
    page: int = 1000
    limited: bool = False

    def answer(self, seen: Seen) -> Answer:
        if self.limited:
            return 429, {"RateLimit": '"api";r=0;t=55'}, b""
        parts = urlsplit(seen.path)
        path = parts.path.removeprefix("/api/models")
        org, name, verb, *rest = path.lstrip("/").split("/", 3) + [""] * 3
        repo = self.repos.get(f"{org}/{name}")
        if (refusal := self._refusal(repo, seen)) is not None:
            return refusal
        assert repo is not None
        revision, _, file = "/".join(part for part in rest if part).partition("/")
        revision, file = unquote(revision) or "main", unquote(file)
        commit = repo.branches.get(revision, revision)
        if commit != repo.commit:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if verb in ("", "revision"):
            siblings = [{"rfilename": name} for name in repo.files]
            return _json({"id": f"{org}/{name}", "sha": commit, "siblings": siblings, "tags": [], "private": False})
        if verb == "tree":
            return self._tree(repo, parts.path, parse_qs(parts.query))
        if verb == "paths-info":  # how a mirror asks for a file's facts
            named = {path for paths in _form(seen).values() for path in paths}
            return _json([_entry(name, data) for name, data in repo.files.items() if name in named])
        return self._resolve(repo, file, commit, seen)

    def _refusal(self, repo: Repo | None, seen: Seen) -> Answer | None:
        token = seen.headers.get("authorization", "")
        if token and token != f"Bearer {self.token}":
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        if repo is None or (repo.access == "private" and not token):
            return (404 if token else 401), {"X-Error-Code": "RepoNotFound"}, b""
        if repo.access == "gated":
            return (403 if token else 401), {"X-Error-Code": "GatedRepo"}, b""
        return None

    def _tree(self, repo: Repo, path: str, query: dict[str, list[str]]) -> Answer:
        entries = [_entry(name, data) for name, data in repo.files.items()]
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + self.page < len(entries):
            link = f"{path}?recursive=true&expand=false&cursor={start + self.page}"
            headers["Link"] = f'<{link}>; rel="next"'
        status, more, body = _json(entries[start : start + self.page])
        return status, {**more, **headers}, body

    def _resolve(self, repo: Repo, file: str, commit: str, seen: Seen) -> Answer:
        data = repo.files.get(file)
        if data is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        entry = _entry(file, data)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["oid"]}"', "Accept-Ranges": "bytes"}
        if "lfs" in entry and self.cdn:
            digest = hashlib.sha256(data).hexdigest()
            linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{digest}"'}
            return 302, {**headers, **linked, "Location": f"{self.cdn}/{digest}?signature=hush"}, b""
        return 200, headers, data


def _form(seen: Seen) -> dict[str, list[str]]:
    """The fields of a form, or of JSON."""
    if "json" in seen.headers.get("content-type", ""):
        return {key: value for key, value in json.loads(seen.body).items() if isinstance(value, list)}
    return parse_qs(seen.body.decode())


def _entry(name: str, data: bytes) -> dict[str, object]:
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, object] = {"type": "file", "oid": git, "size": len(data), "path": name}
    if len(data) >= LFS_BYTES:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def _json(value: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()
