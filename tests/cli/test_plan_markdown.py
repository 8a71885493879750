"""A plan as a pull-request comment: it fits, it counts what it leaves out, and nothing in it is mark-up but ours."""

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.plan_markdown import LIMIT, escape, fleet_markdown, plan_markdown
from reconciler.core.actions import Action, ActionKind, Cause, Deferred, Guard, Plan, Summary
from reconciler.core.desired import Diagnostic
from reconciler.core.words import Digest

A = Digest("sha256:" + "a" * 64)
SUMMARY = Summary((("download", 1),), (), 1, 0, 0, 0, 0, 10, 0, 10, 10, 100, 0, None)


def action(index, message="it is wanted"):
    return Action(f"{index}", ActionKind.DOWNLOAD, f"model-{index}", "new", message, Cause.INTENT, 4_700_000_000)


def plan(*actions, **more):
    return Plan(A, A, 0.0, actions, (), (), SUMMARY, **more)


def test_a_comment_has_a_summary_and_a_table():
    text = plan_markdown(plan(action(1)), A)
    assert "1 to download (10 B)" in text
    assert "| + | download | model-1 | 4.7 GB | it is wanted |" in text
    assert A in text


def test_a_comment_shows_guards_deferrals_and_notes():
    made = replace(
        plan(guards=(Guard("brake", "too many", "type more"),), diagnostics=(Diagnostic("x", "odd key", "m:1:2"),)),
        deferred=(Deferred("m", "no_room", "too big", 10, 5),),
    )
    text = plan_markdown(made, A)
    assert "**Refused:** too many type more" in text
    assert "needs 10 B, 5 B available" in text
    assert "- m:1:2 odd key" in text


def test_a_message_does_not_say_twice_what_the_columns_say():
    assert "| 4.7 GB | not here |" in plan_markdown(plan(action(1, "download model-1 (4.7 GB): not here")), A)


def test_a_long_plan_fits_and_counts_what_it_leaves_out():
    text = plan_markdown(plan(*(action(index, "why " * 20) for index in range(3000))), A)
    assert len(text) < LIMIT
    shown = text.count("| + | download |")
    assert f"_{3000 - shown:,} more lines do not fit here" in text
    assert text.rstrip().endswith("</sub>")


@given(st.text(max_size=300))
def test_a_message_cannot_break_out_of_its_cell(message):
    text = plan_markdown(plan(action(1, f"x{message}")), A)
    row = next(line for line in text.split("\n") if line.startswith("| +"))
    assert re.sub(r"\\.", "", row).count("|") == 6
    assert "<" not in row
    assert not re.search(r"@(?!&#8203;)", row)


def test_mentions_html_and_links_are_made_harmless():
    assert escape("<img src=x> @all [a](b) `c` | d") == "&lt;img src=x&gt; @&#8203;all \\[a\\](b) \\`c\\` \\| d"
    assert escape("see https://evil.example, WWW.evil.example or #1") == (
        "see https:&#8203;//evil.example, WWW&#8203;.evil.example or \\#&#8203;1"
    )


def test_a_row_that_is_too_long_takes_no_other_with_it():
    text = plan_markdown(plan(action(1), action(2, "|" * LIMIT), action(3)), A)
    assert "| model-1 |" in text
    assert "| model-3 |" in text
    assert "_1 more lines do not fit here" in text


def test_many_machines_fit_into_one_comment():
    text = fleet_markdown([(f"host-{index}", plan(action(1))) for index in range(3000)])
    assert len(text) < LIMIT
    assert "| host-0 | 10 B |" in text
    assert "more lines do not fit" in text
