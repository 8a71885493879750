"""Whatever an origin, a file or a peer says, every parser answers or fails with our own failure, soon and printable.

Each case is a sound sample that is harmed by chance: the default suite tries some, the slow one many. Formats and
archives have a fuzzer of their own.
"""

import base64
import contextlib
import hashlib
import json
import random
import re
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from harming import harm_bytes, harm_json, harm_value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import Machine
from origin import serving

from reconciler.adapters.fetch import answers as fetch_answers
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.quoting import quote_of
from reconciler.adapters.fetch.record import CHUNK_BYTES, Record
from reconciler.adapters.fetch.resume import load as load_resume
from reconciler.adapters.git.tree import Wanted, read_documents
from reconciler.adapters.manifest import load_documents
from reconciler.adapters.signatures import look
from reconciler.adapters.sources import answers as source_answers
from reconciler.adapters.sources import built_in_sources
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.document import observed_from_document, plan_from_document
from reconciler.core.errors import Failure
from reconciler.core.locked import parse_entries, parse_lock
from reconciler.core.names import check_path
from reconciler.core.ports import HttpAnswer
from reconciler.core.reference import display, parse_reference
from reconciler.core.units import parse_duration, parse_rate, parse_share, parse_size
from reconciler.core.words import Digest, SignatureKind
from reconciler.observe.revisions import read_record
from reconciler.watch.control import Control

FAST = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
SLOW = settings(FAST, max_examples=800)
SEEDS = st.integers(0, 2**63)
DEADLINE_S = 2.0  # of this process's own time; alone it is 0.02
SHA = "sha256:" + hashlib.sha256(b"x").hexdigest()
MODEL = DesiredModel("m", spec_digest=Digest("sha256:" + "0" * 64))
IMAGE = "application/vnd.oci.image.manifest.v1+json"


@contextlib.contextmanager
def only_our_failure(*others):
    """Nothing but a Failure (or what a parser is documented to raise) comes out; its message can be printed."""
    start, caught = time.process_time(), None
    try:
        yield
    except Failure as failure:
        caught = failure
    except others:
        pass
    assert time.process_time() - start < DEADLINE_S
    if caught is not None:
        assert re.fullmatch(r"[a-z0-9_]+", caught.reason)
        assert "\x1b" not in caught.message
        f"{caught.message}{caught.hint}".encode()  # no lone surrogates: it can be printed


@dataclass
class Scripted:
    """A source's context whose origin answers by a function of the URL; network, files and clock are not touched."""

    answer: object
    environment: dict = field(default_factory=dict)
    cancel: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    @property
    def http(self):
        return self

    def credentials(self, url):
        return ()

    def ask(self, method, url, *, headers=(), body=None, max_bytes=16 << 20, timeout_s=30.0):
        self.asked += 1
        assert self.asked <= 3000
        assert all(text.isprintable() for pair in headers for text in pair), "a header that cannot be sent"
        status, told, data = self.answer(url)
        return HttpAnswer(status, told, data[:max_bytes], url)


def resolve(url, answer, environment=None):
    """What the built-in source of the scheme makes of the answers: every name it gives is safe."""
    source = next(s for s in built_in_sources(lambda: 1.7e9) if url.partition(":")[0] in s.schemes)
    context = Scripted(answer, environment or {})
    with only_our_failure():
        told = source.resolve(MODEL, Artifact("", (url,)), url, context)
        for file in told.files:
            assert check_path(file.path) == file.path
            assert file.size_bytes is None or file.size_bytes < 1 << 63
            assert file.digest is None or len(file.digest) == 71
        f"{told.revision}".encode()
    with only_our_failure():
        source.fingerprint(url, Scripted(answer, environment or {}))


# --- what origins answer ----------------------------------------------------------------------------------------------

