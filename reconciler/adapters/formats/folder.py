"""A model of several files: which of them is the model, and is anything missing?

Files are pairs (path relative to the model, absolute path on disk). Facts come from the weights first and are filled
in from what stands beside them: ``config.json`` (architecture, context length, quantization) and the front matter of
``README.md`` (license); what ``adapter_config.json`` says of an adapter goes before both. Missing is what another file
names: shards of a ``*.safetensors.index.json`` or ``*.bin.index.json``, the external data of an ONNX model, the
``.bin`` of an OpenVINO ``.xml``, the weights of an adapter's configuration; a tokenizer's own parts are not (a runtime
may bring its own). An index must be a mapping with a ``weight_map``; one of more than 16 MiB, or of more entries than
any model has, is not read.
"""

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.adapters.formats import peft
from reconciler.adapters.formats.reader import Fact
from reconciler.adapters.formats.window import Lie
from reconciler.core.ports import FormatReport
from reconciler.core.records import dataclass

Files = Sequence[tuple[str, str]]

_MAX_INDEX_BYTES = 16 << 20
_MAX_INDEX_ENTRIES = 200_000
_MAX_INDEX_BRACKETS = 1_000
_MAX_SHARDS = 10_000
_MAX_CONFIG_BYTES = 1 << 20
_MAX_FRONT_BYTES = 4096
# What the weights of a model may be, the most telling first.
_WEIGHTS = (
    "gguf", "safetensors", "onnx", "ort", "tflite", "executorch", "coreml", "openvino", "ctranslate2", "ggml", "npz",
    "npy", "h5", "pytorch", "pickle",
)  # fmt: skip
_INDEXES = (".safetensors.index.json", ".bin.index.json")
_READ = frozenset({"config.json", "Manifest.json", "coremldata.bin", "README.md", peft.CONFIG})
_NO_WEIGHTS = frozenset({"unknown", "folder", "tokenizer"})
_LICENSE = re.compile(r"license:[ \t]*[\"']?([\w.+-]{1,80})")
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions")


@dataclass(frozen=True, slots=True)
class References:
    """What the files of a model ask for: (who names it, its clean path relative to the model), and what is broken."""

    named: tuple[tuple[str, str], ...]
    errors: tuple[str, ...]


def combine(
    files: Files, reports: Mapping[str, FormatReport], asked: References, *, is_whole: bool = True
) -> FormatReport:
    """One report of a model from the reports of its files (by relative path); ``is_whole``: these are all of them."""
    notes = [(severity, f"{path}: {text}") for path, one in reports.items() for severity, text in one.warnings]
    errors = [f"{path}: {text}" for path, one in reports.items() for text in one.errors]
    errors += asked.errors
    errors += [f"{path} is missing" for path in (missing(files, asked) if is_whole else ())]
    errors += [f"{place}: names a file outside the model's folder" for place in _escapes(asked)]
    name, primary = _primary(files, reports)
    facts: dict[str, Fact] = dict(reports[primary].metadata) if primary else {}
    shards = [one for one in reports.values() if primary and one.format == reports[primary].format]
    if len(shards) > 1:
        facts |= _sum_shards(shards)
    try:
        facts |= _adapter(files, primary, len(shards))
    except Lie as lie:
        errors.append(f"{peft.CONFIG}: {lie}")
    for key, value in _beside(files).items():
        facts.setdefault(key, value)
    return FormatReport(
        name,
        is_unsafe=any(one.is_unsafe for one in reports.values()),
        errors=tuple(errors),
        warnings=tuple(notes),
        metadata=tuple(facts.items()),
    )


def _adapter(files: Files, primary: str, alike: int) -> dict[str, Fact]:
    """What PEFT's configuration says, where the weights beside it are an adapter's and not a whole model's."""
    config = peft.config_beside(files, primary) if primary else None
    is_one = alike == 1 or posixpath.basename(primary).startswith("adapter")
    return peft.read_config(config[1]) if config and is_one else {}


def stands_alone(path: str, report: FormatReport) -> bool:
    """Whether one file, looked at by itself, tells no more than ``report``: it is unknown, and none that is read."""
    is_read = posixpath.basename(path) in _READ or path.endswith(_INDEXES)
    return not is_read and report == FormatReport("unknown")


def missing(files: Files, asked: References) -> list[str]:
    """Paths that the model's own files name and that are not among them."""
    here = {path for path, _ in files}
    return sorted({path for _, path in asked.named if _is_inside(path)} - here)


def _escapes(asked: References) -> list[str]:
    return sorted({place for place, path in asked.named if not _is_inside(path)})


def _is_inside(path: str) -> bool:
    return not (path.startswith(("/", "../")) or path in {"..", "."} or "\\" in path or "\0" in path)


def references(files: Files, reports: Mapping[str, FormatReport]) -> References:
    """Every file that another one asks for; reads the indexes."""
    named: list[tuple[str, str]] = []
    errors: list[str] = []
    for path, place in files:
        folder = posixpath.dirname(path)
        if path.endswith(_INDEXES):
            try:
                named += [(path, posixpath.join(folder, shard)) for shard in _shards(place)]
            except Lie as lie:
                errors.append(f"{path}: {lie}")
        one = reports.get(path)
        if one is None:
            continue
        facts = dict(one.metadata)
        if one.format == "onnx" and isinstance(data := facts.get("externalData"), str):
            named += [(path, posixpath.join(folder, location)) for location in data.split("\n")]
        if one.format == "openvino" and path.endswith(".xml"):
            named.append((path, path.removesuffix(".xml") + ".bin"))
    named += _adapter_weights(files, reports)
    return References(tuple((by, posixpath.normpath(path)) for by, path in named), tuple(errors))


