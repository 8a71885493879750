"""PEFT adapters: ``adapter_config.json`` beside ``adapter_model.safetensors`` (huggingface/peft ``LoraConfig``).

Read: ``peft_type``, ``base_model_name_or_path``, ``r``, ``lora_alpha``, ``use_rslora``, ``target_modules``, and the
base's class under ``auto_mapping``. A key that is there must be of its type and within its bounds; one that is not is
left out.
The scale that a runtime takes where nobody says otherwise is alpha / r, or alpha / sqrt(r) with ``use_rslora``.
"""

import json
import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.adapters.formats.reader import Fact
from reconciler.adapters.formats.window import Lie

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_MAX_BYTES = 1 << 20
_MAX_RANK = 65_536
_MAX_ALPHA = 1e6
_MAX_MODULES = 10_000
_MAX_TEXT = 200
_CLASS = re.compile(r"(\w{1,80}?)(For[A-Z]\w*|LMHeadModel|DoubleHeadsModel|PreTrainedModel|Model)")


def config_beside(files: Sequence[tuple[str, str]], primary: str) -> tuple[str, str] | None:
    """(path, place) of the configuration that makes ``primary`` an adapter; of any, where there are no weights."""
    found = [pair for pair in files if posixpath.basename(pair[0]) == CONFIG]
    folder = posixpath.dirname(primary)
    return next((pair for pair in found if not primary or posixpath.dirname(pair[0]) == folder), None)


def read_config(place: str) -> dict[str, Fact]:
    """The facts of one ``adapter_config.json``; empty where it is not PEFT's.

    Raises:
        Lie: what it says cannot be.
    """
    config = _load(place)
    kind = _text(config, "peft_type")
    if not kind and "r" not in config:
        return {}
    rank, alpha = _rank(config), _alpha(config)
    facts: dict[str, Fact] = {"type": "adapter", "adapter": (kind or "lora").lower(), "framework": "peft"}
    if base := _text(config, "base_model_name_or_path"):
        facts["baseModel"] = base
    if rank is not None:
        facts["rank"] = rank
    if alpha is not None:
        facts["alpha"] = alpha
    if rank is not None and alpha is not None:
        facts["scale"] = scale_of(alpha, math.sqrt(rank) if config.get("use_rslora") is True else rank)
    if modules := _modules(config):
        facts["targetModules"] = modules
    if architecture := _architecture(config):
        facts["architecture"] = architecture
    return facts


def scale_of(alpha: float, rank: float) -> float:
    """The default strength of a LoRA adapter."""
    return round(alpha / rank, 6)


def _load(place: str) -> dict[str, Any]:
    try:
        with open(place, "rb") as file:  # noqa: PTH123 -- a path as text is all there is
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise Lie(f"it is longer than {_MAX_BYTES} bytes")
        value = json.loads(data.decode(), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError):
        raise Lie("it is no JSON, or a key stands twice in it") from None
    if not isinstance(value, dict):
        raise Lie("it is not a mapping")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError
    return value


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
        raise Lie(f"its {key} is not a text")
    return value[:_MAX_TEXT]


def _rank(config: Mapping[str, Any]) -> int | None:
    value = config.get("r")
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= _MAX_RANK:
        raise Lie(f"its r is not a whole number from 1 to {_MAX_RANK}")
    return value


def _alpha(config: Mapping[str, Any]) -> int | float | None:
    value = config.get("lora_alpha")
    if value is None:
        return None
    if type(value) not in {int, float} or not 0 <= value <= _MAX_ALPHA:
        raise Lie("its lora_alpha is not a number from 0 to 1000000")
    number: int | float = value
    return number


def _modules(config: Mapping[str, Any]) -> str:
    value = config.get("target_modules")
    if value is None or isinstance(value, str):
        return _text(config, "target_modules")
    if not isinstance(value, list) or len(value) > _MAX_MODULES or not all(isinstance(name, str) for name in value):
        raise Lie("its target_modules are not a list of names")
    joined = ", ".join(sorted(value))[:_MAX_TEXT]
    if not joined.isprintable():
        raise Lie("its target_modules are not a list of names")
    return joined


def _architecture(config: Mapping[str, Any]) -> str:
    """``llama`` of ``LlamaForCausalLM``; PEFT notes the base's class where it was given no task."""
    mapping = config.get("auto_mapping")
    name = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    match = _CLASS.fullmatch(name) if isinstance(name, str) else None
    return match[1].lower() if match else ""
