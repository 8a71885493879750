"""Names that strangers choose: repository files, archive members, image titles, object keys.

Every such name passes through here once, at the border, before it becomes part of a path. What comes out is a relative
POSIX path that stays below the folder it is joined to on any file system a store may lie on. What is refused is refused
with one reason, ``hostile_name``, and the name is quoted so that it cannot play tricks on a terminal.

Trailing dots and spaces are allowed in one name (Linux keeps them), but two names that differ only in them collide, as
they do on SMB and exFAT; so do names that differ only in case or in Unicode form.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

from reconciler.core.errors import Failure, permanent
from reconciler.core.words import Digest

MAX_SEGMENT_BYTES = 255  # NAME_MAX of every common file system
MAX_PATH_BYTES = 2048  # leaves half of PATH_MAX for the store's own folder
REASON = "hostile_name"

_DRIVE = re.compile(r"[A-Za-z]:")
_HEX64 = re.compile(r"(?:sha256[:-])?([0-9a-fA-F]{64})")
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, lone surrogate, line and paragraph separators
_BIDI = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)  # reorder what people read


def quote(name: str, limit: int = 80) -> str:
    """``name`` for a message: in quotes, what cannot be printed escaped, cut at ``limit`` characters."""
    text = repr(name)
    return text if len(text) <= limit + 2 else f"{text[:limit]}…{text[0]}"


def check_path(path: str, what: str = "file name") -> str:
    """The normalised relative POSIX form of ``path``: ``./a/b`` is ``a/b``.

    Args:
        path: as the stranger wrote it.
        what: names the kind of thing in the message, e.g. ``repository file``.

    Raises:
        Failure: permanent ``hostile_name`` for anything that could leave its folder or cannot be stored.
    """
    trouble = _path_trouble(path)
    if trouble:
        raise _hostile(path, what, trouble)
    segments = [segment for segment in path.split("/") if segment != "."]
    if not segments:
        raise _hostile(path, what, "names no file")
    if _DRIVE.match(segments[0]):
        raise _hostile(path, what, "starts with a drive letter")
    return "/".join(segments)


def check_segment(name: str, what: str = "file name") -> str:
    """Like :func:`check_path` for a name that must be one segment.

    Raises:
        Failure: permanent ``hostile_name``.
    """
    if "/" in name:
        raise _hostile(name, what, "holds a slash")
    return check_path(name, what)


def check_digest(text: str, what: str = "digest") -> Digest:
    """``sha256:<hex>``, ``sha256-<hex>`` or bare hex, in any case, as a :data:`Digest`.

    Raises:
        Failure: permanent ``bad_digest`` for anything else; a digest becomes a path, so nothing else may pass.
    """
    match = _HEX64.fullmatch(text)
    if match is None:
        raise permanent("bad_digest", f"{what} {quote(text)} is no SHA-256 digest")
    return Digest(f"sha256:{match[1].lower()}")


def check_collisions(paths: Iterable[str], what: str = "file name") -> None:
    """Refuse a set of (checked) paths that could not all lie side by side on every file system.

    Two paths collide where they are equal after case folding and Unicode normalisation, or where one is a file and the
    other wants it to be a folder.

    Raises:
        Failure: permanent ``hostile_name`` naming both.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        segments = path.split("/")
        keys = ["/".join(fold(part) for part in segments[:depth]) for depth in range(1, len(segments) + 1)]
        other = files.get(keys[-1]) or folders.get(keys[-1])
        other = other or next((files[key] for key in keys[:-1] if key in files), None)
        other = other or _respelt(folders, keys[:-1], segments)
        if other is not None:
            raise _hostile(path, what, f"collides with {quote(other)}")
        files[keys[-1]] = path
        for depth, key in enumerate(keys[:-1], 1):
            folders.setdefault(key, "/".join(segments[:depth]))


def fold(segment: str) -> str:
    """What a file system that ignores case, Unicode form and trailing dots may take ``segment`` for."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", segment).casefold())
    return folded.rstrip(". ") or folded


def _respelt(folders: dict[str, str], keys: list[str], segments: list[str]) -> str | None:
    """A folder seen before under another spelling, e.g. ``A/x`` beside ``a/y``."""
    for depth, key in enumerate(keys, 1):
        seen = folders.get(key)
        if seen is not None and seen != "/".join(segments[:depth]):
            return seen
    return None


def _path_trouble(path: str) -> str:
    """Why ``path`` is refused; empty where it is not. The order matters: only clean text can be encoded."""
    rules: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("is empty", lambda: not path),
        ("is absolute", lambda: path.startswith("/")),
        ("holds a backslash", lambda: "\\" in path),
        ("holds a control character", lambda: any(map(_is_refused, path))),
        (f"is longer than {MAX_PATH_BYTES} bytes", lambda: len(path.encode()) > MAX_PATH_BYTES),
        ("holds an empty segment", lambda: "" in path.split("/")),
        ("leaves its folder", lambda: ".." in path.split("/")),
        (f"holds a segment longer than {MAX_SEGMENT_BYTES} bytes", lambda: _longest_bytes(path) > MAX_SEGMENT_BYTES),
    )
    return next((trouble for trouble, is_so in rules if is_so()), "")


def _longest_bytes(path: str) -> int:
    return max(len(segment.encode()) for segment in path.split("/"))


def _is_refused(character: str) -> bool:
    return unicodedata.category(character) in _REFUSED_CATEGORIES or character in _BIDI


def _hostile(path: str, what: str, trouble: str) -> Failure:
    return permanent(
        REASON, f"{what} {quote(path)} {trouble}", hint="nothing was written; ask the publisher for a safe name"
    )
