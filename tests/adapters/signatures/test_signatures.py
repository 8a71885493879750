"""Signatures made by the tools that people use hold; anything else is refused, with its own reason."""

import base64
import hashlib
import json
import sys

import pytest
from sampling import others_slow
from signers import Minisign, Openssl, run

from reconciler.adapters.signatures import SignedFile, look, verify
from reconciler.core.errors import Failure
from reconciler.core.words import Digest, SignatureKind

CONTENT = b"weights" * 1000
CURVES = [("ec", "ec_paramgen_curve:P-256"), ("ec", "ec_paramgen_curve:P-384"), ("rsa",), ("ed25519",)]


def made(folder, content=CONTENT, path="m.bin"):
    place = folder / path.replace("/", "_")
    place.write_bytes(content)
    return SignedFile(path, str(place), Digest(f"sha256:{hashlib.sha256(content).hexdigest()}"), len(content))


def check(kind, key, signature, files, *, is_whole=True):
    by_path = {"": signature} if kind is SignatureKind.MODEL_SIGNING else {file.path: signature for file in files}
    return verify(kind, [key], by_path, files, is_whole=is_whole)


def refusal(*arguments, **keys):
    with pytest.raises(Failure) as caught:
        check(*arguments, **keys)
    assert caught.value.kind.value == "permanent"
    return caught.value.reason


@pytest.fixture
def minisign(tmp_path):
    return Minisign(tmp_path / "minisign")


@pytest.fixture
def openssl(tmp_path):
    return Openssl(tmp_path / "openssl")


# --- minisign


@pytest.mark.parametrize("options", [(), ("-l",)], ids=["prehashed", "legacy"])
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["bytes", "empty"])
def test_minisign_signs_both_ways(tmp_path, minisign, options, content):
    signature = minisign.sign(content, *options)
    signer = check(SignatureKind.MINISIGN, minisign.public.read_bytes(), signature, [made(tmp_path, content)])
    assert signer == f"minisign:{minisign.key_id}"


def test_a_minisign_key_may_be_its_text_alone(tmp_path, minisign):
    text = minisign.public.read_text().splitlines()[1].encode()
    assert check(SignatureKind.MINISIGN, text, minisign.sign(CONTENT), [made(tmp_path)])


@pytest.mark.parametrize("options", [(), ("-l",)], ids=["prehashed", "legacy"])
def test_minisign_over_other_bytes_is_bad(tmp_path, minisign, options):
    signature = minisign.sign(b"something else", *options)
    assert refusal(SignatureKind.MINISIGN, minisign.public.read_bytes(), signature, [made(tmp_path)]) == "bad_signature"


def test_the_trusted_comment_is_signed_too(tmp_path, minisign):
    signature = minisign.sign(CONTENT).replace(b"made in a test", b"made in a hurr")
    assert refusal(SignatureKind.MINISIGN, minisign.public.read_bytes(), signature, [made(tmp_path)]) == "bad_signature"


def test_a_legacy_signature_does_not_pass_as_a_prehashed_one(tmp_path, minisign):
    lines = minisign.sign(CONTENT, "-l").splitlines()
    lines[1] = base64.b64encode(b"ED" + base64.b64decode(lines[1])[2:])
    signature = b"\n".join(lines)
    assert refusal(SignatureKind.MINISIGN, minisign.public.read_bytes(), signature, [made(tmp_path)]) == "bad_signature"


def test_another_minisign_key_is_unknown(tmp_path, minisign):
    other = Minisign(tmp_path / "other")
    reason = refusal(SignatureKind.MINISIGN, minisign.public.read_bytes(), other.sign(CONTENT), [made(tmp_path)])
    assert reason == "unknown_key"


def test_another_key_that_claims_the_known_id_is_bad(tmp_path, minisign):
    other = Minisign(tmp_path / "other")
    own = base64.b64decode(minisign.public.read_text().splitlines()[1])[2:10]
    lines = other.sign(CONTENT).splitlines()
    data = base64.b64decode(lines[1])
    lines[1] = base64.b64encode(data[:2] + own + data[10:])
    reason = refusal(SignatureKind.MINISIGN, minisign.public.read_bytes(), b"\n".join(lines), [made(tmp_path)])
    assert reason == "bad_signature"


# --- cosign


@pytest.mark.parametrize("algorithm", CURVES, ids=lambda one: one[-1])
def test_cosign_signs_with_every_kind_of_key(tmp_path, algorithm):
    signer = Openssl(tmp_path / "keys", algorithm)
    signature = signer.sign(CONTENT, "sha384" if "384" in algorithm[-1] else "sha256")
    der = run("openssl", "pkey", "-pubin", "-in", signer.public, "-outform", "DER")
    expected = f"cosign:sha256:{hashlib.sha256(der).hexdigest()}"
    key = signer.public.read_bytes()
    assert check(SignatureKind.COSIGN, key, signature, [made(tmp_path)]) == expected
    assert refusal(SignatureKind.COSIGN, key, signature, [made(tmp_path, b"other")]) == "bad_signature"


