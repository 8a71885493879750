"""The control socket: ``control.sock`` in the store, mode 0600, for the store's owner and root only.

One JSON object a line each way::

    → {"op": "poke"}                             ← {"ok": true}
    → {"op": "pin", "models": ["llama"]}         ← {"ok": false, "reason": "unknown_model", "message": "…", "hint": "…"}
    → {"op": "evict", "models": ["llama"]}       ← {"ok": true, "result": {an ApplyResult document}}
    → {"op": "events", "after": 7, "follow": true} ← {"ok": true, "event": {…}} … until either side hangs up

What may be asked stands in :mod:`reconciler.watch.verbs`. A connection may ask several things in a row. Each has a
thread; nothing that a client does, or leaves undone, holds up the loop.
"""

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.core.errors import Failure, permanent
from reconciler.log import get_log
from reconciler.watch.client import SOCKET_NAME, short_path

MAX_LINE_BYTES = 1 << 20
MAX_CLIENTS = 32
IDLE_S = 600.0

Answer = Iterator[Mapping[str, Any]]


class Control:
    """Serves the socket until closed. ``answer`` gives one or more answers to a request."""

    def __init__(self, store: str, answer: Callable[[Mapping[str, Any]], Answer]) -> None:
        self._store, self._answer = store, answer
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        self._listener: socket.socket | None = None

    def open(self) -> None:
        """Take the socket's place; the caller owns the store, so what lies there is a dead watch's."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._store}/{SOCKET_NAME}")  # noqa: PTH108 -- the store speaks text
            os.fchmod(listener.fileno(), 0o600)  # Linux gives the file this mode from its first moment
            with short_path(self._store) as path:
                listener.bind(path)
                os.chmod(path, 0o600)  # noqa: PTH101 -- elsewhere it is set a moment later
            listener.listen(MAX_CLIENTS)
        except OSError as error:
            listener.close()
            get_log().warning("watch_deaf", path=SOCKET_NAME, reason="control_failed", message=str(error))
            return
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="control", daemon=True).start()

    def close(self) -> None:
        """No more clients; the socket's name goes."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                os.unlink(f"{self._store}/{SOCKET_NAME}")  # noqa: PTH108

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if not _is_allowed(client) or not self._places.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, client.makefile("rb") as lines:
                client.settimeout(IDLE_S)
                while line := lines.readline(MAX_LINE_BYTES):
                    for answer in self._answers(line):
                        client.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            return  # it hung up
        finally:
            self._places.release()

    def _answers(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise permanent("bad_request", "a request is a JSON object on one line")
            for answer in self._answer(request):
                yield {"ok": True, **answer}
        except (ValueError, RecursionError):
            yield {
                "ok": False,
                "reason": "bad_request",
                "message": "that is no JSON",
                "hint": "",
                "failure": "permanent",
            }
        except Failure as failure:
            yield {
                "ok": False,
                "reason": failure.reason,
                "message": failure.message,
                "hint": failure.hint,
                "failure": failure.kind.value,
            }


def _is_allowed(client: socket.socket) -> bool:
    """Only the owner of the process and root, whatever happened to the file's mode."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in {0, os.geteuid()}
