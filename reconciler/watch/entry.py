"""Starting and stopping a watch: own the store, open everything, run the loop, close everything in order."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from reconciler.adapters.ledger import Ledger
from reconciler.adapters.store import Lock
from reconciler.core.errors import Failure
from reconciler.core.exits import Exit
from reconciler.core.git_place import GitPlace
from reconciler.core.ports import CancelToken
from reconciler.log import get_log
from reconciler.reconcile import Listeners
from reconciler.sourcing import find_place
from reconciler.watch import verbs
from reconciler.watch.agenda import Agenda
from reconciler.watch.bell import MANIFEST, SIGNAL, STOP, STORE, Bell
from reconciler.watch.control import Control
from reconciler.watch.daemon import NOBODY_LISTENS, Daemon
from reconciler.watch.drift import Drift
from reconciler.watch.ears import Ears
from reconciler.watch.git_inputs import GitInputs
from reconciler.watch.inputs import FileInputs
from reconciler.watch.listen import Listener, parse_address
from reconciler.watch.parts import Parts
from reconciler.watch.scrub import Scrub
from reconciler.watch.surroundings import Surroundings
from reconciler.watch.wakes import Wakes
from reconciler.world import World, open_world

INTERVAL_S = 300.0


def watch(  # noqa: PLR0913 -- the options of the verb, by name
    *,
    files: Sequence[str] = (),
    store: str | None = None,
    environ: Mapping[str, str] | None = None,
    cancel: CancelToken,
    interval_s: float = INTERVAL_S,
    git: GitPlace | None = None,
    listen: str | None = None,
    world: World | None = None,
    listeners: Listeners | None = None,
) -> int:
    """Keep the store as the manifest says until ``cancel`` is set; the exit code.

    Raises:
        Failure: refused ``store_busy`` where somebody owns the store; what keeps the watch from starting at all.
    """
    if listen is not None:
        parse_address(listen)  # a slip of the pen is told before anything is made
    world = world or open_world(store, environ)
    started = time.monotonic()
    bell = Bell()
    inputs = _inputs(world, files, git, bell)  # a Git URL that is refused leaves no store behind
    world.store.create()
    with world.store.acquire() as lock, _ledger(world) as ledger:
        surroundings = Surroundings(world)
        wakes = Wakes(lambda trigger: _wake(surroundings, bell, trigger))
        agenda = Agenda(interval_s, world.now, world.random, world.monotonic)
        parts = _parts(world, bell, inputs, surroundings, agenda, wakes)
        daemon = Daemon(world, ledger, cancel, parts, listeners or NOBODY_LISTENS)
        with contextlib.closing(wakes), _open_doors(daemon, listen, lock), _hang_up_rings(bell):
            get_log().info("watch_started", path=inputs.label, mode="watch", interval_s=interval_s)
            if isinstance(inputs, GitInputs):
                daemon.rounds.force.must_verify = inputs.must_verify
                inputs.start(cancel)
            threading.Thread(target=_ring_on_stop, args=(cancel, bell), name="stop", daemon=True).start()
            Scrub(world, ledger, bell, lambda: daemon.desired, lambda: bool(daemon.passes.claims.busy())).start(cancel)
            wakes.start()
            daemon.run()
            was_cut_off, has_ended = daemon.stop()
        get_log().info(
            "watch_stopped",
            reason="cut_off" if was_cut_off else "stopped",
            seconds=round(time.monotonic() - started, 3),
        )
    world.close()
    code = _exit_code(cancel, was_cut_off=was_cut_off)
    if not has_ended:
        sys.stderr.flush()
        os._exit(code)  # a thread hangs in the network; every step of the store survives being left
    return code


def _parts(
    world: World,
    bell: Bell,
    inputs: FileInputs | GitInputs,
    surroundings: Surroundings,
    agenda: Agenda,
    wakes: Wakes,
) -> Parts:
    return Parts(
        bell=bell,
        inputs=inputs,
        ears=Ears(lambda _: bell.ring(MANIFEST)),
        drift=Drift(world.store.root, lambda: bell.ring(STORE), world.monotonic),
        surroundings=surroundings,
        agenda=agenda,
        slow_for=wakes.trouble,
    )


def _inputs(world: World, files: Sequence[str], git: GitPlace | None, bell: Bell) -> FileInputs | GitInputs:
    place = git or find_place(files, world.environment)[0]
    if place is not None:
        return GitInputs(world, place, bell)
    stdin = sys.stdin.buffer.read() if "-" in files else None
    return FileInputs(files, world.environment, stdin)


@contextlib.contextmanager
def _ledger(world: World) -> Iterator[Ledger]:
    """A ledger that writes, where it can: a watch goes on without while the disk is full."""
    with world.ledger() as ledger:
        try:
            ledger.become_writer()
        except Failure as failure:
            get_log().warning("ledger_unwritable", error=failure.message, path=ledger.path)
        yield ledger


@contextlib.contextmanager
def _open_doors(daemon: Daemon, listen: str | None, lock: Lock) -> Iterator[None]:
    """The control socket, and HTTP where it was asked for; what somebody takes away of these is made again."""
    control = Control(daemon.world.store.root, lambda request, caller: verbs.answer(daemon, request, caller))
    control.open()

    def keep() -> None:
        lock.keep(daemon.world.store.root)  # first: who owns the store no more has no socket in it
        control.keep()

    daemon.keep_doors = keep
    listener = None
    try:
        listener = Listener(daemon, listen) if listen is not None else None
        yield
    finally:
        control.close()
        if listener is not None:
            listener.close()


@contextlib.contextmanager
def _hang_up_rings(bell: Bell) -> Iterator[None]:
    """SIGHUP: look again now."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: bell.ring(SIGNAL))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _ring_on_stop(cancel: CancelToken, bell: Bell) -> None:
    """So that the loop need not ask all the time."""
    cancel.wait()
    bell.ring(STOP)


def _wake(surroundings: Surroundings, bell: Bell, trigger: str) -> None:
    """The kernel told something: look at it now."""
    surroundings.look_now()
    bell.ring(trigger)


def _exit_code(cancel: CancelToken, *, was_cut_off: bool) -> int:
    """0 after a clean stop; where a pass was cut off, the code of the signal that did it."""
    if not was_cut_off:
        return Exit.DONE
    return Exit.INTERRUPTED if getattr(cancel, "signal", None) == signal.SIGINT else Exit.TERMINATED
