"""Bundles: models in one file for a machine without a network; nothing of a hostile one gets in."""

import hashlib
import io
import json
import tarfile

import pytest
from hubs import FILES, OTHER, WEIGHTS
from machines import Machine

HEX = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def far(hub, tmp_path):
    """Another machine with the same manifest and no way to the hub."""
    (tmp_path / "far").mkdir()
    machine = Machine(tmp_path / "far", hub.machine.origin)
    machine.head, machine.models = hub.machine.head, hub.machine.models
    return machine


def test_a_bundle_brings_a_model_to_a_machine_without_a_network(hub, far, tmp_path):
    hub.want("hf://org/repo")
    hub.apply()
    hub.machine.run("bundle", "export", str(tmp_path / "b.tar"), env=hub.env)
    hub.forget()
    env = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert far.run("bundle", "import", str(tmp_path / "b.tar"))["models"] == ["m"]
    assert far.apply(env=env)["outcomes"] == []
    folder = far.store / "models" / "m"
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    assert (far.status("m")["state"], far.status("m")["revision"]) == ("present", "c" * 40)
    assert far.run("verify")["outcomes"][0]["status"] == "done"
    assert hub.asked() == []


def test_equal_models_give_equal_bundles_of_one_copy_each(machine, tmp_path):
    digest = machine.model("a", WEIGHTS)
    machine.model("b", WEIGHTS)
    machine.apply()
    for name in ("1.tar", "2.tar"):
        machine.run("bundle", "export", str(tmp_path / name))
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    with tarfile.open(tmp_path / "1.tar") as bundle:
        assert bundle.getnames() == ["bundle.json", f"blobs/sha256/{digest}"]


def test_what_is_not_in_the_store_or_damaged_is_not_exported(machine, tmp_path):
    digest = machine.model("a", WEIGHTS)
    assert machine.run("bundle", "export", str(tmp_path / "b.tar"), code=1)["reason"] == "not_present"
    machine.apply()
    machine.blob(digest).chmod(0o644)
    machine.blob(digest).write_bytes(WEIGHTS[::-1])
    assert machine.run("bundle", "export", str(tmp_path / "b.tar"), code=1)["reason"] == "damaged"
    assert not list(tmp_path.glob("*b.tar*"))


def test_a_bundle_that_does_not_fit_is_refused_before_it_is_unpacked(hub, far, tmp_path):
    hub.want("hf://org/repo")
    hub.apply()
    hub.machine.run("bundle", "export", str(tmp_path / "b.tar"), env=hub.env)
    far.head = {**far.head, "cache": {"maxSize": "200kB", "minFreeSpace": "1MB"}}
    assert far.run("bundle", "import", str(tmp_path / "b.tar"), code=3)["reason"] == "no_room"


def index(path="model.bin", digest=HEX, size=300_000):
    file = {"path": path, "sources": [], "digest": f"sha256:{digest}", "size": size, "role": "primary"}
    models = {"m": {"spec": "sha256:" + "0" * 64, "revision": "", "files": [file]}}
    return json.dumps({"format_version": "1.0", "kind": "Bundle", "models": models}).encode()


def tar(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as bundle:
        for name, data in members:
            header = tarfile.TarInfo(name)
            if data is None:
                header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
            header.size = len(data or b"")
            bundle.addfile(header, io.BytesIO(data or b""))
    return stream.getvalue()


BLOB = f"blobs/sha256/{HEX}"
PICKLE = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."
PICKLE_HEX = hashlib.sha256(PICKLE).hexdigest()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no tar at all" * 100, "archive_damaged"),
        (tar((BLOB, WEIGHTS)), "bundle_invalid"),
        (tar(("bundle.json", index())), "bundle_invalid"),
        (tar(("bundle.json", index()), (BLOB, WEIGHTS), ("more.bin", b"x")), "bundle_invalid"),
        (tar(("bundle.json", index("../m.bin")), (BLOB, WEIGHTS)), "bundle_invalid"),
        (tar(("bundle.json", index()), (BLOB, WEIGHTS[::-1])), "digest_mismatch"),
        (tar(("bundle.json", index()), (BLOB, None)), "archive_unsafe"),
        (tar(("bundle.json", index()), (BLOB, WEIGHTS), ("../../x", b"x")), "archive_unsafe"),
        (tar(("bundle.json", index()), (BLOB, WEIGHTS))[:-200_000], "archive_truncated"),
        (
            tar(("bundle.json", index("m.pkl", PICKLE_HEX, len(PICKLE))), (f"blobs/sha256/{PICKLE_HEX}", PICKLE)),
            "unsafe_pickle",
        ),
    ],
)
def test_nothing_of_a_hostile_or_broken_bundle_gets_in(machine, data, reason):
    machine.model("other", OTHER)
    (machine.folder / "b.tar").write_bytes(data)
    document = machine.run("bundle", "import", "b.tar", code=3 if reason == "unsafe_pickle" else 1)
    assert document["reason"] == reason, document
    assert not [
        path
        for path in machine.store.rglob("*")
        if path.is_file() and "state.db" not in path.name and path.name != "lock"
    ]


