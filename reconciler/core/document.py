"""Plan, Why and Snapshot as documents: plain JSON values with stable keys, and back.

A plan's digest covers what would be done, for whom and why: not times, not the digest of what was observed, and no
number that comes from free bytes alone. So the same decision has the same digest tomorrow and on the machine itself.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from reconciler.core.actions import (
    Action,
    ActionKind,
    Cause,
    Deferred,
    Guard,
    Plan,
    Request,
    Satisfied,
    Summary,
)
from reconciler.core.codec import decode, encode
from reconciler.core.desired import Artifact, Diagnostic
from reconciler.core.digests import digest_value
from reconciler.core.errors import permanent
from reconciler.core.heading import Document, heading
from reconciler.core.moments import moment_text, parse_moment
from reconciler.core.observed import ObservedState, Resolution
from reconciler.core.reference import display
from reconciler.core.why import Why
from reconciler.core.words import Digest

MAX_BYTES = 1 << 63  # of a disk, a memory or a second of a download
_MOVING = ("disk_peak_bytes", "disk_final_bytes", "disk_limit_bytes", "estimated_seconds")  # not in the digest


def plan_document(plan: Plan) -> Document:
    """The ``Plan`` document."""
    return heading("Plan") | {
        "plan_digest": plan_digest(plan),
        "desired": {"digest": plan.desired_digest},
        "observed": {"digest": plan.observed_digest, "taken_at": moment_text(plan.taken_at)},
        "request": encode(plan.request),
        "actions": [_action(action) for action in plan.actions],
        "deferred": [_deferred(deferred) for deferred in plan.deferred],
        "satisfied": [_plain(satisfied) for satisfied in plan.satisfied],
        "guards": [_plain(guard) for guard in plan.guards],
        "diagnostics": [_plain(diagnostic) for diagnostic in plan.diagnostics],
        "summary": _summary(plan.summary),
    }


def plan_digest(plan: Plan) -> Digest:
    """Changes exactly where something else would be done, or for another reason."""
    summary = _summary(plan.summary)
    return digest_value(
        {
            "desired": plan.desired_digest,
            "request": encode(plan.request),
            "actions": [_action(action) for action in plan.actions],
            "deferred": [[each.model, each.reason, each.needs_bytes, list(each.blocked_by)] for each in plan.deferred],
            "satisfied": [[each.model, each.reason] for each in plan.satisfied],
            "guards": [guard.reason for guard in plan.guards],
            "summary": {key: value for key, value in summary.items() if key not in _MOVING},
        }
    )


def _plain(value: Any) -> Document:
    return {name: getattr(value, name) for name in value.__slots__}


def _action(action: Action) -> Document:
    return {
        "id": action.id,
        "kind": action.kind.value,
        "model": action.model,
        "reason": action.reason,
        "message": action.message,
        "cause": action.cause.value,
        "bytes": action.bytes,
        "depends_on": list(action.depends_on),
        "preconditions": [_plain(precondition) for precondition in action.preconditions],
        "spec_digest": action.spec_digest,
        "paths": list(action.paths),
        "subject": action.subject,
        "score": action.score,
    }


def _deferred(deferred: Deferred) -> Document:
    return _plain(deferred) | {"blocked_by": list(deferred.blocked_by), "retry_at": moment_text(deferred.retry_at)}


def _summary(summary: Summary) -> Document:
    rest = {name: getattr(summary, name) for name in summary.__slots__ if name not in {"counts", "causes"}}
    return dict(summary.counts) | {"causes": dict(summary.causes)} | rest


# --- and back ---------------------------------------------------------------------------------------------------------


def plan_from_document(document: Document) -> Plan:
    """The plan that was saved.

    Raises:
        Failure: permanent ``document_invalid`` where it is no plan of this version, or was changed by hand.
    """
    _check_heading(document, "Plan")
    try:
        plan = _read_plan(document)
        _check_order(plan.actions)
        digest = plan_digest(plan)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _invalid("Plan", error) from error
    if digest != document.get("plan_digest"):
        hint = "save it again with `reconciler plan --out FILE`"
        raise permanent(
            "document_invalid", "the plan was changed after it was saved: its digest does not match", hint=hint
        )
    return plan


def _read_plan(document: Document) -> Plan:
    return Plan(
        desired_digest=Digest(document["desired"]["digest"]),
        observed_digest=Digest(document["observed"]["digest"]),
        taken_at=parse_moment(document["observed"]["taken_at"]),
        actions=tuple(_read_action(action) for action in document["actions"]),
        deferred=tuple(_read_deferred(deferred) for deferred in document["deferred"]),
        satisfied=tuple(decode(Satisfied, satisfied) for satisfied in document["satisfied"]),
        summary=_read_summary(document["summary"]),
        guards=tuple(decode(Guard, guard) for guard in document["guards"]),
        diagnostics=tuple(decode(Diagnostic, diagnostic) for diagnostic in document["diagnostics"]),
        request=decode(Request, document["request"]),
    )


def _check_order(actions: Iterable[Action]) -> None:
    """Each action once, and after those it waits for: another order would never come to an end."""
    seen: set[str] = set()
    for action in actions:
        if action.id in seen:
            raise ValueError(f"{action.id} stands there twice")
        unknown = next((each for each in action.depends_on if each not in seen), None)
        if unknown is not None:
            raise ValueError(f"{action.id} waits for {unknown}, which does not come before it")
        seen.add(action.id)


def _read_action(document: Document) -> Action:
    action: Action = decode(Action, document)
    return action


def _read_deferred(document: Document) -> Deferred:
    deferred: Deferred = decode(Deferred, document)
    return deferred


def _read_summary(document: Document) -> Summary:
    counts = {kind.value: document[kind.value] for kind in ActionKind}
    causes = {cause.value: document["causes"][cause.value] for cause in Cause}
    rest = {name: document[name] for name in Summary.__slots__ if name not in {"counts", "causes"}}
    return Summary(tuple(counts.items()), tuple(causes.items()), **rest)


def _check_heading(document: Any, kind: str) -> None:
    version = document.get("format_version") if isinstance(document, dict) else None
    if not isinstance(version, str) or document.get("kind") != kind:
        raise permanent("document_invalid", f"this is no {kind} document")
    if version.partition(".")[0] != "1":
        told = f"{kind} documents of version {_shown_text(version)} are not known here"
        raise permanent("document_invalid", told, hint="upgrade")


def _invalid(kind: str, error: Exception) -> Exception:
    return permanent("document_invalid", f"the {kind} document cannot be read: {_shown_text(str(error))}")


def _shown_text(text: str) -> str:
    """Words of a document that comes from outside, as they can be printed."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


