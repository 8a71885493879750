"""Options before the environment, the environment before the default."""

import click
import pytest

from reconciler.cli import VALUED, verb_of
from reconciler.cli.command import global_options
from reconciler.cli.opening import _with_stop, configure_log
from reconciler.cli.settings import Settings
from reconciler.cli.signals import Cancel
from reconciler.core.digests import digest_bytes
from reconciler.core.report import ApplyResult, ApplySummary, Stop
from reconciler.log import Level, get_log


def test_the_level_is_the_option_then_v_then_the_environment():
    environ = {"RECONCILER_LOG_LEVEL": "ERROR"}
    assert Settings(environ=environ).level_name("info") == "error"
    assert Settings(environ={"RECONCILER_LOG_LEVEL": "loud"}).level_name("info") == "info"
    assert Settings(environ=environ, verbosity=1).level_name("warning") == "info"
    assert Settings(environ=environ, verbosity=3).level_name("warning") == "debug"
    assert Settings(environ=environ, verbosity=3, log_level="warning").level_name("info") == "warning"


def test_the_format_is_the_option_then_the_environment():
    assert Settings(environ={"RECONCILER_LOG_FORMAT": "json"}).format_name() == "json"
    assert Settings(environ={"RECONCILER_LOG_FORMAT": "json"}, log_format="console").format_name() == "console"
    assert Settings(environ={"RECONCILER_LOG_FORMAT": "morse"}).format_name() == "console"


def test_the_log_follows_the_options():
    lines = []
    configure_log(Settings(environ={}, verbosity=1, log_format="json"), write=lines.append)
    get_log().info("pass_started", trigger="test")
    configure_log(Settings(environ={}))
    assert '"event": "pass_started"' in lines[0]
    assert not get_log().is_enabled(Level.INFO)


def result(**sums):
    return ApplyResult(digest_bytes(b""), summary=ApplySummary(**sums))


def cancelled_by(number):
    cancel = Cancel()
    cancel.signal = number
    return cancel


def test_a_signal_that_cut_nothing_off_changes_nothing():
    done = result(done=3)
    assert _with_stop(done, cancelled_by(2)) is done
    assert _with_stop(done, Cancel()) is done


def test_what_was_cut_off_names_its_signal():
    assert _with_stop(result(cancelled=1), cancelled_by(2)).summary.stopped is Stop.INTERRUPTED
    assert _with_stop(result(cancelled=1), cancelled_by(15)).summary.stopped is Stop.TERMINATED
    assert _with_stop(result(cancelled=1, stopped=Stop.TIMED_OUT), cancelled_by(2)).summary.stopped is Stop.TIMED_OUT


def test_waiting_ends_when_it_is_set_and_when_the_time_is_over():
    cancel = Cancel()
    assert not cancel.wait(0.01)
    cancel.set()
    assert cancel.wait()
    assert cancel.is_set()


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        (["watch"], "watch"),
        (["-f", "watch", "status"], "status"),
        (["--store=x", "-v", "-ojson", "watch", "--interval", "1m"], "watch"),
        (["status", "watch"], "status"),
        (["--store", "/s", "--log-format", "json", "watch"], "watch"),
        (["--help"], ""),
        (["-f"], ""),
    ],
)
def test_the_verb_is_known_before_anything_is_parsed(line, verb):
    assert verb_of(line) == verb


def test_the_options_that_take_a_word_are_those_of_the_command():
    taking = [option for option in global_options() if isinstance(option, click.Option)]
    names = {name for option in taking if not (option.is_flag or option.count) for name in option.opts}
    assert names == VALUED
