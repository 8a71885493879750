"""Hands: small jobs side by side, within a process-wide number of threads."""

import threading
from collections import Counter

import pytest

from reconciler.execute.hands import HANDS_AT_ONCE, Hands


def test_results_come_in_the_order_of_the_jobs_and_failures_among_them():
    def halve(number):
        if number % 2:
            raise ValueError(number)
        return number // 2

    found = Hands(4).do(halve, range(6))

    assert [repr(result) for result in found] == ["0", "ValueError(1)", "1", "ValueError(3)", "2", "ValueError(5)"]


def test_one_owner_alone_gets_helpers_and_every_job_is_done_once():
    done, together = Counter(), threading.Barrier(HANDS_AT_ONCE)

    def job(number):
        if number < HANDS_AT_ONCE:
            together.wait(10)  # passes only where so many work at the same time
        done[number] += 1

    Hands(HANDS_AT_ONCE).do(job, range(200))

    assert done == Counter(range(200))


def test_helpers_are_shared_by_the_process_and_given_back():
    hands = Hands(3)
    busy, most, lock = 0, 0, threading.Lock()

    def job(_):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        threading.Event().wait(0.001)
        with lock:
            busy -= 1

    owners = [threading.Thread(target=hands.do, args=(job, range(40))) for _ in range(3)]
    for owner in owners:
        owner.start()
    for owner in owners:
        owner.join()

    assert most <= 3 + 2  # three owners, and helpers only while fewer than three were at work
    assert all(hands.try_enter() for _ in range(3))
    assert not hands.try_enter()


def test_many_short_crews_never_trip_over_each_other():
    hands = Hands(8)

    def owner():
        for _ in range(100):
            assert hands.do(lambda number: number, range(20)) == list(range(20))

    for thread in (owners := [threading.Thread(target=owner) for _ in range(6)]):
        thread.start()
    for thread in owners:
        thread.join()

    assert all(hands.try_enter() for _ in range(8))


def test_an_interrupt_in_a_helper_reaches_the_owner():
    def job(number):
        if number == 3:
            raise KeyboardInterrupt
        return number

    with pytest.raises(KeyboardInterrupt):
        Hands(4).do(job, range(10))


def test_where_no_thread_is_to_be_had_the_owner_does_it_all(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    hands = Hands(4)
    assert hands.do(lambda number: number, [0]) == [0]
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert hands.do(lambda number: number, range(20)) == list(range(20))
    assert hands.do(lambda number: number, range(20)) == list(range(20)), "what the pool was left with does no harm"
    assert all(hands.try_enter() for _ in range(4))
    assert not hands.try_enter()
