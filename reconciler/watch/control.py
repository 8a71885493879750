"""The control socket: ``control.sock`` in the store, mode 0600, for the store's owner and root only.

One JSON object a line each way::

    → {"op": "poke"}                             ← {"ok": true}
    → {"op": "pin", "models": ["llama"]}         ← {"ok": false, "reason": "unknown_model", "message": "…", "hint": "…"}
    → {"op": "evict", "models": ["llama"]}       ← {"ok": true, "result": {an ApplyResult document}}
    → {"op": "events", "after": 7, "follow": true} ← {"ok": true, "event": {…}} … until either side hangs up

What may be asked stands in :mod:`reconciler.watch.verbs`. A connection may ask several things in a row. Each has a
thread; nothing that a client does, or leaves undone, holds up the loop. There is a place for so many clients: one that
comes when all are taken gets that of the client that has been silent longest, or waits a second, or is told so.
"""

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from reconciler.core.errors import Failure, permanent, transient
from reconciler.log import get_log
from reconciler.watch.caller import Caller
from reconciler.watch.client import SOCKET_NAME, short_path

MAX_LINE_BYTES = 1 << 20
MAX_CLIENTS = 64
BACKLOG = 256
IDLE_S = 60.0  # for the next request
SEND_S = 30.0  # for a client that does not read
PATIENCE_S = 1.0  # before a silent client loses its place, and before one without a place is sent away
CLOSE_S = 0.5

Answer = Iterator[Mapping[str, Any]]


class _Client:
    """One connection; ``silent_since`` while nothing is being done for it."""

    def __init__(self, link: socket.socket, closing: threading.Event) -> None:
        self.link, self.caller = link, Caller(link, closing)
        self.silent_since: float | None = time.monotonic()
        self.thread: threading.Thread | None = None

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.link.shutdown(socket.SHUT_RDWR)


class Control:
    """Serves the socket until closed. ``answer`` gives one or more answers to a request."""

    def __init__(self, store: str, answer: Callable[[Mapping[str, Any], Caller], Answer]) -> None:
        self._store, self._answer = store, answer
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._clients: set[_Client] = set()
        self._listener: socket.socket | None = None
        self._identity: tuple[int, int] | None = None  # of the name that was bound

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
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            get_log().warning("watch_deaf", path=SOCKET_NAME, reason="control_failed", message=str(error))
            return
        self._listener, self._identity = listener, self._look()
        threading.Thread(target=self._accept, args=(listener,), name="control", daemon=True).start()

    def keep(self) -> None:
        """Take the socket's place again where its name was taken away; clients that are connected stay so."""
        if self._identity is None or self._look() == self._identity or not os.path.isdir(self._store):  # noqa: PTH112
            return
        self._identity = None
        self._stop_listening()
        self.open()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.lstat(f"{self._store}/{SOCKET_NAME}")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _stop_listening(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """No more clients; those that follow are told the last that happened. The socket's name goes."""
        if self._listener is None:
            return
        self._stop_listening()
        with contextlib.suppress(OSError):
            os.unlink(f"{self._store}/{SOCKET_NAME}")  # noqa: PTH108
        self._closing.set()
        end = time.monotonic() + CLOSE_S
        with self._changed:
            for client in self._clients:
                if client.silent_since is not None:
                    client.hang_up()
            while self._clients and self._changed.wait(max(0.0, end - time.monotonic())):
                pass

    # --- places ----------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            if not _is_allowed(link):
                link.close()
            elif not self._has_place():
                with link, contextlib.suppress(OSError):
                    link.settimeout(PATIENCE_S)
                    link.sendall(_line(_refusal(transient("watch_crowded", "too many clients ask the running watch"))))
            else:
                client = _Client(link, self._closing)
                client.thread = threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True)
                with self._changed:
                    self._clients.add(client)
                client.thread.start()

    def _has_place(self) -> bool:
        """Whether there is a place, after a second at the latest: silent clients lose theirs."""
        end = time.monotonic() + 2 * PATIENCE_S
        with self._changed:
            while len(self._clients) >= MAX_CLIENTS:
                now = time.monotonic()
                silent = [each for each in self._clients if each.silent_since and now - each.silent_since > PATIENCE_S]
                if silent:
                    min(silent, key=lambda each: each.silent_since or now).hang_up()
                if now >= end:
                    return False
                self._changed.wait(0.1)
        return True

    # --- one client ------------------------------------------------------------------------------------------------

    def _serve(self, client: _Client) -> None:
        try:
            with client.link as link, link.makefile("rb") as lines:
                link.settimeout(IDLE_S)
                while line := lines.readline(MAX_LINE_BYTES + 1):
                    client.silent_since = None
                    link.settimeout(SEND_S)
                    with contextlib.closing(self._answers(line, client.caller)) as answers:
                        for answer in answers:
                            link.sendall(_line(answer))
                    if len(line) > MAX_LINE_BYTES or self._closing.is_set():
                        return
                    link.settimeout(IDLE_S)
                    client.silent_since = time.monotonic()
        except OSError:
            return  # it hung up, or would not read
        finally:
            with self._changed:
                self._clients.discard(client)
                self._changed.notify_all()

    def _answers(self, line: bytes, caller: Caller) -> Generator[dict[str, Any], None, None]:
        try:
            if len(line) > MAX_LINE_BYTES:
                raise permanent("bad_request", f"a request is a line of at most {MAX_LINE_BYTES} bytes")
            request = json.loads(line)
            if not isinstance(request, dict):
                raise permanent("bad_request", "a request is a JSON object on one line")
        except (ValueError, RecursionError):
            yield _refusal(permanent("bad_request", "that is no JSON"))
            return
        except Failure as failure:
            yield _refusal(failure)
            return
        try:
            for answer in self._answer(request, caller):
                yield {"ok": True, **answer}
        except Failure as failure:
            yield _refusal(failure)


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _refusal(failure: Failure) -> dict[str, Any]:
    return {
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
