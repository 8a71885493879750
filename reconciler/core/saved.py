"""A saved plan against the world of now: what is already true, to be done, not possible now, or no longer fitting.

Terraform compares one serial number; here each action is held against the facts it leaned on (spec, revision in the
store, file stat, pin, load, policy), so that an unrelated change does not make a plan stale. An action is already true
where what it brings about is seen in the world, whatever the manifest asks by now. One whose facts hold and whose model
may not be acted on now (it is backing off, a window is closed) is held back, with what would only make room for it.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from reconciler.core.actions import Action, ActionKind, Guard, Plan, Precondition
from reconciler.core.desired import DesiredState
from reconciler.core.guard import guards
from reconciler.core.inventory import Inventory
from reconciler.core.observed import ObservedState
from reconciler.core.records import dataclass
from reconciler.core.roster import OTHERS_ONLY
from reconciler.core.steps import policy_precondition, waiting_only_for
from reconciler.core.stored import StoredModel
from reconciler.core.vouching import is_vouched
from reconciler.core.words import Condition, Digest

_BRINGING = frozenset({ActionKind.DOWNLOAD, ActionKind.EXTRACT, ActionKind.LINK})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The saved plan's actions sorted; with anything in ``stale`` nothing may be done.

    What is ``held_back`` is not done now; why stands in the deferred models of the plan that was made afresh.
    ``guards`` are the brakes that hold what is to be done, as things are now.
    """

    todo: tuple[Action, ...]
    already_true: tuple[Action, ...]
    held_back: tuple[Action, ...]
    stale: tuple[str, ...]
    guards: tuple[Guard, ...] = ()


def sort_saved(saved: Plan, desired: DesiredState, observed: ObservedState, fresh: Plan) -> Verdict:
    """Sort the actions of ``saved``, given the plan that would be made now."""
    due = {action.id for action in fresh.actions}
    due |= {f"download:{each.model}" for each in fresh.actions if _is_placing(each)}  # it fetches what is not here
    deferred = {each.model for each in fresh.deferred if each.reason != OTHERS_ONLY}
    todo, done, idle, stale = [], [], [], []
    brought: dict[str, Digest] = {}
    for action in saved.actions:
        if action.id not in due and _is_true(action, saved.actions, desired, observed):
            done.append(action)
            brought |= {action.model: action.spec_digest} if action.kind in _BRINGING else {}
            continue
        broken = [each for each in action.preconditions if not _holds(each, desired, observed, brought)]
        if broken:
            stale.append(f"{action.id}: {_tell(broken[0])}")
        elif action.id in due:
            todo.append(action)
        else:
            idle.append(action)
    held = _held_back(idle, saved.actions, deferred)
    stale += [f"{action.id} is not due any more" for action in idle if action not in held]
    brakes = guards(todo, desired.cache, Inventory(observed), saved.request)
    return Verdict(tuple(todo), tuple(done), held, tuple(stale), brakes)


def left_to_do(saved: Plan, verdict: Verdict, fresh: Plan) -> Plan:
    """What of the saved plan is to be done, with what holds it and who is deferred as things are now."""
    ids = {action.id for action in verdict.todo}
    todo = tuple(waiting_only_for(action, ids) for action in verdict.todo)
    summary = replace(fresh.summary, changes=len(todo))
    return replace(saved, actions=todo, deferred=fresh.deferred, guards=verdict.guards, summary=summary)


def _is_placing(action: Action) -> bool:
    """Whether the action brings a model by bytes that are on this machine already."""
    return action.kind is ActionKind.LINK and action.subject != "links"


def _held_back(idle: Iterable[Action], actions: Iterable[Action], deferred: set[str]) -> tuple[Action, ...]:
    """Of what is not due though its facts hold: what is for a deferred model, or only makes room for what is."""
    actions, held = tuple(actions), {}
    for action in reversed(tuple(idle)):
        followers = [each.id for each in actions if action.id in each.depends_on]
        if action.model in deferred or (followers and all(each in held for each in followers)):
            held[action.id] = action
    return tuple(reversed(held.values()))


