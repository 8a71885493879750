"""What the manifest wants signed is placed only where the right key has signed it: through the real command."""

import io
import json
import os
import shutil
import tarfile

import pytest
from machines import Machine
from signers import Minisign, Openssl

CONTENT = b"weights" * 500


@pytest.fixture
def minisign(machine):
    return Minisign(machine.folder / "keys")


@pytest.fixture
def openssl(machine):
    return Openssl(machine.folder / "keys")


def ask(machine, name="m", kind="minisign", key="keys/m.pub", **keys):
    machine.models[name] = {**machine.models[name], "signature": {"type": kind, "key": key, **keys}}


def refused(machine, reason, name="m", content=CONTENT):
    """The apply fails with that reason, and nothing of the model is anywhere."""
    result = machine.apply(code=4)
    told = [outcome["reason"] for outcome in result["outcomes"] if outcome["status"] == "failed"]
    assert told == [reason]
    assert not machine.placed(name).parent.exists()
    assert machine.partials() == []
    blobs = [path for path in (machine.store / "blobs").rglob("*") if path.is_file()]
    assert all(path.read_bytes() != content for path in blobs)
    status = machine.status(name)
    assert (status["reason"], status["retry_at"], status["signed_by"]) == (reason, None, None)
    return result


def test_a_signed_model_is_placed_and_status_says_who_signed(machine, minisign):
    digest = machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", minisign.sign(CONTENT))
    ask(machine)
    machine.apply()
    assert machine.has("m", digest)
    assert machine.status("m")["signed_by"] == f"minisign:{minisign.key_id}"
    machine.origin.forget()
    assert machine.apply()["outcomes"] == []
    assert machine.origin.asked() == []


def test_an_unsigned_model_is_refused_before_a_byte_of_it_comes(machine, minisign):
    machine.model("m", CONTENT)
    ask(machine)
    refused(machine, "unsigned")
    assert "/m.bin" not in machine.origin.asked("GET")
    machine.origin.forget()
    machine.apply(code=4)
    assert machine.origin.asked("GET") == []  # permanent: only asked whether it is still so


def test_it_is_tried_again_once_the_signature_is_there(machine, minisign):
    digest = machine.model("m", CONTENT)
    ask(machine)
    refused(machine, "unsigned")
    machine.origin.put("/m.bin.minisig", minisign.sign(CONTENT))
    machine.apply()
    assert machine.has("m", digest)


def test_it_is_tried_again_once_the_manifest_names_the_right_key(machine, minisign):
    digest = machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", Minisign(machine.folder / "other").sign(CONTENT))
    ask(machine)
    refused(machine, "unknown_key")
    ask(machine, key="other/m.pub")
    machine.apply()
    assert machine.has("m", digest)


def test_another_files_signature_is_bad(machine, minisign):
    machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", minisign.sign(b"another file"))
    ask(machine)
    refused(machine, "bad_signature")


@pytest.mark.parametrize("junk", [b"junk", b"", b"x" * (17 << 20), b"<!doctype html><html></html>"])
def test_what_is_no_signature_is_bad(machine, minisign, junk):
    machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", junk)
    ask(machine)
    refused(machine, "bad_signature")


def test_a_missing_key_file_is_told(machine):
    machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", b"whatever")
    ask(machine)
    result = refused(machine, "unknown_key")
    assert "keys/m.pub" in result["outcomes"][0]["message"]


def test_without_the_extra_it_says_what_to_type(machine, minisign, tmp_path):
    machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", minisign.sign(CONTENT))
    ask(machine)
    block = tmp_path / "block"
    block.mkdir()
    (block / "sitecustomize.py").write_text(
        "import importlib.util as u, sys\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'cryptography' else real(name, *more)\n"
    )
    result = machine.apply(
        code=4, env={"PYTHONPATH": os.pathsep.join(filter(None, (str(block), os.environ.get("PYTHONPATH"))))}
    )
    assert result["outcomes"][0]["reason"] == "signature_support_missing"
    assert "pip install 'reconciler[signatures]'" in result["outcomes"][0]["message"]
    machine.apply()  # installed since: tried again by itself
    assert machine.status("m")["signed_by"]


def test_a_model_in_the_store_is_checked_when_a_signature_is_asked_for(machine, minisign):
    digest = machine.model("m", CONTENT)
    machine.apply()
    machine.origin.put("/m.bin.minisig", minisign.sign(CONTENT))
    ask(machine)
    (action,) = machine.plan()["actions"]
    assert (action["kind"], action["reason"]) == ("link", "signature_required")
    machine.origin.forget()
    machine.apply()
    assert machine.has("m", digest)
    assert machine.origin.asked("GET") == ["/m.bin.minisig"]
    assert machine.status("m")["signed_by"]
    assert machine.plan()["actions"] == []


