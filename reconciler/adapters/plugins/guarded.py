"""A stranger's object at arm's length: what it raises becomes our failure, what it answers is checked.

Sources, format readers and runtimes are trusted with what they know; they run in this process, so this guards against
mistakes, not against malice. The files that an extractor says it wrote are looked at and hashed again, since a wrong
digest would poison the store for every model that shares it.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

from reconciler.core.errors import Failure, permanent
from reconciler.core.names import check_path
from reconciler.core.observed import Resolution
from reconciler.core.ports import FormatReport, Location, Member

_METHODS: Mapping[str, tuple[str, ...]] = {
    "reconciler.sources": ("needs_resolving", "resolve", "locate"),
    "reconciler.formats": ("read",),
    "reconciler.archives": ("recognises", "measure", "extract"),
    "reconciler.runtimes": ("__call__",),
}
_ANSWERS: Mapping[str, tuple[type, ...]] = {
    "resolve": (Resolution,),
    "locate": (Location,),
    "read": (FormatReport, NoneType),
    "measure": (int, NoneType),
    "extract": (tuple, list),
    "observe": (Mapping,),
    "load": (int,),
    "estimate": (int,),
}


def trouble_with(item: object, group: str) -> str:
    """Why ``item`` cannot be what its group wants; empty where it can."""
    lacking = [name for name in _METHODS[group] if not callable(getattr(item, name, None))]
    if lacking:
        return f"it has no method {', '.join(lacking)}"
    schemes = getattr(item, "schemes", None)
    if group == "reconciler.sources" and not (isinstance(schemes, tuple) and all(isinstance(s, str) for s in schemes)):
        return "its schemes are no tuple of words"
    return ""


class Guarded:
    """Passes every call on to ``item``; whatever it raises but a Failure comes out as permanent ``plugin_failed``."""

    def __init__(self, item: Any, name: str, package: str) -> None:
        self._item, self._entry, self._package = item, name, package

    def __getattr__(self, attribute: str) -> Any:
        try:
            value = getattr(self._item, attribute)
        except AttributeError:
            if attribute in ("name", "type"):
                return self._entry
            raise
        return self._guard(attribute, value) if callable(value) else value

    def __call__(self, *given: Any) -> "Guarded":
        """A runtime's factory makes a runtime, guarded like it."""
        return Guarded(self._guard("the factory", self._item)(*given), self._entry, self._package)

    def _guard(self, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*given: Any, **named: Any) -> Any:
            try:
                answer = call(*given, **named)
            except Failure:
                raise
            except Exception as error:  # a stranger's code may fail in any way
                raise self._failed(f"{method} raised {type(error).__name__}") from error
            if method in _ANSWERS and not isinstance(answer, _ANSWERS[method]):
                raise self._failed(f"{method} answered {type(answer).__name__}")
            return self._members(answer, given[1]) if method == "extract" else answer

        return guarded

    def _members(self, members: Any, into: str) -> tuple[Member, ...]:
        """The members as they lie in the stage."""
        for member in members:
            if not isinstance(member, Member):
                raise self._failed(f"extract answered a {type(member).__name__} for a member")
            _check_member(member, into, self._failed)
        return tuple(members)

    def _failed(self, trouble: str) -> Failure:
        return permanent(
            "plugin_failed", f"{self._package}: {self._entry}: {trouble}", hint="update or remove that package"
        )


def _check_member(member: Member, into: str, failed: Callable[[str], Failure]) -> None:
    """A regular file below ``into``, with the size and digest that it is said to have; links are not followed."""
    path = check_path(member.path, "archive member")
    place = os.path.join(into, path)  # noqa: PTH118 -- paths are text throughout the adapters
    try:
        is_inside = os.path.realpath(place) == os.path.join(os.path.realpath(into), path)  # noqa: PTH118
        facts = os.lstat(place)
        if not is_inside or not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise failed("extract made something that is no plain file")
        with open(place, "rb") as file:  # noqa: PTH123
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise failed(f"extract named a file that cannot be read ({error.strerror})") from error
    if (facts.st_size, f"sha256:{digest}") != (member.size_bytes, member.digest):
        raise failed("extract told a wrong size or digest")