COMMIT = "c" * 40
TREE = [
    {"type": "file", "path": "config.json", "size": 5, "oid": "1" * 40},
    {"type": "directory", "path": "a", "size": 0, "oid": "1" * 40},
    {"type": "file", "path": "model-00001-of-00002.safetensors", "size": 9, "lfs": {"oid": "0" * 64, "size": 9}},
    {"type": "file", "path": "model-00002-of-00002.safetensors", "size": 9, "lfs": {"oid": "1" * 64, "size": 9}},
    {"type": "file", "path": "model.safetensors.index.json", "size": 90, "oid": "2" * 40},
]
INDEX = {
    "metadata": {"total_size": 18},
    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
}
LINKS = ('<https://huggingface.co/api/x?cursor=2>; rel="next"', "<>; rel=next", "<//evil>; rel=next", "<", '<x>; rel="next"' * 50, "<http://[>; rel=next", "\0", '</x\r\ny>; rel="next"')  # fmt: skip


def hub(seed):
    chance = random.Random(seed)
    broken = chance.choice(("revision", "tree", "resolve", "link", "all"))

    def answer(url):
        part = next((word for word in ("revision", "tree", "resolve") if f"/{word}/" in url), "")
        sound = {"revision": {"sha": COMMIT}, "tree": TREE, "resolve": INDEX}.get(part, {})
        data = harm_json(sound, seed) if broken in (part, "all") else json.dumps(sound).encode()
        link = {"link": chance.choice(LINKS)} if broken == "link" else {}
        status = 200 if chance.random() < 0.9 else chance.choice((204, 301, 401, 403, 404, 429, 500, 999))
        return status, {**link, "retry-after": "soon", "x-error-code": "GatedRepo\x1b"}, data

    resolve("hf://org/repo", answer)
    resolve("hf://org/repo/model.safetensors.index.json", answer)


LAYERS = {
    "schemaVersion": 2,
    "mediaType": IMAGE,
    "config": {"mediaType": "x", "digest": SHA, "size": 2},
    "layers": [
        {"mediaType": "x", "digest": SHA, "size": 5, "annotations": {"org.opencontainers.image.title": "a/m.bin"}},
        {"mediaType": "application/vnd.ollama.image.model", "digest": SHA, "size": 5},
        {"mediaType": "application/vnd.cncf.model.weight.v1.tar", "digest": SHA, "size": 5, "annotations": {"org.cncf.model.filepath": "w"}},
    ],
}  # fmt: skip
IMAGES = {"manifests": [{"digest": SHA, "platform": {"os": "linux", "architecture": "amd64"}}, {"digest": SHA}]}
CHALLENGES = (
    'Bearer realm="https://h.example/token",service="s",scope="x"', 'Bearer realm="https://evil/"', "Bearer", "Basic", "", "Bearer realm=",
    'Bearer realm="http://["', 'Bearer realm="https://h.example/\r\nx"', "Bearer " + 'a="b",' * 5000, 'Bearer realm="' + "\\" * 5000,
    'Bearer realm="https://h.example:99999/"', 'Bearer realm="https://h.example/t\ud800"',
)  # fmt: skip


def registry(seed):
    chance = random.Random(seed)
    broken = chance.choice(("layers", "index", "token", "challenge"))
    challenge = chance.choice(CHALLENGES) if broken == "challenge" else CHALLENGES[0]
    if broken == "challenge" and chance.random() < 0.5:
        challenge = harm_bytes(challenge.encode(errors="replace"), seed).decode("latin-1")
    asked = []

    def answer(url):
        if "/token" in url:
            sound = {"token": "abc", "expires_in": 60}
            return 200, {}, harm_json(sound, seed) if broken == "token" else json.dumps(sound).encode()
        asked.append(url)
        if broken in ("token", "challenge") and len(asked) == 1:
            return 401, {"www-authenticate": challenge}, b""
        sound = IMAGES if broken == "index" and len(asked) == 1 else LAYERS
        data = harm_json(sound, seed) if broken in ("layers", "index") else json.dumps(sound).encode()
        return 200, {"docker-content-digest": chance.choice(("", "sha256:x", "md5:1", "\x1b"))}, data

    resolve("oci://h.example/repo:v1", answer)
    asked.clear()
    resolve("ollama://h.example/library/tiny:q4", answer)


