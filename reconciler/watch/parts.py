"""What a watch is made of: everything that listens, looks or runs. A test puts others in their place."""

import threading
from collections.abc import Callable

from reconciler.core.records import dataclass
from reconciler.watch.agenda import Agenda
from reconciler.watch.bell import Bell
from reconciler.watch.drift import Drift
from reconciler.watch.ears import Ears
from reconciler.watch.git_inputs import GitInputs
from reconciler.watch.inputs import FileInputs
from reconciler.watch.surroundings import Surroundings

Spawn = Callable[[Callable[[], None], str], None]


def in_thread(run: Callable[[], None], name: str) -> None:
    """Run beside the loop."""
    threading.Thread(target=run, name=name, daemon=True).start()


@dataclass(frozen=True, slots=True)
class Parts:
    """``spawn`` runs a pass beside the loop and comes back; ``slow_for`` names news that the kernel does not tell."""

    bell: Bell
    inputs: FileInputs | GitInputs
    ears: Ears
    drift: Drift
    surroundings: Surroundings
    agenda: Agenda
    spawn: Spawn = in_thread
    slow_for: str = ""
