"""The gate: one at a time while work keeps the processor busy, all at once while it waits, and nobody is locked out."""

import threading
from contextlib import contextmanager

import pytest

from reconciler.execute import gate as module
from reconciler.execute.gate import PATIENCE_S, STRIKES, Gate

LONG_S = 30.0  # for what comes at once, on a machine that is busy with other things
NEVER_S = 0.06  # how long to look for what must not come: it is longer than anybody is patient


class Clock:
    """Time that passes only where a test says so: a machine that is busy with other things makes no job slow."""

    def __init__(self):
        self.now_s, self.busy_s = 1000.0, 5.0

    def monotonic(self):
        return self.now_s

    def thread_time(self):
        return self.busy_s

    def wait(self, seconds):
        self.now_s += seconds

    def work(self, seconds):
        self.now_s += seconds
        self.busy_s += seconds


class Inside:
    """How many are inside now, and how many there were at most."""

    def __init__(self):
        self.now, self.most, self.came = 0, 0, 0
        self._lock = threading.Lock()

    def __enter__(self):
        with self._lock:
            self.came += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error):
        with self._lock:
            self.now -= 1


class Visitor:
    """A thread that goes in and stays there until it is sent away; the last thing inside it does ``at_last``."""

    def __init__(self, gate, at_last=lambda: None):
        self.is_sent_away = threading.Event()
        self._entered = threading.Event()
        self._gate, self._at_last = gate, at_last
        self._thread = threading.Thread(target=self._visit, daemon=True)
        self._thread.start()

    def _visit(self):
        with self._gate.hold():
            self._entered.set()
            self.is_sent_away.wait()
            self._at_last()

    def is_in(self, within_s=LONG_S):
        return self._entered.wait(within_s)

    def leave(self):
        self.is_sent_away.set()
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def patient(monkeypatch):
    """Nobody goes in since it took too long: only the gate's being free or open lets anybody in."""
    monkeypatch.setattr(module, "PATIENCE_S", 20 * LONG_S)


@contextmanager
def together(count, work):
    """So many threads that do the same, for the block and until they end; what they raise is raised."""
    raised = []

    def run():
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(LONG_S)
        assert not thread.is_alive()
    assert raised == []


def wait(gate, jobs=STRIKES):
    """So many jobs, which do nothing but wait."""
    for _ in range(jobs):
        threading.Event().wait(0.01)
        gate.tell()


def is_one_at_a_time(gate):
    """Whether a second one waits for the first."""
    first = Visitor(gate)
    first.is_in()
    second = Visitor(gate)
    is_kept_out = not second.is_in(NEVER_S)
    first.leave()
    assert second.is_in()
    second.leave()
    return is_kept_out


def test_quick_jobs_go_one_at_a_time(clock):
    gate, inside = Gate(), Inside()

    def work():
        for _ in range(20):
            with gate.hold():
                with inside:
                    threading.Event().wait(0.0001)  # lets the others run, who wait for their turn
                gate.tell()

    with together(12, work):
        pass

    assert (inside.most, inside.came) == (1, 12 * 20)
    assert not gate.is_slow


def test_where_jobs_mostly_wait_many_are_inside_together(patient):
    gate, met = Gate(), threading.Barrier(9)

    def work():
        with gate.hold():
            met.wait(LONG_S)  # passes only where all are inside

    with gate.hold():
        wait(gate, STRIKES - 1)
        assert gate.is_slow
        assert not gate.is_open
        with together(8, work):
            wait(gate, 1)
            assert gate.is_open
            met.wait(LONG_S)


def test_those_who_wait_at_the_gate_go_in_when_it_opens(patient):
    gate = Gate()
    first = Visitor(gate, at_last=lambda: wait(gate))
    assert first.is_in()
    others = [Visitor(gate) for _ in range(5)]
    assert not any(other.is_in(NEVER_S / 5) for other in others)

    first.leave()

    assert all(other.is_in() for other in others)
    for other in others:
        other.leave()


def test_a_job_that_keeps_the_processor_busy_begins_the_count_anew(clock):
    gate = Gate()
    with gate.hold():
        for waited_s in (0.01, 0.01, 0.0, 0.01, 0.01):
            clock.wait(waited_s)
            gate.tell()
            assert not gate.is_open
        clock.wait(0.01)
        gate.tell()
        assert gate.is_open


def test_work_of_the_processor_is_no_waiting(clock):
    gate = Gate()
    with gate.hold():
        for _ in range(2 * STRIKES):
            clock.work(10.0)
            gate.tell()
        assert not gate.is_slow


def test_time_spent_aside_is_no_waiting(clock):
    gate = Gate()
    with gate.hold():
        for _ in range(2 * STRIKES):
            with gate.aside():
                clock.wait(10.0)
            gate.tell()
        assert not gate.is_slow


def test_nobody_waits_for_ever_behind_one_that_is_stuck():
    gate, inside = Gate(), Inside()
    stuck = Visitor(gate)
    assert stuck.is_in()

    def work():
        with gate.hold(), inside:
            pass

    with together(8, work):
        pass

    assert inside.came == 8
    stuck.leave()


def test_who_finishes_jobs_is_not_taken_for_stuck(clock):
    gate = Gate()
    with gate.hold():
        other = Visitor(gate)
        for _ in range(10):
            clock.work(PATIENCE_S * 0.6)
            gate.tell()
        assert not other.is_in(NEVER_S)
    assert other.is_in()
    other.leave()


