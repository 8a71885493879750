"""Listening to folders: what file events name is told, and that is all they do.

The kernel is asked without a step in between where only the folders themselves count: nothing runs while nothing
happens. watchfiles listens where the kernel is another one, and where ``is_deep`` to all that is below. No filter: a
ConfigMap's swap shows under a name that nobody asked for. When a folder was made again, or others became important,
listening starts anew. Nothing told here is the truth: whoever hears looks again.
"""

import os
import select
import threading
from collections.abc import Callable, Mapping

from reconciler.adapters.kernel_events import drain_files, open_file_events
from reconciler.log import get_log

STEP_MS = 50  # quiet for so long, and the event is told; watchfiles wakes up as often
DEEP_STEP_MS = 200  # harm has more time than an edit
DEBOUNCE_MS = 200  # told at the latest, however long it goes on
_TIMEOUT_MS = 60_000
CALM_S = 0.05  # a burst is told a few times, not a thousand


class Ears:
    """Listens to a changing set of folders. ``trouble`` says why it is deaf; empty where it hears."""

    def __init__(self, heard: Callable[[frozenset[str]], None], *, is_deep: bool = False) -> None:
        """Args: heard: is called with the paths that changed, in the thread that listens."""
        self._heard, self._is_deep = heard, is_deep
        self.folders: Mapping[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._hang_up = -1  # the end of a pipe whose closing ends the thread that listens
        self.trouble = ""

    def listen(self, folders: Mapping[str, tuple[int, int]]) -> bool:
        """Listen to exactly these folders (with their device and inode); True where that is news."""
        if folders == self.folders:
            return False
        self.close()
        self.folders = dict(folders)
        self._stop = threading.Event()
        self.trouble = ""
        if folders:
            fd, trouble = (-1, "deep") if self._is_deep else open_file_events(folders)
            run, arguments = (self._run, (tuple(folders), self._stop)) if trouble else (self._poll, self._line(fd))
            threading.Thread(target=run, args=arguments, name="ears", daemon=True).start()
        return True

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self.folders = {}
        if self._hang_up >= 0:
            os.close(self._hang_up)
            self._hang_up = -1

    def _line(self, fd: int) -> tuple[int, int]:
        end, self._hang_up = os.pipe()
        return fd, end

    def _poll(self, fd: int, end: int) -> None:
        """Tell of whatever happens in the folders, until the other end of ``end`` is closed."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(end, 0)
        calm = threading.Event()
        while end not in dict(poll.poll()):
            drain_files(fd)
            self._heard(frozenset())
            calm.wait(CALM_S)
        for each in (fd, end):
            os.close(each)

    def _run(self, folders: tuple[str, ...], stop: threading.Event) -> None:
        import watchfiles  # noqa: PLC0415 -- slow to import, and only a watch needs it

        try:
            events = watchfiles.watch(
                *folders,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=DEEP_STEP_MS if self._is_deep else STEP_MS,
                stop_event=stop,
                rust_timeout=_TIMEOUT_MS,
                yield_on_timeout=False,
                raise_interrupt=False,
                force_polling=False,
                recursive=self._is_deep,
                ignore_permission_denied=True,
            )
            for changes in events:
                if stop.is_set():
                    return
                self._heard(frozenset(path for _, path in changes))
        except Exception as error:  # noqa: BLE001 -- whatever it is, the heartbeat goes on without ears
            if not stop.is_set():
                self.trouble = str(error) or type(error).__name__
                get_log().warning("watch_deaf", path=folders[0], reason="events_failed", message=self.trouble)
