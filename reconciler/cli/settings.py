"""What the global options say, wherever they stand on the line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OUTPUTS = ("text", "json", "yaml", "markdown")
LEVELS = ("debug", "info", "warning", "error")


def typed(arguments: Sequence[str]) -> "Settings":
    """How to print and to log by a line that could not be parsed; as by default where it says nothing that can be."""
    output = _typed(arguments, "-o", "--output")
    form = _typed(arguments, "", "--log-format")
    return Settings(output=output if output in OUTPUTS else "text", log_format=form or None)


def _typed(arguments: Sequence[str], short: str, long: str) -> str:
    found = ""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == "--":
            break
        if word in (short, long):
            found = following
        elif word.startswith(f"{long}=") or (short and word.startswith(short)):
            found = word.removeprefix(long).removeprefix(short).removeprefix("=")
    return found


@dataclass
class Settings:
    """Filled while the command line is parsed, read by the verbs."""

    files: list[str] = field(default_factory=list)
    store: str | None = None
    output: str = "text"
    log_level: str | None = None
    log_format: str | None = None
    verbosity: int = 0
    color: bool = True
    debug: bool = False
    is_process: bool = False  # the whole process is this one command
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def level_name(self, default: str) -> str:
        """The log level: the option, else what ``-v`` says, else the environment, else ``default``."""
        if self.log_level:
            return self.log_level
        if self.verbosity:
            return "info" if self.verbosity == 1 else "debug"
        named = self.environ.get("RECONCILER_LOG_LEVEL", "").lower()
        return named if named in LEVELS else default

    def format_name(self) -> str:
        """The log format: console or json."""
        named = self.log_format or self.environ.get("RECONCILER_LOG_FORMAT", "").lower()
        return named if named in ("console", "json") else "console"

    def wants_debug(self) -> bool:
        """Whether an unexpected error shows its traceback."""
        return self.debug or self.environ.get("RECONCILER_DEBUG", "") not in ("", "0")
