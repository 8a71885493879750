"""What the live display draws, and what it writes into a terminal."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from rich.console import Console
from stub_process import command

from reconciler.cli.drawing import Drawing, frame
from reconciler.cli.layout import cells_wide
from reconciler.cli.progress import Board, Line
from reconciler.core.actions import ActionKind, Outcome, OutcomeStatus
from reconciler.core.ports import Progress


def report(board, model, path, done, total, rate=None, stage="downloading"):
    return board.report(Progress(model, path, stage, done, total, rate))


def test_files_of_one_model_are_one_line():
    board = Board(planned_bytes=300)
    assert report(board, "bert", "a", 50, 100, 10.0)
    assert not report(board, "bert", "b", 100, 200, 20.0)
    (line,), total = board.lines()
    assert (line.done_bytes, line.total_bytes, line.rate, line.seconds_left) == (150, 300, 30.0, 5.0)
    assert (total.done_bytes, total.total_bytes, total.seconds_left) == (150, 300, 5.0)


def test_a_finished_model_counts_in_the_total_and_leaves_its_line():
    board = Board(planned_bytes=300)
    report(board, "bert", "a", 100, 100)
    board.finish(Outcome("1", ActionKind.DOWNLOAD, "bert", OutcomeStatus.DONE, bytes=100))
    models, total = board.lines()
    assert models == []
    assert total.done_bytes == 100


def test_what_failed_is_not_waited_for_in_the_total():
    board = Board(planned_bytes=300)
    board.finish(Outcome("1", ActionKind.DOWNLOAD, "bert", OutcomeStatus.FAILED, bytes=100))
    assert board.lines()[1].total_bytes == 200


def test_a_resumed_download_counts_in_full():
    board = Board(planned_bytes=300, planned={"1": 300})
    board.finish(Outcome("1", ActionKind.DOWNLOAD, "bert", OutcomeStatus.DONE, bytes=20))
    assert board.lines()[1].done_bytes == 300


def drawn(lines, total, width, rows):
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, legacy_windows=False).print(frame(lines, total, width, rows))
    return stream.getvalue().rstrip("\n").split("\n")


def test_a_frame_shows_percent_bytes_rate_and_time_left():
    lines = [Line("llama", "downloading", 470_000_000, 4_700_000_000, 34e6, 124.0)]
    (text,) = drawn(lines, Line("total", "", 470_000_000, 4_700_000_000), 100, 24)
    for part in ("llama", "10%", "470 MB/4.7 GB", "34 MB/s", "2m 04s left", "downloading"):
        assert part in text


def test_a_frame_fits_its_terminal():
    lines = [Line(f"model-{i}-" + "x" * 70, "downloading", i, 10**9, 1e6, 9.0, 3) for i in range(50)]
    for width, rows in ((20, 5), (40, 10), (80, 24), (200, 60)):
        found = drawn(lines, Line("total", "", 5, 10**10), width, rows)
        assert len(found) < rows
        assert all(cells_wide(line) < width for line in found)


def test_a_narrow_terminal_keeps_name_and_percent():
    lines = [Line("llama", "downloading", 470_000_000, 4_700_000_000, 34e6, 124.0)]
    for width in (24, 40, 60, 80):
        (text,) = drawn(lines, Line("total"), width, 24)
        assert re.match(r"llama .*10%", text)
        assert text.endswith("downloading") == (width >= 70)


def test_a_name_from_outside_writes_no_control_character():
    (text,) = drawn([Line("a\x1b[31mb[red]c\r", "downloading", 5, 10)], Line("total"), 100, 24)
    assert text.startswith("a\\x1b[31mb[red]c")


def test_the_cursor_stays_and_the_lines_are_cleared():
    stream = io.StringIO()
    drawing = Drawing(has_colour=False, stream=stream)
    drawing.draw([Line("llama", "downloading", 5, 10)], Line("total", "", 5, 20))
    drawing.tell("a line that stays")
    drawing.close()
    text = stream.getvalue()
    assert "\x1b[?25l" not in text
    assert text.endswith("\x1b[1A\x1b[2K")
    assert re.search("llama.*a line that stays", text, re.DOTALL)


def drive(arguments, cwd, env, react=None):
    """Run on a pseudo terminal; everything it wrote, and the exit code."""
    parent, child = pty.openpty()
    running = subprocess.Popen(arguments, stdin=child, stdout=child, stderr=child, cwd=cwd, env=env, close_fds=True)
    os.close(child)
    text, deadline = "", time.monotonic() + 30
    while time.monotonic() < deadline:
        ready, _, _ = select.select([parent], [], [], 0.1)
        if ready:
            try:
                data = os.read(parent, 65536)
            except OSError:
                break
            if not data:
                break
            text += data.decode()
            if react is not None and react(text, parent, running):
                react = None
    os.close(parent)
    return text, running.wait(timeout=10)


def terminal(**more):
    return os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "24"} | more


def test_a_terminal_sees_percent_and_rate_and_then_only_the_result(site):
    text, code = drive(command("apply"), site, terminal(STUB_SECONDS="1.6"))
    assert code == 0
    assert re.search(r"large\S* +.*\d+%.*GB.*GB/s.*left.*downloading", text)
    assert "1 downloaded" in text


@pytest.mark.slow
def test_no_color_takes_away_colour_and_nothing_else(site):
    text, _ = drive(command("apply"), site, terminal(STUB_SECONDS="1.6", NO_COLOR="1"))
    assert re.search(r"large +.*\d+%", text)
    assert not re.search(r"\x1b\[\d*m", text)


def test_short_work_draws_nothing(site):
    text, _ = drive(command("apply"), site, terminal())
    assert not re.search(r"\x1b\[\d*[AFGK]", text)
    assert "downloading" not in text


def test_a_person_is_asked_before_an_eviction_and_no_means_no(site):
    def answer(text, parent, _running):
        if "[y/N]" in text:
            os.write(parent, b"n\n")
            return True
        return False

    text, code = drive(command("evict", "small"), site, terminal(), answer)
    assert code == 3
    assert "1 to evict" in text
    assert (site / "store" / "small").exists()


def test_yes_means_yes(site):
    def answer(text, parent, _running):
        return "[y/N]" in text and os.write(parent, b"y\n") > 0

    _, code = drive(command("evict", "small"), site, terminal(), answer)
    assert code == 0
    assert not (site / "store" / "small").exists()


def test_control_c_at_the_question_is_130(site):
    def answer(text, _parent, running):
        if "[y/N]" in text:
            running.send_signal(signal.SIGINT)
            return True
        return False

    text, code = drive(command("evict", "small"), site, terminal(), answer)
    assert code == 130
    assert "Traceback" not in text
    assert (site / "store" / "small").exists()
