"""Passes beside the loop: whoever stops the watch hears how each of them ended."""

import threading

from reconciler.core.actions import Request
from reconciler.core.desired import DesiredState
from reconciler.reconcile import Listeners
from reconciler.watch.parts import in_thread
from reconciler.watch.passes import Passes


def test_joining_waits_until_the_end_of_a_pass_is_told():
    may_tell, told = threading.Event(), []

    def on_end(run):
        may_tell.wait(5)
        told.append(run.crash)

    passes = Passes(None, None, threading.Event(), Listeners(), (on_end, lambda _: None), in_thread)
    run = passes.start(DesiredState(models=()), Request(), "test")  # without a world it ends at once
    while passes.runs:
        run.ended.wait(0.001)
    assert not passes.join(0.01), "its end is not told yet"
    may_tell.set()
    assert passes.join(5)
    assert told == [run.crash]
    assert isinstance(run.crash, AttributeError)
