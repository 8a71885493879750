"""``when:`` and ``rollout``: whether a machine is one that a model is for.

A selector is a conjunction: every part that is given must hold. The answer is not yes or no but *why not*, since that
sentence is what a person needs. Label operators are those of Kubernetes (``In`` needs the label, ``NotIn`` and
``DoesNotExist`` hold where it is absent).

A roll-out takes the same devices at every size: a device is in at 10 % and still in at 20 %, since its place on the
line from 0 to 100 is a hash of its id and the model's name, and different models pick different devices.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from operator import eq, ge, gt, le, lt

from reconciler.core.desired import Comparison, DesiredModel, LabelRequirement, Selector
from reconciler.core.observed import DeviceFacts, DiskFacts, MemoryFacts
from reconciler.core.units import exact_size, format_size

_OPERATORS: Mapping[str, Callable[[int, int], bool]] = {">=": ge, ">": gt, "<=": le, "<": lt, "==": eq}
# What people, Python, Go, Docker and Apple call the same machine.
_SYNONYMS = {
    "amd64": "x86_64",
    "x64": "x86_64",
    "x86-64": "x86_64",
    "arm64": "aarch64",
    "darwin": "macos",
    "osx": "macos",
    "win32": "windows",
    "i386": "x86",
    "i686": "x86",
    "armv7l": "armv7",
    "armhf": "armv7",
}


def selects(selector: Selector, device: DeviceFacts, memory: MemoryFacts, disk: DiskFacts) -> str | None:
    """None where the machine is selected, else the sentence that says why it is not.

    ``memory`` and ``disk`` comparisons are about totals: what is free changes by the minute and would make a model come
    and go.
    """
    if selector == _EVERYWHERE:
        return None
    labels = dict(device.labels)
    reasons = (
        *(_label_missing(labels, key, value) for key, value in selector.match_labels),
        *(_expression_fails(labels, requirement) for requirement in selector.match_expressions),
        _word_fails("operating system", selector.os, (device.os,)),
        _word_fails("architecture", selector.arch, (device.arch,)),
        _word_fails("host name", selector.hostname, (device.hostname,)),
        _word_fails("accelerator", selector.accelerator, device.accelerators),
        _bound_fails("memory", selector.memory, memory.total_bytes),
        _bound_fails("disk", selector.disk, disk.total_bytes),
    )
    return next((reason for reason in reasons if reason is not None), None)


_EVERYWHERE = Selector()


def why_not_here(model: DesiredModel, device: DeviceFacts, memory: MemoryFacts, disk: DiskFacts) -> str:
    """Why the model is not for this machine; empty where it is."""
    reason = selects(model.when, device, memory, disk)
    if reason:
        return reason
    percent = model.rollout_percent
    if percent is not None and not in_rollout(device.device_id, model.name, percent):
        return f"this machine is not among the {percent:g}% of the roll-out"
    return ""


def labelled(device: DeviceFacts, labels: Iterable[tuple[str, str]]) -> DeviceFacts:
    """The device with the manifest's labels as well; where both name one, its own wins."""
    return replace(device, labels=tuple(sorted({**dict(labels), **dict(device.labels)}.items())))


def in_rollout(device_id: str, model_name: str, percent: float) -> bool:
    """Whether this device is among the ``percent`` (0 to 100) that get the model. Stable over time and machines."""
    digest = hashlib.sha256(f"{model_name}\0{device_id}".encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") * 100 / 2**64
    return place < percent


def canonical_word(word: str) -> str:
    """One spelling for one thing: ``AMD64`` and ``x86_64`` are both ``x86_64``."""
    lowered = word.casefold()
    return _SYNONYMS.get(lowered, lowered)


def _label_missing(labels: Mapping[str, str], key: str, value: str) -> str | None:
    if labels.get(key) == value:
        return None
    found = f'"{labels[key]}"' if key in labels else "not set"
    return f'label {key} is {found}; the model is for "{value}"'


def _expression_fails(labels: Mapping[str, str], requirement: LabelRequirement) -> str | None:
    key, has_label = requirement.key, requirement.key in labels
    value = labels.get(key)
    words = ", ".join(f'"{word}"' for word in requirement.values)
    match requirement.operator:
        case "In":
            holds, wanted = value in requirement.values, f"one of {words}"
        case "NotIn":
            holds, wanted = value not in requirement.values, f"none of {words}"
        case "Exists":
            holds, wanted = has_label, "that it is set"
        case _:
            holds, wanted = not has_label, "that it is not set"
    if holds:
        return None
    found = f'"{value}"' if has_label else "not set"
    return f"label {key} is {found}; the model asks for {wanted}"


def _word_fails(what: str, wanted: tuple[str, ...], found: Iterable[str]) -> str | None:
    """``wanted`` words may hold ``*`` and ``?``; one of them must match one that was found."""
    if not wanted:
        return None
    words = [word for word in found if word]
    if any(_matches(pattern, word) for pattern in wanted for word in words):
        return None
    have = " and ".join(words) or "none"
    return f"{what} is {have}; the model is for {' or '.join(wanted)}"


def _matches(pattern: str, word: str) -> bool:
    wanted, found = canonical_word(pattern), canonical_word(word)
    if wanted == found:
        return True
    translated = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in wanted)
    return re.fullmatch(translated, found, re.DOTALL) is not None


def _bound_fails(what: str, bound: Comparison | None, total_bytes: int) -> str | None:
    if bound is None or _OPERATORS[bound.operator](total_bytes, bound.size_bytes):
        return None
    wanted = f"{bound.operator}{exact_size(bound.size_bytes)}"
    return f"{what} is {format_size(total_bytes)}; the model asks for {wanted}"
