"""What is being brought right now, model by model: only whoever brings it knows."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from reconciler.core.desired import Artifact
from reconciler.core.records import dataclass
from reconciler.core.words import Digest


@dataclass(frozen=True, slots=True)
class Transfer:
    """One model on its way. Bytes a second and seconds; None where unknown. ``file`` is the one at work last."""

    done_bytes: int
    total_bytes: int | None
    rate: float | None = None
    seconds_left: float | None = None
    file: str = ""
    stage: str = ""  # as in Progress: connecting, downloading, verifying, extracting, waiting, done
    files_done: int = 0
    files_total: int = 1
    attempt: int = 1

    @property
    def share(self) -> float | None:
        """0 to 1; None where the total is unknown."""
        return min(1.0, round(self.done_bytes / self.total_bytes, 4)) if self.total_bytes else None


def seconds_left(done_bytes: int, total_bytes: int | None, rate: float | None) -> float | None:
    """At this rate; None where the total or the rate is unknown."""
    return max(0, total_bytes - done_bytes) / rate if rate and total_bytes is not None else None


def completed(
    transfer: Transfer, artifacts: Iterable[Artifact], reported: Collection[str], here: Collection[Digest]
) -> Transfer:
    """The same, reckoned over all files: those of ``reported`` are counted in it, others may be ``here`` already."""
    rest = [artifact for artifact in artifacts if artifact.path not in reported]
    stored = [artifact for artifact in rest if artifact.digest in here]
    sizes = [artifact.size_bytes for artifact in rest]
    total = None
    if transfer.total_bytes is not None and None not in sizes:
        total = transfer.total_bytes + sum(size or 0 for size in sizes)
    done = transfer.done_bytes + sum(artifact.size_bytes or 0 for artifact in stored)
    return replace(
        transfer,
        done_bytes=done,
        total_bytes=total,
        seconds_left=seconds_left(done, total, transfer.rate),
        files_done=transfer.files_done + len(stored),
        files_total=transfer.files_total + len(rest),
    )
