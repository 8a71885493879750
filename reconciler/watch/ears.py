"""Listening to folders: each file event rings the bell, and that is all it does.

watchfiles does the listening in a thread of its own. No filter: a ConfigMap's swap shows under a name that nobody
asked for. Only the folders themselves, not what is below them. When a folder was made again, or others became
important, listening starts anew; after each start the bell rings once, since something may have changed in between.
"""

import threading
from collections.abc import Mapping

from reconciler.log import get_log
from reconciler.watch.bell import MANIFEST, Bell

STEP_MS = 50  # quiet for so long, and the event is told
DEBOUNCE_MS = 200  # told at the latest, however long it goes on
_TIMEOUT_MS = 60_000


class Ears:
    """Listens to a changing set of folders. ``trouble`` says why it is deaf; empty where it hears."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._folders: Mapping[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self.trouble = ""
        self.events = 0

    def listen(self, folders: Mapping[str, tuple[int, int]]) -> bool:
        """Listen to exactly these folders (with their device and inode); True where that is news."""
        if folders == self._folders:
            return False
        self._stop.set()
        self._folders = dict(folders)
        self._stop = threading.Event()
        self.trouble = ""
        if folders:
            run = threading.Thread(target=self._run, args=(tuple(folders), self._stop), name="ears", daemon=True)
            run.start()
        return True

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._folders = {}

    def _run(self, folders: tuple[str, ...], stop: threading.Event) -> None:
        import watchfiles  # noqa: PLC0415 -- slow to import, and only a watch needs it

        try:
            events = watchfiles.watch(
                *folders,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=stop,
                rust_timeout=_TIMEOUT_MS,
                yield_on_timeout=False,
                raise_interrupt=False,
                force_polling=False,
                recursive=False,
                ignore_permission_denied=True,
            )
            for _ in events:
                if stop.is_set():
                    return
                self.events += 1
                self._bell.ring(MANIFEST)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the heartbeat goes on without ears
            if not stop.is_set():
                self.trouble = str(error) or type(error).__name__
                get_log().warning("watch_deaf", path=folders[0], reason="events_failed", message=self.trouble)
