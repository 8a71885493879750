"""What each verb does and prints, over the stand-in for the library."""

import json
import os
import stat
import subprocess
import sys
import types

import pytest

from reconciler.cli.run import SECTIONS

VERBS = [verb for rows in SECTIONS.values() for verb in rows]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(run, verb):
    ran = run(verb, "--help")
    assert ran.code == 0
    assert "Usage: reconciler " + verb in ran.out
    assert "--store" in ran.out


def test_the_help_page_lists_every_verb(run):
    out = run("--help").out
    assert all(f"  {verb} " in out for verb in VERBS)


def test_init_writes_a_starter_once(run, site):
    ran = run("init", "new.yaml")
    assert (ran.code, ran.out) == (0, "new.yaml\n")
    before = (site / "new.yaml").read_bytes()
    again = run("init", "new.yaml")
    assert again.code == 3
    assert (site / "new.yaml").read_bytes() == before
    assert run("init", "-").out.encode() == before


def test_validate_says_ok_and_what_is_worth_a_note(run, site):
    (site / "models.yaml").write_text("odd-one 5\n")
    ran = run("validate")
    assert ran.code == 0
    assert "ok: 1 model" in ran.out
    assert "note: m:1:1: odd-one is odd" in ran.out


def test_plan_shows_symbol_size_reason_and_summary(run):
    ran = run("plan")
    assert ran.code == 0
    assert "+  download  large  4.7 GB  the manifest asks for it" in ran.out
    assert ran.out.splitlines()[-1] == "Plan: 1 to download (4.7 GB), 1 unchanged. Peak 4.7 GB of 10 GB."


def test_plan_shows_what_does_not_fit_with_its_numbers(run, site):
    (site / "models.yaml").write_text("giant 20000000000\n")
    out = run("plan").out
    assert "needs 20 GB, 10 GB available; blocked by pinned: small" in out
    assert "1 deferred" in out


def test_plan_with_nothing_to_do_says_so(run, site):
    (site / "models.yaml").write_text("small 1000\n")
    ran = run("plan", "--detailed-exitcode")
    assert ran.code == 0
    assert ran.out == "Plan: nothing to do, 1 unchanged.\n"


def test_detailed_exitcode_is_2_where_there_is_something_to_do(run):
    assert run("plan", "--detailed-exitcode").code == 2
    assert run("plan").code == 0


def test_verbose_plan_shows_preconditions_and_the_unchanged(run):
    out = run("plan", "-v").out
    assert "stored large is absent" in out
    assert "as the manifest says" in out


def test_a_saved_plan_is_done_as_it_was_made(run, site):
    ran = run("plan", "--out", "saved.plan")
    assert ran.code == 0
    assert stat.S_IMODE(os.stat("saved.plan").st_mode) == 0o600
    saved = json.loads((site / "saved.plan").read_text())
    assert saved["desired"]["files"] == [str(site / "models.yaml")]
    assert "hush" not in (site / "saved.plan").read_text()
    elsewhere = site / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)
    applied = run("apply", site / "saved.plan")
    assert applied.code == 0
    assert (site / "store" / "large").exists()
    assert run("apply", site / "saved.plan").code == 5


def test_a_saved_plan_leaves_no_other_file_behind(run, site):
    before = {path.name for path in site.iterdir()}
    run("plan", "--out", "saved.plan")
    assert {path.name for path in site.iterdir()} - before == {"saved.plan"}


@pytest.mark.parametrize("content", ["", "[]", "{", "nonsense", "[" * 100000])
def test_a_file_that_is_no_plan_is_refused_without_a_traceback(run, site, content):
    (site / "saved.plan").write_text(content)
    ran = run("apply", "saved.plan")
    assert ran.code == 1
    assert "unexpected" not in ran.err
    assert not (site / "store" / "large").exists()


def test_a_saved_plan_takes_no_other_wishes(run):
    run("plan", "--out", "saved.plan")
    assert run("apply", "saved.plan", "--prune").code == 64


def test_apply_tells_what_was_done(run, site):
    ran = run("apply")
    assert ran.code == 0
    assert (site / "store" / "large").exists()
    assert "+  done  download  large  4.7 GB" in ran.out
    assert ran.out.splitlines()[-1] == "Apply: 1 downloaded (4.7 GB), 1 unchanged in 1.5s."
    assert ran.err == "large: download done, 4.7 GB\n"


def test_apply_twice_has_nothing_to_do(run):
    run("apply")
    ran = run("apply")
    assert (ran.code, ran.out, ran.err) == (0, "Apply: nothing to do, 2 unchanged.\n", "")


def test_apply_with_a_failed_action_is_4_and_says_why(run, site):
    (site / "models.yaml").write_text("fail-a 5\nb 5\n")
    ran = run("apply")
    assert ran.code == 4
    assert "not_found: 404 from \\x1b[31mhttps://h/fail-a" in ran.out
    assert (site / "store" / "b").exists()


def test_apply_with_a_deferred_model_is_3(run, site):
    (site / "models.yaml").write_text("giant 20000000000\n")
    assert run("apply").code == 3


def test_apply_that_times_out_is_8_and_names_it(run, monkeypatch, site):
    monkeypatch.setenv("STUB_SECONDS", "20")
    ran = run("apply", "--timeout", "100ms", "-o", "json")
    assert ran.code == 8
    document = json.loads(ran.out)
    assert document["summary"]["stopped"] == "timed_out"
    assert document["outcomes"][0]["status"] == "cancelled"
    assert (site / "store" / "large.part").exists()