S3_PAGE = (
    b"<ListBucketResult xmlns='x'><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents><Key>p/a.bin</Key>"
    b"<Size>5</Size><ETag>&quot;e&quot;</ETag></Contents><Contents><Key>p/b</Key><Size>6</Size></Contents></ListBucketResult>"
)
AZ_PAGE = (
    b"<EnumerationResults><Blobs><Blob><Name>p/a.bin</Name><Properties><Content-Length>5</Content-Length><Etag>e</Etag></Properties></Blob>"
    b"</Blobs><NextMarker>m</NextMarker></EnumerationResults>"
)
GS_PAGE = {"items": [{"name": "p/a.bin", "size": "5", "generation": "7"}], "nextPageToken": "t"}
CLOUDS = {
    "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AZURE_STORAGE_ACCOUNT": "account", "AZURE_STORAGE_KEY": "eA==",
}  # fmt: skip


def bucket(seed):
    chance = random.Random(seed)
    odd = ("", "5", "-1", "9" * 30, "x", "5, 5", "\x1b", "0x5", "\u0665")

    def headers():
        return {
            "content-length": chance.choice(odd),
            "etag": chance.choice(odd),
            "x-amz-bucket-region": chance.choice(odd),
            "x-amz-checksum-sha256": chance.choice((*odd, base64.b64encode(bytes(32)).decode(), "====", "é")),
            "x-amz-version-id": chance.choice(odd),
            "content-encoding": chance.choice(("", "gzip")),
        }

    pages = 0

    def answer(url):
        nonlocal pages
        pages += 1
        status = chance.choice((200, 200, 200, 200, 301, 400, 403, 404, 503))
        if pages > 5:
            return 404, {}, b""
        if "storage.googleapis.com" in url:
            return status, headers(), harm_json(GS_PAGE, seed + pages)
        return status, headers(), harm_bytes(AZ_PAGE if "blob.core" in url else S3_PAGE, seed + pages)

    for scheme in ("s3", "gs", "az"):
        for key in ("p/", "p/a.bin"):
            pages = 0
            resolve(f"{scheme}://bucket/{key}", answer, CLOUDS)


def header_lines(seed):
    chance = random.Random(seed)
    sound = {
        "content-range": "bytes 0-4/5", "content-length": "5", "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "etag": '"x"',
        "date": "Wed, 21 Oct 2015 07:28:00 GMT", "last-modified": "Wed, 21 Oct 2015 07:27:00 GMT", "content-encoding": "identity",
        "ratelimit": '"api";r=0;t=55', "content-type": "text/plain",
    }  # fmt: skip
    name = chance.choice(list(sound))
    sound[name] = harm_bytes(sound[name].encode(), seed).decode("latin-1")
    with only_our_failure():
        wait_s = fetch_answers.retry_after_s(sound["retry-after"], 1e9)
        assert wait_s is None or 0 <= wait_s <= 900
        wait_s = source_answers.retry_after_s(sound)
        assert wait_s is None or 0 <= wait_s <= 900
        validator = fetch_answers.validator_of(sound)
        assert fetch_answers.validator_of({}) == ""
        fetch_answers.coding_of(sound)
        fetch_answers.is_html(sound, "/x")
        fetch_answers.unsatisfied_total(sound)
        source_answers.length_of(sound)
        assert source_answers.etag_of(sound).isprintable()
        assert isinstance(validator, str)
    with only_our_failure():
        span = fetch_answers.span_of(sound, "https://h/x")
        assert 0 <= span.start < span.end
    with only_our_failure():
        assert (fetch_answers.length_of(sound, "https://h/x") or 0) >= 0
    text = quote_of(harm_bytes(b'<b>say no</b> "?token=abc" s3cr3t' * 9, seed), ("s3cr3t",))
    assert text == "" or text.isprintable()


# --- what files say ---------------------------------------------------------------------------------------------------

