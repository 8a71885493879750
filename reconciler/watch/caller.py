"""Who asks over the control socket, as far as a verb that takes long wants to know: is there still anybody?"""

import select
import socket
import threading

_ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL
_FINISHED = getattr(select, "POLLRDHUP", 0)  # Linux


class Caller:
    """The other end of a connection. ``closing`` is set once the watch has done all it will do."""

    def __init__(self, link: socket.socket, closing: threading.Event) -> None:
        self.closing = closing
        self._poll = select.poll()
        self._poll.register(link, _FINISHED)

    def is_gone(self) -> bool:
        """Nobody reads any more."""
        return bool(self._seen() & _ENDED)

    def has_finished(self) -> bool:
        """It will send nothing more: of a program that follows its request this means "stop, and tell how it ended"."""
        return bool(self._seen() & (_FINISHED | _ENDED))

    def _seen(self) -> int:
        return next((events for _, events in self._poll.poll(0)), 0)
