"""A model of several files: which of them is the model, and is anything missing?

Files are pairs (path relative to the model, absolute path on disk). Facts come from the weights first and are filled
in from what stands beside them: ``config.json`` (architecture, context length, quantization) and the front matter of
``README.md`` (license). Missing is what another file names: shards of a ``*.safetensors.index.json`` or
``*.bin.index.json``, the external data of an ONNX model, the ``.bin`` of an OpenVINO ``.xml``, a tokenizer's own parts
are not (a runtime may bring its own).
"""

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.adapters.formats.reader import Fact
from reconciler.core.ports import FormatReport

Files = Sequence[tuple[str, str]]

_MAX_INDEX_BYTES = 16 << 20
_MAX_CONFIG_BYTES = 1 << 20
# What the weights of a model may be, the most telling first.
_WEIGHTS = (
    "gguf", "safetensors", "onnx", "ort", "tflite", "executorch", "coreml", "openvino", "ctranslate2", "ggml", "npz",
    "npy", "h5", "pytorch", "pickle",
)  # fmt: skip
_LICENSE = re.compile(r"\A---\s*\n(?:.*\n)*?license:\s*[\"']?([\w.+-]{1,80})", re.MULTILINE)
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions")


def combine(files: Files, reports: Mapping[str, FormatReport], *, is_whole: bool = True) -> FormatReport:
    """One report of a model from the reports of its files (by relative path); ``is_whole``: these are all of them."""
    notes = [(severity, f"{path}: {text}") for path, one in reports.items() for severity, text in one.warnings]
    errors = [f"{path}: {text}" for path, one in reports.items() for text in one.errors]
    errors += [f"{path} is missing" for path in missing(files, reports) if is_whole]
    errors += [f"{place}: names a file outside the model's folder" for place in _escapes(files, reports)]
    name, primary = _primary(files, reports)
    facts: dict[str, Fact] = dict(reports[primary].metadata) if primary else {}
    shards = [one for one in reports.values() if primary and one.format == reports[primary].format]
    if len(shards) > 1:
        facts |= _sum_shards(shards)
    for key, value in _beside(files).items():
        facts.setdefault(key, value)
    return FormatReport(
        name,
        is_unsafe=any(one.is_unsafe for one in reports.values()),
        errors=tuple(errors),
        warnings=tuple(notes),
        metadata=tuple(facts.items()),
    )


def missing(files: Files, reports: Mapping[str, FormatReport]) -> list[str]:
    """Paths that the model's own files name and that are not among them."""
    here = {path for path, _ in files}
    return sorted({path for _, path in _named(files, reports) if _is_inside(path)} - here)


def _escapes(files: Files, reports: Mapping[str, FormatReport]) -> list[str]:
    return sorted({place for place, path in _named(files, reports) if not _is_inside(path)})


def _is_inside(path: str) -> bool:
    clean = posixpath.normpath(path)
    return not (clean.startswith(("/", "../")) or clean in {"..", "."} or "\\" in path or "\0" in path)


def _named(files: Files, reports: Mapping[str, FormatReport]) -> list[tuple[str, str]]:
    """(who names it, path relative to the model) of every file that another one asks for."""
    named: list[tuple[str, str]] = []
    for path, place in files:
        folder = posixpath.dirname(path)
        if path.endswith((".safetensors.index.json", ".bin.index.json")):
            named += [(path, posixpath.join(folder, shard)) for shard in _shards(place)]
        one = reports.get(path)
        if one is None:
            continue
        facts = dict(one.metadata)
        if one.format == "onnx" and isinstance(data := facts.get("externalData"), str):
            named += [(path, posixpath.join(folder, location)) for location in data.split("\n")]
        if one.format == "openvino" and path.endswith(".xml"):
            named.append((path, path.removesuffix(".xml") + ".bin"))
    return named


def _shards(place: str) -> list[str]:
    index = load_json(place, _MAX_INDEX_BYTES)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict):
        return []
    return sorted({shard for shard in weight_map.values() if isinstance(shard, str)})


def load_json(place: str, limit: int) -> dict[str, Any]:
    """A mapping from a JSON file of at most ``limit`` bytes; empty where it is none."""
    try:
        with open(place, "rb") as file:  # noqa: PTH123 -- a path as text is all there is
            data = file.read(limit + 1)
        value = json.loads(data.decode()) if len(data) <= limit else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _primary(files: Files, reports: Mapping[str, FormatReport]) -> tuple[str, str]:
    """The model's format, and the file whose header describes it (may be empty)."""
    ranked = sorted(
        (_WEIGHTS.index(one.format), order, path)
        for order, (path, one) in enumerate(reports.items())
        if one.format in _WEIGHTS
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
    for path, place in files:
        if path == "README.md":
            try:
                with open(place, "rb") as file:  # noqa: PTH123 -- a path as text is all there is
                    text = file.read(4096).decode("utf-8", "replace")
            except OSError:
                return {}
            if match := _LICENSE.search(text):
                return {"license": match[1]}
    return {}