MANIFEST = b"""\
apiVersion: reconciler/v1
cache: {maxSize: 40GiB, retention: 30d}
network: {windows: ["22:00-06:00"], bandwidth: 20MB/s, credentials: {"h:1": {bearer: {env: X}}}}
models:
  a: {source: [https://h/a.bin, "hf://o/r@main/x"], size: 4.7GB, when: {memory: ">=8GiB"}, links: [/opt/x]}
  b:
    files:
      - {path: x/y.bin, source: "s3://b/k", role: primary}
"""
LOCK = {
    "format_version": "1.0", "kind": "Lock",
    "models": {"m": {"spec": SHA, "revision": COMMIT, "files": [
        {"path": "a/b", "sources": ["https://h/x"], "digest": SHA, "size_bytes": 5, "role": "primary", "optional": False}]}},
}  # fmt: skip


def manifest(seed):
    with only_our_failure():
        load_documents([("m.yaml", harm_bytes(MANIFEST, seed), "/x")], {"X": "y"})


def lock_file(seed):
    with only_our_failure():
        parse_lock(harm_json(LOCK, seed))
    with only_our_failure():
        load_documents([("m.yaml", MANIFEST, "/x"), ("models.lock.json", harm_json(LOCK, seed), "/x")], {"X": "y"})


def bundle_index(seed):
    with only_our_failure():
        parse_entries(harm_json({**LOCK, "kind": "Bundle"}, seed), "Bundle")


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """A saved plan and a snapshot of a real machine that has something and wants something else."""
    with serving() as origin:
        machine = Machine(tmp_path_factory.mktemp("machine"), origin)
        machine.model("kept", b"k" * 5000, pin=True)
        machine.model("gone", b"g" * 5000)
        machine.apply()
        machine.model("new", b"n" * 5000, links=[str(machine.folder / "link")])
        machine.model("big", b"n", size="9GiB")
        machine.models["gone"] = {"state": "absent"}
        machine.run("plan", "--out", str(machine.folder / "plan.json"))
        return machine.run("snapshot"), json.loads((machine.folder / "plan.json").read_text())


def texts(seed):
    chance = random.Random(seed)
    sound = chance.choice(
        (
            "https://h/x",
            "hf://o/r@main/x",
            "s3://b/k",
            "oci://h/r:t@" + SHA,
            "ollama://a/b:c",
            "file:x",
            "10GiB",
            "5m",
            "60%",
        )
    )
    text = harm_bytes(sound.encode(), seed).decode(chance.choice(("latin-1", "utf-8")), "replace")
    for read in (parse_reference, parse_size, parse_duration, parse_rate, parse_share):
        with only_our_failure(ValueError):
            read(text)
    assert display(text).isprintable() or not display(text)


RECORD = [
    {"url": "https://h/x", "validator": '"e"', "size_bytes": 3 * CHUNK_BYTES, "digest": "", "chunk_bytes": CHUNK_BYTES, "format": 1},
    ["p", 0, "0" * 64], ["c", 2, "0" * 64], ["t", CHUNK_BYTES + 5, "0" * 64],
]  # fmt: skip


def resume_record(seed, folder):
    target = folder / "partial"
    target.write_bytes(b"x" * 5000)
    lines = harm_value(RECORD, seed)
    lines = lines if isinstance(lines, list) else [lines]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    data = harm_bytes(data, seed) if seed % 3 == 0 else data
    (folder / "partial.json").write_bytes(data)
    with only_our_failure():
        kept = Record(str(target)).load()
        if kept is not None:
            assert kept.header.size_bytes is None or kept.header.size_bytes >= 0
            partial = Partial.open(str(target), threading.Event(), lambda: None)
            try:
                stand = load_resume(partial, kept, threading.Event(), lambda _: None)
                assert stand.offset <= 5000
            finally:
                partial.close()


def extended_attribute(seed):
    sound = {
        "spec": SHA,
        "revision": "r",
        "pinned": True,
        "format": "gguf",
        "roles": {"a": "primary"},
        "signed": ["a", "b"],
    }
    with only_our_failure():
        assert isinstance(read_record(harm_json(sound, seed)), dict)
        assert read_record(b"[" * 60_000) == {}