EVIL = b"EVIL" * 1000


def forged(path, file, content=EVIL, **changes):
    """The bundle with one file's digest, size and bytes replaced, and whatever else is said of it."""
    with tarfile.open(path) as bundle:
        whole = {member.name: bundle.extractfile(member).read() for member in bundle.getmembers()}
    document = json.loads(whole.pop("bundle.json"))
    entry = next(entry for entry in document["models"]["m"]["files"] if entry["path"] == file)
    del whole[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"]
    hexes = hashlib.sha256(content).hexdigest()
    entry.update({"digest": f"sha256:{hexes}", "size": len(content), **changes})
    path.write_bytes(
        tar(("bundle.json", json.dumps(document).encode()), *whole.items(), (f"blobs/sha256/{hexes}", content))
    )


def test_a_bundle_does_not_override_a_digest_that_is_declared_or_locked(hub, far, tmp_path):
    bundle = tmp_path / "b.tar"
    hub.want("hf://org/repo", include=["README.md", "config.json"])
    hub.apply()
    hub.machine.run("lock", env=hub.env)
    (far.folder / "models.lock.json").write_bytes((hub.machine.folder / "models.lock.json").read_bytes())
    hub.machine.run("bundle", "export", str(bundle), env=hub.env)
    forged(bundle, "config.json")
    assert far.run("bundle", "import", str(bundle), code=1)["reason"] == "digest_mismatch"
    assert not list(far.store.rglob("*.json"))

    hub.machine.model("m", WEIGHTS)
    hub.machine.apply()
    hub.machine.run("bundle", "export", str(bundle))
    forged(bundle, "m.bin")
    assert far.run("bundle", "import", str(bundle), code=1)["reason"] == "digest_mismatch"
    assert not far.placed("m").exists()

    wanted, far.models = dict(far.models), {}
    far.run("bundle", "import", str(bundle))  # nobody says yet what it has to be
    assert far.placed("m").read_bytes() == EVIL
    far.models = wanted
    far.apply()
    assert far.placed("m").read_bytes() == WEIGHTS
    assert far.apply()["outcomes"] == []


def test_a_bundle_names_no_source_that_the_manifest_does_not(machine, tmp_path):
    machine.origin.put("/m.bin", WEIGHTS)
    machine.origin.put("/evil/m.bin", EVIL)
    machine.models["m"] = {"source": f"{machine.origin.url}/m.bin"}
    machine.apply()
    machine.run("bundle", "export", str(tmp_path / "b.tar"))
    forged(tmp_path / "b.tar", "m.bin", sources=[f"{machine.origin.url}/evil/m.bin", "file:///etc/passwd"])
    machine.store = machine.folder / "other"
    machine.run("bundle", "import", str(tmp_path / "b.tar"))
    machine.run("evict", "m", "--yes")
    machine.origin.forget()
    machine.apply()
    assert set(machine.origin.asked()) == {"/m.bin"}
    assert machine.placed("m").read_bytes() == WEIGHTS


def test_what_an_archive_of_declared_digest_unpacked_to_is_not_carried(machine, tmp_path):
    digest = machine.origin.put("/m.tar", tar(("a.bin", WEIGHTS)))
    machine.models["m"] = {"source": f"{machine.origin.url}/m.tar", "sha256": digest}
    machine.apply()
    assert machine.run("bundle", "export", str(tmp_path / "b.tar"), code=1)["reason"] == "not_checkable"
    del machine.models["m"]["sha256"]
    machine.apply()
    machine.run("bundle", "export", str(tmp_path / "b.tar"))
    machine.store = machine.folder / "other"
    machine.run("bundle", "import", str(tmp_path / "b.tar"))
    machine.origin.forget()
    assert machine.apply()["outcomes"] == []
    machine.models["m"]["sha256"] = digest
    assert machine.run("bundle", "import", str(tmp_path / "b.tar"), code=1)["reason"] == "not_checkable"


def test_what_is_not_for_this_machine_is_left_out_of_a_bundle(machine, tmp_path):
    machine.model("here", WEIGHTS)
    machine.model("elsewhere", OTHER, when={"arch": ["riscv64"]})
    machine.model("later", OTHER, rollout="0%")
    machine.apply()
    assert machine.run("bundle", "export", str(tmp_path / "b.tar"))["models"] == ["here"]
