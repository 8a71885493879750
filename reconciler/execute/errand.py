"""The fork's side of :mod:`~reconciler.execute.partner`: one errand after the other, until the line is cut."""

import ctypes
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import copy
from typing import IO, Any, NoReturn, cast

from reconciler.adapters.ledger import BroughtRow, Installed, Ledger
from reconciler.core.actions import Action
from reconciler.core.desired import Artifact
from reconciler.core.errors import Failure
from reconciler.core.ports import Progress, Proof
from reconciler.core.records import dataclass
from reconciler.core.words import Digest
from reconciler.execute.claims import Claims
from reconciler.execute.download import download
from reconciler.execute.work import Done, Work

PROCESSES = 2
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP = ""  # in place of an action's id
TOLD_EVERY_S = 0.2  # of one model
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to be recorded."""

    what: Installed | Sequence[Proof] | Sequence[BroughtRow]
    noun: str

    def write(self, ledger: Ledger) -> None:
        """Record it."""
        match self.noun:
            case "installed":
                ledger.record_installed(cast("Installed", self.what))
            case "proofs":
                ledger.proofs.save(cast("Sequence[Proof]", self.what))
            case _:
                ledger.brought.save(cast("Sequence[BroughtRow]", self.what))


@dataclass(frozen=True, slots=True)
class Reply:
    """How an errand ended: ``done`` or ``failure``; or with an ``error`` of ours, and it is to be done by who asked."""

    action_id: str
    done: Done | None = None
    failure: Failure | None = None
    notes: Sequence[Note] = ()
    refused: Artifact | None = None
    error: str = ""


class _Noun:
    """One table of the ledger."""

    def __init__(self, noun: str, notes: list[Note]) -> None:
        self._noun = noun
        self._notes = notes

    def save(self, rows: Any) -> None:
        self._notes.append(Note(list(rows), self._noun))

    def get(self, _: Digest) -> None:
        """Nothing is known here: what is asked for was not there when the pass began."""


class _Revisions:
    """What an errand brings belongs to no revision but its own."""

    def users_of(self, _: Iterable[Digest]) -> dict[Digest, tuple[str, ...]]:
        return {}


class _Notes:
    """In place of the ledger: what is recorded during one errand."""

    def __init__(self) -> None:
        self.written: list[Note] = []
        self.proofs = _Noun("proofs", self.written)
        self.brought = _Noun("brought", self.written)
        self.revisions = _Revisions()

    def record_installed(self, installed: Installed) -> None:
        self.written.append(Note(installed, "installed"))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield


class _Teller:
    """Writes to the line, from any thread."""

    def __init__(self, line: socket.socket, now: Callable[[], float]) -> None:
        self._line = line
        self._now = now
        self._lock = threading.Lock()
        self._told_at: dict[str, float] = {}  # by model

    def tell(self, message: object) -> None:
        text = pickle.dumps(message)
        with self._lock:
            self._line.sendall(text)

    def progress(self, frame: Progress) -> None:
        now = self._now()
        if now - self._told_at.get(frame.model, -TOLD_EVERY_S) >= TOLD_EVERY_S:
            self._told_at[frame.model] = now
            self.tell(frame)


def serve(work: Work, line: socket.socket, places: int, parent: int) -> NoReturn:
    """Do what is asked, so many errands at once, until the line is cut; nothing else goes on here.

    The kernel ends this process, even one that was stopped, with ``parent``, the process that it was.
    """
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # they go to the other process as well, which says what to do
        work.world.become_fork()
        work.world.divide_network(PROCESSES)
        stop = threading.Event()
        teller = _Teller(line, work.world.monotonic)
        share = Claims().open(stop)
        mine = Work(work.world, work.ledger, work.desired, work.sight, work.plan, stop, teller.progress, share)
        with line.makefile("rb") as words:
            pool = ThreadPoolExecutor(places, thread_name_prefix="errand")
            _answer(mine, pool, words, teller)
    finally:
        os._exit(0)


def _answer(work: Work, pool: ThreadPoolExecutor, words: IO[bytes], teller: _Teller) -> NoReturn:
    """Every errand in a thread of its own.

    Raises:
        EOFError: the line was cut.
    """
    actions = {action.id: action for action in work.plan.actions}
    while True:
        word = pickle.load(words)  # noqa: S301 -- from the process that this was
        if word == STOP:
            cast("threading.Event", work.cancel).set()
        else:
            pool.submit(_run, work, actions[word], teller)


def _run(work: Work, action: Action, teller: _Teller) -> None:
    notes = _Notes()
    mine = copy(work)
    mine.ledger = cast("Ledger", notes)
    try:
        reply = Reply(action.id, download(action, mine), notes=notes.written)
    except Failure as failure:
        reply = Reply(action.id, None, failure, notes.written, work.refused.get(action.model))
    except BaseException as error:  # noqa: BLE001 -- whoever asked meets it again, and tells it
        reply = Reply(action.id, error=type(error).__name__)
    try:
        teller.tell(reply)
    except BaseException as error:  # noqa: BLE001 -- what cannot be told is not done
        with suppress(OSError):
            teller.tell(Reply(action.id, error=type(error).__name__))
