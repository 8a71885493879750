"""Dependencies between models: in every plan, what depends comes after what it depends on, or not at all."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.core.actions import Action, ActionKind, Cause
from reconciler.core.admission import Seat
from reconciler.core.dependencies import chained, with_raised_priorities
from reconciler.core.plan import plan
from reconciler.core.roster import Roster
from reconciler.core.targets import Need
from reconciler.core.words import ExtractMode, Priority, WantedState
from tests.core.worlds import BLOCK, artifact, desired, held, observed, wanted, worlds

BRINGING = {ActionKind.DOWNLOAD, ActionKind.EXTRACT, ActionKind.LINK}


@st.composite
def dependent_worlds(draw):
    """A world whose models depend on some of those with a later name: never in a circle."""
    want, found = draw(worlds())
    names = [model.name for model in want.models]
    models = []
    for place, model in enumerate(want.models):
        later = names[place + 1 :]
        needed = draw(st.lists(st.sampled_from(later), max_size=2, unique=True)) if later else []
        models.append(replace(model, depends_on=tuple(needed)))
    return replace(want, models=tuple(models)), found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(dependent_worlds())
def test_nothing_comes_before_what_it_depends_on(world):
    want, found = world
    made = plan(want, found)
    place = {action.id: index for index, action in enumerate(made.actions)}
    assert all(place[each] < place[action.id] for action in made.actions for each in action.depends_on)
    stored = {model.name: model for model in found.store.models if model.is_current and not model.is_foreign}
    leaving = {action.model for action in made.actions if action.kind is ActionKind.EVICT and not action.subject}
    coming = {action.model for action in made.actions if action.kind in BRINGING}
    for model in want.models:
        is_new = model.name in coming and model.name not in stored
        for name in model.depends_on if is_new else ():
            assert name in coming or (name in stored and name not in leaving)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(dependent_worlds())
def test_every_model_is_in_exactly_one_list(world):
    want, found = world
    made = plan(want, found)
    acting = {action.model for action in made.actions}
    deferred, satisfied = ({each.model for each in part} for part in (made.deferred, made.satisfied))
    assert not deferred & satisfied
    assert {model.name for model in want.models} <= acting | deferred | satisfied


def test_a_dependency_gets_the_priority_of_what_needs_it_however_indirectly():
    a = wanted("a", priority=Priority.HIGH, depends_on=("b",))
    b = wanted("b", priority=Priority.LOW, depends_on=("c",))
    c = wanted("c", priority=Priority.LOW)
    d = wanted("d", priority=Priority.CRITICAL, state=WantedState.ABSENT, depends_on=("c",))
    raised = {model.name: model.priority for model in with_raised_priorities(desired(a, b, c, d)).models}
    assert (raised["b"], raised["c"]) == (Priority.HIGH, Priority.HIGH)


def test_a_model_whose_dependency_is_absent_waits():
    made = plan(desired(wanted("a", depends_on=("b",)), wanted("b", state=WantedState.ABSENT)), observed())
    assert made.actions == ()
    (waiting,) = made.deferred
    assert (waiting.model, waiting.reason, waiting.blocked_by) == ("a", "dependency_missing", ("b",))


def test_what_is_there_is_mended_whether_or_not_its_dependency_is():
    a = wanted("a", depends_on=("b",))
    made = plan(desired(a, wanted("b", state=WantedState.ABSENT)), observed(held(a)))
    assert [each.model for each in made.satisfied if each.reason == "present"] == ["a"]


def test_a_dependency_that_only_comes_once_its_dependent_made_room_comes_in_the_next_plan():
    archive = artifact("a.zip", "archive", 4 * BLOCK)
    a = wanted("a", archive, extract=ExtractMode.ALWAYS, depends_on=("b",))
    b = wanted("b", artifact("b.bin", "b", 4 * BLOCK))
    made = plan(desired(a, b, limit=9 * BLOCK), observed())
    place = {action.id: index for index, action in enumerate(made.actions)}
    assert "download:b" in place
    assert all(place[each] < place[action.id] for action in made.actions for each in action.depends_on)


def action(kind, name, *after):
    return Action(f"{kind.value}:{name}", kind, name, "", "", Cause.INTENT, depends_on=after)


def roster(*models):
    return Roster([Seat(model, None, Need(model, None, "not_in_store", is_new=True)) for model in models])


def test_where_room_ties_a_dependency_to_what_waits_for_it_the_dependency_goes_first():
    a, b = wanted("a", depends_on=("b",)), wanted("b")
    tied = [action(ActionKind.DOWNLOAD, "a"), action(ActionKind.DOWNLOAD, "b", "download:a")]
    actions, held_back = chained(roster(a, b), tied)
    assert actions == tied
    assert (held_back.keys(), held_back["a"].reason) == ({"a"}, "dependency_missing")


def test_a_load_waits_for_files_and_loads_of_what_it_depends_on_and_an_eviction_for_nothing():
    a, b = wanted("a", depends_on=("b",)), wanted("b")
    loads = [action(ActionKind.LOAD, "a"), action(ActionKind.DOWNLOAD, "b"), action(ActionKind.LOAD, "b")]
    actions, held_back = chained(roster(a, b), [action(ActionKind.EVICT, "a"), *loads])
    assert held_back == {}
    assert [each.id for each in actions] == ["evict:a", "download:b", "load:b", "load:a"]
    assert actions[-1].depends_on == ("download:b", "load:b")
