"""Names that strangers choose, at every entry, through the command: nothing leaves the store, ever.

Every hostile name holds the word ``evil``; afterwards no file of that name is anywhere in the sandbox, which holds the
machine a few folders deep, and everything in it but the store is as it was.
"""

import hashlib
import io
import json
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

import pytest
from fixture_hub import Hub, Repo
from machines import Machine
from scripted import Server

DATA = b"harmless" * 200
SAFE = b"safe" * 300
TITLE = "org.opencontainers.image.title"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
HOSTILE = {
    "up one": "../evil",
    "up two": "../../evil",
    "up far": "../../../../../evil",
    "up within": "a/../../evil",
    "backslash": "..\\..\\evil",
    "drive": "C:\\evil",
    "drive alone": "C:evil",
    "share": "\\\\host\\share\\evil",
    "slashes": "//host/share/evil",
    "line break": "evil\nname",
    "escape": "evil\x1b[2J",
    "deleted": "evil\x7f",
    "right to left": "evil\u202egnp.bin",
    "line separator": "evil\u2028x",
    "long": "evil" * 64,
    "long path": "/".join(["evil" * 50] * 40),
    "empty segment": "a//evil",
    "dots only": "..",
}
COLLIDING = {
    "case": ("evil.bin", "EVIL.bin"),
    "unicode form": (unicodedata.normalize("NFC", "evilé"), unicodedata.normalize("NFD", "evilé")),
    "trailing dot": ("evil", "evil."),
    "file and folder": ("evil", "evil/x"),
    "folder case": ("evil/x", "EVIL/y"),
}
ODD = (
    "CON",
    "nul.bin",
    "aux.txt",
    "dots...x",
    "trailing.",
    "ünï.bin",
    "ملف.bin",
    " space ",
    "-rf",
    "~",
    "$HOME",
    "a%2e%2eb",
    "x" * 255,
)


