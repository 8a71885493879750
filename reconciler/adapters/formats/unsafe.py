"""Does a file hold a pickle anywhere a loader would find it?

Looked at, whatever the file says it is: the first bytes (raw pickle, legacy ``torch.save``, joblib); NumPy arrays of
objects; every member of a zip and of a tar (``torch`` before 0.1.10, NeMo); what a compressed stream unpacks to (joblib
compresses whole pickles). Each of these may stand within another, four deep. What cannot be looked at within the
budget, nor unpacked here, counts as unsafe; but a large tar in a stream is looked into as far as the budget reaches. An
archive that is going to be extracted is looked at afterwards, member by member.
"""

import re
from collections.abc import Iterable, Iterator

from reconciler.adapters.formats import npy, packed, pickles, tars, zips
from reconciler.adapters.formats.window import Lie, TooLong, Window

UNSEEN = "cannot be searched for pickles"
_MAX_DEPTH = 4
_PICKLE_NAME = re.compile(rb"(^|/)data\.pkl$|\.(pkl|pickle)$", re.IGNORECASE)


def holds_pickle(window: Window) -> bool:
    """Whether loading this file could run code that it carries."""
    return bool(danger(window))


def danger(window: Window) -> str:
    """Why the file may not be loaded, as the rest of a sentence about it; empty where nothing speaks against it."""
    try:
        return "holds a pickle, which runs code when it is loaded" if _holds(window, 0) else ""
    except TooLong as limit:
        return f"{UNSEEN}: {limit}"


def _holds(window: Window, depth: int) -> bool:
    return _starts(window) or _in_zip(window, depth) or _in_tar(window, depth) or _in_stream(window, depth)


def _deeper(window: Window, depth: int) -> bool:
    if depth == _MAX_DEPTH:
        raise TooLong("it is nested deeper than what is checked")
    return _holds(window, depth + 1)


def _starts(window: Window) -> bool:
    return pickles.holds_pickle(window) or npy.has_objects(window)


def _in_zip(window: Window, depth: int) -> bool:
    is_zip = window.peek(0, 4) == b"PK\3\4"
    if depth and not is_zip:  # only what stands alone may hide a zip behind other bytes: loaders look from the end
        return False
    window, is_found = packed.settled(window), False
    try:
        for members in zips.directories(window):
            is_found = True
            if _is_pickle_named(member.name for member in members):
                return True
            if any(_in_member(window, member, depth) for member in members if member.packed_bytes):
                return True
    except TooLong:
        raise
    except Lie:
        pass
    return is_zip and not is_found and _is_pickle_named(zips.header_names(window))


def _is_pickle_named(names: Iterable[bytes]) -> bool:
    return any(_PICKLE_NAME.search(name) for name in names)


def _in_member(window: Window, member: zips.ZipMember, depth: int) -> bool:
    window.budget.step()
    try:
        inner = zips.content(window, member)
    except TooLong:
        raise
    except Lie:
        return False
    return _deeper(inner, depth)


def _in_tar(window: Window, depth: int) -> bool:
    return any(_deeper(inner, depth) for inner in _members(window))


def _members(window: Window) -> Iterator[Window]:
    """Of a tar in a stream those within the bounds: kept packed it is nothing that a loader takes as it is."""
    try:
        yield from tars.members(window)
    except TooLong:
        if window.size != packed.UNKNOWN_BYTES:
            raise


def _in_stream(window: Window, depth: int) -> bool:
    inner = packed.unpacked(window)
    return inner is not None and _deeper(inner, depth)
