"""A second process for a pass of very many small files.

One interpreter keeps one core busy, and small files are mostly the interpreter's work. So where the command has very
many of them to bring, it forks, and up to half of the models under way are the fork's: fetched, judged, made durable
and placed by the very same handler. The fork records nothing. What it would have recorded it notes, and the notes are
written down here, by the only process that writes the ledger: the order of rule 6 holds, and so does all that is said
of an action's end.

It is safe by what it leaves out. Only a command of its own process forks, while it has a single thread: neither a watch
nor who uses the library. Only models that are nothing but small files of known size and digest, that no other model
is made of and nothing waits for (:func:`errands_of`). Limits are halved, and one that cannot be (``network.bandwidth``)
keeps the pass in one process. Where the fork ends early, its models are brought here after all. Where this process
ends, however, the fork finds the line cut and ends at once; until then it holds the store's lock as well.
"""

import os
import pickle
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


def errands_of(work: Work) -> frozenset[str]:
    """Ids of the downloads that another process can do as well."""
    wanted = Counter(digest for model in work.models.values() for digest in {f.digest for f in work.targets(model)})
    copied = {each.digest for each in work.sight.observed.local_copies}
    unpacked = {action.model for action in work.plan.actions if action.kind is ActionKind.EXTRACT}

    def is_plain(file: Artifact) -> bool:
        is_here = file.digest in work.blobs or file.digest in copied or file.digest in work.bad_copies
        is_own = wanted[file.digest] == 1 and not is_here
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
    is_able = sys.platform == "linux" and threading.active_count() == 1 and len(os.sched_getaffinity(0)) > 1
    return work.world.may_fork and is_divisible and is_able


@contextmanager
def partner_for(work: Work, at_least: int) -> Iterator["Partner | None"]:
    """A partner for the block; None where there are fewer files than ``at_least`` for it, or none is to be had."""
    errands = errands_of(work) if _may_divide(work) else frozenset()
    models = (work.models[action.model] for action in work.plan.actions if action.id in errands)
    files = sum(len(work.targets(model)) for model in models)
    partner = _fork(work, errands) if files >= at_least and len(errands) > 1 else None
    if partner is None:
        yield None
        return
    work.world.divide_network(PROCESSES)
    try:
        yield partner
    finally:
        partner.close()
        work.world.divide_network(1)


def _fork(work: Work, errands: frozenset[str]) -> "Partner | None":
    """Raises nothing: without a second process it takes a little longer."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()  # what waits there would be written twice
    with suppress(OSError), ExitStack() as stack:
        here, there = map(stack.enter_context, socket.socketpair())
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the fork must not take them for its own
        try:
            pid = os.fork()
            if not pid:
                serve(work, here, there)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        stack.pop_all()
        there.close()
        get_log().debug("partner_started", pid=pid, models=len(errands))
        return Partner(work, errands, pid, here)
    return None


class Partner:
    """The other process, as seen from here; for several threads."""

    def __init__(self, work: Work, errands: frozenset[str], pid: int, line: socket.socket) -> None:
        self._work = work
        self._errands = errands
        self._pid = pid
        self._line = line
        self._places = threading.Semaphore(min(work.desired.network.models, len(errands)) // PROCESSES)
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Reply | None]] = {}
        self._is_gone = False
        self._is_stopped = False
        self._is_closed = False
        self._listener = threading.Thread(target=self._listen, name="partner", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Of the other process."""
        return self._pid

    def try_bring(self, action: Action) -> Done | None:
        """What the handler would have done; None where that is to be done here.

        Raises:
            Failure: as the handler's, or the ledger's.
        """
        if action.id not in self._errands or not self._places.acquire(blocking=False):
            return None
        try:
            reply = self._ask(action)
        finally:
            self._places.release()
        if reply is None:
            return None
        for note in reply.notes:
            note.write(self._work.ledger)
        if reply.refused is not None:
            self._work.refused[action.model] = reply.refused
        if reply.failure is not None:
            raise reply.failure
        return reply.done

    def stop(self) -> None:
        """Cancel what it is at; it answers all the same."""
        if not self._is_stopped:
            self._is_stopped = True
            self._send(STOP)

    def close(self) -> None:
        """End it. Nothing is under way any more, and what it did is durable."""
        self._is_closed = True
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._listener.join()
        self._line.close()
        os.kill(self._pid, signal.SIGKILL)  # ours until it is waited for
        os.waitpid(self._pid, 0)

    def _ask(self, action: Action) -> Reply | None:
        asked: Future[Reply | None] = Future()
        with self._lock:
            if self._is_gone:
                return None
            self._asked[action.id] = asked
        self._send(action.id)
        return asked.result()

    def _send(self, word: str) -> None:
        with self._lock, suppress(OSError):  # who is not there any more is seen by the listener
            self._line.sendall(pickle.dumps(word))

    def _listen(self) -> None:
        try:
            with self._line.makefile("rb") as line:
                while True:
                    told = pickle.load(line)  # noqa: S301 -- from our own fork, over a line that nobody else has
                    if isinstance(told, Progress):
                        self._work.progress(told)
                    else:
                        self._asked.pop(told.action_id).set_result(told)
        except (EOFError, OSError, pickle.UnpicklingError):
            pass
        finally:
            with self._lock:
                self._is_gone = True
            if not self._is_closed:
                get_log().warning("partner_lost", pid=self._pid, message="its models are brought by this process")
            while self._asked:
                self._asked.popitem()[1].set_result(None)
