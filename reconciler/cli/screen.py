"""Standard output and standard error: data to the one, everything else to the other.

A reader that went away (``| head``) ends the output, not the work: what is left goes nowhere, and the exit code stays
the verb's own. A full disk behind standard output is an error.
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

from reconciler.cli.layout import Ink
from reconciler.cli.settings import Settings
from reconciler.core.errors import permanent
from reconciler.core.heading import Document

_RAW_CONTROL = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # json leaves these as they are


def is_terminal(stream: TextIO) -> bool:
    """Whether a person sees it, and it understands more than plain text."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def ink_for(settings: Settings, stream: TextIO) -> Ink:
    """Colour and width as the stream and the user allow."""
    terminal = is_terminal(stream)
    colour = terminal and settings.color and not settings.environ.get("NO_COLOR")
    width = max(40, min(_columns(), 160)) if terminal else None
    return Ink(colour=colour, width=width, verbose=settings.verbosity > 0)


def _columns() -> int:
    import shutil  # noqa: PLC0415 -- 5 ms that only a terminal is worth

    return shutil.get_terminal_size().columns


def to_text(settings: Settings, document: Document) -> str:
    """The document as JSON or YAML."""
    if settings.output == "yaml":
        return yaml_text(document)
    return json_text(document)


def json_text(document: Any, indent: int | None = 2) -> str:
    """JSON with stable key order and no raw control characters."""
    text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
    return _RAW_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def yaml_text(document: Any) -> str:
    """YAML with the same key order; times and digests stay strings."""
    import yaml  # noqa: PLC0415 -- only for -o yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, width=10**6)
    return text


def show(
    settings: Settings,
    document: Callable[[], Document],
    text: Callable[[Ink], Iterable[str]],
    markdown: str | None = None,
) -> None:
    """Print a document the way that was asked for."""
    if settings.output in ("json", "yaml"):
        put(to_text(settings, document()))
    elif markdown is not None and settings.output == "markdown":
        put(markdown)
    else:
        put_lines(text(ink_for(settings, sys.stdout)))


def put_lines(lines: Iterable[str]) -> None:
    """Lines to standard output."""
    put("".join(f"{line}\n" for line in lines))


def put(text: str) -> bool:
    """Data to standard output; False where nobody reads any more.

    Raises:
        Failure: ``output_failed`` where it cannot be written (a full disk).
    """
    try:
        sys.stdout.write(_writable(text, sys.stdout.encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _to_nowhere()
        return False
    except OSError as error:
        _to_nowhere()
        raise permanent("output_failed", f"cannot write to standard output: {error.strerror}") from error
    return True


def _writable(text: str, encoding: str | None) -> str:
    """What the stream's encoding cannot say is escaped; in JSON that is an escape of JSON's own."""
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(map(_escaped, text)) if encoding.lower().startswith("utf") else _ascii(text)
    return text


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if "\ud800" <= char <= "\udfff" else char


def _ascii(text: str) -> str:
    """Every other character as an escape, the way JSON writes it."""
    return "".join(char if char.isascii() else json.dumps(char)[1:-1] for char in text)


def _to_nowhere() -> None:
    """So that neither later output nor the interpreter's last flush complains."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, io.UnsupportedOperation):
        sys.stdout = io.StringIO()


def tell(lines: Sequence[str] | str) -> None:
    """Something for a person, to standard error; never fails."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return
