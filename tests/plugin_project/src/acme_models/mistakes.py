"""What a careless package may do: each must cost the model it is used for, and nothing else."""

import os

from reconciler.core.ports import Member


class Shapeless:
    """No source at all."""


class ClumsySource:
    name = "clumsy"
    schemes = ("clumsy",)

    def needs_resolving(self, artifact):
        return True

    def resolve(self, model, artifact, url, context):
        if url.endswith("garbage.bin"):
            return "garbage"
        raise KeyError(f"a mistake with a secret in it: {context.environment.get('ACME_SECRET')}")

    def locate(self, artifact, url, context):
        raise ZeroDivisionError


class ClumsyFormat:
    name = "clumsy-format"

    def read(self, path, size_bytes):
        with open(path, "rb") as file:
            if file.read(6) == b"CLUMSY":
                raise RuntimeError("this reader is broken")
        return


class ClumsyCrate:
    """Says what follows ``TRICK ``: a member outside the stage, a link, a digest that is not so."""

    name = "clumsy-crate"

    def _trick(self, path):
        with open(path, "rb") as file:
            return file.read(100).decode("latin-1").partition("TRICK ")[2].strip()

    def recognises(self, path, name):
        return bool(self._trick(path))

    def measure(self, path):
        return None

    def extract(self, path, into, *, limit_bytes, progress, cancel):
        trick = self._trick(path)
        if trick == "link":
            os.symlink("/etc/hostname", f"{into}/x")
            return (Member("x", 5, "sha256:" + "0" * 64),)
        if trick == "digest":
            with open(f"{into}/x", "wb") as file:
                file.write(b"12345")
            return (Member("x", 5, "sha256:" + "0" * 64),)
        if trick == "outside":
            return (Member("../../../x", 5, "sha256:" + "0" * 64),)
        raise ValueError(trick)
