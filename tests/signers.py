"""Whoever signs models in the tests: the real minisign, openssl (what cosign writes), OpenSSF's own library."""

import base64
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


def run(*command: object, cwd: Path | None = None) -> bytes:
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass
class Minisign:
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.public, self.secret = self.folder / "m.pub", self.folder / "m.key"
        run("minisign", "-G", "-W", "-f", "-p", self.public, "-s", self.secret)

    @property
    def key_id(self) -> str:
        return base64.b64decode(self.public.read_text().splitlines()[1])[2:10][::-1].hex().upper()

    def sign(self, content: bytes, *options: str) -> bytes:
        path = self.folder / "signed"
        path.write_bytes(content)
        run(
            "minisign", "-S", *options, "-s", self.secret, "-m", path, "-x", self.folder / "out", "-t", "made in a test"
        )
        return (self.folder / "out").read_bytes()


@dataclass
class Openssl:
    """A key as ``cosign generate-key-pair`` makes it, and signatures as ``cosign sign-blob --key`` writes them."""

    folder: Path
    algorithm: tuple[str, ...] = ("ec", "ec_paramgen_curve:P-256")

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.public, self.secret = self.folder / "cosign.pub", self.folder / "cosign.key"
        kind, *options = self.algorithm
        flags = [word for option in options for word in ("-pkeyopt", option)]
        run("openssl", "genpkey", "-algorithm", kind, *flags, "-out", self.secret)
        run("openssl", "pkey", "-in", self.secret, "-pubout", "-out", self.public)

    def sign(self, content: bytes, digest: str = "sha256") -> bytes:
        path = self.folder / "signed"
        path.write_bytes(content)
        if self.algorithm[0] == "ed25519":
            der = run("openssl", "pkeyutl", "-sign", "-inkey", self.secret, "-rawin", "-in", path)
        else:
            der = run("openssl", "dgst", f"-{digest}", "-sign", self.secret, path)
        return base64.b64encode(der) + b"\n"

    def sign_model(self, files: dict[str, bytes], *options: str) -> bytes:
        """An OpenSSF bundle over a folder, or over the one file that ``files`` has under no folder and ``.``."""
        folder = self.folder / "model"
        run("rm", "-rf", folder)
        for path, content in files.items():
            place = folder if path == "." else folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        out = self.folder / "model.sig"
        options = options or ("key", "--private_key", str(self.secret))
        run(sys.executable, "-m", "model_signing", "sign", *options, "--signature", out, folder)
        return out.read_bytes()
