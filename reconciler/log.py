"""Structured logs: one closed table of event names and keys, one line each, on standard error.

``get_log().info("action_finished", model="llama", kind="download", seconds=4.2)``. An event or a key that is not in the
table is a programming error and raises, so that whoever reads logs by machine can rely on them; a test looks through
the sources as well. Secrets have no key, and what looks like user information or a query string of a URL is taken out
of every value on its way out.

structlog is imported at the first line that is really written: most verbs never write one.
"""

import re
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from enum import IntEnum
from typing import Any

Write = Callable[[str], None]


class Level(IntEnum):
    """How much a line matters."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


_MODEL = frozenset({"model"})
_FAILED = frozenset({"reason", "message", "hint"})
_ACTION = _MODEL | {"id", "kind", "bytes", "seconds", "cause"}
_FILE = _MODEL | {"path", "source", "bytes", "seconds", "attempt", "digest"}

EVENTS: Mapping[str, frozenset[str]] = {
    # passes
    "pass_started": frozenset({"generation", "trigger"}),
    "pass_planned": frozenset({"plan_digest", "changes", "deferred", "satisfied", "guards", "bytes"}),
    "pass_finished": frozenset({"generation", "done", "failed", "skipped", "cancelled", "deferred", "seconds"}),
    "pass_refused": _FAILED,
    "pass_cancelled": frozenset({"reason", "done", "cancelled"}),
    # actions
    "action_started": _ACTION,
    "action_finished": _ACTION | {"status"},
    "action_skipped": _ACTION | {"reason"},
    "action_failed": _ACTION | _FAILED | {"failure", "retry_at"},
    "model_deferred": _MODEL | _FAILED | {"needs_bytes", "available_bytes", "retry_at"},
    "lifecycle_changed": _MODEL | {"from_state", "to_state"},
    "observer_failed": _MODEL | {"error"},
    "partner_started": frozenset({"pid", "models"}),
    "partner_lost": frozenset({"pid", "message"}),
    "errand_returned": _MODEL | {"error"},
    # downloads
    "download_started": _FILE | {"resumed_bytes"},
    "download_finished": _FILE | {"rate"},
    "download_retried": _FILE | _FAILED | {"retry_in_s"},
    "source_failed": _FILE | _FAILED,
    "source_resolved": _MODEL | {"source", "revision", "files"},
    "host_suspended": frozenset({"host", "reason", "retry_in_s"}),
    # the store and the ledger
    "drift_found": _MODEL | {"path", "reason", "message"},
    "file_quarantined": _MODEL | {"path", "reason"},
    "partial_dropped": _MODEL | {"path", "reason", "bytes"},
    "blob_evicted": _MODEL | {"digest", "bytes", "reason"},
    "ledger_lost": frozenset({"path", "hint"}),
    "ledger_unwritable": frozenset({"error", "path"}),
    "store_locked": frozenset({"path", "pid"}),
    # the manifest and the watch
    "manifest_passed_over": frozenset({"path", "reason"}),
    "manifest_loaded": frozenset({"generation", "models", "path", "revision"}),
    "manifest_rejected": frozenset({"problems", "message", "path", "revision"}),
    "manifest_kept": frozenset({"generation", "reason"}),
    "watch_started": frozenset({"path", "mode", "interval_s"}),
    "watch_stopped": frozenset({"reason", "seconds"}),
    "watch_woken": frozenset({"trigger", "path"}),
    "watch_deaf": frozenset({"path", "reason", "message"}),
    "watch_suspended": frozenset({"until"}),
    "watch_resumed": frozenset({"reason"}),
    "source_fetched": frozenset({"source", "revision", "seconds"}),
    "source_refused": frozenset({"source", "reason", "message"}),
    "source_unreachable": frozenset({"source", "reason", "message", "retry_in_s"}),
    "server_started": frozenset({"address"}),
    # memory and runtimes
    "pressure_changed": frozenset({"resource", "level", "available_bytes"}),
    "runtime_unreachable": frozenset({"runtime", "message", "reason"}),
    "model_loaded": _MODEL | {"runtime", "bytes", "seconds"},
    "model_unloaded": _MODEL | {"runtime", "reason", "seconds"},
    # everything else that a person should know
    "key_not_supported": frozenset({"path", "message", "reason"}),
    "interrupted": frozenset({"signal", "message"}),
    "command_failed": frozenset({"reason", "message", "hint", "problems"}),
    "repeated": frozenset({"event_name", "count", "seconds", "message"}),
}

_USER_INFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/?#\s@]*@", re.IGNORECASE)
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#'\"<>]*)[?#][^\s'\"<>)]*", re.IGNORECASE)
_DIGEST = re.compile(r"\b(sha256:[0-9a-f]{12})[0-9a-f]{52}\b")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def scrub(text: str) -> str:
    """``text`` without user information and query strings of URLs, and with control characters made visible."""
    if "://" in text:
        text = _QUERY.sub(r"\1", _USER_INFO.sub(r"\1", text))
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


class Log:
    """Writes events of the table. Cheap where the level says no."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._level = Level.WARNING
        self._format = "console"
        self._colour = False
        self._write: Write | None = None
        self._told: frozenset[str] = frozenset()
        self._bound: Any = None

    def configure(
        self,
        *,
        level: Level = Level.WARNING,
        fmt: str = "console",
        colour: bool = False,
        write: Write | None = None,
        told: frozenset[str] = frozenset(),
    ) -> None:
        """Set what is written and how: ``fmt`` is console or json; ``write`` takes whole lines (default: stderr).

        Events of ``told`` are not written: somebody tells them in other words.
        """
        with self._lock:
            self._told = told
            self._level, self._format, self._colour, self._write = level, fmt, colour, write
            self._bound = None

    def is_enabled(self, level: Level) -> bool:
        """Whether a line of that level would be written."""
        return level >= self._level

    def debug(self, event: str, **keys: object) -> None:
        """For whoever looks for a fault in the tool itself."""
        self._emit(Level.DEBUG, event, keys)

    def info(self, event: str, **keys: object) -> None:
        """The ordinary course."""
        self._emit(Level.INFO, event, keys)

    def warning(self, event: str, **keys: object) -> None:
        """Something a person may have to look at; the work goes on."""
        self._emit(Level.WARNING, event, keys)

    def error(self, event: str, **keys: object) -> None:
        """Something failed."""
        self._emit(Level.ERROR, event, keys)

    def _emit(self, level: Level, event: str, keys: Mapping[str, object]) -> None:
        unknown = keys.keys() - EVENTS[event]  # an unknown event is a KeyError
        if unknown:
            raise KeyError(f"the log event {event} has no key {', '.join(sorted(unknown))}")
        if level < self._level or event in self._told:
            return
        values = {key: scrub(value) if isinstance(value, str) else value for key, value in keys.items()}
        with self._lock:
            if self._bound is None:
                self._bound = _bind(self._format, self._colour, self._put)
            getattr(self._bound, level.name.lower())(event, **values)

    def _put(self, line: str) -> None:
        if self._write is not None:
            self._write(line)
            return
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except (OSError, ValueError):
            self._write = lambda _: None  # nobody reads standard error any more; that is no reason to stop


class _Sink:
    """What structlog hands finished lines to."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def msg(self, message: str) -> None:
        self._write(message + "\n")

    debug = info = warning = error = msg


def _put_first(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """When, how bad and what, before everything else."""
    return {key: event.pop(key) for key in ("timestamp", "level", "event")} | dict(event)


def _put_shortly(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """For people: nothing that says nothing, and of a digest as much as tells it from others."""
    entry = _put_first(logger, method, event)
    return {
        key: _DIGEST.sub(r"\1", value) if isinstance(value, str) else value
        for key, value in entry.items()
        if value != "" and value is not None
    }


def _bind(fmt: str, colour: bool, write: Write) -> Any:
    import structlog  # noqa: PLC0415 -- 0.2 s that a quiet verb need not pay

    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=False, default=str)
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(colors=colour, pad_event_to=0, sort_keys=False)
    )
    return structlog.wrap_logger(
        _Sink(write),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if fmt == "json" else "%Y-%m-%d %H:%M:%S", utc=fmt == "json"),
            _put_first if fmt == "json" else _put_shortly,
            renderer,
        ],
    )


_LOG = Log()


def get_log() -> Log:
    """The one log of the process."""
    return _LOG