def _adapter_weights(files: Files, reports: Mapping[str, FormatReport]) -> list[tuple[str, str]]:
    """An adapter's configuration alone is no adapter."""
    config = None if any(one.format in _WEIGHTS for one in reports.values()) else peft.config_beside(files, "")
    if config is None or "peft_type" not in load_json(config[1], _MAX_CONFIG_BYTES):
        return []
    return [(config[0], posixpath.join(posixpath.dirname(config[0]), peft.WEIGHTS))]


def _shards(place: str) -> list[str]:
    """The files that an index names; raises Lie where it is none. Nothing is built before it is plausible."""
    data = _read(place, _MAX_INDEX_BYTES)
    commas = data.count(b",")
    if data.count(b"[") + data.count(b"{") > _MAX_INDEX_BRACKETS or commas * len('"a":"b",') > len(data) + 1000:
        raise Lie("it is no index")
    is_plain = data.isascii() and b"\\" not in data  # one other letter makes a text take four times its bytes
    if len(data) > (_MAX_INDEX_BYTES if is_plain else _MAX_INDEX_BYTES // 4) or commas > _MAX_INDEX_ENTRIES:
        return []
    weight_map = _mapping(data, parse_int=float).get("weight_map")  # float: long digits are costly to an int
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise Lie("its weight_map is no mapping of names to files")
    shards = set(weight_map.values())
    if len(shards) > _MAX_SHARDS:
        raise Lie(f"it names {len(shards)} files")
    return sorted(shards)


def load_json(place: str, limit: int) -> dict[str, Any]:
    """A mapping from a JSON file of at most ``limit`` bytes; empty where it is none."""
    data = _read(place, limit)
    return _mapping(data) if len(data) <= limit else {}


def _read(place: str, limit: int) -> bytes:
    """The first ``limit`` bytes and one more, which tells that there are more; none where it cannot be read."""
    try:
        with open(place, "rb") as file:  # noqa: PTH123 -- a path as text is all there is
            return file.read(limit + 1)
    except OSError:
        return b""


def _mapping(data: bytes, parse_int: Callable[[str], float] = int) -> dict[str, Any]:
    try:
        value = json.loads(data.decode(), parse_int=parse_int)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _primary(files: Files, reports: Mapping[str, FormatReport]) -> tuple[str, str]:
    """The model's format, and the file whose header describes it (may be empty)."""
    ranked = sorted(
        (_WEIGHTS.index(one.format) if one.format in _WEIGHTS else -1, order, path)  # a stranger's own format first
        for order, (path, one) in enumerate(reports.items())
        if one.format not in _NO_WEIGHTS
    )
    best = ranked[0][2] if ranked else ""
    if bundle := _bundle(files):
        return bundle, best if best and reports[best].format == "coreml" else ""
    if best and reports[best].format in {"safetensors", "npz"} and _is_mlx(files, reports[best]):
        return "mlx", best
    if best:
        return reports[best].format, best
    known = [(one.format, path) for path, one in reports.items() if one.format != "unknown"]
    return (known[0] if known and len(files) == 1 else ("folder", "")) if files else ("unknown", "")


def _bundle(files: Files) -> str:
    """Core ML's folders: ``.mlpackage`` has a Manifest.json, ``.mlmodelc`` a coremldata.bin."""
    for path, place in files:
        name = posixpath.basename(path)
        if name == "Manifest.json" and "itemInfoEntries" in load_json(place, _MAX_CONFIG_BYTES):
            return "coreml"
        if name == "coremldata.bin":
            return "coreml"
    return ""


def _is_mlx(files: Files, weights: FormatReport) -> bool:
    config = _config(files)
    quantized = config.get("quantization")
    marked = dict(weights.metadata).get("framework") == "mlx"
    return bool(config) and (marked or (isinstance(quantized, dict) and "group_size" in quantized))


def _config(files: Files) -> dict[str, Any]:
    for path, place in sorted(files, key=lambda pair: pair[0].count("/")):
        if posixpath.basename(path) == "config.json":
            return load_json(place, _MAX_CONFIG_BYTES)
    return {}


def _sum_shards(shards: list[FormatReport]) -> dict[str, Fact]:
    total: dict[str, Fact] = {"shards": len(shards)}
    counts = [dict(one.metadata).get("parameters", 0) for one in shards]
    if all(isinstance(count, int) for count in counts):
        total["parameters"] = sum(count for count in counts if isinstance(count, int))
    return total


def _beside(files: Files) -> dict[str, Fact]:
    """Facts from ``config.json`` and ``README.md``."""
    config = _config(files)
    facts: dict[str, Fact] = {}
    names = config.get("architectures")
    kind = config.get("model_type") or (names[0] if isinstance(names, list) and names else None)
    if isinstance(kind, str):
        facts["architecture"] = kind[:200]
    for key in _CONTEXT:
        if type(config.get(key)) is int:
            facts["contextLength"] = config[key]
            break
    for key in ("quantization", "quantization_config"):
        bits = config[key].get("bits") if isinstance(config.get(key), dict) else None
        if type(bits) is int:
            facts["quantization"] = f"int{bits}"
    return facts | _license(files)


def _license(files: Files) -> dict[str, Fact]:
    """``license`` of the front matter: between the first line, ``---``, and the next such line."""
    place = next((place for path, place in files if path == "README.md"), "")
    first, *lines = _read(place, _MAX_FRONT_BYTES).decode("utf-8", "replace").split("\n") if place else [""]
    for line in lines if first.rstrip() == "---" else ():
        if match := _LICENSE.match(line):
            return {"license": match[1]}
        if line.rstrip() == "---":
            break
    return {}
