"""Progress of what is being fetched now, by model: frames come in from many threads, sums go out."""

import threading

from reconciler.core.ports import Progress
from reconciler.core.transfer import Transfer, seconds_left
from reconciler.core.units import format_rate, format_size


class Meters:
    """The last frame of every file in flight."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._frames: dict[str, dict[str, Progress]] = {}
        self.bytes_done = 0  # since the watch began, for the metrics

    def report(self, frame: Progress) -> None:
        """A file got further."""
        with self._guard:
            files = self._frames.setdefault(frame.model, {})
            before = files.get(frame.path)
            self.bytes_done += max(0, frame.done_bytes - (before.done_bytes if before else frame.done_bytes))
            files[frame.path] = frame

    def forget(self, model: str) -> None:
        """Nothing of the model is in flight any more."""
        with self._guard:
            self._frames.pop(model, None)

    def sums(self) -> dict[str, Transfer]:
        """Each model in flight, by name."""
        with self._guard:
            return {name: _sum(list(files.values())) for name, files in sorted(self._frames.items())}

    def arrived(self, model: str) -> tuple[str, ...]:
        """The files of a model that were reported of, whatever became of them."""
        with self._guard:
            return tuple(self._frames.get(model, ()))

    def sentence(self) -> str:
        """For people: the models in flight with percent."""
        words = []
        for name, sum_ in self.sums().items():
            total, done = sum_.total_bytes, sum_.done_bytes
            rate = f" at {format_rate(sum_.rate)}" if sum_.rate else ""
            words.append(f"{name} {100 * done // total} %{rate}" if total else f"{name} {format_size(done)}{rate}")
        return ", ".join(words[:3])


def _sum(frames: list[Progress]) -> Transfer:
    at_work = [frame for frame in frames if frame.stage != "done"]
    totals = [frame.total_bytes for frame in frames]
    known = [total for total in totals if total is not None]
    total = sum(known) if len(known) == len(totals) else None
    rates = [frame.rate for frame in at_work if frame.rate is not None and frame.stage == "downloading"]
    done, rate = sum(frame.done_bytes for frame in frames), sum(rates) if rates else None
    current = (at_work or frames)[-1]
    return Transfer(
        done_bytes=done,
        total_bytes=total,
        rate=rate,
        seconds_left=seconds_left(done, total, rate),
        file=current.path,
        stage=current.stage,
        files_done=len(frames) - len(at_work),
        files_total=len(frames),
        attempt=max(frame.attempt for frame in at_work or frames),
    )