def test_a_key_that_is_replaced_asks_for_a_new_look(machine, minisign):
    machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", minisign.sign(CONTENT))
    ask(machine)
    machine.apply()
    other = Minisign(machine.folder / "other")
    shutil.copy(other.public, minisign.public)
    result = machine.apply(code=4)
    assert [outcome["reason"] for outcome in result["outcomes"]] == ["unknown_key"]


def test_a_new_revision_that_is_badly_signed_leaves_the_old_one_in_place(machine, minisign):
    digest = machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", minisign.sign(CONTENT))
    ask(machine)
    machine.apply()
    machine.model("m", CONTENT * 2)
    ask(machine)
    machine.apply(code=4)
    assert machine.has("m", digest)
    assert machine.status("m")["reason"] == "bad_signature"


def test_a_lost_database_forgets_no_signature(machine, minisign):
    machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", minisign.sign(CONTENT))
    ask(machine)
    machine.apply()
    for path in machine.store.glob("state.db*"):
        path.unlink()
    machine.origin.files.clear()
    machine.apply()
    assert machine.status("m")["signed_by"] == f"minisign:{minisign.key_id}"


def test_the_signature_may_lie_elsewhere(machine, openssl):
    digest = machine.model("m", CONTENT)
    (machine.folder / "m.sig").write_bytes(openssl.sign(CONTENT))
    ask(machine, kind="cosign", key="keys/cosign.pub", source="file:m.sig")
    machine.apply()
    assert machine.has("m", digest)
    assert machine.status("m")["signed_by"].startswith("cosign:sha256:")


def test_a_file_source_finds_its_signature_beside_it(machine, openssl):
    (machine.folder / "m.bin").write_bytes(CONTENT)
    (machine.folder / "m.bin.sig").write_bytes(openssl.sign(CONTENT))
    machine.models["m"] = {"source": "file:m.bin"}
    ask(machine, kind="cosign", key=openssl.public.read_text())
    machine.apply()
    assert machine.status("m")["signed_by"]


def test_every_file_of_a_model_is_signed(machine, minisign):
    for path, content in {"/a.bin": CONTENT, "/b.json": b"{}"}.items():
        machine.origin.put(path, content)
        machine.origin.put(f"{path}.minisig", minisign.sign(content))
    machine.models["m"] = {"files": [{"source": f"{machine.origin.url}/{name}"} for name in ("a.bin", "b.json")]}
    ask(machine)
    machine.apply()
    assert machine.status("m")["signed_by"]


def test_one_swapped_signature_refuses_the_whole_model(machine, minisign):
    for path, content, other in (("/a.bin", CONTENT, b"{}"), ("/b.json", b"{}", CONTENT)):
        machine.origin.put(path, content)
        machine.origin.put(f"{path}.minisig", minisign.sign(other))
    machine.models["m"] = {"files": [{"source": f"{machine.origin.url}/{name}"} for name in ("a.bin", "b.json")]}
    ask(machine)
    refused(machine, "bad_signature")


def test_model_signing_covers_a_model_of_several_files(machine, openssl):
    files = {"config.json": b"{}", "onnx/w.bin": CONTENT}
    for path, content in files.items():
        machine.origin.put(f"/repo/{path}", content)
    machine.origin.put("/repo/model.sig", openssl.sign_model(files))
    machine.models["m"] = {"files": [{"source": f"{machine.origin.url}/repo/{path}", "path": path} for path in files]}
    ask(machine, kind="model-signing", key="keys/cosign.pub")
    machine.apply()
    assert machine.status("m")["signed_by"].startswith("model-signing:sha256:")
    machine.origin.put("/repo/config.json", b'{"evil": 1}')
    machine.models["m"]["files"][0]["sha256"] = machine.origin.put("/repo/config.json", b'{"evil": 1}')
    machine.apply(code=4)
    assert machine.placed("m", "config.json").read_bytes() == b"{}"
    assert machine.status("m")["reason"] == "bad_signature"


def packed(content):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("model/w.bin")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize("is_right", [True, False])
def test_an_archive_is_signed_as_it_was_packed(machine, minisign, is_right):
    archive = packed(CONTENT)
    machine.origin.put("/m.tar.gz", archive)
    machine.origin.put("/m.tar.gz.minisig", minisign.sign(archive if is_right else b"another"))
    machine.models["m"] = {"source": f"{machine.origin.url}/m.tar.gz"}
    ask(machine)
    if is_right:
        machine.apply()
        assert machine.status("m")["signed_by"]
        assert machine.placed("m", "w.bin").read_bytes() == CONTENT
        assert machine.apply()["outcomes"] == []
    else:
        result = machine.apply(code=4)
        assert "bad_signature" in {outcome["reason"] for outcome in result["outcomes"]}
        assert not machine.placed("m").parent.exists()


