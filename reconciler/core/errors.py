"""Errors, sorted by what happens next.

One exception class for everything that can go wrong on purpose. Its ``kind`` says what the reconciler does next
(the sorting is that of nolar/kopf and fluxcd: temporary against permanent), its ``reason`` is a stable word for
machines, its ``message`` a sentence for people, its ``hint`` what to type next. Programming errors are not caught.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """What happens after a failure."""

    TRANSIENT = "transient"  # tried again after a while
    PERMANENT = "permanent"  # waits for a changed manifest or source
    REFUSED = "refused"  # a guard said no; waits for a person or for room


class Failure(Exception):  # noqa: N818 -- the glossary says failure; not every one is an error
    """Something that could not be done.

    Attributes:
        kind: what happens next.
        reason: a stable lower_snake_case word, e.g. ``digest_mismatch``.
        message: a sentence that names the thing and the place. Never holds a secret or a query string.
        hint: what to type or change next; may be empty.
        retry_after_s: a floor for the next try, in seconds, where the other side named one.
    """

    def __init__(
        self, kind: FailureKind, reason: str, message: str, *, hint: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.kind, self.reason, self.message, self.hint, self.retry_after_s))


def _rebuild(kind: FailureKind, reason: str, message: str, hint: str, retry_after_s: float | None) -> Failure:
    return Failure(kind, reason, message, hint=hint, retry_after_s=retry_after_s)


def transient(reason: str, message: str, *, hint: str = "", retry_after_s: float | None = None) -> Failure:
    """A failure that may pass: it is tried again."""
    return Failure(FailureKind.TRANSIENT, reason, message, hint=hint, retry_after_s=retry_after_s)


def permanent(reason: str, message: str, *, hint: str = "") -> Failure:
    """A failure that the same input will meet again: it waits for a change."""
    return Failure(FailureKind.PERMANENT, reason, message, hint=hint)


def refused(reason: str, message: str, *, hint: str = "") -> Failure:
    """A guard said no."""
    return Failure(FailureKind.REFUSED, reason, message, hint=hint)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a manifest.

    ``line`` and ``column`` count from 1; ``file`` is as the user named it (``<stdin>`` for ``-``).
    """

    file: str
    line: int
    column: int
    found: str
    expected: str
    hint: str = ""
    path: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.found}; expected {self.expected}"
        return f"{text} ({self.hint})" if self.hint else text


MAX_PROBLEMS = 1000  # of one manifest; nobody reads more, and a hostile file must not make us write more


class ManifestInvalid(Failure):
    """A manifest that changes nothing: all its problems at once, in order of place; the first of very many."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems))
        count = len(self.problems)
        super().__init__(
            FailureKind.PERMANENT,
            "manifest_invalid",
            f"the manifest has {count} problem{'s' if count != 1 else ''}"
            + (" or more; only so many are told" if count >= MAX_PROBLEMS else ""),
            hint="mend the places named; nothing was changed",
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (ManifestInvalid, (self.problems,))


def manifest_missing() -> ManifestInvalid:
    """There is no manifest at all."""
    problem = Problem("models.yaml", 1, 1, "no manifest", "a manifest: -f FILE, or models.yaml here", "reconciler init")
    invalid = ManifestInvalid((problem,))
    invalid.reason = "manifest_missing"
    return invalid


def unknown_model(name: str, known: Iterable[str]) -> Failure:
    """Nobody knows a model of that name; the hint is the nearest of those ``known``."""
    from difflib import get_close_matches  # noqa: PLC0415 -- only for a slip of the pen

    near = get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    hint = f"did you mean {near[0]}?" if near else "neither the manifest nor the store has any model"
    return permanent("unknown_model", f"there is no model {name} in the manifest or the store", hint=hint)
