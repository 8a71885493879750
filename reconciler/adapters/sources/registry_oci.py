"""``oci://HOST/REPO[:TAG][@sha256:…]``: a model in a container registry.

A tag is resolved to a manifest digest, the revision; an index is entered by this machine's platform. Layers are files
(:mod:`~reconciler.adapters.sources.layers`), each with the digest and size that the manifest gives it.
"""

import platform
import re
from dataclasses import replace
from typing import Any

from reconciler.adapters.sources.layers import read_layers
from reconciler.adapters.sources.oci_client import Manifest, RegistryClient, Repository, origin_of
from reconciler.adapters.sources.selection import select
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, permanent
from reconciler.core.names import check_digest
from reconciler.core.observed import Resolution
from reconciler.core.ports import Location, SourceContext
from reconciler.core.records import dataclass
from reconciler.core.words import Digest

_REFERENCE = re.compile(
    r"oci://([A-Za-z0-9.\[\]:-]+)/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(sha256:[0-9a-f]{64}))?"
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_DOCKER_HUB = ("docker.io", "index.docker.io")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """What a reference says; ``version`` is a digest or a tag, ``label`` is for people."""

    repository: Repository
    version: str
    label: str


class OciSource:
    """Images that hold models."""

    name = "oci"
    schemes: tuple[str, ...] = ("oci",)

    def __init__(self, machine: tuple[str, str] | None = None) -> None:
        """``machine`` is (os, architecture) as images spell it; this machine's where None."""
        self._machine = machine or own_platform()
        self._client = RegistryClient()

    def parse(self, url: str, context: SourceContext) -> ImageReference:
        """Take a reference apart.

        Raises:
            Failure: permanent ``bad_source``.
        """
        del context
        match = _REFERENCE.fullmatch(url)
        if match is None:
            raise permanent("bad_source", "this is no image reference", hint="oci://HOST/REPO:TAG")
        host, name, tag, digest = match.groups()
        if host in _DOCKER_HUB:
            host, name = "registry-1.docker.io", name if "/" in name else f"library/{name}"
        return ImageReference(Repository(origin_of(host), name), digest or tag or "latest", url)

    def needs_resolving(self, artifact: Artifact) -> bool:
        """Unless it is one layer of known digest and size."""
        return not (artifact.path and artifact.digest and artifact.size_bytes is not None)

    def resolve(self, model: DesiredModel, artifact: Artifact, url: str, context: SourceContext) -> Resolution:
        """The files of an image. See :meth:`reconciler.core.ports.Source.resolve`."""
        reference = self.parse(url, context)
        manifest = self._image(reference, context)
        layers = read_layers(manifest.body, reference.label)
        kept = set(select([layer.path for layer in layers], model.include, model.exclude))
        place = f"{url.partition('@')[0]}@{manifest.digest}"
        files = tuple(
            Artifact(layer.path, (place,), layer.digest, layer.size_bytes, layer.role, artifact.optional)
            for layer in layers
            if layer.path in kept
        )
        if artifact.digest:
            files = _declared(files, artifact, reference.label)
        if not files:
            raise permanent(
                "no_files", f"{reference.label}: no layer is left to take", hint="check include and exclude"
            )
        return Resolution(model.name, model.spec_digest, files, revision=manifest.digest)

    def locate(self, artifact: Artifact, url: str, context: SourceContext) -> Location:
        """The layer's blob, with the registry's token as a header."""
        reference = self.parse(url, context)
        if not artifact.digest:
            raise permanent("not_resolved", f"{reference.label} stands for a whole image", hint="it is resolved first")
        headers = self._client.headers(reference.repository, reference.label, context)

        def refresh() -> Location:
            self._client.forget(reference.repository)
            return self.locate(artifact, url, context)

        return Location(reference.repository.blob_url(artifact.digest), reference.label, headers, refresh)

    def fingerprint(self, url: str, context: SourceContext) -> str:
        """A word that changes when the tag moves, or when the registry answers otherwise. Never raises."""
        try:
            reference = self.parse(url, context)
            return self._client.manifest(reference.repository, reference.version, reference.label, context).digest
        except Failure as failure:
            return f"failure:{failure.reason}"

    def _image(self, reference: ImageReference, context: SourceContext) -> Manifest:
        manifest = self._client.manifest(reference.repository, reference.version, reference.label, context)
        if "manifests" not in manifest.body:
            return manifest
        digest = self._for_machine(manifest.body["manifests"], reference.label)
        inner = self._client.manifest(reference.repository, digest, reference.label, context)
        if "manifests" in inner.body:
            raise permanent("bad_manifest", f"{reference.label}: an index within an index")
        return inner

    def _for_machine(self, entries: Any, label: str) -> Digest:
        """The digest of the manifest for this machine; one without a platform is for every machine."""
        named: list[tuple[tuple[str, str] | None, str]] = []
        for entry in entries if isinstance(entries, list) else []:
            there = entry.get("platform") if isinstance(entry, dict) else None
            pair = (str(there.get("os")), str(there.get("architecture"))) if isinstance(there, dict) else None
            if isinstance(entry, dict):
                named.append((pair, str(entry.get("digest", ""))))
        for wanted in (self._machine, None):
            if digest := next((digest for pair, digest in named if pair == wanted), ""):
                return check_digest(digest, f"{label}: manifest digest")
        there = ", ".join(sorted({"/".join(pair) for pair, _ in named if pair and "unknown" not in pair}))
        raise permanent(
            "no_platform",
            f"{label}: the index holds nothing for {'/'.join(self._machine)}",
            hint=f"it holds {there[:200] or 'nothing'}",
        )


def own_platform() -> tuple[str, str]:
    """This machine's (os, architecture) as images spell them."""
    machine = platform.machine().lower()
    return platform.system().lower(), _ARCHITECTURES.get(machine, machine)


def _declared(files: tuple[Artifact, ...], artifact: Artifact, label: str) -> tuple[Artifact, ...]:
    """The one layer whose digest the manifest of models declares, under the declared path and role."""
    for file in files:
        if file.digest == artifact.digest:
            return (replace(file, path=artifact.path or file.path, role=artifact.role),)
    raise permanent("digest_mismatch", f"{label}: no layer has the declared digest", hint="check sha256")
