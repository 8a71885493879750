"""``df``: what the store takes on the disk, by part, by format and by model, and what could be done about it.

A pure sum over observed facts (row 140) with the standing recommendations (row 142). Bytes are allocated bytes, each
inode once over the whole store; a blob that two models share is named in both models' own figures.
"""

from collections.abc import Mapping

from reconciler.core.heading import Document, heading
from reconciler.core.moments import moment_text
from reconciler.core.observed import ObservedState
from reconciler.core.policies import CachePolicy
from reconciler.core.records import dataclass
from reconciler.core.stored import StoredModel

WARN_FREE_PERCENT = 10.0  # of the file system
CRITICAL_FREE_PERCENT = 5.0
UNUSED_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """One model in the store, all its revisions together."""

    name: str
    bytes: int
    files: int
    format: str
    revisions: int
    installed_at: float
    last_used: float | None
    pinned: bool


@dataclass(frozen=True, slots=True)
class FormatUsage:
    """All models of one format."""

    format: str
    models: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What a person may want to do about the store; ``bytes`` is what it would give back, where that is known."""

    reason: str
    message: str
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Df:
    """The ``df`` of a store. ``room_bytes`` is what may still be stored under both limits."""

    store: str
    limit_bytes: int
    used_bytes: int
    room_bytes: int
    blob_bytes: int
    partial_bytes: int
    quarantine_bytes: int
    foreign_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    min_free_bytes: int
    models: tuple[ModelUsage, ...] = ()
    formats: tuple[FormatUsage, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()


def room_bytes(cache: CachePolicy, observed: ObservedState) -> int:
    """Bytes that may still be stored: the stricter of the cache limit and the free space that has to stay."""
    disk = observed.disk
    below_limit = cache.max_size.of(disk.total_bytes) - observed.store.used_bytes
    above_reserve = disk.free_bytes - cache.min_free.of(disk.total_bytes)
    return max(0, min(below_limit, above_reserve))


def measure_df(cache: CachePolicy, observed: ObservedState, formats: Mapping[str, str] | None = None) -> Df:
    """Sum up the store. ``formats`` names the format of a model where ``StoredModel.format`` does not."""
    store, disk = observed.store, observed.disk
    models = _models(store.models, formats or {})
    return Df(
        store=store.path,
        limit_bytes=cache.max_size.of(disk.total_bytes),
        used_bytes=store.used_bytes,
        room_bytes=room_bytes(cache, observed),
        blob_bytes=sum(blob.allocated_bytes for blob in store.blobs),
        partial_bytes=sum(partial.allocated_bytes for partial in store.partials),
        quarantine_bytes=store.quarantine_bytes,
        foreign_bytes=store.foreign_bytes,
        disk_total_bytes=disk.total_bytes,
        disk_free_bytes=disk.free_bytes,
        min_free_bytes=cache.min_free.of(disk.total_bytes),
        models=models,
        formats=_by_format(models),
        recommendations=_recommend(models, observed),
    )


def _models(stored: tuple[StoredModel, ...], formats: Mapping[str, str]) -> tuple[ModelUsage, ...]:
    by_name: dict[str, list[StoredModel]] = {}
    for model in stored:
        if not model.is_foreign:
            by_name.setdefault(model.name, []).append(model)
    usages = [_model(name, revisions, formats.get(name, "")) for name, revisions in by_name.items()]
    return tuple(sorted(usages, key=lambda usage: (-usage.bytes, usage.name)))


def _model(name: str, revisions: list[StoredModel], format_name: str) -> ModelUsage:
    blobs = {(file.digest or file.path): file.allocated_bytes for model in revisions for file in model.files}
    used = max(model.last_used for model in revisions)
    return ModelUsage(
        name=name,
        bytes=sum(blobs.values()),
        files=sum(len(model.files) for model in revisions if model.is_current),
        format=format_name or next((model.format for model in revisions if model.format), "unknown"),
        revisions=len(revisions),
        installed_at=max(model.installed_at for model in revisions),
        last_used=used or None,
        pinned=any(model.pinned for model in revisions),
    )


def _by_format(models: tuple[ModelUsage, ...]) -> tuple[FormatUsage, ...]:
    names = sorted({model.format for model in models})
    return tuple(
        FormatUsage(
            name,
            sum(model.format == name for model in models),
            sum(model.bytes for model in models if model.format == name),
        )
        for name in names
    )


def _recommend(models: tuple[ModelUsage, ...], observed: ObservedState) -> tuple[Recommendation, ...]:
    found = []
    disk = observed.disk
    share = 100.0 * disk.free_bytes / disk.total_bytes if disk.total_bytes else 100.0
    if share < WARN_FREE_PERCENT:
        reason = "disk_critical" if share < CRITICAL_FREE_PERCENT else "disk_low"
        found.append(Recommendation(reason, f"only {share:.0f} % of the file system is free"))
    unused = [model for model in models if not model.pinned and _is_unused(model, observed.taken_at)]
    if unused:
        message = f"{len(unused)} model{'s' if len(unused) > 1 else ''} not used for 30 days"
        found.append(Recommendation("unused_models", message, sum(model.bytes for model in unused)))
    if observed.store.quarantine_bytes:
        message = "bad copies wait in quarantine; they go after a day, or when room is needed"
        found.append(Recommendation("quarantine", message, observed.store.quarantine_bytes))
    return tuple(found)


def _is_unused(model: ModelUsage, now: float) -> bool:
    return now - max(model.last_used or 0.0, model.installed_at) > UNUSED_S


def df_document(df: Df) -> Document:
    """The ``Df`` document."""
    return heading("Df") | {
        "store": df.store,
        "limit_bytes": df.limit_bytes,
        "used_bytes": df.used_bytes,
        "room_bytes": df.room_bytes,
        "parts": {
            "blobs": df.blob_bytes,
            "partial": df.partial_bytes,
            "quarantine": df.quarantine_bytes,
            "foreign": df.foreign_bytes,
        },
        "disk": {
            "total_bytes": df.disk_total_bytes,
            "free_bytes": df.disk_free_bytes,
            "min_free_bytes": df.min_free_bytes,
        },
        "models": [
            {
                "name": model.name,
                "bytes": model.bytes,
                "files": model.files,
                "format": model.format,
                "revisions": model.revisions,
                "installed_at": moment_text(model.installed_at or None),
                "last_used": moment_text(model.last_used),
                "pinned": model.pinned,
            }
            for model in df.models
        ],
        "formats": [{"format": usage.format, "models": usage.models, "bytes": usage.bytes} for usage in df.formats],
        "recommendations": [
            {"reason": advice.reason, "message": advice.message, "bytes": advice.bytes} for advice in df.recommendations
        ],
    }