def git_output(seed):
    blob = b"apiVersion: reconciler/v1\nmodels: {}\n"
    listing = f"100644 blob {'1' * 40} {len(blob):>7}\tmodels.yaml\0".encode()
    batch = f"{'1' * 40} blob {len(blob)}\n".encode() + blob + b"\n"
    chance = random.Random(seed)

    class Program:
        def run(self, arguments, *, given=b"", max_bytes=0):
            sound = batch if arguments[0] == "cat-file" else listing
            data = harm_bytes(sound, chance.getrandbits(60)) if chance.random() < 0.7 else sound
            return SimpleNamespace(code=0, output=data, errors="")

    with only_our_failure():
        read_documents(Program(), COMMIT, Wanted("models.yaml", "host", 1 << 20))


def signature(seed):
    pytest.importorskip("cryptography")
    minisign = (
        b"untrusted comment: x\n"
        + base64.b64encode(b"Ed" + bytes(72))
        + b"\ntrusted comment: y\n"
        + base64.b64encode(bytes(64))
        + b"\n"
    )
    keys = [b"untrusted comment: k\n" + base64.b64encode(b"Ed" + bytes(40))]
    bundle = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {"publicKey": {"hint": "x"}},
              "dsseEnvelope": {"payload": base64.b64encode(b"{}").decode(), "payloadType": "x", "signatures": [{"sig": "eA=="}]}}  # fmt: skip
    for kind, text in ((SignatureKind.MINISIGN, harm_bytes(minisign, seed)), (SignatureKind.COSIGN, harm_bytes(b"eA==\n", seed)),
                       (SignatureKind.MODEL_SIGNING, harm_json(bundle, seed))):  # fmt: skip
        with only_our_failure():
            look(kind, [harm_bytes(keys[0], seed)] if seed % 2 else keys, text)


def control_line(seed):
    requests = (
        {"op": "status"},
        {"op": "events", "since": 3, "limit": 5},
        {"op": "suspend", "until": 5.5},
        {"op": "touch", "names": ["a"]},
    )
    line = harm_json(random.Random(seed).choice(requests), seed) + b"\n"
    seen = []
    control = Control("/nonexistent", lambda request, caller: iter([{"echo": seen.append(request)}]))
    with only_our_failure():
        for answer in control._answers(line, None):
            assert answer["ok"] in (True, False)
            json.dumps(answer).encode()
    assert all(isinstance(request, dict) for request in seen)


PARSERS = [
    hub, registry, bucket, header_lines, manifest, lock_file, bundle_index, texts, extended_attribute, git_output, signature, control_line,
]  # fmt: skip


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
@FAST
@given(seed=SEEDS)
def test_a_parser_raises_nothing_but_our_failure(parser, seed):
    parser(seed)


@FAST
@given(seed=SEEDS)
def test_a_resume_record_raises_nothing_but_our_failure(tmp_path, seed):
    resume_record(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
@SLOW
@given(seed=SEEDS)
def test_a_parser_raises_nothing_but_our_failure_however_long_it_is_tried(parser, seed):
    parser(seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@SLOW
@given(seed=SEEDS)
def test_a_resume_record_raises_nothing_but_our_failure_however_long_it_is_tried(tmp_path, seed):
    resume_record(seed, tmp_path)


def read_documents_back(documents, seed):
    snapshot, plan = documents
    with only_our_failure():
        observed_from_document(harm_value(snapshot, seed))
    with only_our_failure():
        plan_from_document(harm_value(plan, seed))


@FAST
@given(seed=SEEDS)
def test_saved_plans_and_snapshots_raise_nothing_but_our_failure(documents, seed):
    read_documents_back(documents, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@SLOW
@given(seed=SEEDS)
def test_saved_plans_and_snapshots_raise_nothing_but_our_failure_however_long_they_are_tried(documents, seed):
    read_documents_back(documents, seed)


def test_the_harm_is_done():
    assert len({harm_json(TREE, seed) for seed in range(200)}) > 150
