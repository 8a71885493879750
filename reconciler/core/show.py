"""Everything that is known of one model, in one value: the answer of ``show``."""

from reconciler.core.comparing import Warnings
from reconciler.core.heading import Document, heading
from reconciler.core.history import History
from reconciler.core.model_status import ModelStatus
from reconciler.core.moments import moment_text
from reconciler.core.records import dataclass
from reconciler.core.stored import LinkFact, StoredFile
from reconciler.core.words import Condition

SOUND = frozenset({Condition.INTACT, Condition.UNPLACED})


@dataclass(frozen=True, slots=True)
class Validation:
    """How the content stands: its own words, and those of the manifest. ``is_valid``: nothing is known against it."""

    is_valid: bool
    errors: tuple[str, ...] = ()
    warnings: Warnings = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """One model. ``formats`` are the files' own, in their order; ``sources`` are labels without a query."""

    status: ModelStatus
    files: tuple[StoredFile, ...]
    formats: tuple[str, ...]
    validation: Validation
    sources: tuple[str, ...] = ()
    links: tuple[LinkFact, ...] = ()
    depends_on: tuple[str, ...] = ()
    history: History | None = None


def validate(files: tuple[StoredFile, ...], errors: tuple[str, ...], warnings: Warnings) -> Validation:
    """The result of looking at a model: what its files say, and how they stand in the store."""
    harm = tuple(f"{file.path}: {file.condition.value}, {file.detail}" for file in files if file.condition not in SOUND)
    told = (*errors, *harm, *(text for severity, text in warnings if severity == "error"))
    rest = tuple((severity, text) for severity, text in warnings if severity != "error")
    return Validation(bool(files) and not told, told, rest)


def show_document(shown: Shown) -> Document:
    """The ``Show`` document."""
    model, history = shown.status, shown.history
    revisions = history.revisions if history else ()
    return heading("Show") | {
        "name": model.name,
        "state": model.state,
        "lifecycle": model.lifecycle,
        "wanted": model.wanted,
        "reason": model.reason,
        "message": model.message,
        "bytes": model.bytes,
        "format": model.format or None,
        "revision": model.revision or None,
        "signed_by": model.signed_by or None,
        "verified_at": moment_text(model.verified_at),
        "metadata": dict(sorted(model.metadata.items())),
        "validation": {
            "valid": shown.validation.is_valid,
            "errors": list(shown.validation.errors),
            "warnings": [{"severity": severity, "message": text} for severity, text in shown.validation.warnings],
        },
        "files": [
            {
                "path": file.path,
                "role": file.role.value,
                "format": word,
                "bytes": file.size_bytes,
                "digest": file.digest,
                "condition": file.condition.value,
            }
            for file, word in zip(shown.files, shown.formats, strict=True)
        ],
        "sources": list(shown.sources),
        "links": [{"path": link.path, "right": link.is_right, "foreign": link.is_foreign} for link in shown.links],
        "depends_on": list(shown.depends_on),
        "history": {
            "revisions": len(revisions),
            "transitions": len(history.transitions) if history else 0,
            "installed_at": moment_text(next((fact.installed_at for fact in revisions if fact.is_current), None)),
            "use_count": model.use_count,
            "last_used": moment_text(model.last_used),
        },
    }