def _is_true(action: Action, actions: Iterable[Action], desired: DesiredState, observed: ObservedState) -> bool:
    """Whether what the action would bring about is so already."""
    if action.kind is ActionKind.EVICT:
        return not _is_there(action, observed)
    stored = _own(action.model, observed)
    if stored is None:
        return action.kind is ActionKind.UNLOAD
    match action.kind:
        case ActionKind.UNLOAD:
            reloads = [each for each in actions if each.kind is ActionKind.LOAD and each.model == action.model]
            return not stored.loaded or any(_is_loaded(each, stored) for each in reloads)
        case ActionKind.LOAD:
            return _is_loaded(action, stored)
        case ActionKind.VERIFY | ActionKind.ADOPT:
            return _is_whole(action, stored)
        case ActionKind.DOWNLOAD | ActionKind.EXTRACT | ActionKind.LINK:
            return _is_brought(action, stored, desired, observed)
        case _:
            assert_never(action.kind)


def _is_loaded(action: Action, stored: StoredModel) -> bool:
    return stored.loaded and stored.spec_digest == action.spec_digest


def _is_whole(action: Action, stored: StoredModel) -> bool:
    """Whether nothing is wrong with the files the action is about."""
    return all(
        file.condition is Condition.INTACT for file in stored.files if not action.paths or file.path in action.paths
    )


def _is_brought(action: Action, stored: StoredModel, desired: DesiredState, observed: ObservedState) -> bool:
    """Whether the revision lies in the store, whole and vouched for; of declared links, whether they are there."""
    if stored.spec_digest != action.spec_digest:
        return False
    if action.subject == "links":
        return {link.path for link in stored.links if link.is_right}.issuperset(action.paths)
    keys = dict(observed.keys)
    asked = [model for model in desired.models if (model.name, model.spec_digest) == (stored.name, stored.spec_digest)]
    return _is_whole(action, stored) and all(is_vouched(model, stored, keys) for model in asked)


def _is_there(action: Action, observed: ObservedState) -> bool:
    """Whether what an eviction would delete is still in the store."""
    store = observed.store
    match action.subject:
        case "partial":
            return any(partial.key in action.paths for partial in store.partials)
        case "blob":
            return any(blob.digest in action.paths for blob in store.blobs)
        case "quarantine":
            keys = {key for copy in store.bad_copies for key in (copy.key, copy.digest)}
            keys |= {file.digest for m in store.models for file in m.files if file.condition is Condition.DAMAGED}
            return action.paths[0] in keys
        case "revision":
            return any((m.name, m.spec_digest) == (action.model, action.spec_digest) for m in store.models)
        case _:
            return _current(action.model, observed) is not None


def _own(name: str, observed: ObservedState) -> StoredModel | None:
    """The current revision, where the tool placed it."""
    stored = _current(name, observed)
    return None if stored is None or stored.is_foreign else stored


def _current(name: str, observed: ObservedState) -> StoredModel | None:
    return next((model for model in observed.store.models if model.name == name and model.is_current), None)


def _holds(
    precondition: Precondition, desired: DesiredState, observed: ObservedState, brought: dict[str, Digest]
) -> bool:
    """``brought`` are the revisions that actions before this one would have brought, and that are there."""
    present = _present(precondition, desired, observed)
    if precondition.kind == "stored" and brought.get(precondition.subject) == present:
        return True
    return present == precondition.value


def _present(precondition: Precondition, desired: DesiredState, observed: ObservedState) -> str:
    """The fact as it is now, in the words of the precondition."""
    subject = precondition.subject
    stored = _own(subject, observed)
    if precondition.kind == "file":
        return _file_word(subject, observed)
    if precondition.kind == "policy":
        return policy_precondition(subject, desired.cache if subject == "cache" else desired.memory).value
    spec = next((str(model.spec_digest) for model in desired.models if model.name == subject), "absent")
    facts = {
        "spec": spec,
        "stored": str(stored.spec_digest) if stored else "absent",
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
