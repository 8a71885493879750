"""The lock file: what is read back is what was written, and nothing that a manifest did not declare gets in by it."""

import json
from dataclasses import replace

import pytest

from reconciler.core.desired import Artifact, DesiredModel, DesiredState
from reconciler.core.digests import spec_digest
from reconciler.core.errors import Failure
from reconciler.core.locked import LockedModel, check_carried, honour, label_of, lock_document, locked_model, parse_lock
from reconciler.core.words import Digest, Role

DIGEST = Digest("sha256:" + "a" * 64)


def model(*sources: str, path: str = "", name: str = "m") -> DesiredModel:
    made = DesiredModel(name, artifacts=(Artifact(path, sources),))
    return replace(made, spec_digest=spec_digest(made))


def entry(wanted: DesiredModel, *files: Artifact, revision: str = "abc") -> LockedModel:
    return LockedModel(wanted.name, wanted.spec_digest, revision, files)


def read(document: object) -> tuple[LockedModel, ...]:
    return parse_lock(json.dumps(document).encode())


def test_a_lock_is_read_back_as_it_was_written():
    wanted = model("hf://org/repo@main")
    files = (
        Artifact("model.gguf", ("hf://org/repo@abc/model.gguf",), DIGEST, 5),
        Artifact("extra.json", ("hf://org/repo@abc/extra.json",), None, None, Role.CONFIG, optional=True),
    )
    assert read(lock_document([entry(wanted, *files)])) == (entry(wanted, *files),)


def test_a_locked_model_is_its_locked_files_and_asks_nobody():
    wanted = model("hf://org/repo@main")
    locked = locked_model(wanted, entry(wanted, Artifact("model.gguf", ("hf://org/repo@abc/model.gguf",), DIGEST, 5)))
    assert (locked.is_locked, locked.revision, locked.artifacts[0].path) == (True, "abc", "model.gguf")
    assert locked.spec_digest != wanted.spec_digest


def test_a_plain_url_is_written_without_its_query_and_found_again_among_the_declared():
    wanted = model("https://host/m.gguf?token=secret", path="m.gguf")
    made = entry(wanted, Artifact("m.gguf", ("https://host/m.gguf?token=secret",), DIGEST, 5))
    text = json.dumps(lock_document([made]))
    assert "secret" not in text
    assert label_of("https://host/m.gguf?token=secret") == "https://host/m.gguf"
    (found,) = parse_lock(text.encode())
    assert locked_model(wanted, found).artifacts[0].sources == ("https://host/m.gguf?token=secret",)


def test_a_file_without_a_label_of_its_own_comes_from_the_declared_file_of_its_path():
    wanted = model("https://host/m.gguf", path="m.gguf")
    found = locked_model(wanted, entry(wanted, Artifact("m.gguf", ("https://elsewhere/m.gguf",), DIGEST, 5)))
    assert found.artifacts[0].sources == ("https://host/m.gguf",)


def test_a_source_that_nobody_declared_is_never_taken_from_a_lock():
    wanted = model("https://host/m.gguf", path="m.gguf")
    with pytest.raises(Failure) as caught:
        locked_model(wanted, entry(wanted, Artifact("other.gguf", ("hf://evil/repo@abc/other.gguf",), DIGEST, 5)))
    assert caught.value.reason == "lock_invalid"


def test_only_an_entry_of_the_same_spec_is_honoured_and_a_stale_one_is_told():
    same, changed, free = (
        model("hf://o/a@main", name="a"),
        model("hf://o/b@main", name="b"),
        model("hf://o/c", name="c"),
    )
    file = Artifact("f", ("hf://o/a@abc/f",), DIGEST, 5)
    entries = [entry(same, file), replace(entry(changed, file), spec_digest=Digest("sha256:old"))]
    state = honour(DesiredState((same, changed, free), digest=Digest("d")), entries)
    assert [one.is_locked for one in state.models] == [True, False, False]
    assert [note.reason for note in state.diagnostics] == ["lock_stale"]
    assert state.digest != "d"


FILE = {"path": "f", "sources": ["hf://o/a@abc/f"], "digest": None, "size": 1, "role": "primary"}


