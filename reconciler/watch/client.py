"""Asking a running watch: one JSON object a line, over ``control.sock`` in its store.

See :mod:`reconciler.watch.control` for the protocol. Imports nothing that is slow: ``status`` tries this first.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.core.actions import ActionKind, Deferred, Guard, Outcome, OutcomeStatus
from reconciler.core.errors import Failure, FailureKind, permanent
from reconciler.core.moments import parse_moment
from reconciler.core.ports import CancelToken, Progress
from reconciler.core.report import ApplyResult, ApplySummary, Stop
from reconciler.core.words import Digest

SOCKET_NAME = "control.sock"
CONNECT_S = 2.0
QUICK_S = 5.0  # for what is answered at once
LOOK_EVERY_S = 0.2


def ask(store: str, op: str, *, timeout_s: float | None = QUICK_S, **keys: Any) -> Mapping[str, Any] | None:
    """The watch's answer; None where no watch runs on this store.

    Raises:
        Failure: what the watch says, or transient ``watch_silent`` where it does not answer in time.
    """
    for answer in _lines(store, {"op": op, **keys}, timeout_s):
        return _checked(answer)
    return None


def follow(store: str, op: str, cancel: CancelToken, **keys: Any) -> Iterator[Mapping[str, Any]]:
    """Answers as they come, until the watch stops or ``cancel`` is set; none where no watch runs."""
    for answer in _lines(store, {"op": op, **keys}, None, cancel):
        yield _checked(answer)


def perform(
    store: str,
    op: str,
    listeners: tuple[Callable[[Progress], None], Callable[[Outcome], None]],
    cancel: CancelToken,
    **keys: Any,
) -> ApplyResult | None:
    """Let the watch do one thing; its progress and outcomes as they come. None where no watch runs.

    Raises:
        Failure: what the watch says; transient ``watch_gone`` where it ended in the midst of it.
    """
    report, on_outcome = listeners
    is_running = False
    for answer in _lines(store, {"op": op, "progress": True, **keys}, None, cancel, is_stopped_by_word=True):
        is_running = True
        checked = _checked(answer)
        if "progress" in checked:
            report(Progress(**checked["progress"]))
        elif "outcome" in checked:
            on_outcome(_outcome(checked["outcome"]))
        elif "result" in checked:
            return result_from(checked["result"])
    if is_running:
        raise Failure(FailureKind.TRANSIENT, "watch_gone", f"the running watch ended before {op} was done")
    return None


def _lines(
    store: str,
    request: Mapping[str, Any],
    timeout_s: float | None,
    cancel: CancelToken | None = None,
    *,
    is_stopped_by_word: bool = False,
) -> Iterator[Mapping[str, Any]]:
    """The answers. Once ``cancel`` is set: leave, or say so (close the sending side) and hear how it ends."""
    link = connect(store)
    if link is None:
        return
    with link:
        try:
            link.settimeout(CONNECT_S if timeout_s is None else timeout_s)
            link.sendall(json.dumps(request).encode() + b"\n")
            for line in _split(_pieces(link, timeout_s, cancel, is_stopped_by_word=is_stopped_by_word)):
                yield json.loads(line)
        except TimeoutError as error:
            raise Failure(FailureKind.TRANSIENT, "watch_silent", "the running watch does not answer") from error
        except (OSError, ValueError) as error:
            raise permanent("watch_unreadable", f"the running watch broke off: {error}") from error


def _pieces(
    link: socket.socket, timeout_s: float | None, cancel: CancelToken | None, *, is_stopped_by_word: bool
) -> Iterator[bytes]:
    """Bytes until the other side hangs up; it is looked up from waiting several times a second."""
    waited_s, has_said = 0.0, False
    link.settimeout(LOOK_EVERY_S)
    while True:
        if cancel is not None and cancel.is_set() and not has_said:
            if not is_stopped_by_word:
                return
            link.shutdown(socket.SHUT_WR)
            has_said = True
        try:
            piece = link.recv(1 << 16)
        except TimeoutError:
            waited_s += LOOK_EVERY_S
            if timeout_s is not None and waited_s >= timeout_s:
                raise
            continue
        if not piece:
            return
        waited_s = 0.0
        yield piece


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def connect(store: str) -> socket.socket | None:
    """A connection to the watch of this store; None where there is none."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    link.settimeout(CONNECT_S)
    end = time.monotonic() + CONNECT_S
    while True:
        try:
            with short_path(store) as path:
                link.connect(path)
        except BlockingIOError:  # so many ask at once that it does not even wait for a place
            if time.monotonic() < end:
                threading.Event().wait(LOOK_EVERY_S)
                continue
            link.close()
            return None
        except OSError:
            link.close()
            return None
        return link


@contextlib.contextmanager
def short_path(store: str) -> Iterator[str]:
    """The socket's path, short enough for the kernel (108 bytes) however deep the store lies."""
    plain = f"{store}/{SOCKET_NAME}"
    if len(os.fsencode(plain)) < 100:
        yield plain
        return
    folder = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)


def _checked(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if answer.get("ok"):
        return answer
    raise Failure(
        FailureKind(answer.get("failure", "permanent")),
        str(answer.get("reason", "refused")),
        str(answer.get("message", "the watch refused")),
        hint=str(answer.get("hint", "")),
    )


def result_from(document: Mapping[str, Any]) -> ApplyResult:
    """The value that an ``ApplyResult`` document was made of."""
    summary = dict(document["summary"])
    summary["stopped"] = Stop(summary["stopped"]) if summary.get("stopped") else None
    return ApplyResult(
        Digest(document["plan_digest"]),
        tuple(_outcome(row) for row in document["outcomes"]),
        tuple(_deferred(row) for row in document["deferred"]),
        tuple(Guard(**row) for row in document["guards"]),
        ApplySummary(**summary),
    )


def _outcome(row: Mapping[str, Any]) -> Outcome:
    return Outcome(
        row["id"],
        ActionKind(row["kind"]),
        row["model"],
        OutcomeStatus(row["status"]),
        row["reason"],
        row["message"],
        row["bytes"],
        row["seconds"],
        row["failure"] or "",
        _moment(row["retry_at"]),
    )


def _deferred(row: Mapping[str, Any]) -> Deferred:
    return Deferred(
        row["model"],
        row["reason"],
        row["message"],
        row["needs_bytes"],
        row["available_bytes"],
        tuple(row["blocked_by"]),
        _moment(row["retry_at"]),
    )


def _moment(text: str | None) -> float | None:
    return parse_moment(text) if text else None
