"""A second process for a pass of very many small files.

One interpreter keeps one core busy, and small files are mostly the interpreter's work. So where the command has very
many of them to bring, it forks, and up to half of the models under way are the fork's: fetched, judged, made durable
and placed by the very same handler. The fork records nothing. What it would have recorded it notes, and the notes are
written down here, by the only process that writes the ledger: the order of rule 6 holds, and so does all that is said
of an action's end.

It is safe by what it leaves out. Only a command of its own process forks, and only while it has a single thread:
neither a watch, nor who uses the library, nor a command that draws its progress on a terminal. Only models that are
nothing but small files of known size and digest, that no other model was made of or will be, and that wait for nothing
(:func:`errands_of`). Limits are halved as long as there are two, and one that cannot be (``network.bandwidth``) keeps
the pass in one process. The fork is gone when the last of its kind of model is done.

Where the fork ends early, its models are brought here after all; where it hangs, it is killed some time after the pass
was to stop. Where this process ends, the kernel ends the fork; until then it holds the store's lock as well.
"""

import os
import pickle
import resource
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress

from reconciler.core.actions import Action, ActionKind
from reconciler.core.desired import Artifact
from reconciler.core.ports import Progress
from reconciler.execute.bringing import PLAIN, is_small
from reconciler.execute.errand import PROCESSES, SIGNALS, STOP, Reply, serve
from reconciler.execute.work import Done, Work
from reconciler.log import get_log

GRACE_S = 5.0  # for the disk, once it was told to stop
_TASKS = 512  # where fewer are allowed, threads are refused soon
_OF_CONTAINER = "/sys/fs/cgroup/pids.max"  # a number or "max"; none outside of containers


def errands_of(work: Work) -> frozenset[str]:
    """Ids of the downloads that another process can do as well."""
    wanted = Counter(digest for model in work.models.values() for digest in {f.digest for f in work.targets(model)})
    observed = work.sight.observed
    copied = {each.digest for each in observed.local_copies}
    known = {file.digest for stored in observed.store.models for file in stored.files}  # also where it is gone
    unpacked = {action.model for action in work.plan.actions if action.kind is ActionKind.EXTRACT}

    def is_plain(file: Artifact) -> bool:
        is_here = file.digest in work.blobs or file.digest in copied or file.digest in work.bad_copies
        is_own = wanted[file.digest] == 1 and file.digest not in known and not is_here
        return is_small(file) and is_own and all(url.startswith(PLAIN) for url in file.sources)

    def is_errand(action: Action) -> bool:
        model = work.models.get(action.model)
        is_whole = action.kind is ActionKind.DOWNLOAD and not (action.subject or action.paths or action.depends_on)
        if model is None or not is_whole or action.model in unpacked or action.model in work.stored:
            return False
        return model.signature is None and all(map(is_plain, work.targets(model)))

    return frozenset(action.id for action in work.plan.actions if is_errand(action))


def _may_divide(work: Work) -> bool:
    """Whether this process and the limits can be had twice: nothing but this thread is in the middle of something."""
    network = work.desired.network
    is_divisible = network.models > 1 and network.bandwidth_bytes_per_s is None
    return work.world.may_fork and is_divisible and sys.platform == "linux" and threading.active_count() == 1


def _has_means() -> bool:
    """Whether another core is there, and tasks for it; and whether who ends is waited for by us."""
    is_waited_for = signal.getsignal(signal.SIGCHLD) != signal.SIG_IGN
    return len(os.sched_getaffinity(0)) > 1 and is_waited_for and min(_task_limits(), default=_TASKS) >= _TASKS


