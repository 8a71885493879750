"""From ``-f`` to a desired state: find, read, merge, walk, parse; all problems at once or none.

Later documents are merged over earlier ones, mappings key by key, everything else replaced; every value keeps the place
it came from. A file that is missing, empty, cut off or unreadable, and a manifest without a ``models`` mapping, are
invalid: nothing here ever turns into "no models" by accident.
"""

import gc
import os
import posixpath
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import BinaryIO

from reconciler.adapters.manifest.border import Border, Extensions, no_extensions
from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.parse import parse
from reconciler.adapters.manifest.reader import read
from reconciler.adapters.manifest.rules import manifest_schema
from reconciler.adapters.manifest.search import Document, Origin, find, lock_beside, read_bytes
from reconciler.adapters.manifest.tree import Node, merge
from reconciler.adapters.manifest.walker import Walker
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Failure, ManifestInvalid, Problem
from reconciler.core.locked import LOCK_NAME, honour, parse_lock


def load(
    paths: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: BinaryIO | None = None,
    extensions: Callable[[], Extensions] = no_extensions,
    *,
    is_locked: bool = True,
) -> DesiredState:
    """Read the manifest.

    Args:
        paths: what ``-f`` named, in order; empty for the default places.
        environ: where ``${NAME}`` is looked up; the process environment where None.
        cwd: what relative paths are relative to; the working directory where None.
        stdin: read for ``-``; the process's where None.
        extensions: asked where a scheme, format or runtime is none of ours.
        is_locked: whether the lock file beside the manifest counts.

    Raises:
        ManifestInvalid: with every problem there is.
    """
    found = environ if environ is not None else os.environ
    documents = read_documents(paths, found, cwd or str(Path.cwd()), stdin)
    if not is_locked:
        documents = tuple(document for document in documents if not _is_lock(document))
    return load_documents(documents, found, extensions)


def read_documents(
    paths: Sequence[str], environ: Mapping[str, str], cwd: str, stdin: BinaryIO | None = None
) -> tuple[Document, ...]:
    """The bytes of every file of the manifest, in the order they are merged, and of the lock file beside the first.

    Raises:
        ManifestInvalid: where one is missing or cannot be read; with what is wrong in the others, as far as that shows
            without it.
    """
    findings = Findings()
    source = stdin if stdin is not None else sys.stdin.buffer if "-" in paths else None
    documents = [read_bytes(origin, cwd, findings, source) for origin in find(paths, environ, cwd, findings)]
    found = [document for document in documents if document is not None]
    lock = lock_beside(found, cwd, findings)
    if len(findings):
        if found:
            _merged(found, environ, findings, is_whole=False)
        raise ManifestInvalid(findings.problems)
    return tuple(found if lock is None else [*found, lock])


def find_origins(paths: Sequence[str], environ: Mapping[str, str], cwd: str) -> tuple[Origin, ...]:
    """The files of the manifest without reading them, for a watch.

    Raises:
        ManifestInvalid: where one is missing.
    """
    findings = Findings()
    origins = find(paths, environ, cwd, findings)
    if len(findings):
        raise ManifestInvalid(findings.problems)
    return origins


def load_documents(
    documents: Sequence[tuple[str, bytes, str | None] | Document],
    environ: Mapping[str, str],
    extensions: Callable[[], Extensions] = no_extensions,
) -> DesiredState:
    """Parse files whose bytes are here.

    Args:
        documents: (label, bytes, absolute folder or None) of each file, in the order they are merged.
        environ: where ``${NAME}`` is looked up.
        extensions: asked where a scheme, format or runtime is none of ours.

    Raises:
        ManifestInvalid: with every problem there is.
    """
    everything = [Document(*document) for document in documents]
    files = [document for document in everything if not _is_lock(document)]
    findings = Findings()
    border = Border(findings, {file.label: file.folder for file in files}, extensions, environ)
    with _without_collector():
        root = _merged(files, environ, findings, is_whole=bool(files))
        state = None if root is None else parse(root, border)
    if state is None or len(findings):
        raise ManifestInvalid(findings.problems)
    state = replace(state, files=tuple(dict.fromkeys(file.path for file in files if file.path)))
    for document in filter(_is_lock, everything):
        state = _honoured(state, document)
    return state


def _is_lock(document: Document) -> bool:
    return posixpath.basename(document.label.rpartition(":")[2]) == LOCK_NAME  # COMMIT:PATH out of Git


def _honoured(state: DesiredState, document: Document) -> DesiredState:
    try:
        return honour(state, parse_lock(document.data))
    except Failure as failure:
        expected = "a lock file as reconciler lock writes it"
        raise ManifestInvalid((Problem(document.label, 1, 1, failure.message, expected, failure.hint),)) from failure


def _merged(
    files: Sequence[Document], environ: Mapping[str, str], findings: Findings, *, is_whole: bool
) -> Node | None:
    """One walked tree of all documents; None, with problems, where nothing whole came out.

    ``is_whole`` is False where a file is missing: each that is there is judged alone.
    """
    roots: list[Node] = []
    for file in files:
        before = len(findings)
        reading = read(file.data, file.label, environ, findings)
        is_whole = is_whole and reading.is_whole
        found = [node for node in reading.documents if node.kind != "null"]
        if not found and len(findings) == before:
            findings.add((file.label, 1, 1), _nothing(file.data), "apiVersion: reconciler/v1 and models:")
        roots += found
    if not files:
        findings.add(("models.yaml", 1, 1), "no manifest", "a file with apiVersion: reconciler/v1 and models:")
    if not roots:
        return None
    walker = Walker(manifest_schema(), findings)
    if len(roots) > 1 or not is_whole:
        for root in roots:  # also what a later document replaces must be right
            walker.check(root, is_whole=False)
        roots = [root for root in roots if root.kind == "object"]
    if not roots:
        return None
    merged = reduce(merge, roots)
    if is_whole:
        walker.check(merged)
    return merged if merged.kind == "object" and is_whole else None


def _nothing(data: bytes) -> str:
    return "an empty file" if not data.strip() else "a file with nothing but comments"


@contextmanager
def _without_collector() -> Iterator[None]:
    """Trees of many small objects and no cycles: the garbage collector only costs, more than linearly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
