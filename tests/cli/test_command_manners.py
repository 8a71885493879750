"""Exit codes, global options, interrupts, pipes: the manners of the process."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import yaml
from stub_process import ROOT, command

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@pytest.mark.parametrize("line", [["--frob"], ["plan", "--frob"], ["plam"], ["why"], ["plan", "-o", "xml"], []])
def test_a_usage_error_is_64_and_never_2(run, line):
    ran = run(*line)
    assert ran.code == 64
    assert ran.out == ""


@pytest.mark.parametrize("line", [["-f", "", "validate"], ["plan", "--file="], ["validate", ""], ["apply", "-f", ""]])
def test_an_unset_variable_is_no_manifest(run, line):
    ran = run(*line)
    assert ran.code == 64
    assert "an empty name is no manifest" in ran.err


@pytest.mark.parametrize("option", [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=json"], ["-o=json"]])
@pytest.mark.parametrize("line", [["--frob"], ["plan", "--frob"], ["plam"], ["why"]])
def test_a_usage_error_is_a_document_where_documents_are_asked_for(run, line, option):
    ran = run(*line, *option)
    document = json.loads(ran.out)
    assert (ran.code, document["kind"], document["exit_code"]) == (64, "Error", 64)
    assert (document["reason"], document["failure"]) == ("usage", "refused")
    assert document["message"] in ran.err
    assert document["hint"].startswith("try: reconciler")


def test_what_comes_after_two_dashes_is_no_option(run):
    assert run("why", "--frob", "--", "-o", "json").out == ""


def test_a_misspelt_verb_names_the_nearest(run):
    assert "Did you mean status?" in run("statsu").err


@pytest.mark.parametrize("line", [["-f", "m2", "-o", "json", "validate"], ["validate", "-f", "m2", "-o", "json"]])
def test_global_options_stand_before_and_after_the_verb(run, site, line):
    (site / "m2").write_text("other 5\n")
    assert json.loads(run(*line).out)["models"] == ["other"]


def test_manifests_on_both_sides_of_the_verb_are_merged_in_order(run, site):
    (site / "m2").write_text("zeta 5\n")
    (site / "m3").write_text("alpha 5\n")
    document = json.loads(run("-f", "m2", "validate", "-f", "m3", "-o", "json").out)
    assert document["models"] == ["alpha", "zeta"]
    assert [path.rsplit("/")[-1] for path in document["files"]] == ["m2", "m3"]


def test_an_invalid_manifest_is_65_with_every_problem_at_its_place(run, site):
    (site / "m2").write_text("bad\ngood 5\nbad\n")
    ran = run("plan", "-f", "m2")
    assert ran.code == 65
    assert [line.split(" ")[0] for line in ran.err.splitlines()[:2]] == ["m2:1:1:", "m2:3:1:"]
    assert ran.out == ""


def test_an_invalid_manifest_is_a_document_for_machines(run, site):
    (site / "m2").write_text("bad\n")
    document = json.loads(run("plan", "-f", "m2", "-o", "json").out)
    assert document["kind"] == "Problems"
    assert document["problems"][0]["line"] == 1


def test_a_busy_store_is_7_and_names_the_owner(run, monkeypatch):
    monkeypatch.setenv("STUB_FAULT", "busy")
    ran = run("apply")
    assert ran.code == 7
    assert "4711" in ran.err
    assert "hint:" in ran.err


def test_a_failure_is_a_document_for_machines(run, monkeypatch):
    monkeypatch.setenv("STUB_FAULT", "busy")
    document = json.loads(run("apply", "-o", "json").out)
    assert (document["kind"], document["reason"], document["exit_code"]) == ("Error", "store_busy", 7)


def test_a_fault_of_the_tool_is_one_line_without_traceback_or_secret(run, monkeypatch):
    monkeypatch.setenv("STUB_FAULT", "crash")
    ran = run("status")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "ZeroDivisionError" in ran.err
    assert "--debug" in ran.err
    assert "hush" not in ran.err
    assert "pw" not in ran.err


def test_debug_shows_the_traceback(run, monkeypatch):
    monkeypatch.setenv("STUB_FAULT", "crash")
    assert "Traceback" in run("status", "--debug").err


def test_markdown_is_refused_before_anything_is_done(run, site):
    ran = run("apply", "-o", "markdown")
    assert ran.code == 64
    assert not (site / "store" / "large").exists()


def test_no_manifest_says_how_to_get_one(run, site):
    (site / "models.yaml").unlink()
    ran = run("plan")
    assert ran.code == 1
    assert "init" in ran.err


def test_status_does_without_a_manifest(run, site):
    (site / "models.yaml").unlink()
    ran = run("status")
    assert ran.code == 0
    assert "small" in ran.out


def test_yaml_keeps_times_and_digests_as_strings(run):
    document = yaml.safe_load(run("status", "-o", "yaml").out)
    assert isinstance(document["taken_at"], str)
    assert isinstance(document["generation"], str)
    assert list(document)[:2] == ["format_version", "kind"]


@pytest.mark.parametrize("verb", ["status", "plan", "events", "df", "doctor", "apply"])
def test_no_control_character_goes_into_a_pipe(run, site, verb):
    (site / "models.yaml").write_text("fail-\x1b[31m 5\nsmall 3\n")
    ran = run(verb)
    assert not CONTROL.search(ran.out)
    assert not CONTROL.search(ran.err)


def test_json_has_no_raw_control_character(run, site):
    (site / "models.yaml").write_text("fail-\x1b[31m\x9b\x7f 5\n")
    assert not CONTROL.search(run("apply", "-o", "json").out)


def test_a_terminal_that_knows_no_unicode_gets_escapes(process, site):
    (site / "models.yaml").write_text("modèle-模型 5\n", encoding="utf-8")
    for encoding in ("ascii", "utf-8"):
        ran = process("status", "-o", "json", env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
        assert ran.code == 0
        assert "modèle-模型" in {model["name"] for model in json.loads(ran.out)["models"]}


# --- as a process -------------------------------------------------------------------------------------------------


def test_version_imports_neither_click_nor_the_library():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from reconciler.cli import main; main(['version']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("reconciler ")
    assert not re.search(r"'(click|yaml|httpx|structlog|rich|reconciler\.core[^']*)'", done.stdout)


def test_plan_and_status_import_nothing_slow(site):
    for verb in ("plan", "status"):
        code = (
            "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); import stub_library; "
            "sys.modules['reconciler.library'] = stub_library; from reconciler.cli import main; main(sys.argv[1:]); "
            "print(sorted(sys.modules))"
        )
        arguments = [sys.executable, "-c", code, command()[3], verb]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=site)
        assert not re.search(r"'(yaml|httpx|structlog|rich|jsonschema|watchfiles)'", done.stdout)


def test_the_process_ends_with_the_verbs_code(process):
    assert process("plan", "--detailed-exitcode").code == 2
    assert process("plam").code == 64


def test_a_reader_that_goes_away_ends_nothing_badly(site):
    (site / "models.yaml").write_text("".join(f"model-{i} 5\n" for i in range(5000)))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command("plan"), stdout=write, stderr=subprocess.PIPE, cwd=site, text=True, check=False)
    os.close(write)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_full_disk_behind_standard_output_is_an_error(site):
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("plan"), stdout=full, stderr=subprocess.PIPE, cwd=site, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write to standard output" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupt_keeps_what_is_unfinished(site, number, code, word):
    env = os.environ | {"STUB_SECONDS": "30"}
    running = subprocess.Popen(
        command("apply", "-o", "json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=site, env=env, text=True
    )
    assert running.stderr.readline().startswith("large: downloading")
    running.send_signal(number)
    out, err = running.communicate(timeout=20)
    assert running.returncode == code
    assert json.loads(out)["summary"]["stopped"] == word
    assert (site / "store" / "large.part").exists()
    assert "Traceback" not in err


def test_a_second_interrupt_stops_at_once(site):
    code = (
        f"import sys, threading; sys.path.insert(0, {str(ROOT)!r})\n"
        "from reconciler.cli.signals import Cancel, cancel_on_signals\n"
        "with cancel_on_signals(Cancel()):\n"
        "    print('ready', flush=True)\n"
        "    threading.Event().wait(30)\n"
        "    threading.Event().wait(30)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGINT)
    assert running.stderr.readline() == "\n"
    assert "stopping" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=10)
    assert running.returncode == 130


def test_an_interrupt_outside_of_work_shows_no_traceback(site):
    running = subprocess.Popen(
        command("events", "--follow"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=site, text=True
    )
    assert "small is here" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=10)
    assert running.returncode == 130
    assert err == ""


def test_a_keyboard_interrupt_anywhere_is_130(run, monkeypatch, stub):
    def interrupt(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(stub, "load_manifest", interrupt)
    ran = run("plan")
    assert ran.code == 130
    assert "Traceback" not in ran.err