def test_an_unpacked_model_is_fetched_again_to_check_its_archive(machine, minisign):
    archive = packed(CONTENT)
    machine.origin.put("/m.tar.gz", archive)
    machine.models["m"] = {"source": f"{machine.origin.url}/m.tar.gz"}
    machine.apply()
    machine.origin.put("/m.tar.gz.minisig", minisign.sign(archive))
    ask(machine)
    machine.apply()
    assert machine.status("m")["signed_by"]


def test_a_host_asks_of_every_model_that_comes_from_it(machine, minisign):
    machine.model("good", CONTENT)
    machine.model("bad", b"unsigned")
    machine.origin.put("/good.bin.minisig", minisign.sign(CONTENT))
    rule = {"type": "minisign", "key": "keys/m.pub"}
    machine.head["network"] = {"signatures": {f"127.0.0.1:{machine.origin.port}": rule}}
    machine.apply(code=4)
    assert machine.status("good")["signed_by"]
    assert machine.status("bad")["reason"] == "unsigned"
    assert not machine.placed("bad").exists()


def test_foreign_files_are_adopted_only_where_they_are_signed(machine, minisign):
    machine.model("m", CONTENT)
    machine.origin.put("/m.bin.minisig", minisign.sign(CONTENT))
    ask(machine)
    place = machine.placed("m")
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT[::-1])
    del machine.models["m"]["sha256"]
    result = machine.run("adopt", "m", code=4)
    assert result["outcomes"][0]["reason"] == "bad_signature"
    place.write_bytes(CONTENT)
    machine.run("adopt", "m")
    assert machine.status("m")["signed_by"]


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ({"type": "minisign"}, "key"),
        ({"type": "pgp", "key": "a.pub"}, "one of model-signing, minisign, cosign"),
        ({"type": "minisign", "key": "RWsomething"}, "minisign public key"),
        ({"type": "cosign", "key": "-----BEGIN PRIVATE KEY-----\nx"}, "a private key"),
        ({"type": "cosign", "key": "a.pub", "source": "ftp://x/y"}, "signature.source"),
        ({"type": "cosign", "key": "a.pub", "sourc": "https://h/y"}, "did you mean source"),
        ("keys/a.pub", "mapping"),
    ],
)
def test_a_mistake_in_the_manifest_is_told_with_its_place(machine, signature, words):
    machine.model("m", CONTENT)
    machine.models["m"]["signature"] = signature
    document = machine.run("validate", code=65)
    assert any(problem["line"] > 1 and words in json.dumps(problem) for problem in document["problems"]), document


def test_one_place_is_not_for_the_signatures_of_several_files(machine):
    files = [{"source": f"{machine.origin.url}/{name}"} for name in ("a.bin", "b.json")]
    machine.models["m"] = {"files": files}
    ask(machine, source="https://h/x.minisig")
    document = machine.run("validate", code=65)
    assert "looks beside each" in json.dumps(document)


@pytest.mark.parametrize("is_right", [True, False])
def test_a_bundle_is_no_way_around_a_signature(machine, minisign, tmp_path, is_right):
    digest = machine.model("m", CONTENT)
    machine.apply()
    machine.run("bundle", "export", str(tmp_path / "b.tar"))
    (tmp_path / "far").mkdir()
    far = Machine(tmp_path / "far", machine.origin)
    far.models = machine.models
    (far.folder / "m.minisig").write_bytes(minisign.sign(CONTENT if is_right else b"another"))
    ask(far, key=str(minisign.public), source="file:m.minisig")
    far.run("bundle", "import", str(tmp_path / "b.tar"))
    assert not far.placed("m").exists()
    machine.origin.forget()
    far.apply(code=0 if is_right else 4)
    assert far.has("m", digest) is is_right
    assert machine.origin.asked("GET") == []


def test_a_rule_for_the_host_of_the_environment_holds_for_what_comes_from_there(hub):
    Minisign(hub.machine.folder / "keys")
    rule = {"type": "minisign", "key": "keys/m.pub"}
    hub.machine.head["network"] = {"signatures": {hub.server.netloc: rule}}
    hub.want("hf://org/repo/config.json")
    assert hub.apply(code=4)["outcomes"][0]["reason"] == "unsigned"
    assert not hub.machine.placed("m").parent.exists()
