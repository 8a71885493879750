"""Where a manifest is found, how its files merge, and that nothing turns into "no models" by accident."""

import contextlib
import gc
import io
import os
import stat

import pytest
from manifest_good import FULL, GOOD

from reconciler.adapters.manifest import find_origins, load, load_documents, read_documents, starter, validate_document
from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.search import MAX_FILES, find
from reconciler.core.errors import MAX_PROBLEMS, Failure, ManifestInvalid

HEAD = "apiVersion: reconciler/v1\n"


def parse(*texts, environ=None, folder="/etc/reconciler"):
    documents = [(f"file{index}", text.encode(), folder) for index, text in enumerate(texts)]
    return load_documents(documents, environ or {})


def problems(call, *arguments):
    with pytest.raises(ManifestInvalid) as caught:
        call(*arguments)
    return [str(problem) for problem in caught.value.problems]


# --- merging -----------------------------------------------------------------------------------------------------


def test_later_files_are_merged_over_earlier_ones():
    state = parse(
        HEAD
        + "cache: {maxSize: 1GiB, evictionPolicy: lfu}\nmodels:\n  m: {source: https://h/m, priority: low, links: [/a]}\n",
        "cache: {maxSize: 2GiB}\nmodels:\n  m: {priority: high, links: [/b, /c]}\n  n: {state: absent}\n",
    )
    assert state.cache.max_size.size_bytes == 2 << 30
    assert state.cache.policy == "lfu"
    assert [(model.name, model.priority.word, model.links) for model in state.models] == [
        ("m", "high", ("/b", "/c")),
        ("n", "normal", ()),
    ]


def test_documents_of_one_file_merge_like_files():
    one = parse(HEAD + "models: {}\n---\nmodels:\n  m: {state: absent}\n")
    two = parse(HEAD + "models: {}\n", "models:\n  m: {state: absent}\n")
    assert one.models == two.models
    assert one.digest == two.digest


def test_a_problem_is_told_where_the_winning_value_stands():
    told = problems(parse, HEAD + "models:\n  m: {source: https://h/m}\n", "models:\n  m:\n    runtime: gpu\n")
    assert told == ['file1:3:14: runtime is "gpu"; expected one of the runtimes default (add it to runtimes)']


def test_a_wrong_value_is_told_even_where_a_later_file_replaces_it():
    told = problems(parse, HEAD + "cache: {maxSize: big}\nmodels: {}\n", "cache: {maxSize: 1GiB}\n")
    assert [line.split(";")[0] for line in told] == ['file0:2:18: maxSize is "big"']


def test_what_is_missing_is_asked_of_the_whole_not_of_each_file():
    assert parse("models:\n  m: {links: [/a]}\n", HEAD, "models:\n  m: {source: https://h/m}\n").models[0].links == (
        "/a",
    )
    assert problems(parse, "models: {}\n", "kind: Manifest\n") == [
        "file1:1:1: the manifest without apiVersion; expected apiVersion: reconciler/v1"
    ]


def test_no_models_is_only_what_says_so():
    assert parse(HEAD + "models: {}\n").models == ()
    assert problems(parse, HEAD)[0].startswith("file0:1:1: the manifest without models")


@pytest.mark.parametrize("text", ["", "\n", "# gone\n", "---\n", "~\n"])
def test_an_empty_file_is_invalid_even_beside_a_good_one(text):
    told = problems(parse, HEAD + "models: {}\n", text)
    assert [line.split(":")[:3] for line in told] == [["file1", "1", "1"]]


@pytest.mark.parametrize("size", range(1, len(FULL.encode()), 97))
def test_a_file_that_is_cut_off_never_asks_for_no_models_at_all(size):
    with contextlib.suppress(ManifestInvalid):
        assert load_documents([("m", FULL.encode()[:size], "/")], {}).models


def test_no_documents_are_invalid():
    assert problems(load_documents, [], {})[0].startswith("models.yaml:1:1: no manifest")


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_a_good_manifest_loads(text):
    assert parse(text).digest.startswith("sha256:")


