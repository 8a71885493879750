"""What one column or line says, the next one does not say again."""

import re

import pytest

from reconciler.cli.layout import Ink
from reconciler.cli.plan_text import deferred_message, shortened
from reconciler.cli.reading_text import why_lines
from reconciler.cli.result_text import outcome_row
from reconciler.core.actions import ActionKind, Deferred, Outcome, OutcomeStatus
from reconciler.core.why import Link, Why


@pytest.mark.parametrize(
    ("message", "rest"),
    [
        ("download llama (4.7 GB): not in the store", "not in the store"),
        ("evict llama, frees 242 kB: asked for by name", "asked for by name"),
        ("make declared links of llama: a declared link is missing", "a declared link is missing"),
        (
            "llama.gguf: declared gguf, content is something else",
            "llama.gguf: declared gguf, content is something else",
        ),
        ("evict llama-2 (4.7 GB): room is needed", "evict llama-2 (4.7 GB): room is needed"),
        ("no room", "no room"),
    ],
)
def test_a_message_leaves_out_what_its_columns_say(message, rest):
    assert shortened(message, "llama") == rest


def test_numbers_and_times_of_a_message_are_not_repeated_behind_it():
    told = "no room: needs 4 GB and 1 GB can be had"
    assert deferred_message(Deferred("a", "no_room", told, 4_000_000_000, 1_000_000_000)) == told
    told = "HTTP 503; after 1 try, next at 1970-01-01T00:01:00.000Z"
    assert deferred_message(Deferred("a", "backing_off", told, retry_at=60.0)) == told
    assert "again at 1970-01-01T00:01:00.000Z" in deferred_message(Deferred("a", "x", "HTTP 503", retry_at=60.0))


def test_a_done_action_does_not_tell_why_it_was_to_be_done():
    planned = Outcome("1", ActionKind.DOWNLOAD, "a", OutcomeStatus.DONE, "new", "download a (1 B): not in the store")
    assert outcome_row(planned)[-1] == ""
    found = Outcome("1", ActionKind.VERIFY, "a", OutcomeStatus.DONE, "ok", "2 files verified")
    assert outcome_row(found)[-1] == "2 files verified"


def test_why_tells_each_fact_once():
    message = "download a (1 B): not in the store"
    chain = (Link("store", "not in the store"), Link("room", "enough"), Link("action", message), Link("new", message))
    lines = list(why_lines(Why("a", "download", "new", message, chain, None), Ink()))
    assert lines == ["a  download  not in the store", "", "Because", "  ·  room  enough"]


def test_a_missing_manifest_is_no_list_of_problems(run, monkeypatch, stub):
    from reconciler.core.errors import ManifestInvalid, Problem  # noqa: PLC0415 -- beside the stub

    def missing(*_args, **_settings):
        problem = Problem("models.yaml", 1, 1, "no manifest", "./models.yaml or another", "reconciler init writes one")
        invalid = ManifestInvalid((problem,))
        invalid.reason = "manifest_missing"
        raise invalid

    monkeypatch.setattr(stub, "load_manifest", missing)
    ran = run("plan")
    assert ran.code == 65
    assert ran.err.splitlines() == [
        "error: there is no manifest; expected ./models.yaml or another",
        "hint: reconciler init writes one",
    ]


@pytest.mark.parametrize("verb", ["plan", "apply", "evict", "init", "events", "schema"])
def test_help_lists_options_and_only_those(run, verb):
    options = run(verb, "--help").out.partition("Options:\n")[2]
    assert all(re.match(r"  (-|\s{8})", line) for line in options.splitlines() if line and not line.startswith("Opt"))
    assert "[x>=" not in options