def lock_of(**changes: object) -> dict:
    value = {"spec": "s", "revision": "r", "files": [FILE]} | changes
    return {"kind": "Lock", "format_version": "1.0", "models": {"m": value}}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"kind": "Plan", "format_version": "1.0", "models": {}},
        {"kind": "Lock", "format_version": "2.0", "models": {}},
        {"kind": "Lock", "format_version": "1.0", "models": []},
        {"kind": "Lock", "format_version": "1.0", "models": {"m": 5}},
        lock_of(files=[]),
        lock_of(files=["f"]),
        lock_of(spec=5),
        lock_of(revision="a\nb"),
        lock_of(files=[FILE | {"path": 5}]),
        lock_of(files=[FILE | {"sources": "f"}]),
        lock_of(files=[FILE | {"sources": [5]}]),
        lock_of(files=[FILE | {"size": -1}]),
        lock_of(files=[FILE | {"size": True}]),
        lock_of(files=[FILE | {"size": 10**400}]),
        lock_of(spec="\ud800"),
        lock_of(files=[FILE | {"sources": ["s3://b/\x1b[2J"]}]),
    ],
)
def test_what_is_no_lock_is_refused(document):
    with pytest.raises(Failure) as caught:
        read(document)
    assert caught.value.reason == "lock_invalid"


def test_text_that_is_no_json_is_refused():
    with pytest.raises(Failure) as caught:
        parse_lock(b"{")
    assert caught.value.reason == "lock_invalid"


@pytest.mark.parametrize("change", [{"path": "../f"}, {"digest": "sha256:zz"}])
def test_hostile_names_and_digests_are_refused(change):
    with pytest.raises(Failure) as caught:
        read(lock_of(files=[FILE | change]))
    assert caught.value.reason in {"hostile_name", "bad_digest"}


def test_an_unknown_role_is_a_companion():
    assert read(lock_of(files=[FILE | {"role": "banner"}]))[0].files[0].role is Role.COMPANION


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("hf://org/repo:Q4_K_M@main", "hf://org/other@abc/f"),
        ("s3://bucket/p/", "s3://elsewhere/p/f"),
        ("oci://host/repo:1", "oci://host/other:1@sha256:" + "a" * 64),
        ("ollama://llama:7b", "ollama://mistral:7b"),
    ],
)
def test_a_lock_leads_to_no_repository_or_bucket_but_the_declared(source, label):
    wanted = model(source)
    assert source_of(wanted, source.replace(":Q4_K_M@main", "@abc/f")) != ()
    with pytest.raises(Failure) as caught:
        source_of(wanted, label)
    assert caught.value.reason == "lock_invalid"


def source_of(wanted: DesiredModel, label: str) -> tuple[str, ...]:
    return locked_model(wanted, entry(wanted, Artifact("f", (label,), DIGEST, 5))).artifacts[0].sources


OTHER = Digest("sha256:" + "b" * 64)
WHOLE = Artifact("m.bin", ("https://h/m.bin",), DIGEST, 5)


@pytest.mark.parametrize(
    ("declared", "files", "reason"),
    [
        (WHOLE, [WHOLE], ""),
        (WHOLE, [replace(WHOLE, digest=OTHER)], "digest_mismatch"),
        (WHOLE, [replace(WHOLE, size_bytes=6)], "digest_mismatch"),
        (WHOLE, [WHOLE, replace(WHOLE, path="more.bin")], "digest_mismatch"),
        (WHOLE, [replace(WHOLE, path="unpacked.bin")], "not_checkable"),
        (replace(WHOLE, optional=True), [], ""),
        (replace(WHOLE, digest=None), [replace(WHOLE, digest=OTHER), replace(WHOLE, path="more.bin")], ""),
        (replace(WHOLE, path="", sources=("oci://h/r:1",)), [replace(WHOLE, path="layer.bin")], ""),
        (replace(WHOLE, path="", sources=("oci://h/r:1",)), [replace(WHOLE, digest=OTHER)], "not_checkable"),
        (replace(WHOLE, sources=("hf://o/r@abc/m.bin",)), [WHOLE, replace(WHOLE, path="shard.bin")], ""),
    ],
)
def test_what_a_stranger_carries_is_held_against_what_is_declared(declared, files, reason):
    wanted = DesiredModel("m", artifacts=(declared,))
    if not reason:
        check_carried(wanted, entry(wanted, *files))
        return
    with pytest.raises(Failure) as caught:
        check_carried(wanted, entry(wanted, *files))
    assert caught.value.reason == reason