def test_the_collector_is_left_as_it_was():
    gc.disable()
    try:
        parse(HEAD + "models: {}\n")
        assert not gc.isenabled()
    finally:
        gc.enable()
    problems(parse, "")
    assert gc.isenabled()


# --- the generation ----------------------------------------------------------------------------------------------

BASE = HEAD + "cache: {maxSize: 1GiB}\nmodels:\n  a: {source: https://h/a, priority: high}\n  b: {state: absent}\n"
SAME = {
    "comments and style": HEAD
    + 'cache:\n  maxSize: "1GiB" # c\nmodels:\n  a:\n    source: [https://h/a]\n    priority: high\n  b:\n    state: absent\n',
    "order of keys": "models:\n  b: {state: absent}\n  a: {priority: high, source: https://h/a}\ncache: {maxSize: 1GiB}\n"
    + HEAD,
    "another unit": BASE.replace("1GiB", "1073741824"),
    "a default left out": BASE.replace("cache: {maxSize: 1GiB}\n", ""),
    "a default written out": BASE
    + "memory: {warning: 500MB}\nnetwork: {models: 3}\nruntimes: {default: {type: page-cache}}\n",
}
OTHER = {
    "priority": BASE.replace("high", "low"),
    "source": BASE.replace("https://h/a", "https://h/b"),
    "limit": BASE.replace("1GiB", "2GiB"),
    "a model more": BASE + "  c: {state: absent}\n",
    "label": BASE + "metadata: {labels: {site: lab}}\n",
    "retention": BASE.replace("maxSize: 1GiB", "retention: never"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME.keys())
def test_the_generation_does_not_change_with_the_writing(text):
    assert parse(text).digest == parse(BASE).digest


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER.keys())
def test_the_generation_changes_with_the_meaning(text):
    assert parse(text).digest != parse(BASE).digest


def test_defaults_are_merged_under_every_model():
    state = parse(
        HEAD
        + "defaults: {priority: high, when: {os: linux, arch: x86_64}, metadata: {license: mit}}\nmodels:\n  a: {source: https://h/a, when: {arch: arm64}}\n  b: {state: absent, priority: low}\n"
    )
    first, second = state.models
    assert (first.priority.word, second.priority.word) == ("high", "low")
    assert (first.when.os, first.when.arch) == (("linux",), ("arm64",))
    assert first.metadata == second.metadata == (("license", '"mit"'),)


def test_the_generation_holds_values_of_the_environment_as_a_hash_only():
    text = HEAD + "models:\n  m: {source: 'https://${HOST}/m'}\n"
    first, second = (parse(text, environ={"HOST": host}).digest for host in ("one.example", "two.example"))
    assert first != second
    assert "one" not in first


def test_the_spec_of_a_model_changes_only_with_its_bytes():
    def spec(extra):
        return parse(HEAD + "models:\n  m: {source: https://h/m" + extra + "}\n").models[0].spec_digest

    assert spec("") == spec(", priority: low, links: [/a]")
    assert spec("") != spec(", sha256: " + "a" * 64)


# --- where it is found -------------------------------------------------------------------------------------------


def write(path, text=HEAD + "models: {}\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(paths, environ, cwd, system="/nonexistent"):
    findings = Findings()
    origins = find(paths, environ, str(cwd), findings, system=str(system))
    return [origin.path for origin in origins], [str(problem) for problem in findings.problems]


def test_the_default_places_are_looked_at_in_order(tmp_path):
    here, user, system = tmp_path / "here", tmp_path / "config", tmp_path / "etc"
    here.mkdir()
    environ = {"XDG_CONFIG_HOME": str(user), "HOME": str(tmp_path)}
    assert "reconciler init" in found([], environ, here, system)[1][0]
    drop_ins = [write(system / "models.d" / name) for name in ("b.yaml", "a.yaml", "c.yml", ".d.yaml", "e.txt")]
    assert found([], environ, here, system) == ([str(drop_ins[1]), str(drop_ins[0])], [])
    machine = write(system / "models.yaml")
    assert found([], environ, here, system)[0] == [str(machine), str(drop_ins[1]), str(drop_ins[0])]
    theirs = write(user / "reconciler" / "models.yaml")
    assert found([], environ, here, system)[0] == [str(theirs)]
    ours = write(here / "models.yaml")
    assert found([], environ, here, system)[0] == [str(ours)]


def test_without_xdg_the_folder_is_below_home(tmp_path):
    theirs = write(tmp_path / ".config" / "reconciler" / "models.yaml")
    for environ in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "relative"}):
        assert found([], environ, tmp_path / "nowhere")[0] == [str(theirs)]


