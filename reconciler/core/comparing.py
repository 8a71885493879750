"""What a file says of itself against what the manifest says of it: a difference is a warning, never a refusal.

Only facts that both name are compared. A context length smaller than the model's is a choice; a larger one is not to be
had. Words that mean the same (``fp16``, ``f16``) are the same.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.desired import DesiredModel
from reconciler.core.words import Role

Warnings = tuple[tuple[str, str], ...]  # (severity, text)

_SAME = {"fp32": "f32", "float32": "f32", "fp16": "f16", "float16": "f16", "bfloat16": "bf16"}
_WORDS = ("architecture", "baseModel", "license", "quantization")


def compare(model: DesiredModel | None, found: Mapping[str, Any]) -> Warnings:
    """The differences between a model's manifest entry and ``found``, which was read from its files."""
    if model is None or not found:
        return ()
    declared = _declared(model)
    notes = []
    for key in _WORDS:
        said, is_so = declared.get(key), found.get(key)
        if said and is_so and _plain(str(said)) != _plain(str(is_so)):
            notes.append(("warning", f"the manifest says {key} {said}, the file says {is_so}"))
    wanted, longest = declared.get("contextLength"), found.get("contextLength")
    if isinstance(wanted, int) and isinstance(longest, int) and wanted > longest:
        notes.append(("warning", f"the manifest says contextLength {wanted}, the file has {longest} at most"))
    roles = {artifact.role for artifact in model.artifacts}
    if "scale" in declared and not is_adapter(model, found):
        notes.append(("warning", "the manifest gives a scale, but the file is no adapter"))
    has_names = any(artifact.path for artifact in model.artifacts)  # a whole tree declares no roles
    if found.get("type") == "adapter" and Role.ADAPTER not in roles and has_names:
        notes.append(("warning", "the file is an adapter; give it role: adapter and its base under dependsOn"))
    return tuple(notes)


def effective(model: DesiredModel | None, found: Mapping[str, Any]) -> dict[str, Any]:
    """What was read from a model's files, with the adapter's scale that the manifest gives in place of its own."""
    scale = _declared(model).get("scale") if model is not None else None
    return dict(found) if scale is None else {**found, "scale": scale}


def _declared(model: DesiredModel) -> dict[str, Any]:
    return {key: json.loads(text) for key, text in model.metadata}


def compare_adapters(desired: Iterable[DesiredModel], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Warnings]:
    """Adapters whose base is of another architecture, or that name none; ``found`` is by model."""
    notes: dict[str, Warnings] = {}
    for model in desired:
        facts = found.get(model.name, {})
        if not is_adapter(model, facts):
            continue
        if not model.depends_on:
            notes[model.name] = (
                ("warning", "an adapter without a base: name the model it belongs to under dependsOn"),
            )
            continue
        own = facts.get("architecture")
        others = [(name, found.get(name, {}).get("architecture")) for name in model.depends_on]
        wrong = [f"{name} is {word}" for name, word in others if own and word and _kin(own) != _kin(word)]
        if wrong and len(wrong) == len(others):
            # PEFT tells the base's class alone, and several classes share one architecture in other formats.
            severity = "warning" if facts.get("framework") == "peft" else "error"
            notes[model.name] = ((severity, f"an adapter for {own}, but {', '.join(wrong)}"),)
    return notes


def is_adapter(model: DesiredModel, found: Mapping[str, Any]) -> bool:
    """Whether the model is no model of its own: its one file is an adapter, or says so."""
    roles = {artifact.role for artifact in model.artifacts}
    return roles == {Role.ADAPTER} or found.get("type") == "adapter"


def _kin(word: object) -> str:
    """An architecture's word, however it is parted: ``gpt_neox`` is ``gptneox``."""
    return _plain(str(word)).replace("_", "")


def _plain(word: str) -> str:
    plain = re.sub(r"[\s_-]+", "_", word.strip().lower())
    return _SAME.get(plain, plain)
