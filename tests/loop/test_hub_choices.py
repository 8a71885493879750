"""What is taken of a repository, and by which words of the environment, through the command."""

import json

import pytest
from hubs import OTHER, WEIGHTS

GGUF = b"GGUF"  # the files of these tests are told by their names alone: allowUnsafe takes them as they are
TOKEN = "hf_secret"


def names(hub):
    return sorted(hub.placed())


def serve(hub, *paths):
    hub.repo.files = {path: path.encode() * 30 for path in paths}


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["m-Q8_0.bin.gguf", "m-Q4_K_M.bin.gguf", "m-F16.bin.gguf"], "m-Q4_K_M.bin.gguf"),
        (["m-Q8_0.bin.gguf", "m-F16.bin.gguf", "m-Q2_K.bin.gguf"], "m-Q8_0.bin.gguf"),
        (["m-Q6_K.bin.gguf", "m-F16.bin.gguf", "m-Q5_K.bin.gguf"], "m-F16.bin.gguf"),
    ],
)
def test_without_a_word_the_chain_decides(hub, there, taken):
    serve(hub, "README.md", *there)
    hub.want("hf://org/repo")
    plan = hub.machine.run("plan", env=hub.env)
    assert plan["summary"]["bytes_download"] == len(taken) * 30


@pytest.mark.parametrize("quant", ["Q5_K_S", "q5_k_s", "latest"])
def test_a_quantization_brings_all_its_shards_and_the_nearest_projector(hub, quant):
    chosen = [f"q5/m-Q5_K_S-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    serve(hub, *chosen, "m-Q4_0.gguf" if quant != "latest" else "m-x.txt", "mmproj-F16.gguf", "mmproj-F32.gguf")
    hub.want(f"hf://org/repo:{quant}")
    plan = hub.machine.run("plan", env=hub.env)
    wanted = [*chosen, "mmproj-F16.gguf"]
    assert plan["summary"]["bytes_download"] == sum(len(path) * 30 for path in wanted)


def test_a_quantization_that_is_not_there_names_those_that_are(hub):
    serve(hub, "m-Q4_K_M.gguf", "m-Q8_0.gguf")
    hub.want("hf://org/repo:Q2_K")
    (failed,) = hub.apply(code=4)["outcomes"]
    assert failed["reason"] == "no_such_quantization"
    assert "Q4_K_M, Q8_0" in failed["message"]


SHARDS = [f"model-0000{n}-of-00002.bin" for n in (1, 2)]
INDEX = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()


@pytest.mark.parametrize("rest", [SHARDS[0], SHARDS[1], "model.bin.index.json"])
def test_one_shard_or_the_index_brings_the_set(hub, rest):
    hub.repo.files = {SHARDS[0]: WEIGHTS, SHARDS[1]: OTHER, "model.bin.index.json": INDEX, "x": b"x"}
    hub.want(f"hf://org/repo/{rest}")
    hub.apply()
    assert names(hub) == [*SHARDS, "model.bin.index.json"]


def test_a_set_with_a_hole_is_never_placed(hub):
    hub.repo.files = {SHARDS[0]: WEIGHTS, "model.bin.index.json": INDEX}
    hub.want("hf://org/repo")
    (failed,) = hub.apply(code=4)["outcomes"]
    assert (failed["reason"], failed["failure"]) == ("incomplete", "permanent")
    assert SHARDS[1] in failed["message"]
    assert hub.placed() == {}


def test_the_token_may_lie_in_a_file(hub, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    hub.repo.access = "private"
    hub.env["HF_TOKEN_PATH"] = str(tmp_path / "token")
    hub.want("hf://org/repo/onnx/model.bin")
    hub.apply()
    assert hub.placed() == {"model.bin": WEIGHTS}
    assert not [seen for seen in hub.cdn.seen if "authorization" in seen.headers]


def test_the_token_that_the_hubs_own_client_keeps_is_found(hub, tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(TOKEN)
    hub.repo.access = "private"
    hub.env["HF_HOME"] = str(tmp_path / "hf")
    hub.want("hf://org/repo/onnx/model.bin")
    hub.apply()
    assert hub.placed() == {"model.bin": WEIGHTS}


def test_offline_asks_nobody_and_goes_on_once_it_is_over(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.env["HF_HUB_OFFLINE"] = "1"
    (failed,) = hub.apply(code=4)["outcomes"]
    assert (failed["reason"], failed["failure"]) == ("offline", "transient")
    assert hub.asked() == []
    del hub.env["HF_HUB_OFFLINE"]
    hub.machine.run("poke", env=hub.env)
    hub.apply()
    assert hub.placed() == {"model.bin": WEIGHTS}


def test_what_is_here_needs_no_hub_while_offline(hub):
    hub.want("hf://org/repo/onnx/model.bin")
    hub.apply()
    hub.env["HF_HUB_OFFLINE"] = "1"
    hub.forget()
    assert hub.apply()["outcomes"] == []
    assert hub.asked() == []


@pytest.mark.parametrize("revision", ["..%2F..%2F..%2Fevil", "..", "%2Fevil", "a%00evil", "evil%0A"])
def test_a_revision_that_would_leave_its_folder_is_refused_before_anybody_is_asked(hub, revision):
    hub.want(f"hf://org/repo@{revision}/onnx/model.bin", publish=["huggingface"])
    hub.env["HF_HUB_CACHE"] = str(hub.machine.folder / "cache")
    (problem,) = hub.machine.run("validate", code=65)["problems"]
    assert "revision" in problem["expected"]
    hub.machine.run("apply", env=hub.env, code=65)
    assert hub.asked() == []
    assert not [path for path in hub.machine.folder.rglob("*") if "evil" in path.name]


def test_a_revision_with_a_slash_is_a_branch(hub):
    hub.repo.branches = {"feature/x": "c" * 40}
    hub.want("hf://org/repo@feature%2Fx/onnx/model.bin")
    hub.apply()
    assert hub.machine.status("m")["revision"] == "c" * 40


def test_a_name_that_looks_percent_encoded_is_that_file_and_no_other(hub):
    hub.repo.files = {"x%41y.txt": b"right", "xAy.txt": b"wrong", "a?b#c.txt": b"odd"}
    hub.want("hf://org/repo", include=["x%*", "a*"])
    hub.apply()
    assert hub.placed() == {"x%41y.txt": b"right", "a?b#c.txt": b"odd"}


def test_a_path_is_decoded_once_in_the_request_in_the_store_and_where_it_is_published(hub):
    cache = hub.machine.folder / "cache"
    hub.env["HF_HUB_CACHE"] = str(cache)
    hub.repo.files = {"sub dir/a b.bin": WEIGHTS}
    commit = "c" * 40
    source = f"hf://org/repo@{commit}/sub%20dir/a%20b.bin"
    hub.want(source, size=len(WEIGHTS), publish=["huggingface"])
    hub.apply()
    assert hub.placed() == {"a b.bin": WEIGHTS}
    published = cache / "models--org--repo" / "snapshots" / commit / "sub dir" / "a b.bin"
    assert published.read_bytes() == WEIGHTS


def test_a_path_does_not_leave_its_repository_however_it_is_spelt(hub):
    hub.want(f"hf://org/repo@{'c' * 40}/..%2f..%2fx.bin", size=5)
    hub.machine.run("apply", env=hub.env, code=65)
    assert hub.asked() == []


@pytest.mark.parametrize(
    ("answer", "reason"), [((403, {"X-Error-Code": "GatedRepo"}, b""), "gated"), ((404, {}, b""), "not_found")]
)
def test_a_repository_that_lists_what_it_does_not_give_yet_is_tried_again_once_it_does(hub, answer, reason):
    inner, is_open = hub.server.answer, []
    hub.server.answer = lambda seen: answer if "/resolve/" in seen.path and not is_open else inner(seen)
    hub.want("hf://org/repo")
    outcome = hub.apply(code=4)["outcomes"][0]
    assert (outcome["reason"], outcome["failure"]) == (reason, "permanent")
    hub.forget()
    hub.apply(code=4)
    assert len([path for path in hub.asked() if "/resolve/" in path]) == 1
    is_open.append(True)
    hub.apply()
    assert len(hub.placed()) == 4


def test_a_text_that_begins_like_a_page_is_a_file_where_the_hub_lists_its_size(hub):
    hub.repo.files = {"README.md": b"<!DOCTYPE html>abc", "model.bin": WEIGHTS}
    hub.want("hf://org/repo")
    hub.apply()
    assert hub.placed() == hub.repo.files


def test_a_page_of_another_size_in_its_place_is_refused(hub):
    inner, page = hub.server.answer, b"<!DOCTYPE html>log in"
    hub.server.answer = lambda seen: (200, {}, page) if seen.path.endswith("/README.md") else inner(seen)
    hub.want("hf://org/repo")
    assert hub.apply(code=4)["outcomes"][0]["reason"] == "size_mismatch"
    assert hub.placed() == {}