def _task_limits() -> Iterator[int]:
    """How many processes and threads this user, and this container, may have."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if most != resource.RLIM_INFINITY:
        yield most
    with suppress(OSError, ValueError), open(_OF_CONTAINER, encoding="ascii") as file:  # noqa: PTH123 -- a word
        yield int(file.read())


@contextmanager
def partner_for(work: Work, at_least: int) -> Iterator["Partner | None"]:
    """A partner for the block; None where there are fewer files than ``at_least`` for it, or none is to be had."""
    errands = errands_of(work) if _may_divide(work) and _has_means() else frozenset()
    models = (work.models[action.model] for action in work.plan.actions if action.id in errands)
    files = sum(len(work.targets(model)) for model in models)
    partner = _fork(work, errands) if files >= at_least and len(errands) > 1 else None
    try:
        yield partner
    finally:
        if partner is not None:
            partner.close()


def _fork(work: Work, errands: frozenset[str]) -> "Partner | None":
    """Raises nothing: without a second process it takes a little longer."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()  # what waits there would be written twice
    places = min(work.desired.network.models, len(errands)) // PROCESSES
    with suppress(OSError), ExitStack() as stack:
        here, there = map(stack.enter_context, socket.socketpair())
        parent = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the fork must not take them for its own
        try:
            pid = os.fork()
            if not pid:
                here.close()
                serve(work, there, places, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        stack.pop_all()
        there.close()
        get_log().debug("partner_started", pid=pid, models=len(errands))
        return Partner(work, errands, places, pid, here)
    return None


class Partner:
    """The other process, as seen from here; for several threads."""

    def __init__(self, work: Work, errands: frozenset[str], places: int, pid: int, line: socket.socket) -> None:
        self._work = work
        self._left = set(errands)  # not begun, by whomever
        self._pid = pid
        self._line = line
        self._places = threading.Semaphore(places)
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Reply | None]] = {}
        self._is_gone = False
        self._is_closed = False
        self._stopped_at: float | None = None
        work.world.divide_network(PROCESSES)
        self._listener = threading.Thread(target=self._listen, name="partner", daemon=True)
        try:
            self._listener.start()
        except RuntimeError:  # no more threads are to be had
            self._is_gone = True

    def try_bring(self, action: Action) -> Done | None:
        """What the handler would have done; None where that is to be done here.

        Raises:
            Failure: as the handler's, or the ledger's.
        """
        with self._lock:
            is_errand = action.id in self._left
            self._left.discard(action.id)
        if not is_errand:
            return None
        reply = None
        if self._places.acquire(blocking=False):
            try:
                reply = self._ask(action)
            finally:
                self._places.release()
        self._close_if_idle()
        return None if reply is None else self._take(action, reply)

    def stop(self) -> None:
        """Cancel what it is at. It answers all the same; it is killed where it has not after :data:`GRACE_S`."""
        now = self._work.world.monotonic()
        if self._stopped_at is None:
            self._stopped_at = now
            self._send(STOP)
        elif now - self._stopped_at > GRACE_S:
            with self._lock:
                self._kill()

    def close(self) -> None:
        """End it. Nothing is under way any more, and what it did is durable."""
        with self._lock:
            if self._is_closed:
                return
            self._kill()
            self._is_closed = True
        if self._listener.is_alive():
            self._listener.join()
        self._line.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        self._work.world.divide_network(1)

    def _close_if_idle(self) -> None:
        """The limits are whole again as soon as nothing is left that two could do."""
        with self._lock:
            is_idle = not (self._left or self._asked)
        if is_idle:
            self.close()

    def _kill(self) -> None:
        """The lock is held; its id is its own until it is waited for."""
        if not self._is_closed:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _ask(self, action: Action) -> Reply | None:
        asked: Future[Reply | None] = Future()
        with self._lock:
            if self._is_gone:
                return None
            self._asked[action.id] = asked
        self._send(action.id)
        return asked.result()

    def _take(self, action: Action, reply: Reply) -> Done | None:
        for note in reply.notes:
            note.write(self._work.ledger)
        if reply.refused is not None:
            self._work.refused[action.model] = reply.refused
        if reply.failure is not None:
            raise reply.failure
        return reply.done

    def _send(self, word: str) -> None:
        with self._lock, suppress(OSError):  # who is not there any more is seen by the listener
            self._line.sendall(pickle.dumps(word))

    def _listen(self) -> None:
        try:
            with self._line.makefile("rb") as line:
                while True:
                    self._hear(pickle.load(line))  # noqa: S301 -- from our own fork, over a line that nobody else has
        except (EOFError, OSError, pickle.UnpicklingError):
            pass
        finally:
            self._give_up()

    def _hear(self, told: Progress | Reply) -> None:
        if isinstance(told, Progress):
            self._work.progress(told)
            return
        if told.error:
            model = told.action_id.partition(":")[2]
            get_log().warning("errand_returned", model=model, error=told.error)
        with self._lock:
            asked = self._asked.pop(told.action_id)
        asked.set_result(told if told.done or told.failure else None)

    def _give_up(self) -> None:
        """It is not heard any more: whatever it is at is done here, and by nobody else."""
        with self._lock:
            is_lost = not self._is_closed
            self._is_gone = True
            self._kill()
            left, self._asked = self._asked, {}
        for asked in left.values():
            asked.set_result(None)
        if is_lost:
            get_log().warning("partner_lost", pid=self._pid, message="its models are brought by this process")
