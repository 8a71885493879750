"""The RAM: how much a model takes, how short memory is, and which models are loaded.

Admission works as on the disk: by priority, those that are loaded first, then by name; what does not fit is passed
over. The sum of what is loaded stays below ``memory.budget`` and leaves ``memory.critical`` available, for models of
low priority ``memory.warning``, so that what is loaded now is not unloaded in the next pass. Something that is not
loaded yet must clear these thresholds by a tenth (hysteresis).

Under pressure nobody is asked to fit: below ``warning`` idle models of low priority are unloaded, below ``critical``
everything idle but critical ones. The executor records such an unload as a failed load that backs off, so that memory
which comes free by it does not at once bring the model back.
"""

from collections.abc import Iterable
from enum import IntEnum

from reconciler.core.observed import MemoryFacts
from reconciler.core.policies import MemoryPolicy
from reconciler.core.records import dataclass
from reconciler.core.words import Priority

HYSTERESIS = 1.1

# RAM per byte of file, where neither the manifest nor a runtime tells (an estimate).
_FACTORS = {"gguf": 1.0, "ggml": 1.0, "tflite": 1.0, "safetensors": 1.2}
_OTHER_FACTOR = 1.5


class Pressure(IntEnum):
    """How short memory is; higher is shorter."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    WARNING = 3
    CRITICAL = 4


# (level, available share of the total below which it holds, times the warning threshold to free)
_LEVELS = (
    (Pressure.CRITICAL, 0.10, 3),
    (Pressure.WARNING, 0.15, 2),
    (Pressure.HIGH, 0.20, 1),
    (Pressure.MEDIUM, 0.40, 0),
    (Pressure.LOW, 1.0, 0),
)


def pressure(memory: MemoryFacts, policy: MemoryPolicy, before: Pressure = Pressure.LOW) -> Pressure:
    """The level by share of the total, or by the manifest's thresholds where those are stricter.

    A level that held ``before`` clears only once memory is a tenth above its threshold.
    """
    thresholds = {Pressure.CRITICAL: policy.critical_bytes, Pressure.WARNING: policy.warning_bytes}
    for level, share, _ in _LEVELS:
        bound = max(memory.total_bytes * share, thresholds.get(level, 0)) if level is not Pressure.LOW else 0.0
        if memory.available_bytes < (bound * HYSTERESIS if level <= before else bound):
            return level
    return Pressure.LOW


def to_free_bytes(level: Pressure, policy: MemoryPolicy) -> int:
    """How much memory a level asks for."""
    return next(times for each, _, times in _LEVELS if each is level) * policy.warning_bytes


def estimate_bytes(format_name: str, size_bytes: int) -> int:
    """RAM that a model of this format and size on disk would take: an estimate."""
    return int(size_bytes * _FACTORS.get(format_name, _OTHER_FACTOR))


@dataclass(frozen=True, slots=True)
class Load:
    """One model that is loaded or wants to be.

    ``bytes`` is RAM in bytes: what it holds where it is loaded, else what it would take. ``is_leaving`` marks a
    loaded model that nobody wants loaded any more.
    """

    name: str
    priority: Priority
    bytes: int
    is_loaded: bool = False
    is_in_use: bool = False
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Names by what happens to them. ``refused`` tells why: ``no_memory`` or ``memory_pressure``, and the room left."""

    stay: frozenset[str] = frozenset()
    load: tuple[str, ...] = ()
    unload: tuple[tuple[str, str], ...] = ()  # name and reason
    refused: tuple[tuple[str, str, int], ...] = ()  # name, reason, bytes available for it


def decide(loads: Iterable[Load], memory: MemoryFacts, policy: MemoryPolicy) -> Verdict:
    """Who stays, comes and goes."""
    ordered = sorted(loads, key=lambda load: (not load.is_in_use, -load.priority, not load.is_loaded, load.name))
    total = memory.available_bytes + sum(load.bytes for load in ordered if load.is_loaded)
    budget = policy.budget.of(memory.total_bytes) if policy.budget is not None else total
    relieved = memory.available_bytes + sum(load.bytes for load in ordered if load.is_leaving and not load.is_in_use)
    stay, load_names, unload, refused = set(), [], [], []
    taken = 0
    for load in ordered:
        if load.is_leaving and not load.is_in_use:
            unload.append((load.name, "not_wanted_loaded"))
            continue
        room = min(budget, total - _margin(load, policy)) - taken
        squeeze = _is_squeezed(load, relieved, policy)
        is_held = load.is_loaded and (
            load.is_in_use or (load.priority is Priority.CRITICAL and load.bytes <= budget - taken)
        )
        if is_held or (not squeeze and load.bytes <= room):
            taken += load.bytes
            if load.is_loaded:
                stay.add(load.name)
            else:
                load_names.append(load.name)
        elif load.is_loaded:
            unload.append((load.name, "memory_pressure" if squeeze else "memory_needed"))
            relieved += 0 if squeeze else load.bytes
        else:
            refused.append((load.name, "memory_pressure" if squeeze else "no_memory", max(0, room)))
    return Verdict(frozenset(stay), tuple(load_names), tuple(sorted(unload)), tuple(refused))


def _margin(load: Load, policy: MemoryPolicy) -> int:
    """What must stay available beside this model."""
    bound = policy.warning_bytes if load.priority is Priority.LOW else policy.critical_bytes
    return bound if load.is_loaded else int(bound * HYSTERESIS)


def _is_squeezed(load: Load, available_bytes: int, policy: MemoryPolicy) -> bool:
    """Whether the present pressure says that this model goes, or does not come."""
    if load.is_in_use or load.priority is Priority.CRITICAL:
        return False
    slack = 1.0 if load.is_loaded else HYSTERESIS
    if available_bytes < policy.critical_bytes * slack:
        return True
    return load.priority is Priority.LOW and available_bytes < policy.warning_bytes * slack