def test_one_that_was_stuck_breaks_no_count_when_it_leaves(clock):
    gate = Gate()
    stuck = Visitor(gate)
    assert stuck.is_in()
    second = Visitor(gate)
    clock.wait(PATIENCE_S)
    assert second.is_in()
    third = Visitor(gate)

    stuck.leave()

    assert not third.is_in(NEVER_S)
    second.leave()
    assert third.is_in()
    third.leave()
    assert is_one_at_a_time(gate)


def test_several_that_were_stuck_one_after_the_other_break_no_count(clock):
    gate = Gate()
    visitors = []
    for _ in range(STRIKES + 2):
        visitors.append(Visitor(gate))
        clock.wait(PATIENCE_S)
        assert visitors[-1].is_in()
    assert gate.is_open
    for visitor in visitors[::2] + visitors[1::2]:
        visitor.leave()
    assert not gate.is_open
    assert is_one_at_a_time(gate)


def test_one_that_steps_aside_lets_another_in_and_comes_back_when_that_is_gone(clock):
    gate, is_back = Gate(), threading.Event()

    def step():
        with gate.aside():
            aside.set()
            assert come_back.wait(LONG_S)
        is_back.set()

    aside, come_back = threading.Event(), threading.Event()
    first = Visitor(gate, at_last=step)
    assert first.is_in()
    other = Visitor(gate)
    assert not other.is_in(NEVER_S)
    first.is_sent_away.set()
    assert aside.wait(LONG_S)
    assert other.is_in()

    come_back.set()

    assert not is_back.wait(NEVER_S)
    other.leave()
    assert is_back.wait(LONG_S)
    first.leave()
    assert is_one_at_a_time(gate)


def test_who_was_taken_for_stuck_may_step_aside_and_come_back(clock):
    gate = Gate()
    with gate.hold():
        other = Visitor(gate)
        clock.wait(PATIENCE_S)
        assert other.is_in()
        with gate.aside():
            third = Visitor(gate)
            assert not third.is_in(NEVER_S)  # the other one is inside still
            other.leave()
            assert third.is_in()
            third.leave()
        fourth = Visitor(gate)
        assert not fourth.is_in(NEVER_S)
    assert fourth.is_in()
    fourth.leave()


def test_who_is_inside_may_go_in_again_and_is_out_only_when_all_is_left(clock):
    gate = Gate()
    with gate.hold():
        with gate.hold(), gate.hold():
            pass
        other = Visitor(gate)
        assert not other.is_in(NEVER_S)
    assert other.is_in()
    other.leave()
    assert is_one_at_a_time(gate)


def test_stepping_aside_leaves_however_often_one_went_in(clock):
    gate = Gate()
    with gate.hold(), gate.hold():
        with gate.aside():
            other = Visitor(gate)
            assert other.is_in()
            other.leave()
            with gate.aside():  # one who is out already
                pass
        late = Visitor(gate)
        assert not late.is_in(NEVER_S)
    assert late.is_in()
    late.leave()
    assert is_one_at_a_time(gate)


def test_who_stepped_aside_may_go_in_for_a_while(clock):
    gate = Gate()
    with gate.hold():
        with gate.aside():
            with gate.hold():
                other = Visitor(gate)
                assert not other.is_in(NEVER_S)
            assert other.is_in()
            other.leave()
        late = Visitor(gate)
        assert not late.is_in(NEVER_S)
    assert late.is_in()
    late.leave()
    assert is_one_at_a_time(gate)


def test_stepping_aside_does_nothing_for_one_who_is_not_inside(clock):
    gate = Gate()
    first = Visitor(gate)
    assert first.is_in()
    with gate.aside():  # and waits for nobody
        second = Visitor(gate)
        assert not second.is_in(NEVER_S)
    assert not second.is_in(NEVER_S)
    first.leave()
    assert second.is_in()
    second.leave()
    assert is_one_at_a_time(gate)


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_gate_in_order(clock, raised):
    gate = Gate()
    with pytest.raises(raised), gate.hold():
        raise raised
    with pytest.raises(raised), gate.hold(), gate.hold(), gate.aside():
        raise raised
    with gate.hold():
        with pytest.raises(raised), gate.aside():
            raise raised
        other = Visitor(gate)
        assert not other.is_in(NEVER_S)  # it came back
    assert other.is_in()
    other.leave()
    assert is_one_at_a_time(gate)


def test_an_open_gate_is_closed_again_when_all_have_gone(clock):
    gate = Gate()
    with gate.hold():
        for _ in range(STRIKES):
            clock.wait(1)
            gate.tell()
        other = Visitor(gate)
        assert other.is_in()
    assert gate.is_open  # there is still somebody
    other.leave()
    assert not gate.is_slow
    assert is_one_at_a_time(gate)


def test_an_open_gate_stays_open_while_somebody_is_aside(clock):
    gate = Gate()
    with gate.hold():
        for _ in range(STRIKES):
            clock.wait(1)
            gate.tell()
        with gate.aside():
            other = Visitor(gate)
            assert other.is_in()
            other.leave()
            assert gate.is_open
        other = Visitor(gate)
        assert other.is_in()
        other.leave()
    assert not gate.is_open


def test_many_threads_that_come_and_go_in_every_way_leave_it_as_it_was():
    gate, done = Gate(), Inside()

    def work():
        for number in range(40):
            with gate.hold(), done:
                if number % 7 == 0:
                    wait(gate, 1)
                with gate.aside(), gate.hold():
                    gate.tell()
                gate.tell()

    with together(8, work):
        pass

    assert done.came == 8 * 40
    assert (gate._present, gate._inside, gate.is_slow) == (0, 0, False)
