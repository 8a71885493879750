"""Which chunks are still to be asked for, handed out lowest first; and whether one more connection would help.

Lowest first keeps the hash, which needs every byte in order, fed from memory. One connection takes a whole run; once
there are several, each takes ``piece_chunks`` at a time. The run in progress can be cut short: its receiver looks at
``end`` after every chunk.
"""

import threading
from dataclasses import dataclass


@dataclass(slots=True)
class Segment:
    """Chunks ``at`` to ``end - 1`` (None: to the end of the object), of an answer that goes up to ``reach``.

    ``at`` moves on.
    """

    at: int
    end: int | None
    reach: int | None


class Segments:
    """The chunks nobody has asked for yet. For several threads."""

    def __init__(self, gaps: list[tuple[int, int | None]], piece_chunks: int) -> None:
        self._lock = threading.Lock()
        self._gaps = list(gaps)
        self._piece_chunks = piece_chunks
        self._taken: list[Segment] = []
        self._is_split = False

    def take(self) -> Segment | None:
        """The lowest chunks that are left; None where nothing is."""
        with self._lock:
            if not self._gaps:
                return None
            start, end = self._gaps.pop(0)
            cut = start + self._piece_chunks
            if self._is_split and end is not None and cut < end:
                self._gaps.insert(0, (cut, end))
                end = cut
            segment = Segment(start, end, end)
            self._taken.append(segment)
            return segment

    def done(self, segment: Segment) -> bool:
        """The segment ended; what it did not reach is handed out again. Whether there is such a rest."""
        with self._lock:
            self._taken.remove(segment)
            has_rest = segment.end is None or segment.at < segment.end
            if has_rest:
                self._gaps.append((segment.at, segment.end))
                self._gaps.sort(key=lambda gap: gap[0])
            return has_rest

    def split(self) -> None:
        """From now on in pieces: cut what one connection is working through."""
        with self._lock:
            self._is_split = True
            for segment in self._taken:
                cut = segment.at + self._piece_chunks
                if segment.end is not None and cut < segment.end:
                    self._gaps.append((cut, segment.end))
                    segment.end = cut
            self._gaps.sort(key=lambda gap: gap[0])

    def rejoin(self) -> None:
        """One connection is left: it takes whole runs again, and goes on with its answer where it was cut short."""
        with self._lock:
            self._is_split = False
            for segment in self._taken:
                if any(start < segment.at for start, _ in self._gaps):
                    continue  # what lies below comes first: the hash waits for it
                while self._gaps and self._gaps[0][0] == segment.end != segment.reach:
                    segment.end = self._gaps.pop(0)[1]

    @property
    def is_empty(self) -> bool:
        """Whether everything is handed out."""
        with self._lock:
            return not self._gaps

    def is_lowest(self, index: int) -> bool:
        """Whether no chunk below ``index`` is missing or on its way with another connection."""
        with self._lock:
            return all(start >= index for start, _ in self._gaps) and all(each.at >= index for each in self._taken)


@dataclass(slots=True)
class Growth:
    """Start with one connection, double while throughput grows, stop when it does not.

    Judged once per window: what came in since (bytes a second), whether the receivers waited for the ring, which means
    that hashing or the disk is the limit and not the network, and how much of the cores this process had: more
    connections only cost more where the processor is the limit. ``most`` is the cap.
    """

    most: int
    connections: int = 1
    best_rate: float = 0.0
    is_settled: bool = False

    def next_connections(self, rate: float, ring_wait_share: float, cores_share: float, left_s: float) -> int:
        """How many connections there should be now."""
        is_busy = ring_wait_share > 0.1 or cores_share > 0.5
        if self.is_settled or self.connections >= self.most or is_busy or left_s < 0.5:
            return self.connections
        if self.connections > 1 and rate < self.best_rate * 1.1:
            self.is_settled = True
            return self.connections
        self.best_rate = max(rate, self.best_rate)
        self.connections = min(self.connections * 2, self.most)
        return self.connections
