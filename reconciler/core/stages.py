"""The seven stages a person waits for, and how far along its way a model is. What a progress bar is drawn from."""

from collections.abc import Mapping
from enum import StrEnum

from reconciler.core.lifecycle import Lifecycle
from reconciler.core.records import dataclass

_L = Lifecycle


class Stage(StrEnum):
    """The seven steps a person waits for, from nothing to ready."""

    DISCOVERY = "discovery"
    DOWNLOAD = "download"
    EXTRACTION = "extraction"
    VALIDATION = "validation"
    INITIALIZATION = "initialization"
    LOADING = "loading"
    READY = "ready"


# Of each stage: the percent at which it begins (it ends where the next begins) and what it says.
STAGES: Mapping[Stage, tuple[float, str]] = {
    Stage.DISCOVERY: (0.0, "looking the model up"),
    Stage.DOWNLOAD: (2.0, "downloading"),
    Stage.EXTRACTION: (70.0, "unpacking"),
    Stage.VALIDATION: (80.0, "checking"),
    Stage.INITIALIZATION: (90.0, "preparing the runtime"),
    Stage.LOADING: (93.0, "loading"),
    Stage.READY: (100.0, "ready"),
}


_STAGE_OF: Mapping[Lifecycle, tuple[Stage, bool]] = {  # the stage, and whether it is over
    _L.DOWNLOADING: (Stage.DOWNLOAD, False),
    _L.PAUSED: (Stage.DOWNLOAD, False),
    _L.DOWNLOADED: (Stage.DOWNLOAD, True),
    _L.EXTRACTING: (Stage.EXTRACTION, False),
    _L.EXTRACTED: (Stage.EXTRACTION, True),
    _L.VALIDATING: (Stage.VALIDATION, False),
    _L.VALIDATED: (Stage.VALIDATION, True),
    _L.INITIALIZING: (Stage.INITIALIZATION, False),
    _L.INITIALIZED: (Stage.INITIALIZATION, True),
    _L.LOADING: (Stage.LOADING, False),
    _L.LOADED: (Stage.LOADING, True),
    _L.READY: (Stage.READY, True),
    _L.EXECUTING: (Stage.READY, True),
}


@dataclass(frozen=True, slots=True)
class StageProgress:
    """Where a model stands on its way to ready; ``percent`` is of the whole way, 0.0 to 100.0."""

    stage: Stage
    percent: float
    message: str


def stage_progress(state: Lifecycle, fraction: float = 0.0) -> StageProgress:
    """The stage of a state, and the overall percent with ``fraction`` (0.0 to 1.0) of that stage done.

    Evicted, quarantined, deleted and failed models are at the beginning.
    """
    stage, is_over = _STAGE_OF.get(state, (Stage.DISCOVERY, False))
    begins, message = STAGES[stage]
    stages = tuple(Stage)
    following = stages[min(stages.index(stage) + 1, len(stages) - 1)]
    done = 1.0 if is_over else min(max(fraction, 0.0), 1.0)
    return StageProgress(stage, begins + (STAGES[following][0] - begins) * done, message)