# --- what was observed ------------------------------------------------------------------------------------------------


def snapshot_document(observed: ObservedState) -> Document:
    """The ``Snapshot`` document: everything a plan for this machine needs, and no secret."""
    body: Document = encode(_without_queries(observed))
    taken_at = body.pop("taken_at")
    head: Document = heading("Snapshot") | {"taken_at": taken_at, "digest": digest_value(body)}
    return head | body


def observed_digest(observed: ObservedState) -> Digest:
    """The digest of what was found, whenever that was."""
    body = encode(_without_queries(observed))
    del body["taken_at"]
    return digest_value(body)


def observed_from_document(document: Document) -> ObservedState:
    """The observed state that a snapshot was made from; only query strings of URLs are gone.

    Raises:
        Failure: permanent ``document_invalid`` where it is no snapshot of this version.
    """
    _check_heading(document, "Snapshot")
    body = {key: value for key, value in document.items() if key not in {"format_version", "kind", "digest"}}
    try:
        observed: ObservedState = decode(ObservedState, body)
        _check_ranges(observed)
        return replace(observed, digest=observed_digest(observed))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise _invalid("Snapshot", error) from error


def _check_ranges(observed: ObservedState) -> None:
    """Numbers that a plan divides by or counts from; what a machine never writes is told, not planned with."""
    disk, memory, throughput = observed.disk, observed.memory, observed.throughput_bytes_per_s
    ranges = (
        ("taken_at", observed.taken_at, 0, math.inf),
        ("disk: total_bytes", disk.total_bytes, 0, MAX_BYTES),
        ("disk: free_bytes", disk.free_bytes, 0, MAX_BYTES),
        ("disk: block_bytes", disk.block_bytes, 1, MAX_BYTES),
        ("memory: total_bytes", memory.total_bytes, 0, MAX_BYTES),
        ("memory: available_bytes", memory.available_bytes, 0, MAX_BYTES),
        ("device: local_minute", observed.device.local_minute, 0, 24 * 60 - 1),
        ("throughput_bytes_per_s", 1.0 if throughput is None else throughput, 1, MAX_BYTES),
    )
    for name, value, least, most in ranges:
        if not least <= value <= most or value == math.inf:
            raise ValueError(f"{name}: {value} is out of range")


def _without_queries(observed: ObservedState) -> ObservedState:
    if not observed.resolutions:
        return observed
    return replace(observed, resolutions=tuple(_shown(resolution) for resolution in observed.resolutions))


def _shown(resolution: Resolution) -> Resolution:
    return replace(resolution, files=tuple(_shown_artifact(artifact) for artifact in resolution.files))


def _shown_artifact(artifact: Artifact) -> Artifact:
    return replace(artifact, sources=tuple(display(source) for source in artifact.sources))


# --- why --------------------------------------------------------------------------------------------------------------


def why_document(why: Why) -> Document:
    """The ``Why`` document."""
    change = None
    if why.change is not None:
        change = {
            "field": why.change.field,
            "from": why.change.from_,
            "to": why.change.to,
            "message": why.change.message,
        }
    return heading("Why") | {
        "model": why.model,
        "decision": why.decision,
        "reason": why.reason,
        "message": why.message,
        "chain": [{"fact": link.fact, "message": link.message} for link in why.chain],
        "change": change,
    }
