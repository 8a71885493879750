"""The log: closed names and keys, no secret, no control character, quiet where the level says so."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import reconciler
from reconciler.log import EVENTS, Level, Log, scrub

PACKAGE = Path(reconciler.__file__).parent
METHODS = {"debug", "info", "warning", "error"}


def lines_of(fmt="json", level=Level.DEBUG):
    lines = []
    log = Log()
    log.configure(level=level, fmt=fmt, write=lines.append)
    return log, lines


def emitted():
    """Every ``get_log().info("event", key=...)`` and ``log.info(...)`` in the sources."""
    for path in PACKAGE.rglob("*.py"):
        if path.name == "log.py" and path.parent == PACKAGE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                target = ast.unparse(node.func.value)
                if target == "get_log()" or target.rsplit(".")[-1] in ("log", "_log", "LOG", "_LOG"):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_what_somebody_else_tells_is_not_written():
    lines = []
    log = Log()
    log.configure(fmt="json", write=lines.append, told=frozenset({"action_failed"}))
    log.warning("action_failed", model="llama")
    log.warning("ledger_unwritable", path="state.db")
    assert [json.loads(line)["event"] for line in lines] == ["ledger_unwritable"]


def test_every_event_that_is_emitted_is_in_the_table():
    wrong = []
    for place, call in emitted():
        name = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        keys = {keyword.arg for keyword in call.keywords}
        if name not in EVENTS or not keys <= EVENTS[name]:
            wrong.append(f"{place}: {name} {sorted(map(str, keys))}")
    assert not wrong


def test_no_key_could_hold_a_secret():
    keys = {key for row in EVENTS.values() for key in row}
    assert not {
        key for key in keys if any(word in key for word in ("token", "secret", "password", "header", "url", "auth"))
    }


def test_an_event_or_key_outside_the_table_is_a_programming_error():
    log, _ = lines_of(level=Level.ERROR)
    with pytest.raises(KeyError):
        log.info("something_else")
    with pytest.raises(KeyError, match="password"):
        log.info("pass_started", password="x")


def test_json_lines_begin_with_when_how_bad_and_what():
    log, lines = lines_of()
    log.warning("action_failed", model="llama", reason="not_found", message="404")
    assert list(json.loads(lines[0])) == ["timestamp", "level", "event", "model", "reason", "message"]


def test_console_lines_are_plain_without_colour():
    log, lines = lines_of("console")
    log.error("action_failed", model="evil\x1b[31m\nname", message="x")
    assert "\x1b" not in lines[0]
    assert lines[0].count("\n") == 1


def test_the_level_keeps_the_rest_quiet():
    log, lines = lines_of(level=Level.WARNING)
    log.info("pass_started")
    log.warning("manifest_rejected", problems=3)
    assert len(lines) == 1
    assert log.is_enabled(Level.ERROR)
    assert not log.is_enabled(Level.INFO)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("see https://u:p@h/x?sig=hush#f now", "see https://h/x now"),
        ("s3://key@bucket/a", "s3://bucket/a"),
        ("plain text? yes", "plain text? yes"),
        ("'https://h/x?a=b'", "'https://h/x'"),
    ],
)
def test_user_information_and_query_strings_are_taken_out(text, clean):
    assert scrub(text) == clean


def test_a_quiet_log_does_not_import_structlog():
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); from reconciler.log import get_log\n"
        "get_log().info('pass_started'); print('structlog' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout == "False\n"
