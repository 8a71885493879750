"""The ``Status`` document."""

from dataclasses import asdict

from reconciler.core.heading import Document, heading
from reconciler.core.moments import moment_text
from reconciler.core.observed import Override
from reconciler.core.status import ConditionStatus, ModelStatus, Status


def status_document(status: Status) -> Document:
    """Keys as SPEC 4 names them, lists in the order of the value."""
    cache, memory = status.cache, status.memory
    return heading("Status") | {
        "taken_at": moment_text(status.taken_at),
        "store": status.store,
        "generation": status.generation or None,
        "observed_generation": status.observed_generation or None,
        "source": {"revision": status.revision or None},
        "conditions": [_condition(condition) for condition in status.conditions],
        "models": [_model(model) for model in status.models],
        "cache": {
            "limit_bytes": cache.limit_bytes,
            "used_bytes": cache.used_bytes,
            "room_bytes": cache.room_bytes,
            "partial_bytes": cache.partial_bytes,
            "quarantine_bytes": cache.quarantine_bytes,
            "foreign_bytes": cache.foreign_bytes,
            "disk_total_bytes": cache.disk_total_bytes,
            "disk_free_bytes": cache.disk_free_bytes,
            "min_free_bytes": cache.min_free_bytes,
        },
        "memory": {
            "total_bytes": memory.total_bytes,
            "available_bytes": memory.available_bytes,
            "budget_bytes": memory.budget_bytes,
            "loaded_bytes": memory.loaded_bytes,
        },
        "overrides": [_override(override) for override in status.overrides],
        "suspended_until": moment_text(status.suspended_until),
        "next_run_at": moment_text(status.next_run_at),
    }


def _condition(condition: ConditionStatus) -> Document:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "last_transition_time": moment_text(condition.last_transition_time),
    }


def _override(override: Override) -> Document:
    return {"model": override.model, "kind": override.kind, "made_at": moment_text(override.made_at)}


def _model(model: ModelStatus) -> Document:
    return {
        "name": model.name,
        "state": model.state,
        "lifecycle": model.lifecycle,
        "wanted": model.wanted,
        "priority": model.priority,
        "pinned": model.pinned,
        "loaded": model.loaded,
        "bytes": model.bytes,
        "digest": model.digest,
        "path": model.path,
        "progress": model.progress,
        "last_used": moment_text(model.last_used),
        "use_count": model.use_count,
        "verified_at": moment_text(model.verified_at),
        "reason": model.reason,
        "message": model.message,
        "retry_at": moment_text(model.retry_at),
        "settled": model.is_settled,
        "foreign": model.foreign,
        "format": model.format or None,
        "metadata": dict(sorted(model.metadata.items())),
        "revision": model.revision or None,
        "memory_bytes": model.memory_bytes,
        "transfer": asdict(model.transfer) if model.transfer else None,
        "signed_by": model.signed_by or None,
        "warnings": [{"severity": severity, "message": text} for severity, text in model.warnings],
    }