def test_a_broken_manifest_here_is_never_passed_over_for_another(tmp_path):
    write(tmp_path / "config" / "reconciler" / "models.yaml")
    (tmp_path / "models.yaml").symlink_to("gone")
    told = problems(load, [], {"XDG_CONFIG_HOME": str(tmp_path / "config")}, str(tmp_path))
    assert told == ["models.yaml:1:1: a file that cannot be read (No such file or directory); expected a manifest"]


def test_a_folder_is_its_yaml_files_in_order(tmp_path):
    write(tmp_path / "d" / "20.yml", "models:\n  m: {state: absent}\n")
    write(tmp_path / "d" / "10.yaml")
    write(tmp_path / "d" / ".30.yaml", "broken: [\n")
    write(tmp_path / "d" / "README.md", "broken: [\n")
    state = load(["d"], {}, str(tmp_path))
    assert state.files == (str(tmp_path / "d" / "10.yaml"), str(tmp_path / "d" / "20.yml"))
    assert [model.name for model in state.models] == ["m"]


def test_several_f_merge_in_their_order_and_messages_name_files_as_typed(tmp_path):
    write(tmp_path / "a.yaml", HEAD + "models: {}\ncache: {evictionPolicy: lfu}\n")
    write(tmp_path / "b.yaml", "cache: {evictionPolicy: fifo}\n")
    assert load(["a.yaml", "b.yaml"], {}, str(tmp_path)).cache.policy == "fifo"
    assert load(["b.yaml", "a.yaml"], {}, str(tmp_path)).cache.policy == "lfu"
    write(tmp_path / "b.yaml", "kind: X\n")
    assert problems(load, ["a.yaml", "./b.yaml"], {}, str(tmp_path))[0].startswith('./b.yaml:1:7: kind is "X"')


def test_standard_input_is_a_dash(tmp_path):
    state = load(["-"], {}, str(tmp_path), io.BytesIO((HEAD + "models: {}\n").encode()))
    assert state.files == ("-",)
    told = problems(load, ["-"], {}, str(tmp_path), io.BytesIO(b"kind: X\n"))
    assert told[-1].startswith('<stdin>:1:7: kind is "X"')
    assert problems(load, ["-", "-"], {}, str(tmp_path), io.BytesIO(HEAD.encode()))[0].startswith(
        "<stdin>:1:1: standard input a second time"
    )


def test_relative_files_of_standard_input_are_relative_to_the_working_directory(tmp_path):
    stream = io.BytesIO((HEAD + "models: {m: {source: 'file:m.gguf'}}\n").encode())
    assert load(["-"], {}, str(tmp_path), stream).models[0].artifacts[0].sources == (f"file://{tmp_path}/m.gguf",)


def test_every_missing_file_is_told_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    told = problems(load, ["a.yaml", "empty", "b.yaml"], {}, str(tmp_path))
    assert [line.split(":")[0] for line in told] == ["a.yaml", "b.yaml", "empty"]
    assert all(":1:1: " in line for line in told)


def test_an_empty_name_is_not_the_working_directory(tmp_path):
    write(tmp_path / "m.yaml")
    assert problems(load, [""], {}, str(tmp_path)) == ["models.yaml:1:1: an empty name; expected a file, a folder or -"]