def test_only_narrows_the_plan(run, site):
    (site / "models.yaml").write_text("a 5\nb 5\n")
    assert run("apply", "--only", "bb").code == 1
    assert run("plan", "--only", "bb").code == 1
    run("apply", "--only", "b")
    assert not (site / "store" / "a").exists()
    assert (site / "store" / "b").exists()


def test_evict_into_a_pipe_does_not_ask(run, site):
    ran = run("evict", "small")
    assert ran.code == 0
    assert not (site / "store" / "small").exists()
    assert ran.out.splitlines()[-1].startswith("Evict: 1 evicted (4.1 kB freed)")


def test_an_unknown_name_is_1_and_names_the_nearest(run):
    for verb in ("evict", "load", "why"):
        ran = run(verb, "smal")
        assert ran.code == 1
        assert "did you mean small?" in ran.err
    assert "did you mean large?" in run("status", "larg").err


def test_a_guard_stops_everything(run, site):
    for index in range(7):
        (site / "store" / f"old-{index}").write_text("x")
    ran = run("apply", "--prune", "--yes")
    assert ran.code == 3
    assert "--allow-evict" in ran.out
    assert (site / "store" / "old-0").exists()
    assert run("apply", "--prune", "--yes", "--allow-evict", "7").code == 0


def test_status_shows_models_figures_and_readiness(run):
    out = run("status").out
    assert "4.1 kB of 10 GB used" in out
    assert "MODEL" in out
    assert "by hand  pin small" in out
    assert "Ready  False  1 action to do (changes_pending)" in out


def test_status_of_one_model_shows_all_of_it(run):
    out = run("status", "small").out
    assert "models/small/small.gguf" in out
    assert "architecture" in out
    assert "40s ago" in out


def test_status_waits_until_it_is_so(run):
    assert run("status", "--wait", "READY", "--timeout", "100ms").code == 8
    run("apply")
    assert run("status", "--wait", "READY", "--timeout", "5s").code == 0
    assert run("status", "small", "--wait", "ready", "--timeout", "5s").code == 0


def test_status_with_an_invalid_manifest_shows_the_rest_and_exits_65(run, site):
    (site / "models.yaml").write_text("bad\n")
    ran = run("status", "-o", "json")
    assert ran.code == 65
    document = json.loads(ran.out)
    valid = next(c for c in document["conditions"] if c["type"] == "ManifestValid")
    assert valid["status"] == "False"
    assert "models.yaml:1:1" in ran.err


def test_events_are_one_json_line_each(run):
    ran = run("events", "-o", "json")
    assert [json.loads(line)["seq"] for line in ran.out.splitlines()] == [1, 2]
    assert run("events", "--after", "1", "-o", "json").out.count("\n") == 1
    assert "(x3)" in run("events", "--model", "other").out


def test_history_sums_up_time_in_states(run):
    out = run("history", "small").out
    assert "discovered" in out
    assert "abc123" in out
    assert "1.5s in all" in out


def test_df_shows_parts_and_models(run):
    out = run("df").out
    assert "quarantine" in out
    assert "small" in out


def test_doctor_fails_where_a_check_fails(run, monkeypatch):
    assert run("doctor").code == 0
    monkeypatch.setenv("STUB_CHECK", "fail")
    ran = run("doctor")
    assert ran.code == 1
    assert "is odd - set it" in ran.out


def test_marks_are_recorded(run, site):
    assert run("pin", "small").out == "pinned small\n"
    assert (site / "store" / ".pin-small").exists()
    run("touch", "small", "--at", "1970-01-01T00:01:00Z")
    assert (site / "store" / ".use-small").read_text() == "60.0"
    assert run("touch", "small", "--at", "2h").code == 64
    assert run("suspend", "--until", "2030-01-01T00:00:00Z").out == "suspended until 2030-01-01T00:00:00.000Z\n"
    assert run("suspend", "--until", "2h").out == "suspended until 2026-11-18T13:06:40.000Z\n"
    assert run("suspend").out == "suspended until reconciler resume\n"
    assert run("suspend", "--until", "tomorrow").code == 64
    assert run("resume", "-o", "json").code == 0
    assert run("poke").code == 0


def test_schema_prints_what_it_names(run):
    assert json.loads(run("schema", "status").out)["title"] == "Status"
    ran = run("schema", "nonsense")
    assert ran.code == 1
    assert "apply-result" in ran.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(run, shell):
    ran = run("completion", shell)
    assert ran.code == 0
    assert "_RECONCILER_COMPLETE" in ran.out


def test_the_shell_completes_verbs_and_model_names(process):
    def complete(words, index):
        env = {"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
        return [line.split(",")[-1] for line in process(env=env).out.splitlines()]

    assert complete("reconciler sta", 1) == ["status"]
    assert complete("reconciler plan --only s", 3) == ["small"]
    assert complete("reconciler schema sta", 2) == ["status"]
    assert complete("reconciler evict ", 2) == ["large", "small"]


def test_bash_accepts_the_completion_script(run, site):
    (site / "script").write_text(run("completion", "bash").out)
    done = subprocess.run(["bash", "-n", "script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_watch_without_a_loop_says_what_to_do_instead(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "reconciler.watch", None)
    ran = run("watch")
    assert ran.code == 1
    assert "Traceback" not in ran.err


def test_watch_hands_its_options_to_the_loop(run, monkeypatch):
    given = {}
    loop = types.ModuleType("reconciler.watch")
    loop.watch = lambda **options: given.update(options) or 143
    monkeypatch.setitem(sys.modules, "reconciler.watch", loop)
    assert run("watch", "-f", "models.yaml", "--interval", "10m", "--git", "https://h/r#main").code == 143
    assert given["interval_s"] == 600
    assert given["files"] == ("models.yaml",)
    assert (given["git"].url, given["git"].ref) == ("https://h/r", "main")
