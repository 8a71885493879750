"""The command: ``reconciler VERB``. Verbs build a library object, call it once, and print; nothing is decided here.

Reading order: :func:`main` (process manners) → :mod:`reconciler.cli.run` (click, exit codes) →
:mod:`reconciler.cli.command` (global options, late imports) → one module per group of verbs: ``starting`` (init,
validate, schema, version, completion), ``planning``, ``applying``, ``marking``, ``watching``, ``reading`` → the texts
(``*_text``), which turn values into lines.

This module imports next to nothing: ``version`` must answer at once, and an interrupt during an import must not show a
traceback.
"""

import sys
from collections.abc import Sequence

_GARBAGE = 5000  # objects between two looks of the garbage collector; what lives long keeps the usual number
VALUED = frozenset({"-f", "--file", "--store", "-o", "--output", "--log-level", "--log-format"})  # before the verb


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Without ``argv`` this is the whole process, with its signals and its heap."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["version"], ["--version"]):
        from reconciler import __version__  # noqa: PLC0415

        sys.stdout.write(f"reconciler {__version__}\n")
        return 0
    try:
        if argv is None:
            _settle_process(arguments)
        from reconciler.cli.run import run  # noqa: PLC0415

        code = run(arguments, is_process=argv is None)
    except KeyboardInterrupt:
        return 130
    if argv is None:
        _leave(code)
    return code


def _settle_process(arguments: Sequence[str]) -> None:
    """A short process needs no garbage collector (see signals.py), and SIGTERM is an exit code.

    A watch that is told to look again while it starts need not be: it looks at everything then.
    """
    import gc  # noqa: PLC0415
    import signal  # noqa: PLC0415

    gc.disable()
    signal.signal(signal.SIGTERM, _terminated)
    if verb_of(arguments) == "watch":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    else:
        gc.set_threshold(_GARBAGE)


def _leave(code: int) -> None:
    """End the process, where nothing is left to be told: to take the heap apart takes as long as many a verb.

    What still runs is of no use to anybody, and every step of the store survives being left.
    """
    import os  # noqa: PLC0415

    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the interpreter tells of it
    os._exit(code)


def verb_of(arguments: Sequence[str]) -> str:
    """The first word that is no option nor an option's value, before anything is parsed; empty where there is none."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            return word
        if word in VALUED:
            next(words, "")
    return ""


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(143)