@pytest.mark.parametrize("shape", ["der", "cosign-bundle", "sigstore-bundle"])
def test_a_cosign_signature_may_lie_in_a_bundle(tmp_path, openssl, shape):
    text = openssl.sign(CONTENT).decode().strip()
    shapes = {
        "der": base64.b64decode(text),
        "cosign-bundle": json.dumps({"base64Signature": text, "cert": "ignored", "rekorBundle": {}}).encode(),
        "sigstore-bundle": json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {"hint": "x"}},
                "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": ""}, "signature": text},
            }
        ).encode(),
    }
    assert check(SignatureKind.COSIGN, openssl.public.read_bytes(), shapes[shape], [made(tmp_path)])


def test_a_key_inside_the_bundle_is_never_trusted(tmp_path, openssl):
    stranger = Openssl(tmp_path / "stranger")
    bundle = {"base64Signature": stranger.sign(CONTENT).decode().strip(), "cert": stranger.public.read_text()}
    signature = json.dumps(bundle).encode()
    assert refusal(SignatureKind.COSIGN, openssl.public.read_bytes(), signature, [made(tmp_path)]) == "bad_signature"


def test_any_of_several_keys_will_do(tmp_path, openssl):
    other = Openssl(tmp_path / "other")
    keys = [other.public.read_bytes(), openssl.public.read_bytes()]
    assert verify(SignatureKind.COSIGN, keys, {"m.bin": openssl.sign(CONTENT)}, [made(tmp_path)], is_whole=True)


# --- OpenSSF model signing

FILES = {"config.json": b"{}", "onnx/model.onnx": CONTENT}


def files_of(tmp_path, files=FILES):
    return [made(tmp_path, content, path) for path, content in files.items()]


def test_a_model_signing_bundle_covers_every_file(tmp_path, openssl):
    signature, key = openssl.sign_model(FILES), openssl.public.read_bytes()
    assert check(SignatureKind.MODEL_SIGNING, key, signature, files_of(tmp_path)).startswith("model-signing:sha256:")
    changed = files_of(tmp_path, {**FILES, "config.json": b"[]"})
    assert refusal(SignatureKind.MODEL_SIGNING, key, signature, changed) == "bad_signature"
    more = files_of(tmp_path, {**FILES, "extra.py": b"import os"})
    assert refusal(SignatureKind.MODEL_SIGNING, key, signature, more) == "bad_signature"


def test_a_whole_model_lacks_no_signed_file(tmp_path, openssl):
    signature, key = openssl.sign_model(FILES), openssl.public.read_bytes()
    part = files_of(tmp_path, {"config.json": b"{}"})
    assert refusal(SignatureKind.MODEL_SIGNING, key, signature, part) == "bad_signature"
    assert check(SignatureKind.MODEL_SIGNING, key, signature, part, is_whole=False)


def test_files_of_git_may_be_unsigned_where_the_signer_left_them_out(tmp_path, openssl):
    signature, key = openssl.sign_model(FILES), openssl.public.read_bytes()
    assert check(SignatureKind.MODEL_SIGNING, key, signature, files_of(tmp_path, {**FILES, ".gitattributes": b"x"}))


def test_a_single_file_is_signed_as_itself(tmp_path, openssl):
    signature = openssl.sign_model({".": CONTENT})
    assert check(SignatureKind.MODEL_SIGNING, openssl.public.read_bytes(), signature, [made(tmp_path)])


@pytest.mark.parametrize(
    ("algorithm", "method"), others_slow(("blake2", "shard"), ("blake2", "file"), ("sha256", "shard"))
)
def test_other_digests_and_shards_are_read_again(tmp_path, openssl, algorithm, method):
    folder, out = tmp_path / "model", tmp_path / "model.sig"
    folder.mkdir()
    (folder / "a.bin").write_bytes(CONTENT)
    (folder / "b.bin").write_bytes(b"b")
    options = ", shard_size=1000" if method == "shard" else ""
    program = (
        "from model_signing import hashing, signing; "
        f"hashes = hashing.Config().use_{method}_serialization(hashing_algorithm={algorithm!r}{options}); "
        f"signing.Config().use_elliptic_key_signer(private_key={str(openssl.secret)!r})"
        f".set_hashing_config(hashes).sign({str(folder)!r}, {str(out)!r})"
    )
    run(sys.executable, "-c", program)
    key, whole = openssl.public.read_bytes(), {"a.bin": CONTENT, "b.bin": b"b"}
    assert check(SignatureKind.MODEL_SIGNING, key, out.read_bytes(), files_of(tmp_path, whole))
    longer = files_of(tmp_path, {**whole, "a.bin": CONTENT + b"!"})
    assert refusal(SignatureKind.MODEL_SIGNING, key, out.read_bytes(), longer) == "bad_signature"
    shorter = files_of(tmp_path, {**whole, "a.bin": CONTENT[:1000]})
    assert refusal(SignatureKind.MODEL_SIGNING, key, out.read_bytes(), shorter) == "bad_signature"


