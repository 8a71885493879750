"""``models``: each entry, defaults merged under it, as a :class:`~reconciler.core.desired.DesiredModel`."""

from dataclasses import dataclass, field, replace

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.conditions import parse_when
from reconciler.adapters.manifest.facts import parse_metadata
from reconciler.adapters.manifest.files import parse_files, parse_single
from reconciler.adapters.manifest.findings import step
from reconciler.adapters.manifest.nearest import nearest, nearest_key
from reconciler.adapters.manifest.rules import model_properties
from reconciler.adapters.manifest.signatures import (
    Hosts,
    check_signature_source,
    parse_signature,
    rule_of_hosts,
)
from reconciler.adapters.manifest.tree import BROKEN, Node, merge
from reconciler.core.desired import Artifact, DesiredModel, SignatureRule
from reconciler.core.digests import spec_digest
from reconciler.core.units import parse_share, parse_size
from reconciler.core.words import DownloadPolicy, ExtractMode, Priority, WantedState

FORMATS = (
    *("auto", "gguf", "ggml", "onnx", "ort", "tflite", "safetensors", "coreml", "mlmodel", "mlpackage", "mlmodelc"),
    *("mlx", "executorch", "pte", "openvino", "ctranslate2", "pytorch", "bin", "weights", "checkpoint", "folder"),
    "unknown",
)
_SAME_FORMAT = {"mlmodel": "coreml", "mlpackage": "coreml", "mlmodelc": "coreml", "pte": "executorch"}
_OF_ONE_FILE = ("sha256", "size", "role")
_OF_A_TREE = ("include", "exclude")


@dataclass(slots=True)
class _Entry:
    """One entry as it is read: ``node`` has the defaults under it, ``own`` has not."""

    name: str
    own: Node
    node: Node
    border: Border
    hosts: Hosts = Hosts()
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.path = step("models", self.name)

    def word(self, key: str, default: str) -> str:
        child = self.node.child(key)
        return default if child is None else str(child.value)

    def is_true(self, key: str) -> bool:
        child = self.node.child(key)
        return child is not None and child.value is True

    def words(self, key: str) -> tuple[str, ...]:
        child = self.node.child(key)
        return () if child is None else tuple(item.value for item in child.value if item.kind != BROKEN)

    def problem(self, key: str, found: str, expected: str, hint: str = "") -> None:
        """Note a problem at the key ``key`` of the entry; at the entry itself where the key is empty."""
        child = self.own.value[key] if key else self.own
        path = f"{self.path}.{key}" if key else self.path
        self.border.findings.add(child.key_place, found, expected, hint=hint, path=path)


def parse_models(
    models: Node, defaults: Node | None, runtimes: frozenset[str], border: Border, hosts: Hosts
) -> list[DesiredModel]:
    """Every entry that is a mapping, in the order of the manifest.

    Args:
        models: the ``models`` mapping.
        defaults: the ``defaults`` mapping, where there is one.
        runtimes: names that ``runtime:`` may say.
        border: where problems go.
        hosts: who must have signed what comes from a host.
    """
    parsed = []
    has_defaults = defaults is not None and bool(defaults.value)
    for name, own in models.value.items():
        if own.kind == "object":
            node = merge(defaults, own) if has_defaults and defaults is not None else own
            parsed.append(_model(_Entry(name, own, node, border, hosts), runtimes))
    return parsed


def _model(entry: _Entry, runtimes: frozenset[str]) -> DesiredModel:
    node, path, border = entry.node, entry.path, entry.border
    state = WantedState(entry.word("state", "present"))
    no_size: int | None = None
    no_share: float | None = None
    artifacts = _artifacts(entry, state)
    model = DesiredModel(
        name=entry.name,
        state=state,
        priority=Priority[entry.word("priority", "normal").upper()],
        artifacts=artifacts,
        runtime=_runtime(entry, runtimes),
        memory_bytes=border.convert(node.child("memory"), f"{path}.memory", parse_size, no_size),
        pinned=entry.is_true("pin"),
        allow_unsafe=entry.is_true("allowUnsafe"),
        extract=ExtractMode(entry.word("extract", "auto").lower()),
        format=_format(entry),
        links=entry.words("links"),
        include=entry.words("include"),
        exclude=entry.words("exclude"),
        when=parse_when(node.child("when"), f"{path}.when", border),
        rollout_percent=border.convert(node.child("rollout"), f"{path}.rollout", parse_share, no_share),
        download=DownloadPolicy(entry.word("download", "automatic")),
        depends_on=entry.words("dependsOn"),
        publish=entry.words("publish"),
        metadata=parse_metadata(node.child("metadata"), f"{path}.metadata", border),
        signature=_signature(entry, artifacts),
    )
    return replace(model, spec_digest=spec_digest(model))


def _artifacts(entry: _Entry, state: WantedState) -> tuple[Artifact, ...]:
    own = entry.own
    if own.has("files") and own.has("source"):
        expected = "either source, for one file, or files, for several"
        entry.problem("files", f"{entry.path} with source and files", expected)
        return ()
    if own.has("files"):
        for key in (*_OF_ONE_FILE, *_OF_A_TREE):
            if own.has(key):
                entry.problem(
                    key,
                    f"{key} beside files",
                    f"{key} in the entries of files" if key in _OF_ONE_FILE else "no patterns",
                )
        files = own.child("files")
        return () if files is None else parse_files(files, entry.path, entry.border)
    if own.has("source"):
        artifacts = parse_single(entry.node, entry.path, entry.border)
        if artifacts and artifacts[0].path:
            for key in _OF_A_TREE:
                if own.has(key):
                    entry.problem(
                        key, f"{key} for a single file", "patterns only where source is a repository, prefix or image"
                    )
        return artifacts
    if state is not WantedState.ABSENT and not any(_is_slip(key) for key in own.value):
        entry.problem("", f"{entry.path} without source", "source: URL, files: […], or state: absent")
    return ()


def _signature(entry: _Entry, artifacts: tuple[Artifact, ...]) -> SignatureRule | None:
    """Who must have signed: the entry's own word, else that of a host it comes from."""
    node, path = entry.node.child("signature"), f"{entry.path}.signature"
    rule = parse_signature(node, path, entry.border)
    if node is not None:
        is_one = len(artifacts) == 1 and bool(artifacts[0].path)
        check_signature_source(rule, node, path, entry.border, 1 if is_one else 2)
    return rule or rule_of_hosts(artifacts, entry.hosts)


def _is_slip(key: str) -> bool:
    """Whether a key was meant to be ``source`` or ``files``: then the slip is told, not that they are missing."""
    properties = model_properties()
    return key not in properties and nearest_key(key, properties) in ("source", "files")


def _runtime(entry: _Entry, runtimes: frozenset[str]) -> str:
    node = entry.node.child("runtime")
    if node is None:
        return "default"
    name: str = node.value
    if name not in runtimes:
        meant = nearest(name, runtimes)
        hint = f"did you mean {meant}?" if meant else "add it to runtimes"
        entry.border.findings.value(
            node, f"{entry.path}.runtime", f"one of the runtimes {', '.join(sorted(runtimes))}", hint=hint
        )
    return name


def _format(entry: _Entry) -> str:
    node = entry.node.child("format")
    if node is None:
        return "auto"
    word: str = node.value
    if word in FORMATS:
        return _SAME_FORMAT.get(word, word)
    if word not in entry.border.extensions().formats:
        meant = nearest(word, FORMATS)
        hint = f"did you mean {meant}?" if meant else ""
        entry.border.findings.value(node, f"{entry.path}.format", f"one of {', '.join(FORMATS)}", hint=hint)
    return word
