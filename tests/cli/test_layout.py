"""Columns, wrapping, colour, and a clean text whatever comes in."""

import re

from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.layout import Cell, Ink, cells_wide, clean, columns


@given(st.text())
def test_clean_text_is_one_line_without_control_characters(text):
    out = clean(text)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u2028\u2029\u202e" for char in out)


def test_columns_are_aligned_and_empty_ones_left_out():
    rows = [["a", "", "1 B", "x"], ["long", "", "10 GB", "y"]]
    assert columns(rows, Ink(), align="<<>") == ["  a       1 B  x", "  long  10 GB  y"]


def test_wide_characters_keep_the_columns():
    first, second = columns([["模型", "x"], ["ab", "x"]], Ink())
    assert cells_wide(first) == cells_wide(second)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.text(alphabet="ab ", max_size=300))
def test_a_pipe_gets_one_line_per_row(cells, last):
    assert len(columns([[*cells, last]], Ink())) == 1


@given(st.integers(40, 160), st.text(alphabet="abc ", max_size=400), st.text(alphabet="xy", max_size=30))
def test_a_terminal_gets_no_line_wider_than_itself(width, message, name):
    short = " ".join(message[index : index + 9] for index in range(0, len(message), 9))
    head = len("  +  download  ") + len(name)
    for line in columns([["+", "download", name, short]], Ink(width=width)):
        assert len(line) <= max(width, head)


WORDS = st.lists(
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "So")), min_size=1, max_size=12), max_size=30
)


@given(st.integers(40, 120), st.lists(WORDS, min_size=2, max_size=4), st.booleans())
def test_whatever_the_script_no_line_is_wider_than_the_terminal(width, cells, colour):
    rows = [[Cell(" ".join(words), "green") for words in cells]] * 2
    for line in columns(rows, Ink(width=width, colour=colour)):
        assert cells_wide(re.sub(r"\x1b\[\d+m", "", line)) <= width


def test_a_page_too_narrow_for_the_columns_lets_rows_flow():
    name = "a-model-with-a-name-of-forty-characters-"
    lines = columns([["+", "download", name, "4.7 GB", "it is not in the store"]] * 2, Ink(width=40))
    assert lines[:4] == ["  +  download", f"    {name}", "    4.7 GB  it is not in the store", "  +  download"]


def test_a_script_without_spaces_is_broken_where_the_page_ends():
    first, *rest = columns([["x", "模" * 60]], Ink(width=40))
    assert first == "  x  " + "模" * 17
    assert "".join(line.strip() for line in rest) == "模" * 43


def test_marks_that_join_take_no_column():
    assert cells_wide("e\u0301") == 1
    assert cells_wide("\u2601\ufe0f") == 1
    assert cells_wide("\u200d") == 0


def test_a_path_or_digest_is_never_broken():
    digest = "sha256:" + "a" * 64
    assert digest in columns([["digest", digest]], Ink(width=60))[-1]


def test_colour_changes_nothing_but_colour():
    rows = [[Cell("+", "green"), Cell("llama", "bold"), Cell("a reason that is rather long " * 5, "dim")]]
    plain = columns(rows, Ink(width=60))
    coloured = columns(rows, Ink(width=60, colour=True))
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == plain
    assert coloured != plain