def test_a_missing_file_hides_no_problem_of_the_others(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "0.yaml").symlink_to("nowhere")
    write(tmp_path / "d" / "1.yaml", "cache: {maxSize: big}\n")
    write(tmp_path / "2.yaml", "models: {m: {}, m: {}}\n")
    told = problems(load, ["d", "2.yaml", "gone.yaml"], {}, str(tmp_path))
    assert [line.split(";")[0] for line in told] == [
        '2.yaml:1:17: the key "m" again',
        "d/0.yaml:1:1: a file that cannot be read (No such file or directory)",
        'd/1.yaml:1:18: maxSize is "big"',
        "gone.yaml:1:1: a file that cannot be read (No such file or directory)",
    ]


def test_problems_that_were_left_out_are_told_of():
    text = HEAD + "models:\n" + "".join(f"  m{index}: 1\n" for index in range(MAX_PROBLEMS + 500))
    with pytest.raises(ManifestInvalid, match="the manifest has 1000 problems or more; only so many are told"):
        parse(text)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "d" / "folder.yaml").mkdir(parents=True)
    told = problems(load, ["pipe.yaml", "/dev/null", "d"], {}, str(tmp_path))
    assert [line.partition(" (")[0] for line in told] == [
        "/dev/null:1:1: a device; expected a regular file",
        "d/folder.yaml:1:1: a folder; expected a regular file",
        "pipe.yaml:1:1: a named pipe; expected a regular file",
    ]


def test_a_file_that_may_not_be_read_is_told(tmp_path):
    path = write(tmp_path / "m.yaml")
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root reads everything
        found = problems(load, [str(path)], {}, str(tmp_path))
    finally:
        os.seteuid(user)
    assert "Permission denied" in found[0]


def test_a_huge_file_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "m.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "more than 8,388,608 bytes" in problems(load, ["m.yaml"], {}, str(tmp_path))[0]


def test_a_folder_of_too_many_files_is_refused(tmp_path):
    for index in range(MAX_FILES + 1):
        (tmp_path / f"{index}.yaml").touch()
    assert "1001 files" in problems(load, ["."], {}, str(tmp_path))[0]


def test_a_watch_can_find_and_read_apart_from_parsing(tmp_path):
    write(tmp_path / "m.yaml")
    assert [origin.path for origin in find_origins(["m.yaml"], {}, str(tmp_path))] == [str(tmp_path / "m.yaml")]
    (document,) = read_documents(["m.yaml"], {}, str(tmp_path))
    assert document == ("m.yaml", (HEAD + "models: {}\n").encode(), str(tmp_path), str(tmp_path / "m.yaml"))
    assert problems(find_origins, [], {"HOME": "/nonexistent"}, str(tmp_path))[0].startswith(
        "models.yaml:1:1: no manifest"
    )


def test_a_manifest_behind_a_symbolic_link_is_relative_to_the_link(tmp_path):
    real = write(tmp_path / "data" / "m.yaml", HEAD + "models: {m: {source: 'file:m.gguf'}}\n")
    (tmp_path / "m.yaml").symlink_to(real)
    assert stat.S_ISLNK((tmp_path / "m.yaml").lstat().st_mode)
    assert load(["m.yaml"], {}, str(tmp_path)).models[0].artifacts[0].sources == (f"file://{tmp_path}/m.gguf",)


# --- the starter and other documents -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "free", "memory"),
    [(500 << 30, 200 << 30, 16 << 30), (1 << 30, 0, 1 << 28), (1 << 44, 1 << 43, 1 << 40), (0, 0, 0)],
)
def test_the_starter_manifest_validates_and_asks_for_nothing(total, free, memory):
    text = starter(total, free, memory)
    assert text.startswith("# yaml-language-server: $schema=")
    assert parse(text).models == ()


