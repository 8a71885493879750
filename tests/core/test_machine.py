"""A machine walks by the table and remembers; observers are told, and none of them can break it."""

import pytest

from reconciler.core.errors import Failure
from reconciler.core.lifecycle import Lifecycle
from reconciler.core.machine import HISTORY_LENGTH, Machine, Observers, Step, Topic
from reconciler.core.stages import stage_progress


def test_a_step_remembers_how_long_the_state_before_lasted():
    machine = Machine("m", since=100.0).to(Lifecycle.DISCOVERED, 110.0).to(Lifecycle.DOWNLOADING, 115.0)
    assert machine.state is Lifecycle.DOWNLOADING
    assert [step.lasted_s for step in machine.history] == [10.0, 5.0]
    assert machine.time_in_state(120.0) == 5.0


def test_an_illegal_step_is_refused_and_leaves_the_machine_as_it_was():
    machine = Machine("m")
    with pytest.raises(Failure, match="uninitialized cannot become loaded"):
        machine.to(Lifecycle.LOADED, 1.0)
    assert machine == Machine("m")


def test_a_clock_that_went_backwards_gives_no_negative_duration():
    machine = Machine("m", since=100.0).to(Lifecycle.DISCOVERED, 50.0)
    assert machine.history[0].lasted_s == 0.0
    assert machine.time_in_state(10.0) == 0.0


def test_the_history_keeps_the_last_hundred_steps():
    machine = Machine("m", Lifecycle.READY)
    for number in range(HISTORY_LENGTH):
        machine = machine.to(Lifecycle.EXECUTING, number * 2.0).to(Lifecycle.READY, number * 2.0 + 1)
    assert len(machine.history) == HISTORY_LENGTH == 100
    assert machine.history[-1].at == 199.0
    assert machine.history[0].at == 100.0


def test_counts_and_averages_come_from_the_history():
    machine = Machine("m", Lifecycle.READY, since=0.0)
    for start, end in [(1.0, 2.0), (3.0, 6.0)]:
        machine = machine.to(Lifecycle.EXECUTING, start).to(Lifecycle.READY, end)
    assert machine.count(Lifecycle.EXECUTING) == 2
    assert machine.average_s(Lifecycle.EXECUTING) == 2.0
    assert machine.average_s(Lifecycle.EVICTED) is None


def test_reaching_takes_every_step_of_the_shortest_way():
    machine = Machine("m").reach(Lifecycle.VALIDATED, 5.0)
    assert [step.target.value for step in machine.history] == ["discovered", "validating", "validated"]
    assert machine.reach(Lifecycle.VALIDATED, 9.0) is machine


def test_observers_are_told_of_their_topic_in_the_order_they_came():
    heard = []
    hub = Observers()
    hub.add(Topic.TRANSITION, lambda model, step: heard.append(("first", model, step.target)))
    hub.add(Topic.ERROR, lambda model, step: heard.append(("error", model, step.target)))
    hub.add(Topic.TRANSITION, lambda model, step: heard.append(("second", model, step.target)))
    hub.step("m", Step(Lifecycle.DISCOVERED, Lifecycle.DOWNLOADING, 1.0, 0.0))
    assert heard == [("first", "m", Lifecycle.DOWNLOADING), ("second", "m", Lifecycle.DOWNLOADING)]
    heard.clear()
    hub.step("m", Step(Lifecycle.DOWNLOADING, Lifecycle.ERROR, 2.0, 1.0))
    assert [name for name, *_ in heard] == ["first", "second", "error"]


def test_progress_is_a_topic_of_its_own():
    heard = []
    hub = Observers()
    hub.add(Topic.PROGRESS, lambda model, progress: heard.append((model, progress.percent)))
    hub.publish(Topic.PROGRESS, "m", stage_progress(Lifecycle.READY))
    assert heard == [("m", 100.0)]


def test_a_failing_observer_is_reported_and_breaks_nothing():
    heard, reported = [], []

    def broken(model, step):
        raise ValueError("broken observer")

    hub = Observers(on_failure=lambda topic, error: reported.append((topic, str(error))))
    hub.add(Topic.TRANSITION, broken)
    hub.add(Topic.TRANSITION, lambda model, step: heard.append(model))
    hub.step("m", Step(Lifecycle.DISCOVERED, Lifecycle.DOWNLOADING, 1.0, 0.0))
    assert heard == ["m"]
    assert reported == [(Topic.TRANSITION, "broken observer")]


def test_a_failing_observer_breaks_nothing_where_nobody_wants_to_know():
    hub = Observers()
    hub.add(Topic.TRANSITION, lambda model, step: 1 / 0)
    hub.step("m", Step(Lifecycle.DISCOVERED, Lifecycle.DOWNLOADING, 1.0, 0.0))


def test_a_removed_observer_hears_nothing_more_and_removing_twice_is_no_error():
    heard = []
    hub = Observers()
    remove = hub.add(Topic.PROGRESS, lambda model, value: heard.append(value))
    hub.publish(Topic.PROGRESS, "m", 1)
    remove()
    remove()
    hub.publish(Topic.PROGRESS, "m", 2)
    assert heard == [1]


def test_an_observer_may_remove_itself_while_it_is_told():
    heard = []
    hub = Observers()
    removers = []

    def once(model, value):
        heard.append(value)
        removers[0]()

    removers.append(hub.add(Topic.PROGRESS, once))
    hub.publish(Topic.PROGRESS, "m", 1)
    hub.publish(Topic.PROGRESS, "m", 2)
    assert heard == [1]