def test_a_stranger_who_signs_the_list_is_unknown(tmp_path, openssl):
    stranger = Openssl(tmp_path / "stranger")
    signature = stranger.sign_model(FILES)
    key = openssl.public.read_bytes()
    assert refusal(SignatureKind.MODEL_SIGNING, key, signature, files_of(tmp_path)) == "unknown_key"
    forged = json.loads(signature)
    forged["verificationMaterial"]["publicKey"]["hint"] = json.loads(openssl.sign_model(FILES))["verificationMaterial"][
        "publicKey"
    ]["hint"]
    forged = json.dumps(forged).encode()
    assert refusal(SignatureKind.MODEL_SIGNING, key, forged, files_of(tmp_path)) == "bad_signature"


def certify(folder):
    """A root, an authority under it, and a certificate for signing, as files; made by openssl."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=root",
        "-keyout", "root.key", "-out", "root.pem", "-days", "2", cwd=folder)  # fmt: skip
    for name, issuer, extension in (
        ("middle", "root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign"),
        ("leaf", "middle", "keyUsage=critical,digitalSignature"),
        ("useless", "middle", "keyUsage=critical,keyAgreement"),
        ("fake", "leaf", "keyUsage=critical,digitalSignature"),
    ):
        (folder / "extension").write_text(extension)
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=folder)  # fmt: skip
        run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key",
            "-out", f"{name}.pem", "-days", "1", "-extfile", "extension", cwd=folder)  # fmt: skip


@pytest.mark.slow
def test_a_certificate_counts_where_a_named_root_vouches_for_it(tmp_path, openssl):
    certify(tmp_path)

    def signed(name, *chain):
        links = [word for link in chain for word in ("--certificate_chain", str(tmp_path / f"{link}.pem"))]
        leaf = ("--signing_certificate", str(tmp_path / f"{name}.pem"), "--private_key", str(tmp_path / f"{name}.key"))
        return openssl.sign_model(FILES, "certificate", *leaf, *links)

    root, files = (tmp_path / "root.pem").read_bytes(), files_of(tmp_path)
    kind = SignatureKind.MODEL_SIGNING
    assert check(kind, root, signed("leaf", "middle"), files).startswith("model-signing:sha256:")
    assert refusal(kind, root, signed("leaf", "useless"), files) == "unknown_key"
    assert refusal(kind, root, signed("useless", "middle"), files) == "bad_signature"
    assert refusal(kind, root, signed("fake", "leaf", "middle"), files) == "unknown_key"
    assert refusal(kind, openssl.public.read_bytes(), signed("leaf", "middle"), files) == "unknown_key"
    assert refusal(kind, root, openssl.sign_model(FILES), files) == "unknown_key"
    other = tmp_path / "other"
    other.mkdir()
    certify(other)
    assert refusal(kind, (other / "root.pem").read_bytes(), signed("leaf", "middle"), files) == "unknown_key"


# --- what is hostile, or no signature at all

HOSTILE = {
    "nothing": b"",
    "blank": b"\n \n",
    "noise": bytes(range(256)) * 8,
    "html": b"<!doctype html><html>not found</html>",
    "brackets": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "a list": b"[1, 2]",
    "null": b"null",
    "wrong types": b'{"dsseEnvelope": {"payload": 1, "signatures": [3]}, "messageSignature": [], "base64Signature": {}}',
    "no signatures": b'{"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "signatures": []}}',
    "half": b"untrusted comment: x\nRWQ=\ntrusted comment: \n",
    "long": b"untrusted comment: " + b"x" * (20 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", list(SignatureKind))
def test_what_is_no_signature_is_bad(tmp_path, minisign, openssl, kind, name):
    key = (minisign if kind is SignatureKind.MINISIGN else openssl).public.read_bytes()
    with pytest.raises(Failure) as caught:
        look(kind, [key], HOSTILE[name])
    assert caught.value.reason == "bad_signature"
    assert refusal(kind, key, HOSTILE[name], [made(tmp_path)]) == "bad_signature"


@pytest.mark.parametrize("kind", list(SignatureKind))
@pytest.mark.parametrize("key", [b"", b"RW", b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----", b"\0" * 99])
def test_what_is_no_key_is_unknown(tmp_path, kind, key):
    assert refusal(kind, key, b"{}", [made(tmp_path)]) == "unknown_key"


def test_a_private_key_is_no_public_key(tmp_path, openssl):
    secret = openssl.secret.read_bytes()
    assert refusal(SignatureKind.COSIGN, secret, openssl.sign(CONTENT), [made(tmp_path)]) == "unknown_key"


@pytest.mark.parametrize("spoil", others_slow("resources", "payload", "shard"))
def test_a_list_that_somebody_changed_is_bad(tmp_path, openssl, spoil):
    bundle = json.loads(openssl.sign_model(FILES))
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    if spoil == "resources":
        payload["predicate"]["resources"].append({"name": "evil", "algorithm": "sha256", "digest": "00"})
    elif spoil == "shard":
        payload["predicate"]["serialization"]["method"] = "shards"
    else:
        payload["extra"] = 1
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    key = openssl.public.read_bytes()
    reason = refusal(SignatureKind.MODEL_SIGNING, key, json.dumps(bundle).encode(), files_of(tmp_path))
    assert reason == "bad_signature"
