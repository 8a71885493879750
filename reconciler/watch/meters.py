"""Progress of what is being fetched now, by model: frames come in from many threads, sums go out."""

import threading

from reconciler.core.ports import Progress


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

    def sums(self) -> tuple[tuple[str, int, int | None, float | None], ...]:
        """(model, bytes done, bytes in all, bytes a second) of each model in flight, by name."""
        with self._guard:
            return tuple(_sum(name, list(files.values())) for name, files in sorted(self._frames.items()))

    def sentence(self) -> str:
        """For people: the models in flight with percent."""
        words = []
        for name, done, total, _ in self.sums():
            words.append(f"{name} {100 * done // total} %" if total else f"{name} {done} bytes")
        return ", ".join(words[:3])


def _sum(name: str, frames: list[Progress]) -> tuple[str, int, int | None, float | None]:
    totals = [frame.total_bytes for frame in frames]
    rates = [frame.rate for frame in frames if frame.rate is not None and frame.stage == "downloading"]
    known = [total for total in totals if total is not None]
    total = sum(known) if len(known) == len(totals) else None
    return name, sum(frame.done_bytes for frame in frames), total, sum(rates) if rates else None