class Sandbox:
    """A machine deep in a folder whose listing is compared."""

    def __init__(self, folder: Path, origin) -> None:
        self.root = folder / "sandbox"
        place = self.root / "one" / "two" / "three"
        place.mkdir(parents=True)
        (self.root / "keep").write_text("keep")
        (self.root / "one" / "keep").write_text("keep")
        self.machine = Machine(place, origin)
        self.machine.write()
        self.before = self.listing()

    def listing(self):
        """Everything outside the store: path, mode, content."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            if self.machine.store not in (path, *path.parents) and path != self.machine.manifest:
                facts = path.lstat()
                found[str(path)] = (facts.st_mode, path.read_bytes() if path.is_file() else b"")
        return found

    def check(self):
        """Nothing outside has changed, nothing evil is anywhere, and the store holds what a store holds."""
        assert self.listing() == self.before
        evil = [path for path in self.root.rglob("*") if "evil" in path.name.lower()]
        assert evil == []
        there = {path.name for path in self.machine.store.iterdir() if not path.name.startswith("state.db")}
        assert there <= {"blobs", "models", "partial", "quarantine", "lock"}

    def refuse(self, reasons=("hostile_name",), env=None):
        """Every model is refused for one of ``reasons``, none is placed."""
        names = set(self.machine.models)
        result = self.machine.apply(code=4, env=env)
        failed = {out["model"]: out["reason"] for out in result["outcomes"] if out["status"] == "failed"}
        assert set(failed) == names
        assert set(failed.values()) <= set(reasons)
        said = json.dumps(result, ensure_ascii=False) + self.machine.stderr
        assert not any(character in said for character in "\x1b\u202e\u2028\x7f")
        models = self.machine.store / "models"
        assert not models.exists() or list(models.iterdir()) == []
        assert self.machine.partials() == []
        self.check()


@pytest.fixture
def sandbox(tmp_path, origin):
    return Sandbox(tmp_path, origin)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def sets_of_names(root):
    """A name for each set of file names that must not be taken."""
    absolute = {"absolute": (f"{root}/evil",), "nul": ("evil\0.bin",)}
    return {**{key: (name,) for key, name in HOSTILE.items()}, **absolute, **COLLIDING}


def slug(key):
    return key.replace(" ", "-")


# --- what repositories, registries and buckets list -------------------------------------------------------------------


def test_files_of_a_repository(sandbox, server):
    hub = Hub({})
    for key, names in sets_of_names(sandbox.root).items():
        hub.repos[f"org/{slug(key)}"] = Repo({"config.json": b"{}", **dict.fromkeys(names, DATA)})
        sandbox.machine.models[slug(key)] = {"source": f"hf://org/{slug(key)}", "include": ["*"]}
    server.answer = hub.answer
    sandbox.refuse(env={"HF_ENDPOINT": server.url})


def test_shards_that_a_weight_map_names(sandbox, server):
    hub = Hub({})
    for key, (name, *_) in sets_of_names(sandbox.root).items():
        if key in COLLIDING:
            continue
        index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": name}}).encode()
        files = {"model.safetensors.index.json": index, "model-1.safetensors": DATA}
        hub.repos[f"org/{slug(key)}"] = Repo(files)
        sandbox.machine.models[slug(key)] = {"source": f"hf://org/{slug(key)}"}
    server.answer = hub.answer
    sandbox.refuse(env={"HF_ENDPOINT": server.url})


def test_a_weight_map_that_lies_in_the_model_itself(sandbox):
    index = json.dumps({"weight_map": {"a": "../../../../keep"}}).encode()
    machine = sandbox.machine
    url = machine.origin.url
    machine.origin.put("/i", index)
    machine.origin.put("/w", DATA)
    machine.models["m"] = {
        "files": [
            {"path": "model.safetensors.index.json", "source": f"{url}/i"},
            {"path": "model-1.safetensors", "source": f"{url}/w"},
        ]
    }
    sandbox.refuse(reasons=("wrong_format", "model_incomplete", "hostile_name"))


def test_titles_of_layers(sandbox, server):
    blob = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    manifests = {}
    for key, names in sets_of_names(sandbox.root).items():
        layers = [{"mediaType": "x", "digest": blob, "size": len(DATA), "annotations": {TITLE: name}} for name in names]
        manifests[slug(key)] = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "layers": layers}).encode()
        sandbox.machine.models[slug(key)] = {"source": f"oci://{server.netloc}/{slug(key)}:v1"}

    def answer(seen):
        _, _, name, kind, *_ = [*seen.path.split("/"), "", ""]
        return (200, {"Content-Type": IMAGE}, manifests[name]) if kind == "manifests" else (200, {}, DATA)

    server.answer = answer
    sandbox.refuse()


@pytest.mark.parametrize(
    "digest", ["sha256:../../evil", "sha256:" + "z" * 64, "../../../../evil", "md5:" + "0" * 32, ""]
)
def test_digests(sandbox, server, digest):
    layer = {"mediaType": "x", "digest": digest, "size": 5, "annotations": {TITLE: "x.bin"}}
    image = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "layers": [layer]}).encode()
    entry = {"type": "file", "path": "x.bin", "size": 5, "oid": "0" * 40, "lfs": {"oid": digest, "size": 5}}

    def answer(seen):
        if "/manifests/" in seen.path:
            return 200, {"Content-Type": IMAGE}, image
        return 200, {}, json.dumps({"sha": "c" * 40} if "/revision/" in seen.path else [entry]).encode()

    server.answer = answer
    sandbox.machine.models = {"oci": {"source": f"oci://{server.netloc}/x:v1"}, "hub": {"source": "hf://org/x"}}
    sandbox.refuse(reasons=("bad_digest",), env={"HF_ENDPOINT": server.url})


def listings(server, keys_of):
    """A server that lists any bucket, as S3, Google and Azure do."""

    def answer(seen):
        parts = urlsplit(seen.path)
        query = parse_qs(parts.query)
        if parts.path.startswith("/storage/v1/b/"):
            bucket = parts.path.split("/")[4]
            if parts.path.endswith("/o"):
                items = [{"name": f"p/{key}", "size": str(len(DATA))} for key in keys_of[bucket]]
                return 200, {}, json.dumps({"items": items}).encode()
        elif "list-type" in query or "comp" in query:
            keys = [escape(f"p/{key}") for key in keys_of[parts.path.strip("/").split("/")[-1]]]
            entry = (
                "<Contents><Key>{}</Key><Size>1600</Size></Contents>"
                if "list-type" in query
                else "<Blob><Name>{}</Name><Properties><Content-Length>1600</Content-Length></Properties></Blob>"
            )
            return 200, {}, f"<r>{''.join(entry.format(key) for key in keys)}</r>".encode()
        return 200, {}, DATA

    server.answer = answer
    return {
        "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "STORAGE_EMULATOR_HOST": server.url, "AZURE_STORAGE_ACCOUNT": "account", "AZURE_STORAGE_ENDPOINT": server.url,
    }  # fmt: skip


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_keys_of_a_bucket(sandbox, server, scheme):
    keys_of = {slug(key): names for key, names in sets_of_names(sandbox.root).items()}
    if scheme != "gs":  # XML cannot carry these at all
        keys_of = {key: names for key, names in keys_of.items() if key not in ("nul", "escape")}
    sandbox.machine.models = {key: {"source": f"{scheme}://{key}/p/"} for key in keys_of}
    sandbox.refuse(env=listings(server, keys_of))


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_listing_that_names_what_was_not_asked_for(sandbox, server, scheme):
    env = listings(server, {"bucket": ["x"]})
    sandbox.machine.models = {"m": {"source": f"{scheme}://bucket/other/"}}
    sandbox.refuse(env=env)


def test_odd_names_that_do_no_harm_arrive_as_they_are(sandbox, server):
    hub = Hub({"org/odd": Repo(dict.fromkeys(ODD, DATA))})
    server.answer = hub.answer
    sandbox.machine.models["odd"] = {"source": "hf://org/odd", "include": ["*"]}
    sandbox.machine.apply(env={"HF_ENDPOINT": server.url})
    assert set(os.listdir(sandbox.machine.store / "models" / "odd")) == set(ODD)
    sandbox.check()


# --- what servers and archives say ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../../evil", "/evil", "evil\\..\\evil", "C:evil"])
def test_a_name_in_content_disposition_is_no_name_of_ours(sandbox, server, name):
    server.answer = lambda seen: (
        200,
        {"Content-Disposition": f"attachment; filename=\"{name}\"; filename*=UTF-8''{quote(name)}"},
        DATA,
    )
    sandbox.machine.models["m"] = {"source": f"{server.url}/m.bin"}
    sandbox.machine.apply()
    assert os.listdir(sandbox.machine.store / "models" / "m") == ["m.bin"]
    sandbox.check()


def zipped(names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("first.bin", SAFE)
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename, info.file_size = name, len(DATA)
            archive.writestr(info, DATA)
    return out.getvalue()


def tarred(names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in ("first.bin", *names):
            info = tarfile.TarInfo(name)
            info.size = len(DATA)
            archive.addfile(info, io.BytesIO(DATA))
    return out.getvalue()


@pytest.mark.parametrize(("ending", "pack"), [("zip", zipped), ("tar.gz", tarred)])
def test_members_of_archives(sandbox, ending, pack):
    machine = sandbox.machine
    for key, names in sets_of_names(sandbox.root).items():
        if key == "nul":
            continue  # the writers cut a name there
        machine.origin.put(f"/{slug(key)}.{ending}", pack(names))
        machine.models[slug(key)] = {"source": f"{machine.origin.url}/{slug(key)}.{ending}"}
    sandbox.refuse(reasons=("archive_unsafe", "archive_damaged", "hostile_name"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_members_that_are_no_files(sandbox, kind):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("evil")
        link.type, link.linkname = kind, f"{sandbox.root}/keep"
        archive.addfile(link)
        through = tarfile.TarInfo("evil/x")
        through.size = len(DATA)
        archive.addfile(through, io.BytesIO(DATA))
    sandbox.machine.origin.put("/m.tar", out.getvalue())
    sandbox.machine.models["m"] = {"source": f"{sandbox.machine.origin.url}/m.tar"}
    sandbox.refuse(reasons=("archive_unsafe",))


# --- what the manifest and the files beside it say --------------------------------------------------------------------


def invalid(machine, **model):
    machine.models = {model.pop("name", "m"): {"source": f"{machine.origin.url}/m.bin", **model}}
    problems = machine.run("validate", code=65)
    machine.apply(code=65)
    assert not machine.store.exists()
    return problems


@pytest.mark.parametrize("name", [*HOSTILE.values(), "evil/x", "evil\0", "/evil", ".", "evil ", "CON/evil"])
def test_names_of_models(sandbox, name):
    assert invalid(sandbox.machine, name=name)
    assert sandbox.listing() == sandbox.before


@pytest.mark.parametrize("name", [*HOSTILE.values(), "evil\0", "/evil"])
def test_paths_of_files(sandbox, name):
    machine = sandbox.machine
    machine.models = {"m": {"files": [{"path": name, "source": f"{machine.origin.url}/m.bin"}]}}
    machine.apply(code=65)
    assert sandbox.listing() == sandbox.before
    assert not machine.store.exists()


@pytest.mark.parametrize(
    "last", ["..%2f..%2fevil", "%2fevil", "%2e%2e", "evil%00", "evil%0a", "..%5cevil", "C:evil", "evil%e2%80%ae"]
)
def test_last_segments_of_urls(sandbox, last):
    machine = sandbox.machine
    machine.models = {"m": {"source": f"{machine.origin.url}/{last}"}}
    machine.apply(code=65)
    assert sandbox.listing() == sandbox.before


def test_links_take_nothing_that_stands_in_their_way(sandbox):
    machine = sandbox.machine
    machine.model("m", DATA, links=[str(sandbox.root / "keep")])
    machine.model("n", DATA, links=[str(sandbox.root / "one")])
    result = machine.apply(code=4)
    assert {outcome["reason"] for outcome in result["outcomes"] if outcome["status"] == "failed"} == {"link_blocked"}
    assert sandbox.listing() == sandbox.before


@pytest.mark.parametrize("place", ["../evil", "/evil", "a/../../evil", "evil\n"])
def test_the_manifests_path_in_git(sandbox, place):
    machine = sandbox.machine
    repository = sandbox.root / "one" / "two" / "three"
    machine.run("watch", "--git", f"file://{repository}", "--git-path", place, code=64)
    assert sandbox.listing() == sandbox.before


@pytest.mark.parametrize("path", ["../../../../evil", "/evil", "evil\\x"])
def test_paths_and_digests_of_the_lock_file(sandbox, path):
    machine = sandbox.machine
    machine.model("m", DATA)
    lock = machine.folder / "models.lock.json"
    machine.run("lock")
    text = json.loads(lock.read_text())
    text["models"]["m"]["files"][0]["path"] = path
    lock.write_text(json.dumps(text))
    before = sandbox.listing()
    machine.apply(code=65)
    assert sandbox.listing() == before
    assert not (machine.store / "models").exists()


def test_names_in_a_saved_plan(sandbox):
    machine = sandbox.machine
    machine.model("m", DATA)
    plan = machine.folder / "plan.json"
    machine.run("plan", "--out", str(plan))
    plan.write_text(plan.read_text().replace('"m"', '"../../../../evil"'))
    before = sandbox.listing()
    assert machine.run("apply", str(plan), code=1)["reason"] == "document_invalid"
    assert sandbox.listing() == before
    assert [path for path in sandbox.root.rglob("*") if "evil" in path.name] == []
