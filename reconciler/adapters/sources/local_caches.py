"""Copies that are on this machine already: what other tools keep, found by digest and size. Only read.

| whose | where | how a digest is told |
|---|---|---|
| Hugging Face | HF_HUB_CACHE, HF_HOME/hub, ~/.cache/huggingface/hub | ``models--*/blobs/<hex>``, a file or a link |
| Ollama | OLLAMA_MODELS, ~/.ollama/models, /usr/share/ollama/.ollama/models | ``blobs/sha256-<hex>`` |
| llama.cpp | LLAMA_CACHE, ~/.cache/llama.cpp | the ETag beside the file (``<file>.etag``, ``<file>.json``) |
| LM Studio | ~/.lmstudio/models, ~/.cache/lm-studio/models | by exact size |
| any folder | RECONCILER_CACHES, several with ``:`` between | by exact size |

The newer hub layout keeps one blob for all repositories and makes ``models--*/blobs/<hex>`` a link to it; following the
link reads both. A name or a size is a promise only: whoever takes a copy hashes it first. Where the digest is in the
name only its path is built and looked at; a folder that is not there costs one failed call.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reconciler.core.stored import LocalCopy
from reconciler.core.words import Digest

MIN_SIZE_MATCH_BYTES = 1 << 20  # below, equal sizes are common and a download is cheap
MAX_ENTRIES = 20_000
MAX_DEPTH = 4
_HEX = re.compile(r"\b[0-9a-f]{64}\b")
Wanted = Mapping[Digest, int | None]


def find_copies(wanted: Wanted, environment: Mapping[str, str]) -> tuple[LocalCopy, ...]:
    """Files outside the store that promise a wanted digest, sorted by digest, then in the order of the table above.

    Args:
        wanted: digest: size in bytes, None where nobody knows it (then only names count).
        environment: HOME, XDG_CACHE_HOME, HF_HUB_CACHE, HF_HOME, OLLAMA_MODELS, LLAMA_CACHE and RECONCILER_CACHES.
    """
    if not wanted:
        return ()
    found: dict[str, LocalCopy] = {}
    for copy in _candidates(wanted, environment):
        found.setdefault(copy.path, copy)
    order = {path: place for place, path in enumerate(found)}
    return tuple(sorted(found.values(), key=lambda copy: (copy.digest, order[copy.path])))


def _candidates(wanted: Wanted, environment: Mapping[str, str]) -> Iterator[LocalCopy]:
    home = Path(environment.get("HOME") or Path.home())
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    for hub in _hub_folders(environment, cache):
        yield from _by_name(wanted, [blobs for blobs in _list(hub, "models--") if _is_folder(blobs)], "")
    ollama = environment.get("OLLAMA_MODELS")
    for models in [Path(ollama)] if ollama else [home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]:
        yield from _by_name(wanted, [models / "blobs"], "sha256-")
    yield from _by_etag(wanted, Path(environment.get("LLAMA_CACHE") or cache / "llama.cpp"))
    named = [Path(folder) for folder in environment.get("RECONCILER_CACHES", "").split(os.pathsep) if folder]
    by_size = [home / ".lmstudio/models", cache / "lm-studio/models", *named]
    yield from _by_size(wanted, by_size)


def _hub_folders(environment: Mapping[str, str], cache: Path) -> list[Path]:
    """The declared one, and its default place."""
    default = cache / "huggingface" / "hub"
    declared = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    if not declared and (home := environment.get("HF_HOME")):
        declared = f"{home}/hub"
    return [Path(declared).expanduser(), default] if declared else [default]


def _by_name(wanted: Wanted, folders: Sequence[Path], prefix: str) -> Iterator[LocalCopy]:
    for folder in folders:
        if not _is_folder(folder):
            continue
        for digest, size in wanted.items():
            path = folder / f"{prefix}{digest.removeprefix('sha256:')}"
            if (copy := _copy(digest, size, path)) is not None:
                yield copy


def _by_etag(wanted: Wanted, folder: Path) -> Iterator[LocalCopy]:
    """llama.cpp keeps the ETag of each file beside it; an LFS file's ETag is its SHA-256."""
    for note in _list(folder, "", below=""):
        if note.suffix not in (".etag", ".json") or not (text := _read(note)):
            continue
        for hex_digits in _HEX.findall(text):
            digest = Digest(f"sha256:{hex_digits}")
            copy = _copy(digest, wanted[digest], note.with_suffix("")) if digest in wanted else None
            if copy is not None:
                yield copy


def _by_size(wanted: Wanted, folders: Sequence[Path]) -> Iterator[LocalCopy]:
    by_size: dict[int, list[Digest]] = {}
    for digest, size in wanted.items():
        if size is not None and size >= MIN_SIZE_MATCH_BYTES:
            by_size.setdefault(size, []).append(digest)
    for folder in folders if by_size else ():
        for path, size in _walk(folder):
            yield from (LocalCopy(digest, str(path), size) for digest in by_size.get(size, ()))


def _walk(folder: Path) -> Iterator[tuple[Path, int]]:
    """Regular files below ``folder`` and their sizes, sorted, bounded in depth and number; links are not followed."""
    seen = 0
    for root, folders, files in os.walk(folder):
        folders.sort()
        if len(Path(root).relative_to(folder).parts) >= MAX_DEPTH:
            folders.clear()
        for name in sorted(files):
            seen += 1
            if seen > MAX_ENTRIES:
                return
            path = Path(root) / name
            facts = _stat(path, follow=False)
            if facts is not None and stat.S_ISREG(facts.st_mode):
                yield path, facts.st_size


def _copy(digest: Digest, size: int | None, path: Path) -> LocalCopy | None:
    """The file ``path`` leads to, where it is regular and of the right size."""
    facts = _stat(path)
    if facts is None or not stat.S_ISREG(facts.st_mode) or (size is not None and size != facts.st_size):
        return None
    return LocalCopy(digest, os.path.realpath(path), facts.st_size)


def _list(folder: Path, prefix: str, below: str = "blobs") -> list[Path]:
    """The entries of a folder that start with ``prefix``, each with ``below`` added, sorted; none if it is absent."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(prefix))
    except OSError:
        return []
    return [folder / name / below for name in names[:MAX_ENTRIES]]


def _is_folder(path: Path) -> bool:
    facts = _stat(path)
    return facts is not None and stat.S_ISDIR(facts.st_mode)


def _stat(path: Path, *, follow: bool = True) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=follow)
    except (OSError, ValueError):
        return None


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(4096)
    except OSError:
        return ""
