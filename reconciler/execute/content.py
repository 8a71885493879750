"""Judging content before it is placed: is it the declared format, is it whole, does it hold a pickle?

A file is judged while it is still a partial, so that what is refused never becomes a blob; a model of several files is
judged once more as a whole (an index names shards that must be there). Where the manifest declares no format but a
digest that matched, a header that does not parse is a warning: those are the very bytes that were asked for.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from reconciler.adapters import archives, formats
from reconciler.adapters.ledger import FileRow
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure
from reconciler.core.ports import Extractor, FormatReport
from reconciler.core.records import dataclass
from reconciler.core.words import ExtractMode
from reconciler.execute.work import Work

_LENIENT = frozenset({"auto", "unknown"})


@dataclass(frozen=True, slots=True)
class Findings:
    """What the content says of itself: a format word, and a JSON object of metadata."""

    format: str = ""
    metadata: str = ""


def judge_partial(
    work: Work, model: DesiredModel, file: Artifact, path: str, content: memoryview | None = None
) -> None:
    """Refuse one fetched file by its content, which is not read again where it is still in memory.

    Raises:
        Failure: permanent ``wrong_format``; refused ``unsafe_pickle``.
    """
    if is_archive(work, model, path, file.path):
        return  # its members are judged when they are out
    declared = model.format if len(work.targets(model)) == 1 else "auto"
    _check(work, model, [(file.path, path)], declared, _Look(is_proven=file.digest is not None, content=content))


def judge_member(work: Work, model: DesiredModel, name: str, path: str) -> None:
    """Refuse one unpacked file that holds a pickle nobody allowed, before it becomes a blob.

    Raises:
        Failure: refused ``unsafe_pickle``.
    """
    is_proven = all(file.digest is not None for file in work.targets(model))
    _check(work, model, [(name, path)], "auto", _Look(is_proven))


def judge_model(work: Work, model: DesiredModel, rows: Sequence[FileRow]) -> Findings:
    """Judge all files of a model together, and read what they say of it.

    Raises:
        Failure: permanent ``wrong_format`` or ``model_incomplete``; refused ``unsafe_pickle``.
    """
    pairs = [(row.path, work.world.store.blob_path(row.digest)) for row in rows]
    is_proven = all(file.digest is not None for file in work.targets(model))
    report = _check(work, model, pairs, model.format, _Look(is_proven, is_whole=True))
    return Findings(report.format, json.dumps(dict(report.metadata), sort_keys=True) if report.metadata else "")


class _Look(NamedTuple):
    """What is known of files that are about to be looked at."""

    is_proven: bool
    is_whole: bool | None = None
    content: memoryview | None = None


def _check(work: Work, model: DesiredModel, pairs: list[tuple[str, str]], declared: str, known: _Look) -> FormatReport:
    readers = (*work.world.formats, *formats.BUILTIN)
    try:
        return formats.check(
            pairs,
            declared,
            allow_unsafe=model.allow_unsafe,
            is_whole=known.is_whole,
            readers=readers,
            content=known.content,
        )
    except Failure as failure:
        if failure.reason == "wrong_format" and declared in _LENIENT and known.is_proven:
            return formats.read_folder(pairs, readers)
        raise


def is_archive(work: Work, model: DesiredModel, path: str, name: str) -> bool:
    """Whether the manifest and the content say that this file is to be unpacked."""
    if model.extract is ExtractMode.NEVER:
        return False
    return extractor_of(work, path, name, is_forced=model.extract is ExtractMode.ALWAYS) is not None


def extractor_of(work: Work, path: str, name: str, *, is_forced: bool) -> Extractor | None:
    """Who unpacks this file, by content first; None where ``extract: auto`` leaves it as it is."""
    known = (*work.world.archives, *archives.BUILTIN)
    return archives.recognise(path, name, extractors=known, is_forced=is_forced)