def test_the_examples_in_the_starter_validate_too():
    text = starter(500 << 30, 200 << 30, 16 << 30, name="kiosk", schema="/usr/share/x.json")
    head, _, examples = text.partition("models: {}\n")
    shown = head + "models:\n" + "".join(line.removeprefix("#") for line in examples.splitlines(keepends=True))
    state = parse(shown)
    assert [model.name for model in state.models] == ["encoder", "whisper-base"]
    assert state.name == "kiosk"
    commented = (
        head.replace("  # labels", "  labels").replace("  # bandwidth", "  bandwidth").replace("# defaults", "defaults")
    )
    assert parse(commented + "models: {}\n").network.bandwidth_bytes_per_s == 20_000_000


def test_a_document_from_outside_is_checked_and_told_by_place():
    validate_document("manifest", {"apiVersion": "reconciler/v1", "models": {}})
    wrong = {"apiVersion": 1, "models": {"m": {"pin": "s3cret", "x/y": 1}}, "cache": {"evictionPolicy": "s3cret"}}
    with pytest.raises(Failure) as caught:
        validate_document("manifest", wrong)
    assert caught.value.reason == "document_invalid"
    assert "/models/m/pin: expected boolean" in caught.value.message
    assert "/models/m: unknown x/y" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_document_without_what_is_required_is_told():
    with pytest.raises(Failure, match="/: without apiVersion, models"):
        validate_document("manifest", {})
    with pytest.raises(Failure, match="/: expected object"):
        validate_document("manifest", [])


def test_a_document_without_a_schema_is_refused():
    with pytest.raises(Failure) as caught:
        validate_document("nothing", {})
    assert caught.value.reason == "unknown_schema"


# --- hosts whose models must be signed ---------------------------------------------------------------------------

AZURE = {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=acct;BlobEndpoint=https://blobs.lan/acct"}


@pytest.mark.parametrize(
    ("host", "source", "environ", "is_asked"),
    [
        ("huggingface.co", "hf://o/r/m", {}, True),
        ("huggingface.co", "hf://o/r/m", {"HF_ENDPOINT": "https://hub.lan"}, True),
        ("hub.lan:8443", "hf://o/r/m", {"HF_ENDPOINT": "https://hub.lan:8443/x/"}, True),
        ("hub.lan", "hf://o/r/m", {"HF_ENDPOINT": "https://hub.lan:8443"}, False),
        ("s3.lan:9000", "s3://b/m", {"AWS_ENDPOINT_URL": "http://s3.lan:9000"}, True),
        ("b.s3.lan", "s3://b/m", {"AWS_ENDPOINT_URL_S3": "https://s3.lan"}, True),
        ("s3.eu-west-1.amazonaws.com", "s3://b/m", {"AWS_REGION": "eu-west-1"}, True),
        ("storage.googleapis.com", "gs://b/m", {}, True),
        ("localhost:4443", "gs://b/m", {"STORAGE_EMULATOR_HOST": "localhost:4443"}, True),
        ("acct.blob.core.windows.net", "az://c/m", {"AZURE_STORAGE_ACCOUNT": "acct"}, True),
        ("blobs.lan", "az://c/m", AZURE, True),
        ("registry.ollama.ai", "ollama://tiny:1b", {}, True),
        ("mirror.lan", "hf://o/r/m", {}, True),
        ("mirror.lan", "https://h/m", {}, False),
        ("other.lan", "s3://b/m", {}, False),
    ],
)
def test_a_host_asks_for_signatures_also_where_only_the_environment_names_it(host, source, environ, is_asked):
    rule = f"{{'{host}': {{type: minisign, key: /k.pub}}}}"
    network = f"network: {{mirrors: ['https://mirror.lan/{{sha256}}'], signatures: {rule}}}\n"
    (model,) = parse(f"{HEAD}{network}models:\n  m: {{source: '{source}'}}\n", environ=environ).models
    assert (model.signature is not None) is is_asked


def test_a_mirror_asks_for_signatures_of_what_it_may_serve():
    network = (
        "network: {mirrors: ['https://mirror.lan/{sha256}'], signatures: {mirror.lan: {type: minisign, key: /k.pub}}}\n"
    )
    models = f"models:\n  m: {{source: https://h/m, sha256: {'a' * 64}}}\n"
    assert parse(HEAD + network + models).models[0].signature is not None
