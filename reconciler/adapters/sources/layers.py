"""What the layers of an image are: files named by title, ModelPack, Docker and Ollama model layers. Pure.

| who made it | how a layer is named |
|---|---|
| ORAS and its kin | ``org.opencontainers.image.title`` |
| ModelPack (CNCF), Docker | ``org.cncf.model.filepath``, else the title, else by media type |
| Ollama | by media type: ``model.gguf``, ``projector.gguf``, ``template.txt``, ``license.txt``, … |

Names are checked like any stranger's. A layer that is packed keeps its packing in its name, so that it is unpacked.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

from reconciler.core.errors import permanent
from reconciler.core.names import check_collisions, check_digest, check_path
from reconciler.core.records import dataclass
from reconciler.core.roles import assign_roles
from reconciler.core.units import is_byte_count
from reconciler.core.words import Digest, Role

MAX_LAYERS = 10_000
TITLE = "org.opencontainers.image.title"
FILEPATH = "org.cncf.model.filepath"

# the last word of the media type: (name, role); the first such layer may be primary
_OLLAMA: Mapping[str, tuple[str, Role]] = {
    "model": ("model.gguf", Role.PRIMARY),
    "projector": ("projector.gguf", Role.VISION_PROJECTOR),
    "adapter": ("adapter.gguf", Role.ADAPTER),
    "template": ("template.txt", Role.COMPANION),
    "prompt": ("prompt.txt", Role.COMPANION),
    "system": ("system.txt", Role.COMPANION),
    "license": ("license.txt", Role.COMPANION),
    "params": ("params.json", Role.CONFIG),
    "messages": ("messages.json", Role.COMPANION),
}
_DOCKER: Mapping[str, tuple[str, Role]] = {
    "gguf.v3": ("model.gguf", Role.PRIMARY),
    "gguf.lora": ("adapter.gguf", Role.ADAPTER),
    "safetensors": ("model.safetensors", Role.PRIMARY),
    "mmproj": ("projector.gguf", Role.VISION_PROJECTOR),
    "license": ("license.txt", Role.COMPANION),
    "chat.template.jinja": ("template.jinja", Role.COMPANION),
}
_PREFIXES = (("application/vnd.ollama.image.", _OLLAMA), ("application/vnd.docker.ai.", _DOCKER))
_PACKED = ((".tar+gzip", ".tar.gz"), (".tar+zstd", ".tar.zst"), (".tar", ".tar"))
_MODEL_PACK = "application/vnd.cncf.model."


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of an image."""

    path: str
    digest: Digest
    size_bytes: int
    role: Role


def read_layers(manifest: Mapping[str, Any], label: str) -> tuple[Layer, ...]:
    """The files of an image manifest, in its order; layers that are no file by any rule are left out.

    Raises:
        Failure: permanent ``hostile_name``, ``bad_digest``, ``bad_manifest``; ``no_files`` where no layer is a file.
    """
    entries = manifest.get("layers")
    if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
        raise permanent("bad_manifest", f"{label}: the manifest lists no layers")
    layers: list[Layer] = []
    taken: set[str] = set()
    for entry in entries:
        named = _name_of(entry, label)
        if named is None:
            continue
        path = named[0] if named[2] else _free(named[0], taken)
        taken.add(path)
        layers.append(Layer(path, *_facts_of(entry, label), named[1] or Role.COMPANION))
    if not layers:
        hint = f"its layers carry no {TITLE}; push the files with oras"
        raise permanent("no_files", f"{label}: no layer of the image is a file", hint=hint)
    check_collisions([layer.path for layer in layers], f"{label}: layer title")
    return _with_roles(layers)


def _name_of(entry: Any, label: str) -> tuple[str, Role | None, bool] | None:
    """Path, role where the media type tells it, and whether the image itself chose the path."""
    if not isinstance(entry, dict):
        raise permanent("bad_manifest", f"{label}: a layer is no object")
    media = str(entry.get("mediaType", ""))
    notes = entry.get("annotations")
    title = (notes.get(FILEPATH) or notes.get(TITLE)) if isinstance(notes, dict) else None
    by_type = _by_media_type(media)
    if isinstance(title, str):
        path = check_path(title, f"{label}: layer title") + _packing(media, title)
        return path, by_type[1] if by_type else None, True
    return (*by_type, False) if by_type else None


def _by_media_type(media: str) -> tuple[str, Role] | None:
    for prefix, table in _PREFIXES:
        if media.startswith(prefix):
            return table.get(media.removeprefix(prefix).partition("+")[0])
    return None


def _packing(media: str, title: str) -> str:
    """ModelPack says only in the media type that a layer is a tar."""
    if not media.startswith(_MODEL_PACK):
        return ""
    suffix = next((suffix for word, suffix in _PACKED if media.endswith(word)), "")
    return "" if title.endswith(suffix) else suffix


def _facts_of(entry: Mapping[str, Any], label: str) -> tuple[Digest, int]:
    size = entry.get("size")
    if not is_byte_count(size):
        raise permanent("bad_manifest", f"{label}: a layer has no size")
    return check_digest(str(entry.get("digest", "")), f"{label}: layer digest"), size


def _free(path: str, taken: set[str]) -> str:
    """The first free one of ``license.txt``, ``license-2.txt`` and so on."""
    stem, suffix = posixpath.splitext(path)
    names = (path if number == 1 else f"{stem}-{number}{suffix}" for number in range(1, MAX_LAYERS + 1))
    return next(name for name in names if name not in taken)


def _with_roles(layers: list[Layer]) -> tuple[Layer, ...]:
    """Exactly one primary: the first the media types name, else by name."""
    by_name = assign_roles([layer.path for layer in layers if layer.role is Role.COMPANION])
    first = next((layer.path for layer in layers if layer.role is Role.PRIMARY), None)
    if first is None:
        first = next((path for path, role in by_name.items() if role is Role.PRIMARY), layers[0].path)
    return tuple(Layer(item.path, item.digest, item.size_bytes, _role(item, first, by_name)) for item in layers)


def _role(layer: Layer, first: str, by_name: Mapping[str, Role]) -> Role:
    if layer.path == first:
        return Role.PRIMARY
    role = by_name.get(layer.path, layer.role)
    return Role.COMPANION if role is Role.PRIMARY else role
