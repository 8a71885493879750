"""A saved plan against the world of now: what is already true, what is still to be done, what no longer fits.

Terraform compares one serial number; here each action is held against the facts it leaned on (spec, revision in the
store, file stat, pin, load, policy), so that an unrelated change does not make a plan stale. A plan made afresh tells
what is already true: the same function says at plan time and at run time what an action would change.
"""

from dataclasses import dataclass

from reconciler.core.actions import Action, Plan, Precondition
from reconciler.core.state import DesiredState, ObservedState, StoredModel
from reconciler.core.steps import policy_precondition


@dataclass(frozen=True, slots=True)
class Verdict:
    """The saved plan's actions sorted; with anything in ``stale`` nothing may be done."""

    todo: tuple[Action, ...]
    already_true: tuple[Action, ...]
    stale: tuple[str, ...]


def sort_saved(saved: Plan, desired: DesiredState, observed: ObservedState, fresh: Plan) -> Verdict:
    """Sort the actions of ``saved``, given the plan that would be made now."""
    due = {action.id for action in fresh.actions}
    settled = {satisfied.model for satisfied in fresh.satisfied}
    todo, done, stale = [], [], []
    for action in saved.actions:
        if action.id not in due and _is_true(action, settled, observed):
            done.append(action)
            continue
        broken = [precondition for precondition in action.preconditions if not _holds(precondition, desired, observed)]
        if broken:
            stale.append(f"{action.id}: {_tell(broken[0])}")
        elif action.id not in due:
            stale.append(f"{action.id} is not due any more")
        else:
            todo.append(action)
    return Verdict(tuple(todo), tuple(done), tuple(stale))


def _is_true(action: Action, settled: set[str], observed: ObservedState) -> bool:
    """Whether what the action would bring about is so already."""
    if action.kind == "evict":
        return not _is_there(action, observed)
    return action.model in settled


def _is_there(action: Action, observed: ObservedState) -> bool:
    """Whether what an eviction would delete is still in the store."""
    store = observed.store
    match action.subject:
        case "partial":
            return any(partial.key in action.paths for partial in store.partials)
        case "blob":
            return any(blob.digest in action.paths for blob in store.blobs)
        case "revision":
            return any((m.name, m.spec_digest) == (action.model, action.spec_digest) for m in store.models)
        case _:
            return _current(action.model, observed) is not None


def _current(name: str, observed: ObservedState) -> StoredModel | None:
    return next((model for model in observed.store.models if model.name == name and model.is_current), None)


def _holds(precondition: Precondition, desired: DesiredState, observed: ObservedState) -> bool:
    return _present(precondition, desired, observed) == precondition.value


def _present(precondition: Precondition, desired: DesiredState, observed: ObservedState) -> str:
    """The fact as it is now, in the words of the precondition."""
    subject = precondition.subject
    stored = _current(subject, observed)
    if precondition.kind == "file":
        return _file_word(subject, observed)
    if precondition.kind == "policy":
        return policy_precondition(subject, desired.cache if subject == "cache" else desired.memory).value
    spec = next((str(model.spec_digest) for model in desired.models if model.name == subject), "absent")
    facts = {
        "spec": spec,
        "stored": str(stored.spec_digest) if stored and not stored.is_foreign else "absent",
        "pinned": "true" if stored and stored.pinned else "false",
        "loaded": "true" if stored and stored.loaded else "false",
    }
    return facts.get(precondition.kind, f"unknown precondition {precondition.kind}")


def _file_word(path: str, observed: ObservedState) -> str:
    for model in observed.store.models:
        for file in model.files:
            if path == f"models/{model.name}/{file.path}":
                return file.stat.word if file.stat else "absent"
    for blob in observed.store.blobs:
        digest = blob.digest.removeprefix("sha256:")
        if path == f"blobs/sha256/{digest[:2]}/{digest}":
            return blob.stat.word if blob.stat else "absent"
    return "absent"


def _tell(precondition: Precondition) -> str:
    what = {
        "spec": "the manifest asks for something else of",
        "stored": "another revision lies in the store of",
        "pinned": "the pin has changed on",
        "loaded": "it was loaded or unloaded since:",
        "policy": "the manifest has changed its section",
        "file": "the file has changed:",
    }
    return f"{what.get(precondition.kind, 'a fact has changed:')} {precondition.subject}"
