"""What every runtime must do, as one class of tests to inherit.

A subclass gives three fixtures: ``runtime`` (fresh), ``model`` (a :class:`RuntimeModel` that the runtime can load and that is
not loaded now) and ``damaged`` (one whose file is missing or not to be loaded). Where a runtime has no way to see a
cancel, ``sees_cancel`` says so.
"""

import threading
from dataclasses import replace

import pytest

from reconciler.core.errors import Failure

NEVER = threading.Event()


class RuntimeConformance:
    """The promises of :class:`reconciler.core.ports.Runtime`."""

    sees_cancel = True

    def test_it_has_a_type(self, runtime):
        assert runtime.type
        assert runtime.type == runtime.type.lower()

    def test_what_was_never_loaded_is_not_observed(self, runtime, model):
        assert runtime.observe([model]) == {}

    def test_loading_makes_it_observed_with_the_bytes_that_load_told(self, runtime, model):
        held_bytes = runtime.load(model, NEVER)
        assert held_bytes > 0
        assert runtime.observe([model]) == {model.name: held_bytes}

    def test_loading_twice_is_no_error_and_holds_no_more(self, runtime, model):
        assert runtime.load(model, NEVER) == runtime.load(model, NEVER)
        assert list(runtime.observe([model])) == [model.name]

    def test_unloading_makes_it_gone_when_it_returns(self, runtime, model):
        runtime.load(model, NEVER)
        runtime.unload(model, NEVER)
        assert runtime.observe([model]) == {}

    def test_unloading_what_is_not_loaded_is_no_error(self, runtime, model):
        runtime.unload(model, NEVER)
        runtime.load(model, NEVER)
        runtime.unload(model, NEVER)
        runtime.unload(model, NEVER)
        assert runtime.observe([model]) == {}

    def test_it_can_be_loaded_again(self, runtime, model):
        for _ in range(2):
            runtime.load(model, NEVER)
            assert list(runtime.observe([model])) == [model.name]
            runtime.unload(model, NEVER)

    def test_only_what_was_asked_about_is_answered(self, runtime, model):
        runtime.load(model, NEVER)
        other = replace(model, name="somebody-else", files=(), folder="")
        assert runtime.observe([]) == {}
        assert runtime.observe([other]) == {}

    def test_what_cannot_be_loaded_is_a_sorted_failure_and_not_observed(self, runtime, damaged):
        with pytest.raises(Failure) as caught:
            runtime.load(damaged, NEVER)
        assert caught.value.reason
        assert damaged.name in caught.value.message
        assert runtime.observe([damaged]) == {}

    def test_unloading_what_is_damaged_is_no_error(self, runtime, damaged):
        runtime.unload(damaged, NEVER)

    def test_the_estimate_is_of_the_models_order(self, runtime, model):
        estimate = runtime.estimate(model)
        held_bytes = runtime.load(model, NEVER)
        assert held_bytes / 4 <= estimate <= held_bytes * 4

    def test_a_cancelled_load_is_transient_and_leaves_nothing_observed(self, runtime, model):
        if not self.sees_cancel:
            return
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(Failure) as caught:
            runtime.load(model, cancel)
        assert (caught.value.kind, caught.value.reason) == ("transient", "cancelled")
        assert runtime.observe([model]) == {}
